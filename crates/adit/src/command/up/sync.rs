//! Keys and peers: what has to be set so that a running interface is as its file wants it, and
//! nothing else, so that no session is dropped that did not change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use config::wg::{PeerSettings, Settings, keep_sessions};
use proto::{DeviceState, PeerState, Prefix, PresharedKey, PrivateKey, PublicKey};

use super::tunnel::Note;
use super::wish::Wish;

/// Where peers are, as far as that is known.
pub type Found = BTreeMap<PublicKey, SocketAddr>;

/// All that a new interface is given.
pub fn everything(wish: &Wish, found: &Found, mark: Option<u32>) -> Settings {
    let mut settings = wish.settings.clone();
    settings.fwmark = mark.or(settings.fwmark);
    keep_last(&mut settings.peers);
    for peer in &mut settings.peers {
        peer.endpoint = found.get(&peer.public_key).copied();
    }
    settings
}

/// What of it a running interface does not have yet, and what it has too much. An endpoint is set
/// only if it is written in another way than before: peers move.
pub fn missing(wanted: Settings, wish: &Wish, note: &Note, present: &DeviceState) -> Settings {
    let mut settings = wanted;
    settings.fwmark.get_or_insert(0);
    settings.replace_peers = true;
    keep_sessions(&mut settings, present);
    settings.private_key.take_if(|key| PrivateKey::new(*key.0) == present.private_key);
    settings.listen_port.take_if(|port| *port == present.listen_port);
    settings.fwmark.take_if(|mark| *mark == present.fwmark);
    settings.replace_peers &= !present.peers.is_empty();
    if settings.replace_peers {
        return settings;
    }
    let present = by_key(present);
    for peer in &mut settings.peers {
        if let Some(known) = present.get(&peer.public_key) {
            let written = wish.endpoints.get(&peer.public_key).map(|it| it.text.as_str());
            let moved = written != note.endpoint(&peer.public_key);
            peer.endpoint.take_if(|endpoint| {
                !moved && known.endpoint.is_some() || Some(*endpoint) == known.endpoint
            });
            only_changes(peer, known);
        }
    }
    settings.peers.retain(|peer| {
        let is_new = || !present.contains_key(&peer.public_key);
        peer.remove || is_new() || says_something(peer)
    });
    settings
}

/// The peers of an interface. There can be very many.
pub fn by_key(state: &DeviceState) -> BTreeMap<PublicKey, &PeerState> {
    state.peers.iter().map(|peer| (peer.public_key, peer)).collect()
}

/// Whom it would call elsewhere than an interface does, and where.
pub fn moved(wanted: &Settings, present: &DeviceState) -> Vec<PeerSettings> {
    let present = by_key(present);
    let moved = wanted.peers.iter().filter_map(|peer| {
        let known = present.get(&peer.public_key)?;
        let endpoint = peer.endpoint.filter(|endpoint| known.endpoint != Some(*endpoint))?;
        Some(PeerSettings { endpoint: Some(endpoint), ..PeerSettings::new(peer.public_key) })
    });
    moved.collect()
}

/// The mark of a full tunnel's datagrams, without which it carries itself, if somebody has taken it.
pub fn lost_mark(table: Option<u32>, present: &DeviceState) -> Option<u32> {
    table.filter(|mark| present.fwmark != *mark)
}

fn only_changes(peer: &mut PeerSettings, known: &PeerState) {
    peer.preshared_key.take_if(|key| PresharedKey::new(*key.0) == known.preshared_key);
    peer.persistent_keepalive.take_if(|seconds| *seconds == known.persistent_keepalive);
    let wanted: BTreeSet<_> = prefixes(peer).map(|it| (it.address(), it.length())).collect();
    let present = known.allowed_ips.iter().map(|it| (it.address(), it.length()));
    if wanted == present.collect() {
        peer.replace_allowed_ips = false;
        peer.allowed_ips.clear();
    }
}

