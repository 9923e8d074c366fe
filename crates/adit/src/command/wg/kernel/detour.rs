//! How a single allowed address is taken away by a kernel that cannot do so (before Linux 6.16): a
//! stranger takes it over, and goes with it. No other peer ever gets the packets for it.

use std::collections::BTreeMap;
use std::mem;

use config::wg::{AllowedIp, PeerSettings, Settings};
use proto::{DeviceState, Prefix, PublicKey};

/// Whether there is anything to take away.
pub(super) fn is_needed(settings: &Settings) -> bool {
    settings.peers.iter().flat_map(|peer| &peer.allowed_ips).any(|entry| entry.remove)
}

/// The same settings without taking away, for an interface as it is at present. Nobody has the key of
/// the stranger.
pub(super) fn around(settings: &Settings, present: &DeviceState, stranger: PublicKey) -> Settings {
    let mut owners = owners(present);
    if settings.replace_peers {
        owners.clear();
    }
    let mut peers = Vec::new();
    for peer in &settings.peers {
        let key = peer.public_key;
        if peer.remove || peer.replace_allowed_ips {
            owners.retain(|_, owner| *owner != key);
        }
        let mut part = PeerSettings { allowed_ips: Vec::new(), ..peer.clone() };
        for entry in peer.allowed_ips.iter().filter(|_| !peer.remove) {
            let Some(prefix) = Prefix::new(entry.address, entry.length) else { continue };
            if !entry.remove {
                owners.insert(prefix, key);
                part.allowed_ips.push(*entry);
            } else if owners.get(&prefix) == Some(&key) {
                owners.remove(&prefix);
                peers.push(mem::replace(&mut part, PeerSettings::new(key)));
                peers.extend(taken_away(*entry, stranger));
            }
        }
        peers.push(part);
    }
    Settings { peers, ..settings.clone() }
}

fn owners(present: &DeviceState) -> BTreeMap<Prefix, PublicKey> {
    let of = |peer: &proto::PeerState| {
        let key = peer.public_key;
        peer.allowed_ips.iter().map(move |prefix| (*prefix, key)).collect::<Vec<_>>()
    };
    present.peers.iter().flat_map(of).collect()
}

fn taken_away(entry: AllowedIp, stranger: PublicKey) -> [PeerSettings; 2] {
    let stranger = PeerSettings::new(stranger);
    let allowed_ips = vec![AllowedIp { remove: false, ..entry }];
    [PeerSettings { allowed_ips, ..stranger.clone() }, PeerSettings { remove: true, ..stranger }]
}
