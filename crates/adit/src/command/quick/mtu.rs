//! The MTU, and the moment when the link comes up (spec §4.4).

use std::net::{IpAddr, SocketAddr};

use host::{Change, Network};

use super::{Failure, Outcome, Quick, Transcript};
use crate::command::wg::interface;

/// What a packet grows by on its way through the tunnel: headers of IPv6, UDP and data messages,
/// and the tag.
const OVERHEAD: u32 = 40 + 8 + 16 + 16;
const _: () = assert!(OVERHEAD == 80);
/// Of an Ethernet, when nothing better is known.
const USUAL: u32 = 1500;

/// Sets the MTU that the file wants, else one that fits through the ways to all peers.
pub(super) fn set_and_up(quick: &Quick, network: &mut Network, transcript: &Transcript) -> Outcome {
    let name = &quick.interface;
    let wanted = match &quick.file.mtu {
        Some(mtu) => mtu.clone(),
        None => fitting(quick, network)?.to_string(),
    };
    transcript.step(format!("ip link set mtu {wanted} up dev {name}"))?;
    let mtu = wanted.parse().map_err(|_| Failure::new(format!("`{wanted}' is not an MTU")))?;
    Ok(network.apply_all(&[Change::SetMtu(name, mtu), Change::SetUp(name)])?)
}

fn fitting(quick: &Quick, network: &mut Network) -> Outcome<u32> {
    let state = interface::state(quick.interface.as_ref())
        .map_err(|error| Failure::unreadable(&quick.interface, &error))?;
    let endpoints = state.peers.iter().filter_map(|peer| peer.endpoint).filter_map(routable);
    // A peer that cannot be reached now has no say.
    let narrowest =
        endpoints.filter_map(|endpoint| network.path_to(endpoint).ok()).min_by_key(|path| path.mtu);
    let path = match narrowest {
        Some(path) => Some(path),
        None => network.default_path()?,
    };
    Ok(path.map_or(USUAL, |path| path.mtu).saturating_sub(OVERHEAD))
}

/// The way to a link-local address is not found by its address alone.
fn routable(endpoint: SocketAddr) -> Option<IpAddr> {
    match endpoint {
        SocketAddr::V6(endpoint) if endpoint.scope_id() != 0 => None,
        endpoint => Some(endpoint.ip()),
    }
}
