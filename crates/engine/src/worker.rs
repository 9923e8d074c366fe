//! A worker: one queue of the TUN, one data socket of each family, and nothing between them.

use std::cell::Cell;
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
    /// Whether a full socket has been waited for.
    pub has_waited: Cell<bool>,
}

impl<'a> Round<'a> {
    /// Begins a round at `post`: takes what is published at this moment.
    pub fn begin(shared: &'a Shared, post: &'a Post) -> Self {
        let (routes, sockets) = (shared.routes.load(), shared.sockets.load());
        let (now, has_waited) = (shared.clock.time(), Cell::default());
        Self { shared, post, routes, sockets, now, has_waited }
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
}

impl<'a> Worker<'a> {
    /// Carries packets from when it is needed until the tunnel ends, or ends it.
    pub fn run(shared: &'a Shared, post: &'a Post) {
        if post.number > 0 {
            shared.widened.wait();
        }
        let (outbound, inbound) = (Outbound::new(), Inbound::new(SLOTS, STRAYS));
        let mut worker = Self { shared, post, outbound, inbound };
        if worker.work().is_err() {
            shared.control.post(Letter::Stop);
        }
    }

    /// Carries packets until the tunnel ends.
    ///
    /// # Errors
    /// When the TUN is gone, or epoll fails.
    fn work(&mut self) -> io::Result<()> {
        let &mut Self { shared, post, .. } = self;
        let mut restless_since = shared.clock.time();
        loop {
            let alone = shared.in_use() < shared.workers.len();
            let before = alone.then(|| shared.clock.time());
            let events = post.epoll.wait(None)?;
            if let Some(before) = before {
                let now = shared.clock.time();
                restless_since = now.min(restless_since + now.since(before) * REST);
                if now.since(restless_since) > RESTLESS {
                    restless_since = now;
                    shared.control.post(Letter::Saturated);
                }
            }
            for token in events {
                match token {
                    token::END => return Ok(()),
                    token::BELL => self.make_way(),
                    token::TUN => self.carry_out()?,
                    token::V4 => self.carry_in(Family::V4),
                    _ => self.carry_in(Family::V6),
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
    /// When the TUN is gone.
    fn carry_out(&mut self) -> io::Result<()> {
        match self.outbound.forward(&self.round(), &self.post.tun) {
            // One that is down gives errors, too; only one that is gone has no state any more.
            Err(_) => self.post.tun.is_up().map(drop),
            Ok(_) => Ok(()),
        }
    }

    /// Carries a batch from the peers to the TUN.
    fn carry_in(&mut self, family: Family) {
        self.receive(&self.round(), family);
    }

    /// Carries what waits here already, so that nothing newer of its flow overtakes it elsewhere, and
    /// has the TUN give packets to all, who then begin.
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
            while left > 0 {
                match self.outbound.forward(&self.round(), &post.tun) {
                    Ok(packets @ 1..) => left = left.saturating_sub(packets),
                    _ => break,
                }
            }
        }
        self.shared.bell.drain();
        let _ = self.shared.widened.set(());
    }

    /// Carries a batch from one of our sockets, if it is open. Returns how many bytes that were, if
    /// there may be more.
    fn receive(&mut self, round: &Round<'_>, family: Family) -> Option<usize> {
        self.inbound.forward(round, round.socket(family)?)
    }
}
