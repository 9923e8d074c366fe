//! Whether a sticky source is still right when addresses and routes change (spec §1.11).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::limits::{KEEPALIVE_TIMEOUT, REKEY_TIMEOUT};
use proto::{Endpoint, Time};

use crate::Machine;

/// How long messages may still come to an address that is not sent from any more: whoever sends is answered
/// within this time, if only by a keepalive, and knows the other one then.
const STRAGGLERS: Duration = KEEPALIVE_TIMEOUT.saturating_add(REKEY_TIMEOUT);

/// Places that are remembered at most, besides those where the peers are: a peer may claim to be anywhere.
const MOST: usize = 1 << 16;

/// The way to each place where a peer is.
///
/// A peer may have reached us at another address of ours, and is then answered from that one. But when
/// the machine's own choice changes, so has the way to the peer.
#[derive(Default)]
pub(crate) struct Paths(HashMap<IpAddr, Way>);

#[derive(Clone, Copy)]
struct Way {
    /// The source that the machine would choose by itself.
    choice: Option<IpAddr>,
    /// What it would have chosen before, and when that changed.
    left: Option<(IpAddr, Time)>,
}

impl Paths {
    /// Remembers the way to where a peer is now. False if the peer may not have heard yet that its source
    /// was given up: that does not ask to be answered from it.
    pub fn learn(
        &mut self,
        machine: &dyn Machine,
        endpoint: &Endpoint,
        mark: u32,
        now: Time,
    ) -> bool {
        let Some((source, _)) = endpoint.source else { return true };
        if self.0.len() >= MOST && !self.0.contains_key(&endpoint.remote.ip()) {
            // If the peer stays there, the next review knows it.
            return true;
        }
        let way = self.way(machine, endpoint.remote, mark);
        way.left.is_none_or(|(left, since)| left != source || now.since(since) >= STRAGGLERS)
    }

    fn way(&mut self, machine: &dyn Machine, remote: SocketAddr, mark: u32) -> &mut Way {
        let choose = || Way { choice: machine.source(remote, mark).ok(), left: None };
        self.0.entry(remote.ip()).or_insert_with(choose)
    }

    /// Addresses or routes have changed. Tells of an endpoint whether its source is no longer right;
    /// asked about all of them, and then dropped, it leaves the ways as they are now.
    pub fn review(
        &mut self,
        machine: &dyn Machine,
        mark: u32,
        now: Time,
    ) -> impl FnMut(&Endpoint) -> bool {
        let (before, mut ours) = (std::mem::take(&mut self.0), HashMap::new());
        move |&Endpoint { remote, source }| {
            // Also of whoever has lost its source, and may not have heard of that yet.
            let was = before.get(&remote.ip()).copied();
            if was.is_none() && source.is_none() {
                return false;
            }
            let is = self.way(machine, remote, mark);
            let was = was.unwrap_or(*is);
            let has_changed = was.choice != is.choice;
            is.left = if has_changed { was.choice.map(|it| (it, now)) } else { was.left };
            let mut has = |(source, _)| *ours.entry(source).or_insert_with(|| machine.has(source));
            has_changed || source.is_some_and(|source| !has(source))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    use sys::udp::Group;

    use super::*;

    /// A machine that chooses one source for everybody, and counts how often it was asked.
    #[derive(Default)]
    struct Chooser {
        choice: AtomicU32,
        asked: AtomicUsize,
    }

    impl Machine for Chooser {
        fn bind(&self, _: u16, _: usize, _: u32) -> io::Result<[Option<Group>; 2]> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn mark(&self, _: &Group, _: u32) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn source(&self, _: SocketAddr, _: u32) -> io::Result<IpAddr> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok(ip(self.choice.load(Ordering::Relaxed)))
        }

        fn has(&self, _: IpAddr) -> bool {
            true
        }
    }

    fn ip(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    /// A peer at `place`, that has reached us at another address than the machine would choose.
    fn at(place: u32) -> Endpoint {
        Endpoint { remote: (ip(place), 51820).into(), source: Some((ip(7), 0)) }
    }

    #[test]
    fn a_peer_that_claims_to_be_everywhere_fills_no_memory_and_pushes_nobody_out() {
        let (machine, mut paths) = (Chooser::default(), Paths::default());
        let late = MOST as u32 + 1;
        for place in 0..2 * late {
            assert!(paths.learn(&machine, &at(place), 0, Time::default()));
        }
        assert_eq!(paths.0.len(), MOST);
        assert_eq!(machine.asked.load(Ordering::Relaxed), MOST);
        // The places in which there are peers, and whether their sources are given up.
        let mut review = |expected: [bool; 2]| {
            let mut is_stale = paths.review(&machine, 0, Time::default());
            assert_eq!([0, late].map(|place| is_stale(&at(place))), expected);
        };
        machine.choice.store(1, Ordering::Relaxed);
        review([true, false]);
        // Whoever came too late was met by that review.
        machine.choice.store(2, Ordering::Relaxed);
        review([true, true]);
        assert_eq!(paths.0.len(), 2);
    }
}
