//! Two processes, so that nothing of a run has a name outside and nothing can be left behind.
//!
//! The outer one leaves for namespaces of its own and starts the inner one there, as the first of a
//! process namespace, holding the other end of its standard input. Whatever ends the outer one ends
//! the inner one, and with it the kernel ends every daemon and frees every link.

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, thread};

use host::isolation;
use rustix::mount::{MountFlags, mount};

use crate::Outcome;

/// Runs this program again, inside, with the same words after `--inside`. Must be called before
/// the process has any thread.
pub fn outside() -> Outcome<ExitCode> {
    isolation::isolate().map_err(|error| {
        format!("no right to make namespaces: {error}. Run it as root; in a container, start that with --privileged")
    })?;
    // The daemons' control sockets have names; here they collide with nobody's.
    let run = fs::canonicalize("/var/run").map_err(|error| format!("/var/run: {error}"))?;
    isolation::cover(&run)
        .map_err(|error| format!("mount a private {}: {error}", run.display()))?;
    let mut inner = Command::new("/proc/self/exe");
    inner.arg("--inside").args(env::args_os().skip(1));
    let mut inner = inner.stdin(Stdio::piped()).spawn()?;
    let lifeline = inner.stdin.take();
    let status = inner.wait()?;
    drop(lifeline);
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(ExitCode::SUCCESS),
        (Some(_), _) => Ok(ExitCode::FAILURE),
        (None, signal) => Err(format!("the measurement was ended by signal {signal:?}").into()),
    }
}

/// Makes the inner process at home: it ends with the outer one, and `/proc` shows its process
/// namespace.
pub fn settle() -> Outcome<()> {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(1)
    });
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None::<&CStr>)
        .map_err(|error| format!("mount a /proc of our own: {error}").into())
}
