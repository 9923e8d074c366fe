//! The machine's network by netlink: links, addresses, routes and rules of one network namespace,
//! read and changed.
//!
//! A [`Change`] is a value. It says in words what it is about to do (a plan is a list of them,
//! printed), [`Network::apply`] does it, and an [`Error`] repeats the words with the kernel's
//! reason. What is there is read back as [`Link`], [`Address`], [`Route`] and [`Rule`].

mod change;
pub mod confine;
pub mod dns;
mod error;
pub mod forwarding;
pub mod generic;
pub mod guard;
pub mod isolation;
mod journal;
mod lookup;
pub mod namespace;
mod netlink;
pub mod news;
pub mod nft;
pub mod notice;
pub mod ping;
pub mod plan;
mod read;
#[doc(hidden)]
pub mod readers;
pub mod resolvconf;
pub mod resolve;
mod rule;
pub mod signals;
pub mod sysctl;
mod tables;
pub mod unreachable;
pub mod watch;
pub mod ways;
mod whereabouts;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use crate::netlink::{Protocol, Socket};

pub use change::Change;
pub use error::{Error, words};
pub use journal::Journal;
pub use lookup::Path;
pub use read::{Address, Link, Route};
pub use rule::Rule;
pub use tables::{TablesLock, table_number};
pub use whereabouts::Whereabouts;

/// The routing table of routes that belong to no other (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// Links, addresses, routes and rules of one network namespace.
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

/// Who made a route or a rule (`RTPROT_*`; /etc/iproute2/rt_protos has names for some).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin(pub u8);

impl Origin {
    /// Nobody in particular.
    pub const UNSPECIFIED: Self = Self(0);
    /// The kernel by itself. What says so of itself is left alone by systemd-networkd, which
    /// removes the rules of everybody else (systemd issue 19106).
    pub const KERNEL: Self = Self(2);
    /// Somebody by hand: what ip(8) says.
    pub const BOOT: Self = Self(3);
    /// A tunnel of adit.
    pub const ADIT: Self = Self(173);
}

/// An address and the length of its network's prefix, in bits: `10.0.0.1/24`. As a destination,
/// what is behind the prefix is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

    /// An IPv6 address with its prefix.
    pub const fn v6(address: Ipv6Addr, length: u8) -> Self {
        Self { address: IpAddr::V6(address), length }
    }

    /// One address and no other.
    pub const fn host(address: IpAddr) -> Self {
        Self { address, length: Family::of(address).bits() }
    }

    /// The network that the address is of: what is behind the prefix is zero.
    pub fn network(self) -> Self {
        let kept = u128::MAX.checked_shr(self.length.into()).map_or(u128::MAX, |rest| !rest);
        let address = match self.address {
            IpAddr::V4(address) => {
                Ipv4Addr::from_bits(address.to_bits() & (kept >> 96) as u32).into()
            }
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & kept).into(),
        };
        Self { address, ..self }
    }

    /// The two prefixes that are one bit longer; none of a single address.
    fn halves(self) -> Option<[Self; 2]> {
        let family = Family::of(self.address);
        let length = self.length.checked_add(1).filter(|length| *length <= family.bits())?;
        let bit = 1u128 << (128 - u32::from(length));
        let upper = match self.address {
            IpAddr::V4(address) => {
                Ipv4Addr::from_bits(address.to_bits() | (bit >> 96) as u32).into()
            }
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() | bit).into(),
        };
        Some([self.address, upper].map(|address| Self { address, length }))
    }

    /// Whether all addresses of `other` are of this prefix too.
    pub fn contains(self, other: Self) -> bool {
        let differs = match (self.address, other.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(a.to_bits() ^ b.to_bits()) << 96,
            (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() ^ b.to_bits(),
            _ => return false,
        };
        self.length <= other.length && differs.leading_zeros() >= self.length.into()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The length of its addresses, in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address of no one: `0.0.0.0` or `::`.
    const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// `AF_INET` and `AF_INET6`, which netfilter has the same numbers for.
    const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    fn numbered(number: u8) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|family| family.number() == number)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
