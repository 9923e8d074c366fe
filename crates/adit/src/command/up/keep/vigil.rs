//! Peers that have fallen silent: whoever has a name may have another address by now, and whoever has
//! moved may be back where the file has it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::{DeviceState, PeerState, PublicKey};
use sys::clock::realtime;

use crate::command::up::converge::Tunnel;
use crate::command::up::wish::Endpoint;

/// Between two looks at the kernel's counters while somebody is spoken to, and else. Whoever hears
/// something answers within ten seconds (spec §1.10, KEEPALIVE_TIMEOUT), so that nobody who is there
/// is silent for longer than the first; both together are half a minute.
const PAUSE: Duration = Duration::from_secs(11);
const REST: Duration = Duration::from_secs(22);
/// Between two calls that are not answered (spec §1.10, REKEY_TIMEOUT).
const CALL: Duration = Duration::from_secs(5);
/// Peers come and go; what there is to remember of them must not grow for ever.
const MAX_CALLED: usize = 4096;
/// Of UDP, in bytes. Nobody answers it.
const KEEPALIVE: u64 = 32;

/// Looks after peers. Our daemon says which of them do not answer, so that nobody is woken while all
/// is well; of a kernel that carries the packets only the counters tell.
pub struct Vigil {
    /// Where the file has them.
    written: BTreeMap<PublicKey, Endpoint>,
    called: BTreeMap<PublicKey, Called>,
    seen: BTreeMap<PublicKey, Seen>,
    /// Port and mark at the last look.
    numbers: Option<(u16, u32)>,
    looks: bool,
    pause: Duration,
    next: Instant,
}

/// A peer that does not answer our daemon.
struct Called {
    /// The first call, in seconds since the Unix epoch.
    since: u64,
    /// When it was called again.
    again: Instant,
    /// When it was looked for.
    looked_up: Option<Instant>,
}

/// A peer of the kernel's at the last look.
#[derive(Clone, Copy)]
struct Seen {
    sent: u64,
    received: u64,
    /// Something was sent, and nothing has come since.
    waits: bool,
}

impl Called {
    /// One call is soon lost, three are not.
    fn is_in_vain(&self) -> bool {
        self.looked_up.is_some()
    }
}

impl Vigil {
    /// Of nobody yet.
    pub fn new() -> Self {
        Self {
            written: BTreeMap::new(),
            called: BTreeMap::new(),
            seen: BTreeMap::new(),
            numbers: None,
            looks: false,
            pause: PAUSE,
            next: Instant::now() + PAUSE,
        }
    }

    /// Looks after the peers that a tunnel has now, and after the port and mark of a full one. Whether
    /// these are others since the last look.
    pub fn follow(&mut self, tunnel: &Tunnel) -> bool {
        let is_renumbered = self.is_renumbered(tunnel.present.as_ref());
        self.written.clone_from(&tunnel.wish.endpoints);
        let note = &tunnel.journal.note;
        self.looks = note.kernel && (note.table.is_some() || !self.written.is_empty());
        is_renumbered
    }

    /// Our daemon calls a peer again. What is to be looked up: where it is, if it has not answered
    /// twice, which is half a minute after the first packet that it should have answered.
    pub fn hear(&mut self, peer: PublicKey, now: Instant) -> Option<Endpoint> {
        let goes_on = |called: &&mut Called| now.duration_since(called.again) < PAUSE;
        let Some(called) = self.called.get_mut(&peer).filter(goes_on) else {
            if self.called.len() >= MAX_CALLED {
                self.called.clear();
            }
            let since = realtime().saturating_sub(CALL).as_secs();
            self.called.insert(peer, Called { since, again: now, looked_up: None });
            return None;
        };
        called.again = now;
        let lately = |at: &Instant| now.duration_since(*at) < 2 * CALL;
        if called.looked_up.as_ref().is_some_and(lately) {
            return None;
        }
        called.looked_up = Some(now);
        self.written.get(&peer).cloned()
    }

    /// Whom our daemon has called in vain, and since when, in seconds since the Unix epoch. Whoever
    /// has completed a handshake since has answered.
    pub fn called(&self) -> impl Iterator<Item = (&PublicKey, u64)> {
        let called = self.called.iter().filter(|(_, called)| called.is_in_vain());
        called.map(|(peer, called)| (peer, called.since))
    }

    /// When to look at counters; never if nothing can be seen there.
    pub fn next(&self) -> Option<Instant> {
        self.looks.then_some(self.next)
    }

    /// Whether it is time.
    pub fn is_due(&self) -> bool {
        self.next().is_some_and(|next| next <= Instant::now())
    }

    /// Whether somebody has given the tunnel another port or mark since the last look, of which no
    /// kernel tells.
    pub fn is_renumbered(&mut self, state: Option<&DeviceState>) -> bool {
        // One look that fails makes nobody forget what was there before.
        let Some(state) = state else { return false };
        let now = (state.listen_port, state.fwmark);
        self.numbers.replace(now).is_some_and(|before| before != now)
    }

