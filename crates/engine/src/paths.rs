//! Whether a sticky source is still right when addresses and routes change (spec §1.11).

use std::collections::HashMap;
use std::net::IpAddr;
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
        let choose = || Way { choice: machine.source(endpoint.remote, mark).ok(), left: None };
        let way = self.0.entry(endpoint.remote.ip()).or_insert_with(choose);
        way.left.is_none_or(|(left, since)| left != source || now.since(since) >= STRAGGLERS)
    }

    /// Addresses or routes have changed. Tells of an endpoint with a source whether that is no longer
    /// right; asked about all of them, and then dropped, it leaves the ways as they are now.
    pub fn review(
        &mut self,
        machine: &dyn Machine,
        mark: u32,
        now: Time,
    ) -> impl FnMut(&Endpoint) -> bool {
        let (before, mut ours) = (std::mem::take(&mut self.0), HashMap::new());
        move |endpoint| {
            self.learn(machine, endpoint, mark, now);
            let mut has = |source| *ours.entry(source).or_insert_with(|| machine.has(source));
            let is_gone = endpoint.source.is_some_and(|(source, _)| !has(source));
            let ways = (before.get(&endpoint.remote.ip()), self.0.get_mut(&endpoint.remote.ip()));
            let (Some(was), Some(is)) = ways else { return is_gone };
            let has_changed = was.choice != is.choice;
            is.left = if has_changed { was.choice.map(|it| (it, now)) } else { was.left };
            is_gone || has_changed
        }
    }
}
