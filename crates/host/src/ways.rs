//! Which of its addresses the machine sends from, and which are its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::connect_unspec;
use sys::option;

use crate::Family;

/// A socket of the calling thread's network namespace, to look ways up and to speak with one place. What
/// it sends bears `mark`, for the machine's routing rules; 0 for no mark.
///
/// # Errors
///
/// `EAFNOSUPPORT` if the kernel does not speak the family; `EPERM` for a mark without `CAP_NET_ADMIN` or
/// `CAP_NET_RAW`.
pub fn probe(family: Family, mark: u32) -> io::Result<UdpSocket> {
    let any = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    if mark != 0 {
        option::set_number(&socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())?;
    }
    Ok(socket)
}

/// A socket to speak with `remote` alone, otherwise as [`probe`].
///
/// # Errors
///
/// Those of [`probe`], and `ENETUNREACH` and its like if there is no way.
pub fn connected(remote: SocketAddr, mark: u32) -> io::Result<UdpSocket> {
    let socket = probe(Family::of(remote.ip()), mark)?;
    // Connecting sends nothing; it looks the way up.
    socket.connect(remote)?;
    Ok(socket)
}

/// The address that datagrams to `remote` bear if nothing asks for another: the routing table's choice
/// for what `probe` sends, which is left without port and source.
///
/// # Errors
///
/// `ENETUNREACH` and its like if there is no way.
pub fn preferred_source(probe: &UdpSocket, remote: SocketAddr) -> io::Result<IpAddr> {
    let source = probe.connect(remote).and_then(|()| probe.local_addr());
    // What has no way may still have bound it: to a port, and to the interface of a link-local address.
    connect_unspec(probe)?;
    Ok(source?.ip())
}

/// Whether `address` is one of this machine's, in the calling thread's network namespace.
pub fn is_local(address: IpAddr) -> bool {
    // A link-local address needs an interface (EINVAL), and is not asked about.
    let bound = UdpSocket::bind((address, 0));
    !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}
