//! What may be wrong, from what was seen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use config::trouble::Refused;
use proto::{Discard, PeerState, PublicKey};
use sys::clock::realtime;

use super::{HANDSHAKE, LIFETIME, Tunnel};

/// What was refused is told for a day.
const REFUSED: Duration = Duration::from_secs(24 * 60 * 60);
/// Files are written by other clocks, too.
const CLOCKS_AGREE: Duration = Duration::from_secs(60);
/// What may not have come back yet, in time and packets.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
const MANY: u64 = 3;

impl Tunnel {
    /// What may still be wrong, by the peer that should be where it came from, if there is one: not what
    /// a handshake with that peer has mended since.
    pub(super) fn refused(&self) -> BTreeMap<Option<PublicKey>, Vec<&Refused>> {
        let now = realtime();
        let mut refused: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for it in &self.troubles.refused {
            let peer = self.peer_at(it);
            let last = peer.and_then(|peer| peer.last_handshake);
            let is_over = last.is_some_and(|last| last.as_secs() >= it.last.as_secs());
            let is_lately = now.saturating_sub(it.last) < REFUSED;
            if is_lately && !is_over && !self.is_ourselves(it.from) {
                refused.entry(peer.map(|peer| peer.public_key)).or_default().push(it);
            }
        }
        refused
    }

    /// The only peer that should be where a message came from.
    fn peer_at(&self, refused: &Refused) -> Option<&PeerState> {
        let is_there = |peer: &&PeerState| {
            peer.endpoint.is_some_and(|endpoint| endpoint.ip() == refused.from.ip())
        };
        let mut there = self.state.iter().flat_map(|state| &state.peers).filter(is_there);
        there.next().filter(|_| there.next().is_none())
    }

    /// Whether a place is where this tunnel itself listens.
    pub(super) fn is_ourselves(&self, place: SocketAddr) -> bool {
        let is_own = place.ip().is_loopback() || self.addresses.contains(&place.ip());
        is_own && self.state.as_ref().is_some_and(|state| state.listen_port == place.port())
    }

    /// Whether something has happened later than now.
    pub(super) fn has_gone_back(&self) -> bool {
        let file = std::fs::metadata(&self.note.file).and_then(|it| it.modified()).ok();
        let file = file.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let handshakes = self.state.iter().flat_map(|state| &state.peers);
        let handshakes = handshakes.filter_map(|peer| peer.last_handshake);
        let known = handshakes.chain(file).chain([Duration::from_secs(self.note.since)]);
        known.max().is_some_and(|latest| latest > realtime() + CLOCKS_AGREE)
    }

    /// How many packets went into the tunnel, if peers answer for it, and none has ever come out. A few
    /// may be on their way; keepalives are none, and tell that they have arrived.
    pub(super) fn unreturned(&self) -> Option<u64> {
        let (received, sent) = self.counts.filter(|_| !self.note.kernel)?;
        let is_used = |peer: &PeerState| {
            let age = peer.last_handshake.map(|time| realtime().saturating_sub(time));
            peer.receives == Some(true)
                && peer.tx_bytes > HANDSHAKE
                && age.is_some_and(|age| (ON_ITS_WAY..LIFETIME).contains(&age))
        };
        let mut peers = self.state.iter().flat_map(|state| &state.peers);
        (received == 0 && sent >= MANY && peers.any(is_used)).then_some(sent)
    }
}

/// Whether it says what is wrong now: whoever calls from there has another key.
pub fn is_cause(refused: &Refused) -> bool {
    matches!(refused.reason, Discard::BadMac | Discard::UnknownPeer)
        && realtime().saturating_sub(refused.last) < LIFETIME
}