    /// Looks at what they have sent and received. Silent is whoever is still spoken to and did not
    /// say a word since before the last look.
    pub fn silent(&mut self, state: Option<&DeviceState>) -> Vec<(PublicKey, Endpoint)> {
        let (mut silent, mut is_busy) = (Vec::new(), false);
        let peers = state.into_iter().flat_map(|state| &state.peers);
        let mut seen = BTreeMap::new();
        for peer in peers.filter(|peer| peer.endpoint.is_some()) {
            let Some(endpoint) = self.written.get(&peer.public_key) else { continue };
            let (sent, received) = (peer.tx_bytes, peer.rx_bytes);
            let mut waits = false;
            if let Some(before) = self.seen.get(&peer.public_key) {
                let is_spoken_to = sent.saturating_sub(before.sent) > unanswered(peer, self.pause);
                if before.received == received {
                    waits = before.waits || is_spoken_to;
                    if before.waits && is_spoken_to {
                        silent.push((peer.public_key, endpoint.clone()));
                    }
                }
                is_busy |= waits || is_spoken_to;
            }
            seen.insert(peer.public_key, Seen { sent, received, waits });
        }
        self.seen = seen;
        self.pause = if is_busy { PAUSE } else { REST };
        self.next = Instant::now() + self.pause;
        silent
    }
}

/// What may be sent to a peer from one look to the next that it will not answer: its own packets'
/// answer, and keepalives.
fn unanswered(peer: &PeerState, time: Duration) -> u64 {
    let every = u64::from(peer.persistent_keepalive);
    let keepalives = time.as_secs().checked_div(every).map_or(0, |times| times + 1);
    (1 + keepalives) * KEEPALIVE
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proto::PresharedKey;

    use super::*;

    const PEER: PublicKey = PublicKey([7; 32]);

    fn vigil() -> Vigil {
        let endpoint = Endpoint {
            host: "vpn.example".into(),
            service: "1".into(),
            text: "vpn.example:1".into(),
        };
        Vigil { written: [(PEER, endpoint)].into(), ..Vigil::new() }
    }

    #[test]
    fn a_peer_that_was_called_three_times_is_looked_up_every_ten_seconds() {
        let (mut vigil, start) = (vigil(), Instant::now());
        let other = PublicKey([8; 32]);
        // The first word is of the second call.
        for (second, is_looked_up) in
            [(0, false), (5, true), (10, false), (15, true), (20, false), (60, false), (65, true)]
        {
            let now = start + Duration::from_secs(second);
            assert_eq!(vigil.hear(PEER, now).is_some(), is_looked_up, "at {second} s");
            assert!(vigil.hear(other, now).is_none(), "nobody knows its name");
        }
        assert_eq!(vigil.called().count(), 2);
        vigil.hear(PEER, start + Duration::from_secs(100));
        assert_eq!(vigil.called().collect::<Vec<_>>().len(), 1, "one call is soon lost");
    }

    #[test]
    fn another_port_is_seen_also_behind_a_look_that_failed() {
        let mut vigil = vigil();
        let state = |listen_port| DeviceState { listen_port, ..DeviceState::default() };
        for (port, is_other) in
            [(Some(1), false), (Some(1), false), (None, false), (Some(2), true), (Some(2), false)]
        {
            assert_eq!(vigil.is_renumbered(port.map(state).as_ref()), is_other, "{port:?}");
        }
    }

    #[test]
    fn keepalives_are_not_answered_and_everything_else_is() {
        // What is sent and received from look to look, and whether the peer is silent then.
        type Looks = [(u64, u64, bool)];
        let data = 128;
        let idle: &Looks = &[(0, 0, false), (0, 0, false), (0, 0, false)];
        let kept: &Looks = &[(32, 0, false), (0, 0, false), (32, 0, false), (32, 0, false)];
        let answered: &Looks = &[(data, 32, false), (32, data, false), (data, data, false)];
        let gone: &Looks = &[(data, 32, false), (data, 0, false), (296, 0, true), (296, 0, true)];
        for (name, looks) in
            [("idle", idle), ("kept", kept), ("answered", answered), ("gone", gone)]
        {
            let mut vigil = vigil();
            let (mut tx_bytes, mut rx_bytes) = (0, 0);
            for (number, (sent, received, is_silent)) in looks.iter().enumerate() {
                (tx_bytes, rx_bytes) = (tx_bytes + sent, rx_bytes + received);
                let peer = PeerState {
                    public_key: PEER,
                    preshared_key: PresharedKey::new([0; 32]),
                    endpoint: Some("192.0.2.1:1".parse().unwrap()),
                    last_handshake: None,
                    rx_bytes,
                    tx_bytes,
                    persistent_keepalive: 25,
                    allowed_ips: Vec::new(),
                    receives: None,
                    last_discard: None,
                };
                let state = DeviceState { peers: vec![peer], ..DeviceState::default() };
                let silent = vigil.silent(Some(&state));
                assert_eq!(silent.len(), usize::from(*is_silent), "{name}, look {number}");
            }
            let is_quiet = ["idle", "kept"].contains(&name);
            assert_eq!(vigil.pause, if is_quiet { REST } else { PAUSE }, "{name}");
        }
    }
}
