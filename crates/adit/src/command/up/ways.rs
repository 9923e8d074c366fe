//! Whether this machine itself keeps a tunnel's datagrams from their peer, or packets from the tunnel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use host::{Link, MAIN_TABLE, Network, Prefix, Route};
use proto::{DeviceState, PeerState};

use super::numbers::{LEAST_OF_V6, overhead, routable};
use crate::command::wg::interface;
use crate::command::words;

/// What is wrong with the way to a peer.
#[derive(Clone)]
pub enum Fault {
    /// It leads into the tunnel that should carry the datagrams outside.
    Circle(IpAddr),
    /// It leads through another tunnel, whose own way leads back into this one, which is a full one or
    /// is not.
    Ring(IpAddr, Other, bool),
    /// There is none, for this reason.
    None(IpAddr, String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Circle(address) => write!(f, "the way to {address} leads into the tunnel itself"),
            Self::Ring(address, Other { name, peer, has_all }, is_full) => {
                write!(
                    f,
                    "the way to {address} leads through {name}, whose own way to {peer} leads back \
                     into this tunnel: "
                )?;
                match (has_all, is_full) {
                    (true, _) => {
                        write!(f, "write `#! ExcludeIPs = {address}' in the file of {name}")
                    }
                    (_, true) => write!(f, "write `#! ExcludeIPs = {peer}' in its file"),
                    (..) => write!(f, "take {peer} out of its AllowedIPs"),
                }
            }
            Self::None(address, why) => write!(
                f,
                "this machine knows no way to {address}: {why}; look at `ip route get {address}'"
            ),
        }
    }
}

/// A tunnel that carries the datagrams of another.
#[derive(Clone)]
pub struct Other {
    name: String,
    /// Where the peer is that gets them.
    peer: IpAddr,
    /// Whether everything goes to that peer.
    has_all: bool,
}

impl Other {
    /// The one with this link, if it takes what goes to an address.
    fn of(name: &str, address: IpAddr) -> Option<(Self, u32)> {
        let state = interface::state(name.as_ref()).ok()?;
        let length = |peer: &&PeerState| {
            let prefixes = peer.allowed_ips.iter().map(|it| (it.address(), it.length()));
            let prefixes = prefixes.map(|(address, length)| Prefix { address, length });
            let prefixes = prefixes.filter(|it| it.contains(Prefix::host(address)));
            prefixes.map(|it| it.length).max()
        };
        let peers = state.peers.iter().filter_map(|peer| Some((length(&peer)?, peer)));
        let (length, peer) = peers.max_by_key(|(length, _)| *length)?;
        let other =
            Self { name: name.to_owned(), peer: routable(peer.endpoint?)?, has_all: length <= 1 };
        Some((other, state.fwmark))
    }
}

/// The narrowest way to a peer of a tunnel, if the tunnel's packets do not fit through it.
pub struct Narrow {
    address: IpAddr,
    /// What the way takes, and what of it is left for a packet in the tunnel, in bytes.
    path: u32,
    left: u32,
}

impl Narrow {
    /// Of a tunnel with this state and link.
    pub fn of(state: &DeviceState, link: &Link, network: &mut Network) -> Option<Self> {
        let endpoints = state.peers.iter().filter_map(|peer| peer.endpoint);
        let addresses: BTreeSet<_> = endpoints.filter_map(routable).collect();
        let ways = addresses.into_iter().filter_map(|address| {
            let path = network.path_of_marked(address, state.fwmark).ok()?;
            let left = path.mtu.saturating_sub(overhead(address));
            // A way through the tunnel itself has another fault.
            (path.link != link.name).then_some(Self { address, path: path.mtu, left })
        });
        // With less there would be no IPv6 in the tunnel, so that fragments are meant.
        ways.min_by_key(|way| way.left).filter(|way| link.mtu > way.left.max(LEAST_OF_V6))
    }
}

impl fmt::Display for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, path, left } = self;
        // Less is too small where IPv6 goes through the tunnel.
        let number = (*left >= LEAST_OF_V6).then(|| format!("write `MTU = {left}' or "));
        write!(
            f,
            "the way to {address} takes {path} bytes: packets of more than {left} are sent there in \
             fragments, which many networks lose; {}leave `MTU' out",
            number.unwrap_or_default()
        )
    }
}

/// What is wrong with the MTU of a tunnel that is up.
pub fn too_wide(name: &str) -> Option<Narrow> {
    let (state, mut network) = (interface::state(name.as_ref()).ok()?, Network::open().ok()?);
    let link = network.link(name).ok()?;
    Narrow::of(&state, &link, &mut network)
}

