//! Where a peer was last heard.

use core::net::{IpAddr, SocketAddr};

/// A peer's address, and the own address that it reached us at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where datagrams go. IPv6 link-local addresses keep their scope.
    pub remote: SocketAddr,
    /// Where they leave from ("sticky source"); `None` lets the routing table choose.
    pub source: Option<Source>,
}

impl Endpoint {
    /// An endpoint as configured, without a source.
    pub fn new(remote: SocketAddr) -> Self {
        Self { remote, source: None }
    }
}

/// The local address and interface at which a datagram arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// One of this machine's addresses.
    pub address: IpAddr,
    /// Index of the interface, as in `IP_PKTINFO`.
    pub interface: u32,
}
