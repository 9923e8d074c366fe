//! A worker: one queue of the TUN, one data socket of each family, and nothing between them. The first
//! has those of all, until it has no rest.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use proto::Time;
use sys::poll::Epoll;
use sys::udp::{Family, Udp};

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

/// Who has next to no rest for this long, be it for want of room, has work for another …
const RESTLESS: Duration = Duration::from_millis(500);
/// … where a rest makes good for work of so many times its length.
const REST: u32 = 10;

/// Batches that are taken in after a wait for room.
const CATCH_UP: usize = 8;

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
        if post.number == 0
            && let Some(alone) = shared.alone.load_full()
        {
            self.work_alone(&alone)?;
            shared.alone.store(None);
            // Whatever was taken in the place of another has been carried.
            let _ = shared.widened.set(());
        }
        while self.carry(post.epoll.wait(None)?)? {}
        Ok(())
    }

    /// Carries the packets of all, until it has no rest or the tunnel ends.
    fn work_alone(&mut self, all: &Epoll) -> io::Result<()> {
        let clock = self.shared.clock;
        let mut restless_since = clock.time();
        loop {
            let before = clock.time();
            let events = all.wait(None)?;
            let now = clock.time();
            restless_since = now.min(restless_since + now.since(before) * REST);
            if !self.carry(events)? || now.since(restless_since) > RESTLESS {
                return Ok(());
            }
        }
    }

    /// Carries a batch for each of `events`. False if one of them is the end.
    fn carry(&mut self, events: impl Iterator<Item = u64>) -> io::Result<bool> {
        let shared = self.shared;
        for event in events {
            let post = shared.workers.get((event / token::POST) as usize);
            let Some(round) = post.map(|post| Round::begin(shared, post)) else { continue };
            match event % token::POST {
                token::END => return Ok(false),
                token::TUN => self.carry_out(&round)?,
                token::V4 => self.carry_in(&round, Family::V4),
                _ => self.carry_in(&round, Family::V6),
            }
        }
        Ok(true)
    }

    /// Carries a batch from the TUN to the peers.
    ///
    /// # Errors
    /// When the TUN is gone.
    fn carry_out(&mut self, round: &Round<'_>) -> io::Result<()> {
        if self.outbound.forward(round).is_err() {
            // One that is down gives errors, too; only one that is gone has no state any more.
            round.post.tun.is_up()?;
        }
        if round.has_waited.get() {
            // So has what comes from the peers, and more of it than a batch.
            for family in [Family::V4, Family::V6].repeat(CATCH_UP) {
                self.carry_in(round, family);
            }
        }
        Ok(())
    }

    /// Carries a batch from the peers to the TUN, if the socket is open.
    fn carry_in(&mut self, round: &Round<'_>, family: Family) {
        if let Some(socket) = round.socket(family) {
            self.inbound.forward(round, socket);
        }
    }
}