fn says_something(peer: &PeerSettings) -> bool {
    peer.preshared_key.is_some()
        || peer.endpoint.is_some()
        || peer.persistent_keepalive.is_some()
        || peer.replace_allowed_ips
}

fn prefixes(peer: &PeerSettings) -> impl Iterator<Item = Prefix> + '_ {
    peer.allowed_ips.iter().filter_map(|it| Prefix::new(it.address, it.length))
}

/// Of a prefix that is given to several peers, the last one keeps it, as WireGuard has it.
fn keep_last(peers: &mut [PeerSettings]) {
    let mut taken = BTreeSet::new();
    for peer in peers.iter_mut().rev() {
        peer.allowed_ips.reverse();
        peer.allowed_ips.retain(|it| {
            let prefix = Prefix::new(it.address, it.length);
            prefix.is_some_and(|prefix| taken.insert((prefix.address(), prefix.length())))
        });
        peer.allowed_ips.reverse();
    }
}

/// What takes `change` back from an interface that was as `present` tells.
pub fn inverse(change: &Settings, present: &DeviceState) -> Settings {
    let secret = |bytes: &[u8; 32]| config::wg::Secret(zeroize::Zeroizing::new(*bytes));
    let by_key = by_key(present);
    let of_peer = |peer: &PeerSettings| {
        let known = by_key.get(&peer.public_key);
        let mut back =
            PeerSettings { remove: known.is_none(), ..PeerSettings::new(peer.public_key) };
        if let Some(known) = known {
            back.preshared_key = Some(secret(known.preshared_key.as_bytes()));
            back.endpoint = known.endpoint;
            back.persistent_keepalive = Some(known.persistent_keepalive);
            back.replace_allowed_ips = true;
            back.allowed_ips = known
                .allowed_ips
                .iter()
                .map(|it| config::wg::AllowedIp {
                    address: it.address(),
                    length: it.length(),
                    remove: false,
                })
                .collect();
        }
        back
    };
    let all: Vec<PeerSettings>;
    let peers = if change.replace_peers {
        all = present.peers.iter().map(|peer| PeerSettings::new(peer.public_key)).collect();
        &all
    } else {
        &change.peers
    };
    let key = present.private_key.as_ref().map(|key| secret(key.as_bytes())).unwrap_or_default();
    Settings {
        private_key: change.private_key.as_ref().map(|_| key),
        listen_port: change.listen_port.map(|_| present.listen_port),
        fwmark: change.fwmark.map(|_| present.fwmark),
        replace_peers: change.replace_peers,
        peers: peers.iter().map(of_peer).collect(),
    }
}

/// What a change does, a line for each peer, as in a diff.
pub fn lines(change: &Settings, wish: &Wish, present: Option<&DeviceState>) -> Vec<String> {
    let mut lines = Vec::new();
    let of_interface = [
        (change.private_key.is_some(), "private key"),
        (change.listen_port.is_some(), "listen port"),
        (change.fwmark.is_some(), "mark"),
    ];
    let sign = if present.is_some() { "~" } else { "+" };
    lines.extend(
        of_interface.iter().filter(|(is_set, _)| *is_set).map(|(_, what)| format!("{sign} {what}")),
    );
    if change.replace_peers {
        lines.push("- all peers".to_owned());
    }
    let present = present.map(by_key).unwrap_or_default();
    for peer in &change.peers {
        let name = wish.name_of(&peer.public_key);
        let is_known = present.contains_key(&peer.public_key);
        let what: Vec<&str> = [
            (peer.preshared_key.is_some(), "preshared key"),
            (peer.endpoint.is_some(), "endpoint"),
            (peer.persistent_keepalive.is_some(), "persistent keepalive"),
            (peer.replace_allowed_ips, "allowed IPs"),
        ]
        .into_iter()
        .filter_map(|(is_set, what)| is_set.then_some(what))
        .collect();
        lines.push(match (peer.remove, is_known) {
            (true, _) => format!("- peer {name}"),
            (false, false) => format!("+ peer {name}"),
            (false, true) => format!("~ peer {name}: {}", what.join(", ")),
        });
    }
    lines
}
