//! The arguments of `wg set` behind the interface's name (spec §3.4).

use proto::PublicKey;

use super::value::{allowed_ips, endpoint, fwmark, key, persistent_keepalive, port, without_space};
use super::{Machine, PeerSettings, Refusal, Settings};

/// Reads them all. Settings of the interface stand before the first peer.
///
/// # Errors
///
/// A word that has no meaning, or none in its place.
pub fn from_arguments(words: &[&[u8]], machine: &mut impl Machine) -> Result<Settings, Refusal> {
    let mut settings = Settings::default();
    let mut words = words;
    while let [name, rest @ ..] = words {
        let value = rest.first().copied();
        let used = match (*name, value, settings.peers.last_mut()) {
            (b"peer", Some(word), _) => {
                // A name is told from a key by being none, so that every key means itself.
                let peer = key(word).map(|key| PublicKey(*key.0));
                let peer = peer.or_else(|refusal| machine.peer(word).ok_or(refusal))?;
                settings.peers.push(PeerSettings::new(peer));
                2
            }
            (name, value, None) => of_interface(&mut settings, name, value, machine)?,
            (name, value, Some(peer)) => of_peer(peer, name, value, machine)?,
        };
        if used == 0 {
            return Err(Refusal::Words([b"Invalid argument: ", *name].concat()));
        }
        words = words.get(used..).unwrap_or_default();
    }
    Ok(settings)
}

/// How many words were used, which is none for what is no setting of the interface.
fn of_interface(
    settings: &mut Settings,
    name: &[u8],
    value: Option<&[u8]>,
    machine: &mut impl Machine,
) -> Result<usize, Refusal> {
    match (name, value) {
        (b"listen-port", Some(value)) => settings.listen_port = Some(port(machine, value)?),
        (b"fwmark", Some(value)) => settings.fwmark = Some(fwmark(value)?),
        (b"private-key", Some(path)) => settings.private_key = Some(machine.key_file(path)?),
        _ => return Ok(0),
    }
    Ok(2)
}

/// How many words were used, which is none for what is no setting of a peer.
fn of_peer(
    peer: &mut PeerSettings,
    name: &[u8],
    value: Option<&[u8]>,
    machine: &mut impl Machine,
) -> Result<usize, Refusal> {
    match (name, value) {
        (b"remove", _) => {
            peer.remove = true;
            return Ok(1);
        }
        (b"endpoint", Some(value)) => peer.endpoint = Some(endpoint(machine, value)?),
        (b"allowed-ips", Some(value)) => allowed_ips(machine, peer, &without_space(value))?,
        (b"persistent-keepalive", Some(value)) => {
            peer.persistent_keepalive = Some(persistent_keepalive(value)?);
        }
        (b"preshared-key", Some(path)) => peer.preshared_key = Some(machine.key_file(path)?),
        _ => return Ok(0),
    }
    Ok(2)
}
