//! Addresses as the C library writes them, which is how `wg` does.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::ZoneName;

/// An address. The standard library writes them in the same way, except for `::a.b.c.d`.
pub(super) struct Text(pub IpAddr);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(address) if let [0, 0, 0, 0, 0, 0, (1..), _] = address.segments() => {
                let [.., a, b, c, d] = address.octets();
                write!(f, "::{a}.{b}.{c}.{d}")
            }
            address => address.fmt(f),
        }
    }
}

/// `a.b.c.d:port`, `[v6]:port` or `[v6%zone]:port`. Only link-local zones have names (RFC 4007
/// §11.2).
#[must_use]
pub fn endpoint(endpoint: SocketAddr, zone: ZoneName) -> String {
    let port = endpoint.port();
    let SocketAddr::V6(v6) = endpoint else {
        return endpoint.to_string();
    };
    let address = Text(endpoint.ip());
    let link_local = v6.ip().is_unicast_link_local() || is_link_local_multicast(v6.ip().octets());
    match v6.scope_id() {
        0 => format!("[{address}]:{port}"),
        index => match zone(index).filter(|_| link_local) {
            Some(name) => format!("[{address}%{name}]:{port}"),
            None => format!("[{address}%{index}]:{port}"),
        },
    }
}

fn is_link_local_multicast([first, second, ..]: [u8; 16]) -> bool {
    first == 0xff && second & 0xf == 2
}
