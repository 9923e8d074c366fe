//! `adit demo`: the newcomer's first minute, and the packager's smoke test.
//!
//! Two processes. The outer one leaves for namespaces of its own, starts the inner one there as the
//! first of a process namespace, and holds the other end of its standard input. Whatever ends the
//! outer one, be it Ctrl-C or SIGKILL, ends the inner one with it, and with that the kernel ends
//! both daemons and frees the links, the addresses and the sockets: nothing of the demo has a name
//! outside, so nothing can be left behind.

mod machine;
mod report;
mod scenes;

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;

use host::isolation::{self, Isolation};
use host::signals::Signals;
use lexopt::{Arg, ValueExt};
use sys::poll::Epoll;

use self::report::Report;
use super::words;

const USAGE: &str = "\
Usage: adit demo [--seconds N] [--json]

Makes two machines in namespaces, a cable between them, and a tunnel through it by two real
daemons; measures it, moves one of them to another address, breaks a key on purpose, and removes
everything again.

  --seconds N   how long the one TCP stream is measured (default 5)
  --json        one object at the end instead of a line per step
";

/// Everything that can go wrong is said in one sentence, to a person.
type Outcome<T> = Result<T, Box<dyn Error>>;

struct Options {
    seconds: u32,
    json: bool,
    /// Not for users: this is the inner process, and so it got there.
    inside: Option<String>,
}

/// Runs `adit demo` with the words that follow it on the command line. Must be called before the
/// process has any thread: a user namespace demands that.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let options = match parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => return super::say(USAGE),
        Err(error) => {
            eprintln!("adit demo: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new(options.json);
    let outcome = match &options.inside {
        Some(backend) => {
            end_with_the_outer_process();
            report.backend(backend);
            scenes::play(&mut report, options.seconds, backend)
        }
        None => match outside(&options) {
            Ok(code) => return code, // the inner process has reported
            Err(error) => Err(error),
        },
    };
    report.finish(&outcome)
}

fn parse(arguments: Vec<OsString>) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options { seconds: 5, json: false, inside: None };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("seconds") => {
                options.seconds = parser.value()?.parse_with(|text| match text.parse() {
                    Ok(seconds @ 1..=3600) => Ok(seconds),
                    _ => Err("not a number from 1 to 3600"),
                })?;
            }
            Arg::Long("json") => options.json = true,
            Arg::Long("inside") => options.inside = Some(parser.value()?.string()?),
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            argument => return Err(argument.unexpected()),
        }
    }
    Ok(Some(options))
}

/// Starts the inner process in fresh namespaces and waits for it. Fails only before it has started.
fn outside(options: &Options) -> Outcome<ExitCode> {
    tun_device()?;
    let backend = match isolation::isolate().map_err(|error| no_namespaces(&error))? {
        Isolation::Privileged => "netns+tun",
        Isolation::User => "userns+tun",
    };
    // The daemons' sockets have names. Here they collide with nobody's, and a user without rights
    // may make them.
    let run = fs::canonicalize("/var/run").map_err(|error| format!("/var/run: {error}"))?;
    isolation::cover(&run)
        .map_err(|error| format!("mount a private {}: {error}", run.display()))?;

    let mut inner = Command::new("/proc/self/exe");
    inner.arg0("adit").args([
        "demo",
        "--inside",
        backend,
        "--seconds",
        &options.seconds.to_string(),
    ]);
    if options.json {
        inner.arg("--json");
    }
    accompany(inner)
}

/// Runs the inner process to its end, or ends it when a signal asks for that.
fn accompany(mut inner: Command) -> Outcome<ExitCode> {
    const INTERRUPTED: u8 = 128 + 2;
    let signals = Signals::new()?;
    // In a group of its own, so that the terminal's Ctrl-C reaches only this process.
    inner.process_group(0);
    let (lifeline, its_end) = UnixStream::pair()?;
    let mut child = inner
        .stdin(OwnedFd::from(its_end))
        .spawn()
        .map_err(|error| format!("start adit: {error}"))?;
    drop(inner); // and with it our copy of its end, whose closing says that the child has ended

    let epoll = Epoll::new()?;
    epoll.add(&signals, 0)?;
    epoll.add(&lifeline, 1)?;
    while epoll.wait(None)?.next().is_none() {}
    let interrupted = signals.read().is_some();
    if interrupted {
        child.kill()?;
    }
    // The first of a process namespace ends when all others in it have.
    let status = child.wait()?;
    match status.code() {
        _ if interrupted => Ok(ExitCode::from(INTERRUPTED)),
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(_) => Ok(ExitCode::FAILURE),
        None => Err(format!("the demo was ended from outside: {status}").into()),
    }
}

/// Waits for the end of standard input, on the side.
fn end_with_the_outer_process() {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(1)
    });
}

/// Whether the TUN device can be had; if not, what would help.
fn tun_device() -> Outcome<()> {
    const TUN: &str = "/dev/net/tun";
    let Err(error) = OpenOptions::new().read(true).write(true).open(TUN) else { return Ok(()) };
    let text = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "no right to open the TUN device {TUN}: {}. Run this as root, or `sudo chmod 666 \
             {TUN}'",
            words(&error)
        ),
        _ => format!(
            "the TUN device {TUN} is missing: {}. Load its driver with `sudo modprobe tun'; start \
             a container with --device {TUN}",
            words(&error)
        ),
    };
    Err(text.into())
}

/// Settings that keep users from namespaces: the value that does, and one that does not.
const OBSTACLES: [(&str, &str, &str); 4] = [
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "1000"),
    ("user.max_net_namespaces", "0", "1000"),
];

/// Names what keeps this user from namespaces, and what would help.
fn no_namespaces(error: &io::Error) -> String {
    let stands_at = |name: &str, value: &str| {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
    };
    let obstacle = OBSTACLES.iter().find(|(name, value, _)| stands_at(name, value));
    let remedy = match obstacle {
        Some((name, value, better)) => format!(
            "The setting {name} is {value}. Run this as root, or `sudo sysctl {name}={better}'"
        ),
        None => "Run this as root; start a container with --privileged".into(),
    };
    format!("no right to make namespaces: {}. {remedy}", words(error))
}
