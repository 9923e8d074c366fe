//! An interface as the kernel tells of it (`WG_CMD_GET_DEVICE`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use config::wg::stranger;
use host::generic::Attributes;
use proto::{DeviceState, PeerState, Prefix, PresharedKey, PrivateKey, PublicKey};

use super::*;

/// Adds what one message tells of an interface. A peer with too many allowed addresses for one
/// message goes on as the first of the next. None if it makes no sense.
pub(super) fn interface(state: &mut DeviceState, attributes: Attributes<'_>) -> Option<()> {
    for (kind, payload) in attributes {
        match kind {
            WGDEVICE_A_PRIVATE_KEY => state.private_key = PrivateKey::new(payload.try_into().ok()?),
            WGDEVICE_A_LISTEN_PORT => {
                state.listen_port = u16::from_ne_bytes(payload.try_into().ok()?);
            }
            WGDEVICE_A_FWMARK => state.fwmark = u32::from_ne_bytes(payload.try_into().ok()?),
            WGDEVICE_A_PEERS => {
                for (_, peer) in Attributes::after(0, payload) {
                    add_peer(&mut state.peers, Attributes::after(0, peer))?;
                }
            }
            _ => {}
        }
    }
    Some(())
}

fn add_peer(peers: &mut Vec<PeerState>, attributes: Attributes<'_>) -> Option<()> {
    let public_key = PublicKey(attributes.get(WGPEER_A_PUBLIC_KEY)?.try_into().ok()?);
    match peers.last_mut() {
        Some(last) if last.public_key == public_key => tell(last, attributes),
        _ => {
            let mut peer = stranger(public_key);
            tell(&mut peer, attributes)?;
            peers.push(peer);
            Some(())
        }
    }
}

fn tell(peer: &mut PeerState, attributes: Attributes<'_>) -> Option<()> {
    for (kind, payload) in attributes {
        match kind {
            WGPEER_A_PRESHARED_KEY => {
                peer.preshared_key = PresharedKey::new(payload.try_into().ok()?);
            }
            WGPEER_A_ENDPOINT => peer.endpoint = endpoint(payload),
            WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL => {
                peer.persistent_keepalive = u16::from_ne_bytes(payload.try_into().ok()?);
            }
            WGPEER_A_LAST_HANDSHAKE_TIME => peer.last_handshake = time(payload)?,
            WGPEER_A_RX_BYTES => peer.rx_bytes = u64::from_ne_bytes(payload.try_into().ok()?),
            WGPEER_A_TX_BYTES => peer.tx_bytes = u64::from_ne_bytes(payload.try_into().ok()?),
            WGPEER_A_ALLOWEDIPS => {
                for (_, entry) in Attributes::after(0, payload) {
                    peer.allowed_ips.push(prefix(&Attributes::after(0, entry))?);
                }
            }
            _ => {}
        }
    }
    Some(())
}

/// A `sockaddr_in` or `sockaddr_in6`; none if it is of another family.
fn endpoint(payload: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = payload.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    match u16::from_ne_bytes(*family) {
        AF_INET => {
            let (address, _) = rest.split_first_chunk::<4>()?;
            Some(SocketAddr::new(Ipv4Addr::from(*address).into(), port))
        }
        AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk()?;
            let (address, rest) = rest.split_first_chunk::<16>()?;
            let (scope, _) = rest.split_first_chunk()?;
            let (flow, scope) = (u32::from_be_bytes(*flow), u32::from_ne_bytes(*scope));
            Some(SocketAddrV6::new(Ipv6Addr::from(*address), port, flow, scope).into())
        }
        _ => None,
    }
}

/// A `__kernel_timespec` since the epoch, whose beginning stands for "never".
fn time(payload: &[u8]) -> Option<Option<Duration>> {
    let (seconds, rest) = payload.split_first_chunk()?;
    let (nanoseconds, _) = rest.split_first_chunk()?;
    let seconds = u64::try_from(i64::from_ne_bytes(*seconds)).ok()?;
    let nanoseconds = u64::try_from(i64::from_ne_bytes(*nanoseconds)).ok()?;
    let time = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds));
    Some(Some(time).filter(|time| !time.is_zero()))
}

fn prefix(attributes: &Attributes<'_>) -> Option<Prefix> {
    let family = u16::from_ne_bytes(attributes.get(WGALLOWEDIP_A_FAMILY)?.try_into().ok()?);
    let address = attributes.get(WGALLOWEDIP_A_IPADDR)?;
    let address: IpAddr = match family {
        AF_INET => <[u8; 4]>::try_from(address).ok()?.into(),
        AF_INET6 => <[u8; 16]>::try_from(address).ok()?.into(),
        _ => return None,
    };
    let [length] = attributes.get(WGALLOWEDIP_A_CIDR_MASK)?.try_into().ok()?;
    Prefix::new(address, length)
}
