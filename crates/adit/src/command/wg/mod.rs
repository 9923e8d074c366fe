//! `adit wg`, and the program by the name of `wg`: wg(8) to the byte (spec §3).
//!
//! The words are in [`config::wg`]; here are the sockets, the kernel, files, names and the terminal.

pub(super) mod interface;
pub(super) mod kernel;
mod machine;
mod set;
mod show;

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

pub(super) use machine::Here;

use super::{keys, names, source, words};

/// The version of wireguard-tools whose behaviour this is.
const VERSION: &str = "wireguard-tools v1.0.20260223 - https://git.zx2c4.com/wireguard-tools/\n";

/// Something that `wg NAME` does.
struct Subcommand {
    name: &'static str,
    summary: &'static str,
    run: fn(&Call<'_>) -> Outcome,
}

/// All of them, in the order in which help lists them.
const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "show",
        summary: "Shows the current configuration and device information",
        run: show::show,
    },
    Subcommand {
        name: "showconf",
        summary: "Shows the current configuration of a given WireGuard interface, for use with \
                  `setconf'",
        run: show::showconf,
    },
    Subcommand {
        name: "set",
        summary: "Change the current configuration, add peers, remove peers, or change peers",
        run: set::set,
    },
    Subcommand {
        name: "setconf",
        summary: "Applies a configuration file to a WireGuard interface",
        run: set::setconf,
    },
    Subcommand {
        name: "addconf",
        summary: "Appends a configuration file to a WireGuard interface",
        run: set::addconf,
    },
    Subcommand {
        name: "syncconf",
        summary: "Synchronizes a configuration file to a WireGuard interface",
        run: set::syncconf,
    },
    Subcommand {
        name: "genkey",
        summary: "Generates a new private key and writes it to stdout",
        run: |call| code(keys::generate_private(call.program, call.words)),
    },
    Subcommand {
        name: "genpsk",
        summary: "Generates a new preshared key and writes it to stdout",
        run: |call| code(keys::generate_preshared(call.program, call.words)),
    },
    Subcommand {
        name: "pubkey",
        summary: "Reads a private key from stdin and writes a public key to stdout",
        run: |call| code(keys::derive_public(call.program, call.words)),
    },
];

/// What `wg NAME` can be.
pub fn subcommands() -> impl Iterator<Item = &'static str> {
    SUBCOMMANDS.iter().map(|subcommand| subcommand.name)
}

/// How a sub-command was called.
struct Call<'a> {
    /// The program's name for itself.
    program: &'a str,
    /// The sub-command's name.
    name: &'a str,
    /// What follows.
    words: &'a [OsString],
}

/// What came of it, stdout apart.
type Outcome = Result<(), Failure>;

/// Why a command fails.
struct Failure {
    /// Whole lines for stderr, perhaps none.
    lines: Vec<u8>,
    /// 1, unless nobody reads what is said.
    code: ExitCode,
}

impl Failure {
    fn new(lines: Vec<u8>) -> Self {
        Self { lines, code: ExitCode::FAILURE }
    }

    /// One line.
    fn line(text: impl Into<Vec<u8>>) -> Self {
        let mut text = text.into();
        text.push(b'\n');
        Self::new(text)
    }

    /// What perror(3) says.
    fn because(what: &str, error: &io::Error) -> Self {
        Self::line(format!("{what}: {}", words(error)))
    }
}

impl Call<'_> {
    fn usage(&self, arguments: &str) -> Failure {
        Failure::line(format!("Usage: {} {} {arguments}", self.program, self.name))
    }

    fn print(&self, text: &str) -> Outcome {
        code(super::say_as(self.program, text.as_bytes()))
    }
}

/// Does what the words behind `wg` ask for.
pub fn wg(arguments: Vec<OsString>) -> ExitCode {
    let program = program();
    let Some((first, rest)) = arguments.split_first() else {
        return finish(show::show(&Call { program: &program, name: "show", words: &[] }));
    };
    match (first.to_str(), rest) {
        (Some("-v" | "--version" | "version"), []) => super::say(VERSION),
        (Some("-h" | "--help" | "help"), []) => super::say(&overview(&program)),
        _ => match SUBCOMMANDS.iter().find(|subcommand| first == subcommand.name) {
            Some(Subcommand { name, run, .. }) => {
                finish(run(&Call { program: &program, name, words: rest }))
            }
            None => {
                let invalid = [b"Invalid subcommand: `", first.as_encoded_bytes(), b"'\n"].concat();
                finish(Err(Failure::new([&invalid[..], overview(&program).as_bytes()].concat())))
            }
        },
    }
}

/// As we were called, if that was `wg`.
fn program() -> String {
    let path = env::args_os().next().unwrap_or_default();
    let is_wg = Path::new(&path).file_name().is_some_and(|name| name == "wg");
    if is_wg { path.to_string_lossy().into_owned() } else { "adit wg".into() }
}

fn overview(program: &str) -> String {
    let mut text = format!("Usage: {program} <cmd> [<args>]\n\nAvailable subcommands:\n");
    for Subcommand { name, summary, .. } in SUBCOMMANDS {
        // Nothing fails that is written into a string.
        let _ = writeln!(text, "  {name}: {summary}");
    }
    text + "You may pass `--help' to any of these subcommands to view usage.\n"
}

fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { lines, code }) => {
            complain(&lines);
            code
        }
    }
}

/// A command that has said everything by itself.
fn code(code: ExitCode) -> Outcome {
    if code == ExitCode::SUCCESS { Ok(()) } else { Err(Failure { lines: Vec::new(), code }) }
}

fn complain(lines: &[u8]) {
    // Nobody is left to be told that stderr is closed.
    let _ = io::stderr().write_all(lines);
}
