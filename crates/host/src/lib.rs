//! The machine's network by rtnetlink: links, addresses and routes of one network namespace, read
//! and changed.
//!
//! A [`Change`] is a value. It says in words what it is about to do (a plan is a list of them,
//! printed), [`Network::apply`] does it, and an [`Error`] repeats the words with the kernel's
//! reason. What is there is read back as [`Link`], [`Address`] and [`Route`].

mod change;
mod error;
pub mod ping;
mod read;
pub mod sysctl;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;

use sys::namespace;
use sys::netlink::{Protocol, Socket};

pub use change::Change;
pub use error::Error;
pub use read::{Address, Link, Route};

/// The routing table of routes that belong to no other (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// Links, addresses and routes of one network namespace.
#[derive(Debug)]
pub struct Network {
    socket: Socket,
}

impl Network {
    /// Of the calling thread.
    pub fn open() -> Result<Self, Error> {
        Self::from(Socket::open(Protocol::Route))
    }

    /// Of the namespace that the descriptor holds. Needs CAP_SYS_ADMIN.
    pub fn open_in(network: BorrowedFd<'_>) -> Result<Self, Error> {
        Self::from(namespace::within(network, || Socket::open(Protocol::Route)).flatten())
    }

    fn from(socket: io::Result<Socket>) -> Result<Self, Error> {
        let socket = socket.map_err(|cause| Error::new("open a netlink socket", cause))?;
        Ok(Self { socket })
    }
}

/// An address and the length of its network's prefix, in bits: `10.0.0.1/24`. As a destination,
/// what is behind the prefix is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// At most 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// Every IPv4 address.
    pub const DEFAULT: Self = Self::v4(Ipv4Addr::UNSPECIFIED, 0);

    /// An IPv4 address with its prefix.
    pub const fn v4(address: Ipv4Addr, length: u8) -> Self {
        Self { address: IpAddr::V4(address), length }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}
