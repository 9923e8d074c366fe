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

/// One of this machine's addresses, at which a datagram arrived, and the index of the interface that it
/// came in by, if the address is link-local: only then is another interface another place.
pub type Source = (IpAddr, u32);
