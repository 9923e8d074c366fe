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
            let Some(was) = before.get(&remote.ip()) else { return false };
            let is = self.way(machine, remote, mark);
            let has_changed = was.choice != is.choice;
            is.left = if has_changed { was.choice.map(|it| (it, now)) } else { was.left };
            let mut has = |(source, _)| *ours.entry(source).or_insert_with(|| machine.has(source));
            has_changed || source.is_some_and(|source| !has(source))
        }
    }
}
