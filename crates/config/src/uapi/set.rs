//! The lines of a `set` request (spec §2.5, §2.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str;

use proto::{AllowedIpsChange, Change, PeerChange, Prefix, PresharedKey, PrivateKey, PublicKey};

use super::Errno;
use crate::{key, number};

/// What the lines so far ask for. Nothing is applied before all of them are valid.
pub(super) struct Settings<'a> {
    change: Change,
    zone: Zone<'a>,
}

/// Finds the number of an interface.
type Zone<'a> = &'a dyn Fn(&str) -> Option<u32>;

impl<'a> Settings<'a> {
    pub(super) fn new(zone: Zone<'a>) -> Self {
        Self { change: Change::default(), zone }
    }

    pub(super) fn into_change(self) -> Change {
        self.change
    }

    /// Takes `key=value`. The value may hold further `=`; spaces have no place anywhere.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Errno> {
        let equals = line.iter().position(|&byte| byte == b'=');
        let (key, value) =
            equals.and_then(|at| line.split_at_checked(at)).ok_or(Errno::PROTOCOL)?;
        let value = value.split_first().map(|(_, value)| value);
        let value = str::from_utf8(value.unwrap_or_default()).map_err(|_| Errno::INVALID)?;
        self.setting(key, value).ok_or(Errno::INVALID)
    }

    fn setting(&mut self, key: &[u8], value: &str) -> Option<()> {
        if key == b"public_key" {
            let public_key = PublicKey(*key::from_hex(value)?);
            self.change.peers.push(PeerChange::new(public_key));
            return Some(());
        }
        match self.change.peers.last_mut() {
            None => of_device(&mut self.change, key, value),
            Some(peer) => of_peer(peer, key, value, self.zone),
        }
    }
}

fn of_device(change: &mut Change, key: &[u8], value: &str) -> Option<()> {
    match key {
        b"private_key" => change.private_key = Some(PrivateKey::new(*key::from_hex(value)?)),
        b"listen_port" => change.listen_port = Some(number(value)?),
        b"fwmark" => change.fwmark = Some(number(value)?),
        b"replace_peers" => change.replace_peers = truth(value)?,
        _ => return None,
    }
    Some(())
}

fn of_peer(peer: &mut PeerChange, key: &[u8], value: &str, zone: Zone<'_>) -> Option<()> {
    match key {
        b"remove" => peer.remove = truth(value)?,
        b"update_only" => peer.update_only = truth(value)?,
        b"preshared_key" => peer.preshared_key = Some(PresharedKey::new(*key::from_hex(value)?)),
        b"endpoint" => peer.endpoint = Some(endpoint(value, zone)?),
        b"persistent_keepalive_interval" => peer.persistent_keepalive = Some(number(value)?),
        b"replace_allowed_ips" => {
            truth(value)?;
            peer.allowed_ips.push(AllowedIpsChange::Clear);
        }
        b"allowed_ip" => peer.allowed_ips.push(match value.strip_prefix('-') {
            None => AllowedIpsChange::Insert(prefix(value)?),
            Some(value) => AllowedIpsChange::Remove(prefix(value)?),
        }),
        b"protocol_version" if value == "1" => {}
        _ => return None,
    }
    Some(())
}

/// The only value of a switch.
fn truth(value: &str) -> Option<bool> {
    (value == "true").then_some(true)
}

fn prefix(value: &str) -> Option<Prefix> {
    let (address, length) = value.split_once('/')?;
    Prefix::new(address.parse().ok()?, number(length)?)
}

/// `a.b.c.d:port`, `[v6]:port` or `[v6%zone]:port`.
fn endpoint(value: &str, zone: Zone<'_>) -> Option<SocketAddr> {
    let (host, port) = value.rsplit_once(':')?;
    let port = number(port)?;
    let Some(host) = host.strip_prefix('[') else {
        let address: Ipv4Addr = host.parse().ok()?;
        return Some(SocketAddr::new(address.into(), port));
    };
    let host = host.strip_suffix(']')?;
    let (address, scope) = match host.split_once('%') {
        None => (host, 0),
        Some((address, name)) => (address, number(name).or_else(|| zone(name))?),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    Some(match address.to_canonical() {
        // An IPv4 address in disguise is reached over IPv4: our sockets for IPv6 know only that.
        IpAddr::V4(address) => SocketAddr::new(address.into(), port),
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, scope).into(),
    })
}
