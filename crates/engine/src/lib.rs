//! The data plane: introduces the protocol ([`proto`]) to the kernel ([`sys`]).
//!
//! One control thread owns the protocol's state. Workers carry packets, each with its own queue of
//! the TUN and its own sockets, from system call to system call: no lock, channel or allocation
//! for a packet. They meet in `shared`, whose parts are swapped as a whole. Of what is rare, workers
//! write letters to the control thread, and that rings.

mod backlog;
mod control;
mod inbound;
mod mailbox;
pub mod offload;
mod outbound;
pub mod packet;
mod paths;
mod send;
mod shared;
mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};

use arc_swap::{ArcSwap, ArcSwapOption};
use proto::{Change, Device, DeviceState, Discard, Progress, PublicKey};
use sys::poll::{Epoll, Event};
use sys::tun::Tun;
use sys::udp::Group;

use control::Control;
use mailbox::{Letter, Mailbox};
use offload::{Kind, Offloads};
use shared::{Clock, Post, Shared, token};
use worker::Worker;

/// How a tunnel is to be run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Offloads that are not to be used.
    pub without: Vec<Kind>,
    /// Whether all workers carry packets from the start; else one does until it is saturated.
    pub all_workers: bool,
    /// Errors (errno) to be made up where an offload is used.
    pub faults: Vec<(Kind, i32)>,
    /// How many times as fast as the machine's clock the protocol's runs; 0 is as good as 1.
    pub time_scale: u32,
}

/// Something that a log may want to tell.
#[derive(Debug)]
pub enum Notice {
    /// The interface is up and the port open.
    Up,
    /// The interface is down and the port closed.
    Down,
    /// The interface is up, but the port could not be opened.
    PortRefused(u16, io::Error),
    /// How the handshake with this peer goes.
    Handshake(PublicKey, Progress),
    /// An initiation that came from there bears this key, which is no peer's. It may not be its sender's.
    Stranger(PublicKey, SocketAddr),
    /// This peer has spoken from there, and is there from now on.
    Roamed(PublicKey, SocketAddr),
    /// This peer has sent a packet from an address that is not its, the first since a handshake.
    Refused(PublicKey, IpAddr),
    /// A handshake message was dropped. Where it was one of a peer or of a stranger, that is told, too.
    Dropped(SocketAddr, Discard),
    /// This machine does not let a handshake message or keepalive out to a peer.
    NotSent(SocketAddr, io::Error),
    /// An offload failed, and is not used any more; that of trains only not for this peer, until its next
    /// session.
    OffloadLost(Kind, io::Error),
}

/// Hears of notices, on the control thread.
pub type Observer = Box<dyn Fn(Notice) + Send>;

/// What a tunnel asks of the machine and may have no right to by itself. It asks on the control thread.
pub trait Machine: Send + Sync {
    /// Opens the sockets of a port, as [`sys::udp::bind_pair`] does.
    ///
    /// # Errors
    /// As there.
    fn bind(&self, port: u16, data_sockets: usize, mark: u32) -> io::Result<[Option<Group>; 2]>;

    /// Marks what these sockets send, as [`Group::set_mark`] does.
    ///
    /// # Errors
    /// As there.
    fn mark(&self, sockets: &Group, mark: u32) -> io::Result<()>;

    /// The address that datagrams to `remote` with this mark bear if nothing asks for another.
    ///
    /// # Errors
    /// `ENETUNREACH` and its like if there is no way.
    fn source(&self, remote: SocketAddr, mark: u32) -> io::Result<IpAddr>;

    /// Whether `address` is one of the machine's.
    fn has(&self, address: IpAddr) -> bool;
}

