//! Going into the background: a second process serves, the first tells how that went.
//!
//! Nothing is opened before, and no thread forks: the second process is the same program with the
//! same words, which does everything itself. Its stdout leads to the first, which learns
//! there: that it is serving, or why it cannot.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::failure::Failure;

/// Set for the second process.
const MARK: &str = "ADIT_BACKGROUND";
/// What it says when it is serving.
const SERVING: &str = "serving";

/// Whether this is the second process.
pub fn is_here() -> bool {
    env::var_os(MARK).is_some()
}

/// Starts this program once more, and returns when that is serving.
pub fn start(wants_log: bool) -> Result<(), Failure> {
    let mut words = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(words.next().unwrap_or_default())
        .args(words)
        .env(MARK, "1")
        // So that no file system is kept busy, and no terminal's Ctrl-C reaches it.
        .current_dir("/")
        .process_group(0)
        .stdout(Stdio::piped());
    if !wants_log {
        command.stderr(Stdio::null());
    }
    let mut child = command.spawn().map_err(Failure::Background)?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).map_err(Failure::Background)?;
    }
    match said.trim_end() {
        SERVING => Ok(()),
        "" => Err(child.wait().map_or_else(Failure::Background, Failure::Vanished)),
        reason => Err(Failure::Told(reason.to_owned())),
    }
}

/// Gives back the stdin that was lent to this process: whoever lent it to the second one knows by that
/// that nothing more is to come, and what is typed at a terminal is nobody's business here.
///
/// # Errors
/// When there is no /dev/null.
pub fn give_back_stdin() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdin(File::open("/dev/null")?)?)
}

/// In the second process: tells the first how it went, and that it may go.
///
/// # Errors
/// When nobody is there who wants to know.
pub fn tell(outcome: Result<(), &Failure>) -> io::Result<()> {
    let mut stdout = io::stdout();
    match outcome {
        Ok(()) => writeln!(stdout, "{SERVING}"),
        Err(failure) => writeln!(stdout, "{failure}"),
    }
}
