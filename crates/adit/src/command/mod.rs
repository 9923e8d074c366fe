//! The commands, one file each, and how one of them is chosen.

mod complete;
mod configuration;
mod daemon;
mod demo;
mod help;
mod inherited;
mod install;
mod keys;
mod names;
mod notify;
mod quick;
mod source;
mod up;
mod wg;

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use host::words;

/// Something that `adit NAME` does with the words that follow.
struct Command {
    name: &'static str,
    summary: &'static str,
    run: fn(Vec<OsString>) -> ExitCode,
}

/// All of them, in the order in which help lists them.
const COMMANDS: &[Command] = &[
    Command {
        name: "daemon",
        summary: "Runs a tunnel in user space, for `wg' to configure",
        run: daemon::run,
    },
    Command {
        name: "demo",
        summary: "Shows a tunnel between two machines made for the purpose",
        run: demo::run,
    },
    Command {
        name: "up",
        summary: "Brings a tunnel up as its file wants it, or changes what has changed",
        run: up::up,
    },
    Command {
        name: "reload",
        summary: "Applies what has changed in the file of a tunnel that is up",
        run: up::reload,
    },
    Command {
        name: "down",
        summary: "Takes a tunnel down, and leaves the machine as it was before",
        run: up::down,
    },
    Command {
        name: "status",
        summary: "Shows the tunnels that are up, and how each peer is",
        run: up::status,
    },
    Command { name: "wg", summary: "Shows and configures tunnels, as wg(8) does", run: wg::wg },
    Command {
        name: "wg-quick",
        summary: "Brings tunnels up and down from their files, as wg-quick(8) does",
        run: quick::wg_quick,
    },
    Command {
        name: "config",
        summary: "Checks, explains and tidies a configuration file",
        run: configuration::run,
    },
    Command {
        name: "genkey",
        summary: "Generates a new private key and writes it to stdout",
        run: keys::genkey,
    },
    Command {
        name: "genpsk",
        summary: "Generates a new preshared key and writes it to stdout",
        run: keys::genpsk,
    },
    Command {
        name: "pubkey",
        summary: "Reads a private key from stdin and writes a public key to stdout",
        run: keys::pubkey,
    },
    Command {
        name: "install",
        summary: "Installs this program with its names, pages, completions and units",
        run: install::install,
    },
    Command { name: "uninstall", summary: "Removes what was installed", run: install::uninstall },
    Command {
        name: "complete",
        summary: "Says what may come next on a command line, for the shells",
        run: complete::run,
    },
    Command {
        name: "help",
        summary: "Lists the commands, or shows the usage of one",
        run: help::help,
    },
];

/// Other names of the program, each of which stands for one command.
const NAMES: &[(&str, &str)] =
    &[("wireguard-go", "daemon"), ("wg", "wg"), ("wg-quick", "wg-quick")];

/// Runs the command that a command line asks for, its first word being the name of the program.
pub fn run(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default();
    let alias = NAMES.iter().find(|(name, _)| program == *name);
    let Some(name) = alias.map(|(_, command)| OsString::from(command)).or_else(|| words.next())
    else {
        eprint!("{}", help::overview());
        return ExitCode::from(2);
    };
    let arguments = words.collect();
    match name.to_str() {
        // Not for people: `adit up' starts the first, `adit daemon' the second.
        Some("keep") => up::keep(arguments),
        Some("broker") => daemon::broker(arguments),
        Some("--help" | "-h") => help::help(Vec::new()),
        Some("--version" | "-V") => say(VERSION),
        Some(name) if let Some(command) = find(name) => (command.run)(arguments),
        _ => unknown(&name),
    }
}

/// What `--version` prints.
const VERSION: &str = concat!("adit ", env!("CARGO_PKG_VERSION"), "\n");

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

fn unknown(name: &OsStr) -> ExitCode {
    eprintln!("adit: there is no command `{}'; `adit help' lists them", name.display());
    ExitCode::from(2)
}

/// Writes what was asked for to stdout. A full disk is a failure, not a panic.
fn say(text: &str) -> ExitCode {
    say_as("adit", text.as_bytes())
}

/// The same by another name. Whoever closes a pipe has seen enough, and is told nothing.
fn say_as(program: &str, text: &[u8]) -> ExitCode {
    /// What a shell calls the end of a program by SIGPIPE, which is what becomes of others.
    const UNREAD: u8 = 128 + 13;
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(UNREAD),
        Err(error) => {
            eprintln!("{program}: cannot write to stdout: {}", words(&error));
            ExitCode::FAILURE
        }
    }
}
