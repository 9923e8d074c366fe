//! Settings as the kernel takes them (`WG_CMD_SET_DEVICE`), in pieces of a size that it takes.

use std::net::{IpAddr, SocketAddr};

use config::wg::{AllowedIp, PeerSettings, Settings};
use host::generic::Message;

use super::*;

const WGDEVICE_F_REPLACE_PEERS: u32 = 1;
const WGPEER_F_REMOVE_ME: u32 = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
/// Since Linux 6.16.
const WGALLOWEDIP_F_REMOVE_ME: u32 = 1;

/// How many bytes of peers go into one request: half of what an attribute can hold.
const ROOM: usize = 32 * 1024;
/// The most that a peer needs besides its allowed addresses: two headers of lists, two keys, flags,
/// an endpoint, an interval.
const PEER: usize = 2 * 4 + 2 * (4 + 32) + (4 + 4) + (4 + 28) + (4 + 4);
/// The most that an allowed address needs: the header of a list, family, address, length, flags.
const ENTRY: usize = 4 + (4 + 4) + (4 + 16) + (4 + 4) + (4 + 4);
const _: () = assert!(PEER == 128 && ENTRY == 48);

/// One request.
pub(super) struct Part<'a> {
    /// The settings of the interface itself, in the first.
    interface: Option<&'a Settings>,
    peers: Vec<Piece<'a>>,
}

/// A peer, or more of one.
struct Piece<'a> {
    peer: &'a PeerSettings,
    /// Not the continuation of one in the request before.
    first: bool,
    allowed_ips: &'a [AllowedIp],
}

/// All requests that settings need, at least one.
pub(super) fn parts(settings: &Settings) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut part = Part { interface: Some(settings), peers: Vec::new() };
    let mut room = ROOM;
    for peer in &settings.peers {
        let (mut first, mut rest) = (true, if peer.remove { &[][..] } else { &peer.allowed_ips });
        while first || !rest.is_empty() {
            if room < PEER + ENTRY {
                parts.push(std::mem::replace(
                    &mut part,
                    Part { interface: None, peers: Vec::new() },
                ));
                room = ROOM;
            }
            let fitting = rest.len().min((room - PEER) / ENTRY);
            let (now, later) = rest.split_at(fitting);
            part.peers.push(Piece { peer, first, allowed_ips: now });
            room -= PEER + fitting * ENTRY;
            (first, rest) = (false, later);
        }
    }
    parts.push(part);
    parts
}

impl Part<'_> {
    /// Completes a request that names the interface.
    pub fn write(&self, mut request: Message) -> Message {
        if let Some(settings) = self.interface {
            if let Some(key) = &settings.private_key {
                request = request.with(WGDEVICE_A_PRIVATE_KEY, &*key.0);
            }
            if let Some(port) = settings.listen_port {
                request = request.with(WGDEVICE_A_LISTEN_PORT, &port.to_ne_bytes());
            }
            if let Some(mark) = settings.fwmark {
                request = request.with(WGDEVICE_A_FWMARK, &mark.to_ne_bytes());
            }
            if settings.replace_peers {
                request = request.with(WGDEVICE_A_FLAGS, &WGDEVICE_F_REPLACE_PEERS.to_ne_bytes());
            }
        }
        if self.peers.is_empty() {
            return request;
        }
        request.nested(WGDEVICE_A_PEERS, &[], |list| {
            self.peers.iter().fold(list, |list, piece| list.nested(0, &[], |it| piece.write(it)))
        })
    }
}

