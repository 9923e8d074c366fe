//! Whether this machine itself keeps a tunnel's datagrams from their peer.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use host::Network;

use super::numbers::routable;
use crate::command::wg::interface;
use crate::command::words;

/// What is wrong with the way to a peer.
#[derive(Clone)]
pub enum Fault {
    /// It leads into the tunnel that should carry the datagrams outside.
    Circle(IpAddr),
    /// There is none, for this reason.
    None(IpAddr, String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Circle(address) => write!(f, "the way to {address} leads into the tunnel itself"),
            Self::None(address, why) => write!(
                f,
                "this machine knows no way to {address}: {why}; look at `ip route get {address}'"
            ),
        }
    }
}

/// What to do about a circle that the file wants.
pub const OUT_OF_ALLOWED_IPS: &str = "take that network out of AllowedIPs";

/// Each way to a peer of a tunnel that leads into the tunnel itself, which then carries nothing.
pub fn circles(name: &str) -> Vec<Fault> {
    let (Ok(state), Ok(mut network)) = (interface::state(name.as_ref()), Network::open()) else {
        return Vec::new();
    };
    let mut ways = Ways::new(&mut network, name, state.fwmark);
    for endpoint in state.peers.iter().filter_map(|peer| peer.endpoint) {
        ways.fault(endpoint);
    }
    let faults = ways.known.into_values().flatten();
    faults.filter(|fault| matches!(fault, Fault::Circle(_))).collect()
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
            Ok(path) => (path.link == self.link).then_some(Fault::Circle(address)),
            Err(error) => Some(Fault::None(address, words(error.cause()))),
        };
        self.known.insert(address, fault.clone());
        fault
    }
}
