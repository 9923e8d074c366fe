//! `adit help`: what there is.

use std::ffi::OsString;
use std::fmt::Write;
use std::process::ExitCode;

/// `adit help [COMMAND]`.
pub fn help(arguments: Vec<OsString>) -> ExitCode {
    match arguments.first() {
        None => super::say(&overview()),
        Some(name) if name == "--help" => super::say(&overview()),
        Some(name) => match name.to_str().and_then(super::find) {
            Some(command) => (command.run)(vec!["--help".into()]),
            None => super::unknown(name),
        },
    }
}

/// The usage of the program as a whole.
pub fn overview() -> String {
    let width = super::COMMANDS.iter().map(|command| command.name.len()).max().unwrap_or(0);
    let mut text = String::from("Usage: adit COMMAND [ARGUMENT...]\n\nCommands:\n");
    for command in super::COMMANDS {
        // Nothing fails that is written into a string.
        let _ = writeln!(text, "  {:width$}  {}", command.name, command.summary);
    }
    text
}
