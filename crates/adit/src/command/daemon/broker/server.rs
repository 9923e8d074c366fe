//! The broker's own process. It does one request after the other, and nothing without one.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use host::confine::{Reach, Work, confine};
use host::namespace::within;
use host::news::{Follower, Sight};
use host::signals::Signals;
use host::unreachable::Reports;
use host::ways::{is_local, probe};
use host::{Family, Network};
use proto::PublicKey;
use rustix::io::Errno;
use serde::Serialize;
use serde_json::Value;
use sys::tun::Tun;
use sys::udp::{Udp, bind_pair};

use super::super::interface::behave_as_a_tunnel;
use super::super::socket::File;
use super::line::Line;
use super::{Gap, Request};
use crate::command::up::{JOURNALS, RUNTIME, tell_keepers, tell_of_silence};
use crate::command::wg::interface::DIRECTORY;
use crate::command::words;

/// Runs `adit broker`, which is not for people: the daemon starts it, with one end of a line as stdin,
/// and with the name of the tunnel for whoever lists processes.
pub fn run(_: Vec<OsString>) -> ExitCode {
    // Whoever ends the daemon by a signal to all of its processes lets it say good-bye here.
    let signals = Signals::new();
    let line = io::stdin().as_fd().try_clone_to_owned().map(Line::from);
    let [removed, listed, called] = [DIRECTORY, JOURNALS, RUNTIME].map(Path::new);
    let gaps = confine(Work::Serve(Reach { removed, listed, called }));
    let may = signals.as_ref().map(|_| gaps.into_iter().map(Gap::new).collect()).map_err(code);
    let outcome = line.and_then(|line| serve(&line, may));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adit: the broker works for `adit daemon' alone: {}", words(&error));
            ExitCode::FAILURE
        }
    }
}

/// Serves until the other end is closed, if it `may`, and says which walls it lacks; else why not.
///
/// # Errors
///
/// When what comes from there are no requests, or nobody takes an answer.
pub fn serve(line: &Line, may: Result<Vec<Gap>, i32>) -> io::Result<()> {
    let mut tunnel = None;
    loop {
        let outcome = match (line.hear(), &mut tunnel) {
            (Ok(None), _) => return Ok(()),
            (Ok(Some((Request::Begin(name, file), queue))), None) => may
                .as_ref()
                .map_err(|code| io::Error::from_raw_os_error(*code))
                .and_then(|gaps| Ok((gaps, Tunnel::begin(name, file, queue)?)))
                .and_then(|(gaps, begun)| answer_with(vec![tunnel.insert(begun).bell()?], gaps)),
            (Ok(Some((request, descriptors))), Some(tunnel)) => tunnel.serve(request, descriptors),
            (Ok(Some(_)), None) => Err(io::ErrorKind::InvalidInput.into()),
            (Err(error), _) if code(&error) == Errno::MFILE.raw_os_error() => Err(error),
            (Err(error), _) => return Err(error),
        };
        let (value, descriptors) = match outcome {
            Ok((value, descriptors)) => (Ok(value), descriptors),
            Err(error) => (Err(code(&error)), Vec::new()),
        };
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        line.say(&value, &descriptors)?;
    }
}

/// An error as it is told: errno.
fn code(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())
}

/// What is answered, and what comes with it.
type Answer = io::Result<(Value, Vec<OwnedFd>)>;

fn answer(value: impl Serialize) -> Answer {
    answer_with(Vec::new(), value)
}

fn answer_with(descriptors: Vec<OwnedFd>, value: impl Serialize) -> Answer {
    Ok((serde_json::to_value(value)?, descriptors))
}

/// Whom it works for.
struct Tunnel {
    name: String,
    file: File,
    follower: Follower,
}

impl Tunnel {
    fn begin(name: String, file: File, queue: Vec<OwnedFd>) -> io::Result<Self> {
        Ok(Self { name, file, follower: Follower::new(&tun(queue)?)? })
    }

    fn bell(&self) -> io::Result<OwnedFd> {
        self.follower.bell().as_fd().try_clone_to_owned()
    }

    fn serve(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Answer {
        match request {
            Request::Begin(..) => return Err(io::ErrorKind::InvalidInput.into()),
            Request::Bind { port, data_sockets, mark } => {
                let groups = bind_pair(port, data_sockets, mark)?;
                let there = groups.each_ref().map(Option::is_some);
                let groups = groups.into_iter().flatten();
                let sockets = groups.flat_map(|it| it.data.into_iter().chain([it.handshake]));
                return answer_with(sockets.map(|socket| socket.0.into()).collect(), there);
            }
            Request::Mark(mark) => {
                let mut sockets = descriptors.into_iter().map(|it| Udp(it.into()));
                sockets.try_for_each(|socket| socket.set_mark(mark))?;
            }
            Request::Probes(mark) => {
                let [v4, v6] = [Family::V4, Family::V6].map(|family| match probe(family, mark) {
                    Err(error) if code(&error) == Errno::AFNOSUPPORT.raw_os_error() => Ok(None),
                    // They are kept: one that cannot be had now is asked for again.
                    probe => probe.map(|socket| Some(socket.into())),
                });
                return answer_with_each([v4?, v6?]);
            }
            Request::Reports => return answer_with_each(Reports::open()?.into_sockets()),
            Request::Has(address) => return answer(is_local(address)),
            Request::Look => return answer(self.look(&tun(descriptors)?)?),
            Request::Zone(name) => return answer(number(&name)),
            Request::Silence(key) => tell_of_silence(&self.name, &PublicKey(key)),
            Request::TellKeepers => tell_keepers(),
            Request::HasFile => return answer(self.file.is_ours()),
            Request::RemoveFile => self.file.remove(),
        }
        answer(())
    }

    fn look(&mut self, tun: &Tun) -> io::Result<Sight> {
        let (sight, network) = self.follower.look(tun)?;
        if sight.moved {
            // Its settings stay behind when it moves.
            let name = tun.name()?;
            let _ = within(network.as_fd(), || behave_as_a_tunnel(&name.to_string_lossy()));
        }
        Ok(sight)
    }
}

/// With a socket of each family that there is, and which these are.
fn answer_with_each(sockets: [Option<OwnedFd>; 2]) -> Answer {
    let there = sockets.each_ref().map(Option::is_some);
    answer_with(sockets.into_iter().flatten().collect(), there)
}

fn tun(mut descriptors: Vec<OwnedFd>) -> io::Result<Tun> {
    Tun::from_fd(descriptors.pop().ok_or(io::ErrorKind::InvalidInput)?)
}

/// The number of an interface of our own network namespace.
fn number(name: &str) -> Option<u32> {
    let link = Network::open().and_then(|mut network| network.link(name));
    link.ok().map(|link| link.index)
}
