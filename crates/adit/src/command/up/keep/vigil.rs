//! Peers that have fallen silent: whoever has a name may have another address by now.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::{DeviceState, PublicKey};

use crate::command::up::wish::{Endpoint, Wish};

/// Between two looks. Whoever hears something answers within ten seconds (spec §1.10, KEEPALIVE_TIMEOUT), so that nobody
/// who is there is silent for longer than this.
const PAUSE: Duration = Duration::from_secs(11);

/// Looks after the peers whose endpoints are names.
pub struct Vigil {
    named: BTreeMap<PublicKey, Endpoint>,
    seen: BTreeMap<PublicKey, Seen>,
    next: Instant,
}

/// A peer at the last look.
#[derive(Clone, Copy)]
struct Seen {
    sent: u64,
    received: u64,
    /// Something was sent, and nothing has come since.
    waits: bool,
}

impl Vigil {
    /// Of nobody yet.
    pub fn new() -> Self {
        Self { named: BTreeMap::new(), seen: BTreeMap::new(), next: Instant::now() + PAUSE }
    }

    /// Looks after the peers of this file from now on.
    pub fn watch(&mut self, wish: &Wish) {
        let named = wish.endpoints.iter().filter(|(_, endpoint)| !endpoint.is_address());
        self.named = named.map(|(peer, endpoint)| (*peer, endpoint.clone())).collect();
    }

    /// When to look again; never if no endpoint is a name.
    pub fn next(&self) -> Option<Instant> {
        (!self.named.is_empty()).then_some(self.next)
    }

    /// Whether it is time.
    pub fn is_due(&self) -> bool {
        self.next().is_some_and(|next| next <= Instant::now())
    }

    /// Looks at what they have sent and received. Silent is whoever is still spoken to and did not
    /// say a word since before the last look.
    pub fn silent(&mut self, state: Option<&DeviceState>) -> Vec<(PublicKey, Endpoint)> {
        self.next = Instant::now() + PAUSE;
        let mut silent = Vec::new();
        let peers = state.into_iter().flat_map(|state| &state.peers);
        let mut seen = BTreeMap::new();
        for peer in peers.filter(|peer| peer.endpoint.is_some()) {
            let Some(endpoint) = self.named.get(&peer.public_key) else { continue };
            let (sent, received) = (peer.tx_bytes, peer.rx_bytes);
            let mut waits = false;
            if let Some(before) = self.seen.get(&peer.public_key)
                && before.received == received
            {
                let is_spoken_to = sent > before.sent;
                waits = before.waits || is_spoken_to;
                if before.waits && is_spoken_to {
                    silent.push((peer.public_key, endpoint.clone()));
                }
            }
            seen.insert(peer.public_key, Seen { sent, received, waits });
        }
        self.seen = seen;
        silent
    }
}