/// What to do about a circle that the file wants.
pub const OUT_OF_ALLOWED_IPS: &str = "take that network out of AllowedIPs";

/// Each way to a peer of a tunnel that leads into the tunnel itself, which then carries nothing, and
/// what to do about it.
pub fn circles(name: &str) -> Vec<String> {
    let (Ok(state), Ok(mut network)) = (interface::state(name.as_ref()), Network::open()) else {
        return Vec::new();
    };
    let mut ways = Ways::new(&mut network, name, state.fwmark);
    for endpoint in state.peers.iter().filter_map(|peer| peer.endpoint) {
        ways.fault(endpoint);
    }
    let faults = ways.known.into_values().flatten();
    let told = faults.filter_map(|fault| match fault {
        Fault::Circle(_) => Some(format!("{fault}: {OUT_OF_ALLOWED_IPS}")),
        Fault::Ring(..) => Some(fault.to_string()),
        Fault::None(..) => None,
    });
    told.collect()
}

/// Networks of a tunnel's own addresses that lead through another link, which had them before, and
/// which link that is.
pub fn taken(name: &str) -> Result<Vec<(Prefix, String)>, host::Error> {
    let mut network = Network::open()?;
    let own = network.addresses_of(name)?;
    let all: Vec<_> = network.addresses()?.iter().map(|it| it.address.address).collect();
    let routes = network.routes_of(MAIN_TABLE)?;
    // Others are in the way of a route, and told then.
    let is_of_address = |it: &Route| {
        let mut own = own.iter().filter(|address| address.length == it.destination.length);
        it.link == name
            && !is_link_local(it.destination)
            && own.any(|own| it.destination.contains(Prefix::host(own.address)))
    };
    let mut taken = Vec::new();
    for Route { destination, .. } in routes.iter().filter(|it| is_of_address(it)) {
        let is_shared = |it: &&Route| it.destination == *destination && it.link != name;
        let Some(other) = routes.iter().find(is_shared) else { continue };
        let neighbour = neighbours(destination.address).find(|it| !all.contains(it));
        let way = neighbour.and_then(|address| network.path_to(address).ok());
        if way.is_some_and(|way| way.link == other.link) {
            taken.push((*destination, other.link.clone()));
        }
    }
    Ok(taken)
}

/// Whether it is of every link, and who speaks there says which.
fn is_link_local(network: Prefix) -> bool {
    matches!(network.address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The first addresses of a network.
fn neighbours(network: IpAddr) -> impl Iterator<Item = IpAddr> {
    (1..8).filter_map(move |number| match network {
        IpAddr::V4(address) => Some(Ipv4Addr::from(u32::from(address).checked_add(number)?).into()),
        IpAddr::V6(address) => {
            Some(Ipv6Addr::from(u128::from(address).checked_add(number.into())?).into())
        }
    })
}

/// The ways of a tunnel's datagrams. Many peers can be at one address.
pub struct Ways<'a> {
    network: &'a mut Network,
    link: &'a str,
    mark: u32,
    known: BTreeMap<IpAddr, Option<Fault>>,
}

impl<'a> Ways<'a> {
    /// Of datagrams with this mark, that must not go into this link.
    pub fn new(network: &'a mut Network, link: &'a str, mark: u32) -> Self {
        Self { network, link, mark, known: BTreeMap::new() }
    }

    /// What is wrong with that to an endpoint.
    pub fn fault(&mut self, endpoint: SocketAddr) -> Option<Fault> {
        let address = routable(endpoint)?;
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        let fault = match self.network.path_of_marked(address, self.mark) {
            Ok(path) if path.link == self.link => Some(Fault::Circle(address)),
            Ok(path) => self.ring(address, &path.link),
            Err(error) => Some(Fault::None(address, words(error.cause()))),
        };
        self.known.insert(address, fault.clone());
        fault
    }

    /// What is wrong with a way through another link, if that is a tunnel.
    fn ring(&mut self, address: IpAddr, link: &str) -> Option<Fault> {
        let (other, mark) = Other::of(link, address)?;
        let back = self.network.path_of_marked(other.peer, mark).ok()?;
        // Only the datagrams of a full tunnel need a mark.
        let is_full = self.mark != 0;
        (back.link == self.link).then_some(Fault::Ring(address, other, is_full))
    }
}