impl Piece<'_> {
    fn write(&self, request: Message) -> Message {
        let mut request = request.with(WGPEER_A_PUBLIC_KEY, &self.peer.public_key.0);
        if self.first {
            request = self.write_settings(request);
        }
        if self.allowed_ips.is_empty() {
            return request;
        }
        request.nested(WGPEER_A_ALLOWEDIPS, &[], |list| {
            let entries = self.allowed_ips.iter();
            entries.fold(list, |list, entry| list.nested(0, &[], |it| write_entry(entry, it)))
        })
    }

    fn write_settings(&self, mut request: Message) -> Message {
        let peer = self.peer;
        if peer.remove {
            return request.with(WGPEER_A_FLAGS, &WGPEER_F_REMOVE_ME.to_ne_bytes());
        }
        if peer.replace_allowed_ips {
            request = request.with(WGPEER_A_FLAGS, &WGPEER_F_REPLACE_ALLOWEDIPS.to_ne_bytes());
        }
        if let Some(key) = &peer.preshared_key {
            request = request.with(WGPEER_A_PRESHARED_KEY, &*key.0);
        }
        if let Some(endpoint) = peer.endpoint {
            request = request.with(WGPEER_A_ENDPOINT, &socket_address(endpoint));
        }
        if let Some(seconds) = peer.persistent_keepalive {
            request = request.with(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &seconds.to_ne_bytes());
        }
        request
    }
}

fn write_entry(entry: &AllowedIp, request: Message) -> Message {
    let request = match entry.address {
        IpAddr::V4(address) => request
            .with(WGALLOWEDIP_A_FAMILY, &AF_INET.to_ne_bytes())
            .with(WGALLOWEDIP_A_IPADDR, &address.octets()),
        IpAddr::V6(address) => request
            .with(WGALLOWEDIP_A_FAMILY, &AF_INET6.to_ne_bytes())
            .with(WGALLOWEDIP_A_IPADDR, &address.octets()),
    };
    let request = request.with(WGALLOWEDIP_A_CIDR_MASK, &[entry.length]);
    if entry.remove {
        return request.with(WGALLOWEDIP_A_FLAGS, &WGALLOWEDIP_F_REMOVE_ME.to_ne_bytes());
    }
    request
}

/// A `sockaddr_in` or `sockaddr_in6`.
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(address) => {
            [&AF_INET.to_ne_bytes()[..], &port, &address.ip().octets(), &[0; 8]].concat()
        }
        SocketAddr::V6(address) => [
            &AF_INET6.to_ne_bytes()[..],
            &port,
            &address.flowinfo().to_be_bytes(),
            &address.ip().octets(),
            &address.scope_id().to_ne_bytes(),
        ]
        .concat(),
    }
}

#[cfg(test)]
mod tests {
    use proto::PublicKey;

    use super::*;

    fn crowd(peers: u8, addresses: u32) -> Settings {
        let entry = |number: u32| AllowedIp {
            address: IpAddr::V4(number.into()),
            length: 32,
            remove: false,
        };
        let peer = |number| {
            let allowed_ips = (0..addresses).map(entry).collect();
            PeerSettings { allowed_ips, ..PeerSettings::new(PublicKey([number; 32])) }
        };
        Settings { peers: (0..peers).map(peer).collect(), ..Settings::default() }
    }

    #[test]
    fn every_address_of_every_peer_is_in_one_request_and_none_is_too_large() {
        for (peers, addresses) in
            [(0, 0), (1, 0), (255, 0), (1, 679), (1, 680), (1, 681), (9, 5000)]
        {
            let settings = crowd(peers, addresses);
            let parts = parts(&settings);
            let pieces = || parts.iter().flat_map(|part| &part.peers);
            assert_eq!(pieces().filter(|piece| piece.first).count(), usize::from(peers));
            for peer in &settings.peers {
                let of_peer = pieces().filter(|piece| piece.peer == peer);
                let found: Vec<_> = of_peer.flat_map(|piece| piece.allowed_ips).collect();
                assert!(found.into_iter().eq(&peer.allowed_ips), "{peers} {addresses}");
            }
            for part in &parts {
                let size = |piece: &Piece<'_>| PEER + piece.allowed_ips.len() * ENTRY;
                assert!(part.peers.iter().map(size).sum::<usize>() <= ROOM);
            }
            let heads = parts.iter().map(|part| part.interface.is_some());
            assert!(heads.eq((0..parts.len()).map(|number| number == 0)), "only the first");
        }
    }

    #[test]
    fn a_peer_that_goes_needs_no_more_than_its_key() {
        let mut settings = crowd(1, 5000);
        settings.peers.iter_mut().for_each(|peer| peer.remove = true);
        assert_eq!(parts(&settings).len(), 1);
    }
}
