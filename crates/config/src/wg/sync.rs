//! `wg syncconf`: the same end as `setconf`, without a break for the peers that stay (spec §3.5).

use std::collections::BTreeMap;

use proto::{DeviceState, PeerState, PresharedKey, PublicKey};

use super::{PeerSettings, Secret, Settings};

/// Turns settings that replace all peers into settings that remove those which are not wanted any
/// more, and reset what the others have beyond what is wanted.
pub fn keep_sessions(wanted: &mut Settings, present: &DeviceState) {
    if wanted.peers.is_empty() || present.peers.is_empty() {
        return;
    }
    wanted.replace_peers = false;
    let mut unwanted: BTreeMap<_, _> =
        present.peers.iter().map(|peer| (peer.public_key, peer)).collect();
    for peer in &mut wanted.peers {
        if let Some(present) = unwanted.remove(&peer.public_key) {
            reset(peer, present);
        }
    }
    // `wg` puts each before the last, hence the order.
    let removals = unwanted.into_keys().rev().map(removal);
    wanted.peers.splice(..0, removals);
}

fn reset(wanted: &mut PeerSettings, present: &PeerState) {
    if present.preshared_key != PresharedKey::default() {
        wanted.preshared_key.get_or_insert_with(Secret::default);
    }
    if present.persistent_keepalive != 0 {
        wanted.persistent_keepalive.get_or_insert(0);
    }
}

fn removal(public_key: PublicKey) -> PeerSettings {
    PeerSettings { remove: true, ..PeerSettings::new(public_key) }
}
