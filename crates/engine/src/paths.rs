//! Whether a sticky source is still right when addresses and routes change (spec §1.11).

use std::collections::HashMap;
use std::net::IpAddr;

use proto::Endpoint;

use crate::Machine;

/// The source that the machine would choose by itself for each place where a peer is.
///
/// A peer may have reached us at another address of ours, and is then answered from that one. But when
/// the machine's own choice changes, so has the way to the peer.
#[derive(Default)]
pub(crate) struct Paths(HashMap<IpAddr, Option<IpAddr>>);

impl Paths {
    /// Remembers the way to where a peer is now.
    pub fn learn(&mut self, machine: &dyn Machine, endpoint: &Endpoint, mark: u32) {
        if endpoint.source.is_some() {
            let choose = || machine.source(endpoint.remote, mark).ok();
            self.0.entry(endpoint.remote.ip()).or_insert_with(choose);
        }
    }

    /// Addresses or routes have changed. Tells of an endpoint with a source whether that is no longer
    /// right; asked about all of them, and then dropped, it leaves the ways as they are now.
    pub fn review(&mut self, machine: &dyn Machine, mark: u32) -> impl FnMut(&Endpoint) -> bool {
        let (before, mut ours) = (std::mem::take(&mut self.0), HashMap::new());
        move |endpoint| {
            self.learn(machine, endpoint, mark);
            let [before, now] = [&before, &self.0].map(|ways| ways.get(&endpoint.remote.ip()));
            let mut has = |source| *ours.entry(source).or_insert_with(|| machine.has(source));
            endpoint.source.is_some_and(|(source, _)| !has(source))
                || before.is_some() && before != now
        }
    }
}
