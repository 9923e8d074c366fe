//! `adit complete`: what may come next on a command line, for the shells.
//!
//! The scripts for bash, zsh and fish (`share/completions`) hold no knowledge: they ask here, so that
//! all three know the same, and it is tested once.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use config::wg::parameters;

use super::{COMMANDS, names, wg};

const USAGE: &str = "\
Usage: adit complete -- PROGRAM WORD...

Prints what the last WORD of a command line can become, one candidate a line; nothing if it is for the
shell to say, as for the names of files. PROGRAM is adit, wg or wg-quick.
";

/// Runs `adit complete` with the words that follow it.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let words: Vec<String> =
        arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &*words {
        ["--", program, before @ .., last] => {
            let mut candidates = candidates(program, before);
            candidates.retain(|candidate| candidate.starts_with(last));
            let lines: Vec<_> = candidates.into_iter().map(|line| line + "\n").collect();
            super::say(&lines.concat())
        }
        ["--help" | "-h"] => super::say(USAGE),
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Everything that may stand behind the words `before`.
fn candidates(program: &str, before: &[&str]) -> BTreeSet<String> {
    match (program, before) {
        ("wg", words) => of_wg(words),
        ("wg-quick", words) => of_wg_quick(words),
        (_, []) => {
            let commands = COMMANDS.iter().map(|command| command.name);
            commands.chain(["--help", "--version"]).map(str::to_owned).collect()
        }
        (_, ["wg", words @ ..]) => of_wg(words),
        (_, ["wg-quick", words @ ..]) => of_wg_quick(words),
        (_, [command, words @ ..]) => of_command(command, words),
    }
}

/// What an option that is there already, or a name, leaves to say.
fn of_command(command: &str, words: &[&str]) -> BTreeSet<String> {
    let (options, names): (&[&str], BTreeSet<String>) = match (command, words) {
        ("up", _) => {
            (&["--dry-run", "--guard", "--no-guard", "--kernel", "--foreground"], configured())
        }
        ("reload", _) => (&["--dry-run", "--guard", "--no-guard"], configured()),
        ("down", _) => (&["--dry-run"], configured()),
        ("status", _) => (&["--json"], configured()),
        ("config", []) => return all(&["check", "explain", "fmt"]),
        ("config", ["fmt", ..]) => (&["--write"], configured()),
        ("config", _) => (&["--json"], configured()),
        ("daemon", _) => (&["--foreground", "--version"], BTreeSet::new()),
        ("demo", _) => (&["--seconds", "--json"], BTreeSet::new()),
        ("install" | "uninstall", [.., "--prefix" | "--destdir"]) => return BTreeSet::new(),
        ("install", _) => {
            (&["--prefix", "--destdir", "--replace", "--no-names", "--dry-run"], BTreeSet::new())
        }
        ("uninstall", _) => (&["--prefix", "--destdir", "--dry-run"], BTreeSet::new()),
        ("help", []) => return COMMANDS.iter().map(|command| command.name.to_owned()).collect(),
        _ => return BTreeSet::new(),
    };
    let options = options.iter().chain(&["--help"]).filter(|option| !words.contains(option));
    options.map(|option| (*option).to_owned()).chain(names).collect()
}

fn of_wg_quick(words: &[&str]) -> BTreeSet<String> {
    match words {
        [] => all(&["up", "down", "save", "strip"]),
        ["up" | "strip"] => configured(),
        ["down" | "save"] => present(),
        _ => BTreeSet::new(),
    }
}

fn of_wg(words: &[&str]) -> BTreeSet<String> {
    match words {
        [] => wg::subcommands().chain(["help", "version"]).map(str::to_owned).collect(),
        ["show"] => {
            [present(), all(&["all", "interfaces", "--json"])].into_iter().flatten().collect()
        }
        ["show", "interfaces"] => BTreeSet::new(),
        ["show", _] => parameters().map(str::to_owned).collect(),
        ["showconf" | "set" | "setconf" | "addconf" | "syncconf"] => present(),
        ["set", interface, settings @ ..] => of_set(interface, settings),
        _ => BTreeSet::new(),
    }
}

/// Behind `wg set INTERFACE`. What has been set is not offered again.
fn of_set(interface: &str, settings: &[&str]) -> BTreeSet<String> {
    let mut setting = None;
    let mut offered = all(&["listen-port", "fwmark", "private-key", "peer"]);
    for word in settings {
        match (setting.take(), *word) {
            (Some("peer"), _) => {
                offered = all(&[
                    "remove",
                    "preshared-key",
                    "endpoint",
                    "persistent-keepalive",
                    "allowed-ips",
                    "peer",
                ]);
            }
            (Some(_), _) => {}
            (None, "remove") => offered = all(&["peer"]),
            (None, name) => {
                setting = Some(name);
                offered.remove(name);
            }
        }
    }
    match setting {
        Some("peer") => peers(interface),
        Some(_) => BTreeSet::new(),
        None => offered,
    }
}

fn all(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Interfaces that have a file.
fn configured() -> BTreeSet<String> {
    let files = fs::read_dir("/etc/wireguard").into_iter().flatten().flatten();
    files
        .filter_map(|file| config::quick::interface(&file.file_name()).map(str::to_owned))
        .collect()
}

/// Interfaces that are there.
fn present() -> BTreeSet<String> {
    let names = wg::interface::names().unwrap_or_default();
    names.iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

/// The names of an interface's peers, and the keys of those that have none.
fn peers(interface: &str) -> BTreeSet<String> {
    let names = names::of(interface);
    let state = wg::interface::state(interface.as_ref());
    let keys = state.into_iter().flat_map(|state| state.peers).map(|peer| peer.public_key);
    let unnamed = keys.filter(|key| !names.contains_key(key));
    let unnamed: Vec<_> = unnamed.map(|key| config::key::to_base64(&key.0).to_string()).collect();
    // A shell would take a name with a space for two words.
    names.into_values().filter(|name| !name.contains(char::is_whitespace)).chain(unnamed).collect()
}
