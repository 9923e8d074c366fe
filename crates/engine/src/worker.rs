//! A worker: one queue of the TUN, one data socket of each family, and nothing between them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use proto::Time;
use sys::poll::quiesce;
use sys::udp::{BUFFER, Family, Udp};

use crate::inbound::{Inbound, SLOTS, STRAYS};
use crate::mailbox::Letter;
use crate::outbound::Outbound;
use crate::shared::{Post, Routes, Shared, Sockets, token};

/// What holds for everything that is done between two waits.
pub(crate) struct Round<'a> {
    pub shared: &'a Shared,
    pub post: &'a Post,
    pub routes: Guard<Arc<Routes>>,
    pub sockets: Guard<Arc<Sockets>>,
    pub now: Time,
}

impl<'a> Round<'a> {
    /// Begins a round at `post`: takes what is published at this moment.
    pub fn begin(shared: &'a Shared, post: &'a Post) -> Self {
        let (routes, sockets) = (shared.routes.load(), shared.sockets.load());
        Self { shared, post, routes, sockets, now: shared.clock.time() }
    }

    /// The data socket of `family`, if it is open.
    pub fn socket(&self, family: Family) -> Option<&Udp> {
        self.sockets.group(family)?.data.get(self.post.number)
    }
}

/// Who has next to no rest for this long has work for another …
const RESTLESS: Duration = Duration::from_millis(500);
/// … where a rest makes good for work of so many times its length.
const REST: u32 = 10;

/// One of the threads that carry packets, from system call to system call.
pub(crate) struct Worker<'a> {
    shared: &'a Shared,
    post: &'a Post,
    outbound: Outbound,
    inbound: Inbound,
    /// The TUN is not read, since a socket is full. What comes in is carried all the same.
    blocked: bool,
}

impl<'a> Worker<'a> {
    /// Carries packets from when it is needed until it is told to stop, or until the TUN is gone.
    pub fn run(shared: &'a Shared, post: &'a Post) {
        if post.number > 0 {
            shared.widened.wait();
        }
        let (outbound, inbound) = (Outbound::new(), Inbound::new(SLOTS, STRAYS));
        let mut worker = Self { shared, post, outbound, inbound, blocked: false };
        let mut restless_since = shared.clock.time();
        loop {
            let alone = shared.in_use() < shared.workers.len();
            let before = alone.then(|| shared.clock.time());
            let Ok(events) = post.epoll.wait(None) else { return };
            if let Some(before) = before {
                let now = shared.clock.time();
                restless_since = now.min(restless_since + now.since(before) * REST);
                if now.since(restless_since) > RESTLESS {
                    restless_since = now;
                    shared.control.post(Letter::Saturated);
                }
            }
            for readiness in events {
                let outcome = match readiness.token {
                    token::BELL => {
                        // Before anything is looked at: what changes later rings again.
                        post.bell.drain();
                        if shared.control.is_closed() {
                            return;
                        }
                        worker.look()
                    }
                    token::TUN => worker.carry_out(),
                    token::V4 => worker.carry_in(Family::V4, readiness.writable),
                    _ => worker.carry_in(Family::V6, readiness.writable),
                };
                if outcome.is_err() {
                    return shared.control.post(Letter::Stop);
                }
            }
        }
    }

    fn round(&self) -> Round<'a> {
        Round::begin(self.shared, self.post)
    }

    /// Carries a batch from the TUN to the peers.
    ///
    /// # Errors
    /// When the TUN is gone, or epoll fails.
    fn carry_out(&mut self) -> io::Result<()> {
        let round = self.round();
        if self.outbound.forward(&round, &self.post.tun).is_err() {
            // One that is down gives errors, too; only one that is gone has no state any more.
            self.post.tun.is_up()?;
        }
        self.block_or_unblock(&round)
    }

    /// Carries a batch from the peers to the TUN, and goes on sending if that had to wait.
    ///
    /// # Errors
    /// When epoll fails.
    fn carry_in(&mut self, family: Family, writable: bool) -> io::Result<()> {
        self.receive(&self.round(), family);
        if writable { self.look() } else { Ok(()) }
    }

    /// Stops reading the TUN while a socket is full: its queue then tells the senders.
    fn block_or_unblock(&mut self, round: &Round<'_>) -> io::Result<()> {
        let (full, epoll) = (self.outbound.full, &self.post.epoll);
        let was_blocked = std::mem::replace(&mut self.blocked, full.is_some());
        if !was_blocked && !self.blocked {
            return Ok(());
        }
        epoll.watch(&self.post.tun, token::TUN, !self.blocked, false)?;
        // Perhaps by another than before.
        for family in [Family::V4, Family::V6] {
            if let Some(socket) = round.socket(family) {
                epoll.watch(socket, family as u64, true, full == Some(family))?;
            }
        }
        Ok(())
    }

    /// Goes on sending, and looks at what the control thread has changed.
    ///
    /// # Errors
    /// When epoll fails.
    fn look(&mut self) -> io::Result<()> {
        // It may have waited for a socket that is no more.
        self.outbound.flush(&self.round());
        let Shared { dealt, widened, .. } = self.shared;
        let is_in_the_way = dealt.get().is_some() && widened.get().is_none();
        if is_in_the_way && self.outbound.full.is_none() {
            self.make_way();
            let _ = widened.set(());
        }
        self.block_or_unblock(&self.round())
    }

    /// Carries what waits here already, so that nothing newer of its flow overtakes it elsewhere, and
    /// has the TUN give packets to all. What a full socket leaves may be overtaken: else the others would
    /// wait until the network has room.
    fn make_way(&mut self) {
        /// Packets that a queue of a TUN has room for, unless somebody has made it longer.
        const QUEUE: usize = 500;
        /// What a datagram takes of a socket's buffer beside its bytes, at least.
        const OVERHEAD: usize = 512;
        for family in [Family::V4, Family::V6] {
            // The kernel grants twice what it is asked for.
            let mut left = 2 * BUFFER;
            while let Some(bytes) = self.receive(&self.round(), family).filter(|_| left > 0) {
                left = left.saturating_sub(bytes + SLOTS * OVERHEAD);
            }
        }
        // From here on nothing is written before the others begin: a flow of which this queue gets a
        // packet would leave what waits in another behind.
        for post in self.shared.workers.iter().skip(1) {
            // A queue that cannot be attached is given nothing.
            let _ = post.tun.set_attached(true);
        }
        // What was on its way to the only queue has reached it then.
        quiesce();
        // Each queue that was attached has moved flows, but only to later ones (packets aside of which the
        // driver had not counted the queue yet): what is older of a flow lies in an earlier queue.
        for post in &self.shared.workers {
            let mut left = QUEUE;
            while left > 0 && self.outbound.full.is_none() {
                match self.outbound.forward(&self.round(), &post.tun) {
                    Ok(packets @ 1..) => left = left.saturating_sub(packets),
                    _ => break,
                }
            }
        }
    }

    /// Carries a batch from one of our sockets, if it is open. Returns how many bytes that were, if
    /// there may be more.
    fn receive(&mut self, round: &Round<'_>, family: Family) -> Option<usize> {
        self.inbound.forward(round, round.socket(family)?)
    }
}
