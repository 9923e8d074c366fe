//! A worker: one queue of the TUN, one data socket of each family, and nothing between them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use proto::Time;
use sys::poll::{Events, Interest, Readiness};
use sys::tun::Tun;
use sys::udp::{Family, Udp};

use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::shared::{Post, Shared, Snapshot, Sockets, ToControl, ToWorker};

/// What holds for everything that is done between two waits.
pub(crate) struct Round<'a> {
    pub shared: &'a Shared,
    pub snapshot: &'a Snapshot,
    pub sockets: Option<&'a Sockets>,
    pub now: Time,
    /// Which of the data sockets is ours.
    pub worker: usize,
}

impl Round<'_> {
    /// Begins a round of `worker`: takes what is published at this moment.
    pub fn run<T>(shared: &Shared, worker: usize, round: impl FnOnce(&Round<'_>) -> T) -> T {
        let (snapshot, sockets) = (shared.snapshot.load(), shared.sockets.load());
        round(&Round {
            shared,
            snapshot: &snapshot,
            sockets: sockets.as_deref(),
            now: shared.clock.time(),
            worker,
        })
    }

    /// The socket to reach `remote` by.
    pub fn socket_towards(&self, remote: SocketAddr) -> Option<&Udp> {
        self.sockets?.data(if remote.is_ipv4() { Family::V4 } else { Family::V6 }, self.worker)
    }
}

/// What an event of a worker's epoll is about.
mod token {
    pub const MAILBOX: u64 = 0;
    pub const TUN: u64 = 1;
    pub const V4: u64 = 2;
    pub const V6: u64 = 3;
    pub const COUNT: usize = 4;
}

/// One of the threads that carry packets, from system call to system call.
pub(crate) struct Worker {
    number: usize,
    outbound: Outbound,
    inbound: Inbound,
}

impl Worker {
    pub fn new(number: usize) -> Self {
        Self { number, outbound: Outbound::new(), inbound: Inbound::new() }
    }

    /// Carries packets until told to stop, or until the TUN is gone.
    pub fn run(mut self, shared: &Arc<Shared>) {
        let (Some(tun), Some(post)) =
            (shared.tuns.get(self.number), shared.workers.get(self.number))
        else {
            return;
        };
        let mut events = Events::new(token::COUNT);
        while post.epoll.wait(&mut events, None).is_ok() {
            for readiness in events.iter() {
                if readiness.token == token::MAILBOX {
                    if !self.read_mail(shared, tun, post) {
                        return;
                    }
                } else if self.carry(shared, tun, readiness).is_err() {
                    return shared.control.post(ToControl::TunLost);
                }
            }
        }
    }

    /// Carries a batch from where there is something.
    ///
    /// # Errors
    /// When the TUN is gone.
    fn carry(&mut self, shared: &Shared, tun: &Tun, readiness: Readiness) -> io::Result<()> {
        let family = match readiness.token {
            token::V4 => Some(Family::V4),
            token::V6 => Some(Family::V6),
            _ => None,
        };
        Round::run(shared, self.number, |round| match family {
            None => self.outbound.forward(round, tun).or_else(|error| still_there(tun, error)),
            Some(family) => {
                if let Some(socket) =
                    round.sockets.and_then(|sockets| sockets.data(family, self.number))
                {
                    // What the network reports to a socket concerns some datagram that was sent before.
                    let _ = self.inbound.forward(round, tun, socket);
                }
                Ok(())
            }
        })
    }

    /// False if told to stop.
    fn read_mail(&mut self, shared: &Shared, tun: &Tun, post: &Post) -> bool {
        post.mailbox.empty().into_iter().all(|letter| match letter {
            ToWorker::Data(mut stray) => {
                Round::run(shared, self.number, |round| self.inbound.stray(round, tun, &mut stray));
                true
            }
            ToWorker::Stop => false,
        })
    }
}

impl Post {
    /// Watches the mailbox and the TUN's queue of a worker.
    ///
    /// # Errors
    /// Those of epoll.
    pub fn watch(&self, tun: &Tun) -> io::Result<()> {
        self.epoll.add(&self.mailbox, token::MAILBOX, Interest::Readable)?;
        self.epoll.add(tun, token::TUN, Interest::Readable)
    }

    /// Watches the data sockets of worker `number` until they are closed.
    ///
    /// # Errors
    /// Those of epoll.
    pub fn watch_sockets(&self, sockets: &Sockets, number: usize) -> io::Result<()> {
        [(Family::V4, token::V4), (Family::V6, token::V6)].into_iter().try_for_each(
            |(family, token)| {
                let socket = sockets.data(family, number);
                socket.map_or(Ok(()), |socket| self.epoll.add(socket, token, Interest::Readable))
            },
        )
    }
}

/// A TUN that is down gives errors, too; only one that is gone has no state any more.
fn still_there(tun: &Tun, error: io::Error) -> io::Result<()> {
    tun.is_up().map(drop).map_err(|_| error)
}
