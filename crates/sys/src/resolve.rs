//! Names: of hosts and services (getaddrinfo(3)), and of interfaces.

use std::ffi::CStr;
use std::net::{SocketAddr, SocketAddrV6};
use std::{io, ptr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

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
pub fn host(host: &CStr, service: &CStr) -> Result<SocketAddr, Failure> {
    first(Some(host), service, 0)
}

/// The port for UDP of a service, a name or a number.
///
/// # Errors
///
/// There is none.
pub fn port(service: &CStr) -> Result<u16, Failure> {
    first(None, service, libc::AI_PASSIVE).map(|address| address.port())
}

fn first(host: Option<&CStr>, service: &CStr, flags: i32) -> Result<SocketAddr, Failure> {
    let hints = libc::addrinfo {
        ai_flags: flags,
        ai_family: libc::AF_UNSPEC,
        ai_socktype: libc::SOCK_DGRAM,
        ai_protocol: libc::IPPROTO_UDP,
        ai_addrlen: 0,
        ai_addr: ptr::null_mut(),
        ai_canonname: ptr::null_mut(),
        ai_next: ptr::null_mut(),
    };
    let host = host.map_or(ptr::null(), CStr::as_ptr);
    let mut found = ptr::null_mut();
    // SAFETY: the names end with a zero byte and the host may be null, the hints have what is not
    // asked for null, and `found` is written only on success.
    let code = unsafe { libc::getaddrinfo(host, service.as_ptr(), &raw const hints, &mut found) };
    if code != 0 {
        return Err(Failure::new(code));
    }
    // SAFETY: on success there is at least one entry, and nobody frees it before we do below.
    let entry = unsafe { &*found };
    let address = address(entry);
    // SAFETY: the list came from getaddrinfo, is freed once, and what we keep is a copy.
    unsafe { libc::freeaddrinfo(found) };
    address.ok_or_else(|| Failure::new(libc::EAI_FAMILY))
}

fn address(entry: &libc::addrinfo) -> Option<SocketAddr> {
    let length = usize::try_from(entry.ai_addrlen).ok()?;
    match entry.ai_family {
        libc::AF_INET if length == size_of::<libc::sockaddr_in>() => {
            let address = entry.ai_addr.cast::<libc::sockaddr_in>();
            // SAFETY: the entry says that a whole address of this family is there.
            let address = unsafe { address.read_unaligned() };
            let port = u16::from_be(address.sin_port);
            Some(SocketAddr::from((address.sin_addr.s_addr.to_ne_bytes(), port)))
        }
        libc::AF_INET6 if length == size_of::<libc::sockaddr_in6>() => {
            let address = entry.ai_addr.cast::<libc::sockaddr_in6>();
            // SAFETY: the entry says that a whole address of this family is there.
            let address = unsafe { address.read_unaligned() };
            let port = u16::from_be(address.sin6_port);
            let (ip, scope) = (address.sin6_addr.s6_addr.into(), address.sin6_scope_id);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

impl Failure {
    fn new(code: i32) -> Self {
        let permanent = [libc::EAI_NONAME, libc::EAI_FAIL, libc::EAI_NODATA].contains(&code);
        let text = match code {
            libc::EAI_SYSTEM => errno_text(&io::Error::last_os_error()),
            _ => gai_text(code),
        };
        Self { text, permanent }
    }
}

/// As strerror(3) has it, without the number that the standard library adds.
fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

fn gai_text(code: i32) -> String {
    // SAFETY: takes any number, and knows a text for those that it does not know, too.
    let text = unsafe { libc::gai_strerror(code) };
    // SAFETY: it is a constant of the C library, which ends with a zero byte.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
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
            (c"192.0.2.1", c"51820", "192.0.2.1:51820"),
            (c"2001:db8::1", c"0", "[2001:db8::1]:0"),
            (c"fe80::1%7", c"1", "[fe80::1%7]:1"),
        ] {
            assert_eq!(host(name, service).unwrap(), address.parse().unwrap());
        }
        assert_eq!(port(c"51820"), Ok(51820));
    }

    #[test]
    fn what_cannot_be_found_is_named_and_judged() {
        let failure = host(c"", c"1").unwrap_err();
        assert!(failure.permanent, "{failure:?}");
        let failure = port(c"no such service").unwrap_err();
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
