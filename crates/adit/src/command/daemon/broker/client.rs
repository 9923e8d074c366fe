//! The tunnel's side: asks, and waits for the answer.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use engine::Machine;
use host::news::{Bell, Sight};
use host::unreachable::Reports;
use host::ways::preferred_source;
use proto::PublicKey;
use serde::de::DeserializeOwned;
use sys::tun::Tun;
use sys::udp::{Family, Group, Udp};

use super::super::socket::File;
use super::line::Line;
use super::{Gap, Request, server};
use crate::command::quick::up::ourselves;

/// Asks the broker of one tunnel. Each call waits for its answer.
#[derive(Debug)]
pub struct Broker {
    line: Line,
    /// One request at a time is on its way.
    turn: Mutex<()>,
    at_work: Mutex<Option<AtWork>>,
    /// A queue of the tunnel's interface, while there is a tunnel.
    tun: Mutex<Option<Tun>>,
    /// To look ways up, IPv4's first, and what mark they have.
    probes: Mutex<Option<(u32, [Option<UdpSocket>; 2])>>,
    links: Mutex<Bell>,
}

/// Where the broker is.
#[derive(Debug)]
enum AtWork {
    Process(Child),
    /// Here, with the rights that this process has.
    Thread(JoinHandle<io::Result<()>>),
}

impl Broker {
    /// Starts one for the tunnel of this name: `file` is its socket's, `tun` a queue of its interface. It is a
    /// process of its own, and it is said which walls that lacks; or, where it cannot be had, a thread of
    /// this one, and it is said why.
    ///
    /// # Errors
    ///
    /// When there is neither.
    pub fn start(name: &str, file: &File, tun: Tun) -> io::Result<(Self, io::Result<Vec<Gap>>)> {
        let (line, theirs) = Line::pair()?;
        let (at_work, is_apart) = match process(name, theirs.try_clone()?) {
            Ok(child) => {
                // Open there alone, so that it is known when that one ends.
                drop(theirs);
                (AtWork::Process(child), Ok(()))
            }
            Err(why) => (AtWork::Thread(here(theirs)?), Err(why)),
        };
        let request = Request::Begin(name.to_owned(), file.clone());
        let (gaps, bell) = ask(&line, &request, &[tun.as_fd()])?;
        let links = bell.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
        let links = Bell::from(links).into();
        let (tun, at_work) = (Some(tun).into(), Some(at_work).into());
        let (turn, probes) = (Mutex::default(), Mutex::default());
        Ok((Self { line, turn, at_work, tun, links, probes }, is_apart.map(|()| gaps)))
    }

