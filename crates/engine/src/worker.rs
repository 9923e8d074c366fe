//! A worker: one queue of the TUN, one data socket of each family, and nothing between them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use proto::Time;
use sys::poll::{Events, Readiness};
use sys::tun::Tun;
use sys::udp::{Family, Udp};

use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::shared::{Post, Routes, Shared, Sockets, ToControl, ToWorker, family};

/// What holds for everything that is done between two waits.
pub(crate) struct Round<'a> {
    pub shared: &'a Shared,
    pub routes: &'a Routes,
    pub sockets: Option<&'a Sockets>,
    pub now: Time,
    /// Which of the data sockets is ours.
    pub worker: usize,
}

impl Round<'_> {
    /// Begins a round of `worker`: takes what is published at this moment.
    pub fn run<T>(shared: &Shared, worker: usize, round: impl FnOnce(&Round<'_>) -> T) -> T {
        let (routes, sockets) = (shared.routes.load(), shared.sockets.load());
        round(&Round {
            shared,
            routes: &routes,
            sockets: sockets.as_deref(),
            now: shared.clock.time(),
            worker,
        })
    }

    /// The socket to reach `remote` by.
    pub fn socket_towards(&self, remote: SocketAddr) -> Option<&Udp> {
        self.sockets?.data(family(remote), self.worker)
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
    /// The TUN is not read, since a socket is full. What comes in is carried all the same.
    blocked: bool,
}

impl Worker {
    pub fn new(number: usize) -> Self {
        Self { number, outbound: Outbound::new(), inbound: Inbound::new(), blocked: false }
    }

    /// Carries packets until told to stop, or until the TUN is gone.
    pub fn run(mut self, shared: &Arc<Shared>) {
        let tun = shared.tuns.get(self.number);
        let (Some(tun), Some(post)) = (tun, shared.workers.get(self.number)) else { return };
        let mut events = Events::new(token::COUNT);
        while post.epoll.wait(&mut events, None).is_ok() {
            for readiness in events.iter() {
                let goes_on = match readiness.token {
                    token::MAILBOX => self.read_mail(shared, tun, post),
                    token::TUN => self.carry_out(shared, tun, post),
                    token::V4 => self.carry_in(shared, tun, post, Family::V4, readiness),
                    _ => self.carry_in(shared, tun, post, Family::V6, readiness),
                };
                match goes_on {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(_) => return shared.control.post(ToControl::TunLost),
                }
            }
        }
    }

    /// Carries a batch from the TUN to the peers.
    ///
    /// # Errors
    /// When the TUN is gone, or epoll fails.
    fn carry_out(&mut self, shared: &Shared, tun: &Tun, post: &Post) -> io::Result<bool> {
        let outcome = Round::run(shared, self.number, |round| self.outbound.forward(round, tun));
        outcome.or_else(|error| still_there(tun, error))?;
        self.block_or_unblock(shared, tun, post)
    }

    /// Carries a batch from the peers to the TUN, and goes on sending if that had to wait.
    ///
    /// # Errors
    /// When epoll fails.
    fn carry_in(
        &mut self,
        shared: &Shared,
        tun: &Tun,
        post: &Post,
        family: Family,
        readiness: Readiness,
    ) -> io::Result<bool> {
        let resumes = readiness.writable && self.outbound.full() == Some(family);
        Round::run(shared, self.number, |round| {
            if let Some(socket) =
                round.sockets.and_then(|sockets| sockets.data(family, self.number))
            {
                // What the network reports to a socket concerns some datagram that was sent before.
                let _ = self.inbound.forward(round, tun, socket);
            }
            if resumes {
                self.outbound.flush(round);
            }
        });
        if resumes { self.block_or_unblock(shared, tun, post) } else { Ok(true) }
    }

    /// Stops reading the TUN while a socket is full: its queue then tells the senders.
    fn block_or_unblock(&mut self, shared: &Shared, tun: &Tun, post: &Post) -> io::Result<bool> {
        let full = self.outbound.full();
        if full.is_some() == self.blocked {
            return Ok(true);
        }
        self.blocked = full.is_some();
        if self.blocked {
            post.epoll.remove(tun)?;
        } else {
            post.epoll.add(tun, token::TUN)?;
        }
        if let Some(sockets) = shared.sockets.load_full() {
            for family in [Family::V4, Family::V6] {
                let Some(socket) = sockets.data(family, self.number) else { continue };
                post.epoll.await_room(socket, token(family), full == Some(family))?;
            }
        }
        Ok(true)
    }

    /// False if told to stop.
    ///
    /// # Errors
    /// When epoll fails.
    fn read_mail(&mut self, shared: &Shared, tun: &Tun, post: &Post) -> io::Result<bool> {
        for letter in post.mailbox.empty() {
            match letter {
                ToWorker::Data(mut stray) => {
                    Round::run(shared, self.number, |round| {
                        self.inbound.stray(round, tun, &mut stray)
                    });
                }
                ToWorker::Sockets if self.blocked => {
                    Round::run(shared, self.number, |round| self.outbound.flush(round));
                    self.block_or_unblock(shared, tun, post)?;
                }
                ToWorker::Sockets => {}
                ToWorker::Stop => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// What epoll calls the data socket of `family`.
fn token(family: Family) -> u64 {
    match family {
        Family::V4 => token::V4,
        Family::V6 => token::V6,
    }
}

impl Post {
    /// Watches the mailbox and the TUN's queue of a worker.
    ///
    /// # Errors
    /// Those of epoll.
    pub fn watch(&self, tun: &Tun) -> io::Result<()> {
        self.epoll.add(&self.mailbox, token::MAILBOX)?;
        self.epoll.add(tun, token::TUN)
    }

    /// Watches the data sockets of worker `number` until they are closed.
    ///
    /// # Errors
    /// Those of epoll.
    pub fn watch_sockets(&self, sockets: &Sockets, number: usize) -> io::Result<()> {
        [Family::V4, Family::V6].into_iter().try_for_each(|family| {
            let socket = sockets.data(family, number);
            socket.map_or(Ok(()), |socket| self.epoll.add(socket, token(family)))
        })
    }
}

/// A TUN that is down gives errors, too; only one that is gone has no state any more.
fn still_there(tun: &Tun, error: io::Error) -> io::Result<()> {
    tun.is_up().map(drop).map_err(|_| error)
}
