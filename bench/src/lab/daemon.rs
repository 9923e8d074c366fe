//! A daemon of whichever candidate, configured through its control socket.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Machine;
use super::usage::Usage;
use crate::Outcome;
use crate::candidate::Candidate;

/// How long a daemon may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running daemon with its children, a process group of its own; ended when dropped.
#[derive(Debug)]
pub struct Daemon {
    pub interface: String,
    process: Child,
}

impl Daemon {
    /// Starts it in `machine`, and waits until it takes a configuration.
    pub fn start(candidate: &Candidate, machine: &Machine) -> Outcome<Self> {
        // Control sockets have names that all machines share.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let interface = format!("wg{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut words = candidate.command.iter().map(|word| word.replace("%i", &interface));
        let program = words.next().ok_or("a candidate without a program")?;
        let log = format!("/var/run/{interface}.log");
        let output = File::create(&log)?;
        let mut command = Command::new(&program);
        command
            .args(words)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = machine
            .within(|| command.spawn())?
            .map_err(|error| format!("start {program}: {error}"))?;
        let mut daemon = Self { interface, process };
        daemon.await_socket().map_err(|error| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("{} did not start: {error}. {}", candidate.name, said.trim())
        })?;
        Ok(daemon)
    }

    fn await_socket(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            match self.connect() {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(format!("/var/run/wireguard/{}.sock", self.interface))
    }

    /// Changes its configuration, in the lines of the UAPI protocol.
    pub fn configure(&self, lines: &str) -> Outcome<()> {
        let answer = self
            .ask(&format!("set=1\n{lines}\n"))
            .map_err(|error| format!("{} does not answer: {error}", self.interface))?;
        match answer.as_str() {
            "errno=0" => Ok(()),
            refusal => {
                Err(format!("{} refuses its configuration: {refusal}", self.interface).into())
            }
        }
    }

    /// The first line of the answer to a request.
    fn ask(&self, request: &str) -> io::Result<String> {
        let mut socket = self.connect()?;
        socket.write_all(request.as_bytes())?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// What it has used so far.
    pub fn usage(&self) -> Outcome<Usage> {
        Usage::of_group(self.process.id())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.process.id().cast_signed()) {
            // It may have ended by itself; then there is nobody to end.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}