/// A running tunnel.
pub struct Tunnel {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Asks things of a running tunnel, from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Tunnel {
    /// Starts a worker for each of `tuns` (queues of one interface, at least one), and the control
    /// thread. It is down until [`Handle::follow_link`] says otherwise.
    ///
    /// # Errors
    /// When descriptors or threads cannot be had.
    pub fn start(
        tuns: Vec<Tun>,
        options: &Options,
        machine: Arc<dyn Machine>,
        observer: Observer,
    ) -> io::Result<Self> {
        let ended = Event::new()?;
        let post = |(number, tun)| {
            let post = Post { number, tun, backlog: Mutex::default(), epoll: Epoll::new()? };
            post.epoll.add(&ended, token::END).map(|()| Arc::new(post))
        };
        let workers = (0..).zip(tuns).map(post).collect::<io::Result<Vec<_>>>()?;
        let first = workers.first().cloned().ok_or(io::ErrorKind::InvalidInput)?;
        let device = Device::new(Box::new(sys::random::fill));
        let shared = Arc::new(Shared {
            clock: Clock { scale: options.time_scale.max(1) },
            offloads: Offloads::probe(&first.tun, &options.without, &options.faults)?,
            routes: ArcSwap::from_pointee(device.routes(|_| None)),
            sockets: ArcSwap::default(),
            sessions: shared::Sessions::default(),
            mtu: usize::from(DEFAULT_MTU).into(),
            control: Mailbox::new()?,
            paths_changed: AtomicBool::default(),
            workers,
            alone: ArcSwapOption::empty(),
            widened: OnceLock::new(),
            ended,
        });
        if options.all_workers || shared.workers.len() == 1 {
            let _ = shared.widened.set(());
        } else {
            let alone = Epoll::new()?;
            alone.add(&shared.ended, token::END)?;
            shared.alone.store(Some(Arc::new(alone)));
        }
        for post in &shared.workers {
            shared.watch(post, &post.tun, token::TUN)?;
        }
        let control = Control::new(Arc::clone(&shared), first, device, machine, observer)?;
        let mut tunnel = Self { shared, threads: Vec::new() };
        tunnel.spawn(control).inspect_err(|_| tunnel.shared.end())?;
        Ok(tunnel)
    }

    fn spawn(&mut self, control: Control) -> io::Result<()> {
        let thread = |name: &str| thread::Builder::new().name(name.into());
        for post in &self.shared.workers {
            let (shared, post) = (Arc::clone(&self.shared), Arc::clone(post));
            self.threads.push(thread("worker").spawn(move || Worker::run(&shared, &post))?);
        }
        self.threads.push(thread("control").spawn(move || control.run())?);
        Ok(())
    }

    /// Through which the tunnel is asked and told.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Waits until the interface is gone, or [`Handle::stop`] was called.
    pub fn wait(self) {
        for thread in self.threads {
            // A thread that panicked has told so, and the others end by themselves.
            let _ = thread.join();
        }
    }
}

impl Handle {
    /// Everything that `get` shows; nothing of it if the tunnel has ended.
    pub fn state(&self) -> DeviceState {
        let (answer, state) = mpsc::channel();
        self.0.control.post(Letter::State(answer));
        state.recv().unwrap_or_default()
    }

    /// Applies `change` as a whole.
    ///
    /// # Errors
    /// `EADDRINUSE` and its like if the port cannot be opened, `EPERM` if the mark cannot be set,
    /// `ENOSPC` for too many peers; then nothing was changed. `BrokenPipe` if the tunnel has ended.
    pub fn configure(&self, change: Change) -> io::Result<()> {
        let (answer, outcome) = mpsc::channel();
        self.0.control.post(Letter::Configure(Box::new(change), answer));
        outcome.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Takes in that the interface is up, or down, and its MTU, if that could be seen.
    pub fn follow_link(&self, up: bool, mtu: Option<u32>) {
        self.0.control.post(Letter::Link(up, mtu));
    }

    /// Takes in that addresses or routes have changed where the sockets are: sources are chosen again.
    pub fn follow_paths(&self) {
        // News may come faster than sources are chosen: the next choice will do for all of it.
        if !self.0.paths_changed.swap(true, Ordering::SeqCst) {
            self.0.control.post(Letter::Paths);
        }
    }

    /// Ends the tunnel: sessions are wiped, sockets closed.
    pub fn stop(&self) {
        self.0.control.post(Letter::Stop);
    }
}

/// What a 1500-byte path leaves for packets inside, whatever the outer family.
pub const DEFAULT_MTU: u16 = 1500 - 80;
