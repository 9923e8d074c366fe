//! Names: of hosts and services (getaddrinfo(3)), and of interfaces.

use std::net::SocketAddr;

use dns_lookup::{AddrInfoHints, LookupError, getaddrinfo};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::words;

/// Why a name was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the C library says.
    pub text: String,
    /// Asking again will not help.
    pub permanent: bool,
}

/// The first address for UDP of a host and a service, each a name or a number. May take as long as
/// the network likes.
///
/// # Errors
///
/// There is none, or nobody could be asked.
pub fn host(host: &str, service: &str) -> Result<SocketAddr, Failure> {
    first(Some(host), service, 0)
}

/// All of them, the first of which is to be tried first.
///
/// # Errors
///
/// There is none, or nobody could be asked.
pub fn addresses(host: &str, service: &str) -> Result<Vec<SocketAddr>, Failure> {
    all(Some(host), service, 0)
}

/// The port for UDP of a service, a name or a number.
///
/// # Errors
///
/// There is none.
pub fn port(service: &str) -> Result<u16, Failure> {
    first(None, service, libc::AI_PASSIVE).map(|address| address.port())
}

fn first(host: Option<&str>, service: &str, flags: i32) -> Result<SocketAddr, Failure> {
    let found = all(host, service, flags)?;
    found.first().copied().ok_or_else(|| LookupError::new(libc::EAI_FAMILY).into())
}

fn all(host: Option<&str>, service: &str, flags: i32) -> Result<Vec<SocketAddr>, Failure> {
    let (socktype, protocol) = (libc::SOCK_DGRAM, libc::IPPROTO_UDP);
    let hints = AddrInfoHints { flags, address: libc::AF_UNSPEC, socktype, protocol };
    let found = getaddrinfo(host, Some(service), Some(hints)).map_err(Failure::from)?;
    Ok(found.flatten().map(|entry| entry.sockaddr).collect())
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        let permanent = [libc::EAI_NONAME, libc::EAI_FAIL, libc::EAI_NODATA];
        let permanent = permanent.contains(&error.error_num());
        // The C library's own words, without what the libraries between add to them.
        let text = words(&error.into());
        let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
        Self { text: text.to_owned(), permanent }
    }
}

/// The number of the interface with a name, in this thread's network namespace.
#[must_use]
pub fn interface_index(name: &str) -> Option<u32> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok()?;
    netdevice::name_to_index(socket, name).ok()
}

/// The name of the interface with a number, in this thread's network namespace.
#[must_use]
pub fn interface_name(index: u32) -> Option<String> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok()?;
    netdevice::index_to_name(socket, index).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn numbers_are_found_without_asking_anybody() {
        for (name, service, address) in [
            ("192.0.2.1", "51820", "192.0.2.1:51820"),
            ("2001:db8::1", "0", "[2001:db8::1]:0"),
            ("fe80::1%7", "1", "[fe80::1%7]:1"),
        ] {
            assert_eq!(host(name, service).unwrap(), address.parse().unwrap());
        }
        assert_eq!(port("51820"), Ok(51820));
    }

    #[test]
    fn what_cannot_be_found_is_named_and_judged() {
        let failure = host("", "1").unwrap_err();
        assert!(failure.permanent, "{failure:?}");
        let failure = port("no such service").unwrap_err();
        assert!(!failure.permanent && !failure.text.is_empty(), "{failure:?}");
    }

    #[test]
    fn interfaces_have_names_and_numbers() {
        let index = interface_index("lo").unwrap();
        assert_eq!(interface_name(index).unwrap(), "lo");
        assert_eq!(interface_index("no such interface"), None);
        assert_eq!(interface_name(u32::MAX), None);
    }
}
