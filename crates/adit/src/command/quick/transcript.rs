//! Telling each step as it is taken, and running what other programs do.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use host::resolvconf::search_path;
use host::signals::{Signal, Signals};

use super::{Failure, Outcome, words};

/// What a shell says of a program that is not there.
pub(super) const NOT_FOUND: u8 = 127;
/// What a shell adds to the number of the signal that ended a program.
const BY_SIGNAL: i32 = 128;

/// The steps taken so far are on stderr, each as `[#] COMMAND`.
#[derive(Debug)]
pub(in crate::command) struct Transcript {
    /// Those that keep the next step from being taken.
    signals: Option<Signals>,
}

impl Transcript {
    /// Signals end the program, as ever.
    pub(in crate::command) fn new() -> Self {
        Self { signals: None }
    }

    /// From now on signals wait for the end of a step, and then make the next one fail.
    pub(in crate::command) fn interruptible() -> Outcome<Self> {
        let signals = Signals::new();
        let signals = signals.map_err(|error| Failure::new(words(&error)))?;
        Ok(Self { signals: Some(signals) })
    }

    /// Tells a step that is about to be taken.
    pub(in crate::command) fn step(&self, text: impl AsRef<[u8]>) -> Outcome {
        self.unless_interrupted()?;
        // Nobody is left to be told that stderr is closed.
        let _ = io::stderr().write_all(&[b"[#] ", text.as_ref(), b"\n"].concat());
        Ok(())
    }

    /// Fails if a signal has come.
    pub(in crate::command) fn unless_interrupted(&self) -> Outcome {
        let number = match self.signals.as_ref().and_then(Signals::read) {
            None => return Ok(()),
            Some(Signal::Hangup) => 1,
            Some(Signal::Interrupt) => 2,
            Some(Signal::Terminate) => 15,
        };
        Err(Failure::told(BY_SIGNAL as u8 + number))
    }

    /// Lets the user's own commands for `interface` run, one after the other, up to the first that
    /// fails.
    pub(in crate::command) fn hooks(&self, hooks: &[Vec<u8>], interface: &str) -> Outcome {
        hooks.iter().try_for_each(|hook| {
            let hook = replace(hook, b"%i", interface.as_bytes());
            self.step(&hook)?;
            let shell = |name: &str, options: &[&str]| {
                let mut shell = child(name);
                // Through the environment, since everybody may read the arguments of a process.
                let script = format!("eval \"unset {HOOK}; INTERFACE={interface}; ${HOOK}\"");
                // The last is what the shell calls itself.
                shell.args(options).arg("-c").arg(script).arg("wg-quick");
                shell.env(HOOK, OsStr::from_bytes(&hook));
                shell
            };
            match run(&mut shell("bash", &["-e", "-o", "pipefail", "-O", "extglob"]), None) {
                Err(failure) if failure.status == NOT_FOUND && failure.text.is_some() => {
                    run(&mut shell("sh", &["-e"]), None)
                }
                outcome => outcome,
            }
        })
    }
}

/// Where a shell finds the hook that it is to run.
const HOOK: &str = "WG_QUICK_HOOK";

/// Another program, with the environment that wg-quick gives to all of them: in plain English, and
/// our own directory comes first.
pub(in crate::command) fn child(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("PATH", path());
    command
}

/// Whether [`child`] would find a program.
pub(super) fn is_there(program: &OsStr) -> bool {
    let is_path = program.as_bytes().contains(&b'/');
    let found = || env::split_paths(&path()).any(|folder| folder.join(program).is_file());
    if is_path { Path::new(program).is_file() } else { found() }
}

/// Where programs are looked for, and in our own directory first.
fn path() -> OsString {
    let path = search_path();
    match env::current_exe().ok().as_deref().and_then(Path::parent) {
        Some(ours) => {
            OsString::from_vec([ours.as_os_str().as_bytes(), b":", path.as_bytes()].concat())
        }
        None => path,
    }
}

/// Runs a program to its end, with `input` as its stdin if there is one.
///
/// # Errors
///
/// Its own status, or that it is not there, in words.
pub(in crate::command) fn run(command: &mut Command, input: Option<&[u8]>) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let missing = |error: io::Error| {
        let status = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_FOUND - 1 };
        Failure { text: Some(format!("{name}: {}", words(&error))), status }
    };
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut running = command.spawn().map_err(missing)?;
    if let (Some(mut stdin), Some(input)) = (running.stdin.take(), input) {
        // A program that does not care for its input may have gone before it was written.
        let _ = stdin.write_all(input);
    }
    let status = running.wait().map_err(|error| Failure::new(words(&error)))?;
    match status.code().or(status.signal().map(|number| BY_SIGNAL + number)) {
        Some(0) => Ok(()),
        code => Err(Failure::told(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
    }
}

/// Every occurrence of `from`, from the left.
fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, others)) = rest.split_first() {
        match rest.strip_prefix(from) {
            Some(behind) => {
                result.extend_from_slice(to);
                rest = behind;
            }
            None => {
                result.push(*first);
                rest = others;
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_percent_i_is_the_interface() {
        for (hook, expected) in [
            (&b"ip link show %i"[..], &b"ip link show wg0"[..]),
            (b"%i%i %%i %I %", b"wg0wg0 %wg0 %I %"),
            (b"", b""),
        ] {
            assert_eq!(replace(hook, b"%i", b"wg0"), expected);
        }
    }
}