    /// Rings when it is time to [`look`](Self::look). Whoever holds it looks alone.
    pub fn links(&self) -> MutexGuard<'_, Bell> {
        held(&self.links)
    }

    /// Hangs up when the broker is gone.
    pub fn line(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// How the interface is.
    ///
    /// # Errors
    ///
    /// When it is gone, or the broker is.
    pub fn look(&self) -> io::Result<Sight> {
        self.with_tun(|tun| self.ask(&Request::Look, &[tun.as_fd()]).map(|(sight, _)| sight))
    }

    /// Whether the interface is up, which the broker is not needed for.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn is_up(&self) -> io::Result<bool> {
        self.with_tun(Tun::is_up)
    }

    fn with_tun<T>(&self, ask: impl FnOnce(&Tun) -> io::Result<T>) -> io::Result<T> {
        let tun = held(&self.tun);
        ask(tun.as_ref().ok_or(io::ErrorKind::NotFound)?)
    }

    /// Hears what comes by ICMP from now on.
    ///
    /// # Errors
    ///
    /// Those of [`Reports::open`].
    pub fn reports(&self) -> io::Result<Reports> {
        let (there, sockets) = self.ask(&Request::Reports, &[])?;
        Ok(each(there, sockets).into())
    }

    /// The number of the interface of this name, if there is one.
    pub fn zone(&self, name: &str) -> Option<u32> {
        self.ask(&Request::Zone(name.to_owned()), &[]).ok().and_then(|(number, _)| number)
    }

    /// Tells the tunnel's keeper that this peer does not answer.
    pub fn tell_of_silence(&self, peer: &PublicKey) {
        // Without a broker the tunnel ends.
        let _ = self.ask::<()>(&Request::Silence(peer.0), &[]);
    }

    /// Tells all keepers that the port or the mark may be others now.
    pub fn tell_keepers(&self) {
        let _ = self.ask::<()>(&Request::TellKeepers, &[]);
    }

    /// Whether the socket's file is still where it was. Without a broker the tunnel ends anyway.
    pub fn has_file(&self) -> bool {
        self.ask(&Request::HasFile, &[]).map_or(true, |(is_there, _)| is_there)
    }

    /// Has the socket's file removed. Whoever waits for that may make the next interface of this name.
    pub fn remove_file(&self) {
        drop(held(&self.tun).take());
        let _ = self.ask::<()>(&Request::RemoveFile, &[]);
    }

    /// Waits until the broker is gone. It is not asked any more.
    pub fn end(&self) {
        self.line.hang_up();
        // It has no reason to end badly, and if it did, all is over anyway.
        match held(&self.at_work).take() {
            Some(AtWork::Process(mut child)) => drop(child.wait()),
            Some(AtWork::Thread(thread)) => drop(thread.join()),
            None => {}
        }
    }

    fn ask<T: DeserializeOwned>(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<(T, Vec<OwnedFd>)> {
        let _turn = held(&self.turn);
        ask(&self.line, request, descriptors)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn process(name: &str, line: OwnedFd) -> io::Result<Child> {
    let mut broker = ourselves();
    // No terminal's Ctrl-C reaches it.
    broker.args(["broker", name]).current_dir("/").process_group(0);
    broker.stdin(line).stdout(Stdio::null()).spawn()
}

fn here(line: OwnedFd) -> io::Result<JoinHandle<io::Result<()>>> {
    thread::Builder::new()
        .name("broker".into())
        .spawn(|| server::serve(&line.into(), Ok(Vec::new())))
}

fn ask<T: DeserializeOwned>(
    line: &Line,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<(T, Vec<OwnedFd>)> {
    line.say(request, descriptors)?;
    let (outcome, descriptors) = line.hear()?.ok_or(io::ErrorKind::BrokenPipe)?;
    let outcome: Result<T, i32> = outcome;
    Ok((outcome.map_err(io::Error::from_raw_os_error)?, descriptors))
}

/// Of the families that are there, a socket.
fn each(there: [bool; 2], sockets: Vec<OwnedFd>) -> [Option<OwnedFd>; 2] {
    let mut sockets = sockets.into_iter();
    there.map(|is_there| is_there.then(|| sockets.next()).flatten())
}

impl Machine for Broker {
    fn bind(&self, port: u16, data_sockets: usize, mark: u32) -> io::Result<[Option<Group>; 2]> {
        let request = Request::Bind { port, data_sockets, mark };
        let (there, sockets): ([bool; 2], _) = self.ask(&request, &[])?;
        let mut sockets = sockets.into_iter().map(|socket| Udp(socket.into()));
        Ok(there.map(|is_there| {
            let mut data: Vec<_> =
                sockets.by_ref().take(usize::from(is_there) * (data_sockets + 1)).collect();
            let handshake = data.pop()?;
            Some(Group { data, handshake })
        }))
    }

    fn mark(&self, sockets: &Group, mark: u32) -> io::Result<()> {
        let descriptors: Vec<_> = sockets.sockets().map(AsFd::as_fd).collect();
        self.ask(&Request::Mark(mark), &descriptors).map(|((), _)| ())
    }

    fn source(&self, remote: SocketAddr, mark: u32) -> io::Result<IpAddr> {
        let mut probes = held(&self.probes);
        let (_, known) = match probes.take().filter(|(marked, _)| *marked == mark) {
            Some(known) => probes.insert(known),
            None => {
                let (there, sockets) = self.ask(&Request::Probes(mark), &[])?;
                probes.insert((mark, each(there, sockets).map(|socket| socket.map(Into::into))))
            }
        };
        let probe = known.get(Family::of(remote) as usize).and_then(Option::as_ref);
        preferred_source(probe.ok_or(io::ErrorKind::Unsupported)?, remote)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.ask(&Request::Has(address), &[]).is_ok_and(|(is_ours, _)| is_ours)
    }
}
