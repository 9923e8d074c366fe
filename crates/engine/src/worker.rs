//! A worker: one queue of the TUN, one data socket of each family, and nothing between them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
    /// Carries packets as number `number`, from when it is needed until it is told to stop, or until
    /// the TUN is gone.
    pub fn run(number: usize, shared: &Arc<Shared>) {
        let (Some(tun), Some(post)) = (shared.tuns.get(number), shared.workers.get(number)) else {
            return;
        };
        if number > 0 {
            shared.widened.wait();
        }
        let (outbound, inbound) = (Outbound::new(), Inbound::new());
        let mut worker = Worker { number, outbound, inbound, blocked: false };
        let mut events = Events::new(token::COUNT);
        let mut rest = Rest::begin(shared.clock.time());
        loop {
            let alone = shared.in_use() < shared.workers.len();
            let before = alone.then(|| shared.clock.time());
            if post.epoll.wait(&mut events, None).is_err() {
                return;
            }
            if before.is_some_and(|before| rest.is_short(before, shared.clock.time())) {
                shared.control.post(ToControl::Saturated);
            }
            for readiness in events.iter() {
                let goes_on = match readiness.token {
                    token::MAILBOX => worker.read_mail(shared, tun, post),
                    token::TUN => worker.carry_out(shared, tun, post),
                    token::V4 => worker.carry_in(shared, tun, post, Family::V4, readiness),
                    _ => worker.carry_in(shared, tun, post, Family::V6, readiness),
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
        outcome.map(drop).or_else(|error| still_there(tun, error))?;
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
            let _ = self.receive(round, tun, family);
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
                ToWorker::Widen => {
                    self.make_way(shared, tun);
                    self.block_or_unblock(shared, tun, post)?;
                    let _ = shared.widened.set(());
                }
                ToWorker::Stop => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Carries what waits here already, so that nothing newer of its flow overtakes it elsewhere.
    fn make_way(&mut self, shared: &Shared, tun: &Tun) {
        /// Enough for a full queue.
        const ROUNDS: usize = 128;
        let mut carry = |source| {
            let more = Round::run(shared, self.number, |round| match source {
                None => self.outbound.forward(round, tun),
                Some(family) => self.receive(round, tun, family),
            });
            more.unwrap_or(false)
        };
        for source in [None, Some(Family::V4), Some(Family::V6)] {
            let _ = (0..ROUNDS).find(|_| !carry(source));
        }
    }

    /// Carries a batch from one of our sockets, if it is open. True if there may be more.
    ///
    /// # Errors
    /// What the network reports to a socket, of some datagram that was sent before.
    fn receive(&mut self, round: &Round<'_>, tun: &Tun, family: Family) -> io::Result<bool> {
        let socket = round.sockets.and_then(|sockets| sockets.data(family, self.number));
        socket.map_or(Ok(false), |socket| self.inbound.forward(round, tun, socket))
    }
}

/// How much rest a worker gets.
struct Rest {
    since: Time,
    sum: Duration,
}

impl Rest {
    fn begin(now: Time) -> Self {
        Self { since: now, sum: Duration::ZERO }
    }

    /// Notes a rest. True if there was next to none for half a second: who rests for less than a
    /// twentieth has work for another.
    fn is_short(&mut self, from: Time, to: Time) -> bool {
        const WHILE: Duration = Duration::from_millis(500);
        self.sum += to.since(from);
        let elapsed = to.since(self.since);
        if elapsed < WHILE {
            return false;
        }
        let rested = std::mem::replace(self, Self::begin(to)).sum;
        rested < elapsed / 20
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
