//! What is there: links, addresses and routes as the kernel lists them.

use std::io;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::change::{link_header, terminated};
use crate::netlink::{Attributes, DUMP, Message, Reply};
use crate::{Error, Family, Network, Origin, Prefix};

// linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/if.h
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_GETROUTE: u16 = 26;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_STATS64: u16 = 23;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFF_UP: u32 = 1;
pub(crate) const IFA_ADDRESS: u16 = 1;
pub(crate) const IFA_LOCAL: u16 = 2;
pub(crate) const RTA_DST: u16 = 1;
pub(crate) const RTA_OIF: u16 = 4;
pub(crate) const RTA_GATEWAY: u16 = 5;
pub(crate) const RTA_TABLE: u16 = 15;
pub(crate) const RTN_UNICAST: u8 = 1;
const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();
/// `ifinfomsg`: family, padding, hardware type, index, flags, change mask.
const LINK_HEADER: usize = 1 + 1 + 2 + 4 + 4 + 4;
/// `ifaddrmsg` and `rtmsg`.
const ADDRESS_HEADER: usize = 4 + 4;
pub(crate) const ROUTE_HEADER: usize = 8 + 4;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, unique within its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Which part of the kernel made it: `veth`, `tun`, `wireguard`, …; empty if none says so.
    pub kind: String,
    /// The index of the bridge, or the like, that it is a port of.
    pub bridge: Option<u32>,
}

impl Link {
    /// Whether it may be a tunnel of WireGuard: the kernel's own, or one that a process serves.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        ["tun", "wireguard"].contains(&self.kind.as_str())
    }
}

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of its link.
    pub link: u32,
    /// The address, and how much of it names the network.
    pub address: Prefix,
}

/// A way to a destination. Reads as ip(8) would be told: "10.0.0.0/8 via 192.0.2.1 dev eth0".
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub destination: Prefix,
    /// Through whom, if not directly.
    pub gateway: Option<IpAddr>,
    /// The name of the link that packets leave through.
    pub link: String,
    /// The routing table, usually [`crate::MAIN_TABLE`].
    pub table: u32,
    /// Who made it. Only a route of the same origin is removed.
    pub origin: Origin,
}

impl Network {
    /// Every link, in the kernel's order.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.list(
            "list the links",
            &Message::new(RTM_GETLINK, DUMP, &link_header(0, None)),
            read_link,
        )
    }

    /// The link of this name; ENODEV if there is none.
    pub fn link(&mut self, name: &str) -> Result<Link, Error> {
        self.link_named(name).map_err(|cause| Error::new(format!("find link {name}"), cause))
    }

    /// The link of this name, if there is one.
    pub fn find_link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        if_there(self.link(name))
    }

    /// The link of this number, if there is one.
    pub fn find_link_numbered(&mut self, index: u32) -> Result<Option<Link>, Error> {
        let link = self.link_numbered(index);
        if_there(link.map_err(|cause| Error::new(format!("find link {index}"), cause)))
    }

    /// Whether there is a link of this name.
    pub fn has_link(&mut self, name: &str) -> Result<bool, Error> {
        Ok(self.find_link(name)?.is_some())
    }

    /// How many packets have come out of a link for this machine, and how many were sent into it.
    pub fn counts(&mut self, name: &str) -> Result<(u64, u64), Error> {
        let question = Message::new(RTM_GETLINK, 0, &link_header(0, None))
            .with(IFLA_IFNAME, &terminated(name));
        let counts = self.list(format!("find link {name}"), &question, read_counts)?;
        Ok(counts.first().copied().unwrap_or_default())
    }

    /// Every address, of both families.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        self.list(
            "list the addresses",
            &Message::new(RTM_GETADDR, DUMP, &[0; ADDRESS_HEADER]),
            read_address,
        )
    }

    /// The addresses of one link, those of IPv4 first, with those that it gave itself.
    pub fn addresses_of(&mut self, link: &str) -> Result<Vec<Prefix>, Error> {
        let link = self.link(link)?;
        Ok(self.addresses_on(&link)?.iter().map(|it| it.address).collect())
    }

    /// The same of a link that was there a moment ago; none if it has gone.
    pub(crate) fn addresses_on(&mut self, link: &Link) -> Result<Vec<Address>, Error> {
        let [i0, i1, i2, i3] = link.index.to_ne_bytes();
        let question = Message::new(RTM_GETADDR, DUMP, &[0, 0, 0, 0, i0, i1, i2, i3]);
        let addresses = self.list("list the addresses", &question, read_address);
        let mut addresses = if_there(addresses)?.unwrap_or_default();
        // A kernel that cannot filter tells those of every link.
        addresses.retain(|it| it.link == link.index);
        Ok(addresses)
    }

    /// Every unicast route through a link that was there a moment ago, of both families and all
    /// tables.
    pub(crate) fn routes_through(&mut self, link: &Link) -> Result<Vec<Route>, Error> {
        let question = Message::new(RTM_GETROUTE, DUMP, &[0; ROUTE_HEADER])
            .with(RTA_OIF, &link.index.to_ne_bytes());
        let links = std::slice::from_ref(link);
        // A kernel that cannot filter tells those through every link.
        let routes = self.list("list the routes", &question, |reply| read_route(reply, links));
        Ok(if_there(routes)?.unwrap_or_default())
    }

    /// Every unicast route that leads through a single link, of both families and all tables.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let links = self.links()?;
        let question = Message::new(RTM_GETROUTE, DUMP, &[0; ROUTE_HEADER]);
        self.list("list the routes", &question, |reply| read_route(reply, &links))
    }

    pub(crate) fn link_named(&mut self, name: &str) -> io::Result<Link> {
        let question = Message::new(RTM_GETLINK, 0, &link_header(0, None));
        self.one_link(&question.with(IFLA_IFNAME, &terminated(name)))
    }

    pub(crate) fn link_numbered(&mut self, index: u32) -> io::Result<Link> {
        self.one_link(&Message::new(RTM_GETLINK, 0, &link_header(index, None)))
    }

    fn one_link(&mut self, question: &Message) -> io::Result<Link> {
        let replies = self.socket.request(question)?;
        replies.iter().find_map(read_link).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    pub(crate) fn list<T>(
        &mut self,
        attempt: impl Into<String>,
        question: &Message,
        read: impl Fn(&Reply) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let replies = self.socket.request(question).map_err(|cause| Error::new(attempt, cause))?;
        Ok(replies.iter().filter_map(read).collect())
    }
}

/// What the kernel says of a link, unless there is none.
fn if_there<T>(told: Result<T, Error>) -> Result<Option<T>, Error> {
    match told {
        Err(error) if error.cause().raw_os_error() == Some(ENODEV) => Ok(None),
        told => told.map(Some),
    }
}

pub(crate) fn read_link(reply: &Reply) -> Option<Link> {
    let (&[_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..], _) =
        reply.payload.split_first_chunk::<LINK_HEADER>()?;
    let attributes = Attributes::after(LINK_HEADER, &reply.payload);
    let about = Attributes::after(0, attributes.get(IFLA_LINKINFO).unwrap_or_default());
    Some(Link {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: text(attributes.get(IFLA_IFNAME)?),
        up: u32::from_ne_bytes([f0, f1, f2, f3]) & IFF_UP != 0,
        mtu: attributes.number(IFLA_MTU).unwrap_or(0),
        kind: text(about.get(IFLA_INFO_KIND).unwrap_or_default()),
        bridge: attributes.number(IFLA_MASTER),
    })
}

/// `rx_packets` and `tx_packets` of `struct rtnl_link_stats64`.
pub(crate) fn read_counts(reply: &Reply) -> Option<(u64, u64)> {
    let stats = Attributes::after(LINK_HEADER, &reply.payload).get(IFLA_STATS64)?;
    let (received, rest) = stats.split_first_chunk()?;
    Some((u64::from_ne_bytes(*received), u64::from_ne_bytes(*rest.first_chunk()?)))
}

/// As far as C sees it.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn read_address(reply: &Reply) -> Option<Address> {
    let (&[family, length, _, _, i0, i1, i2, i3], _) =
        reply.payload.split_first_chunk::<ADDRESS_HEADER>()?;
    let attributes = Attributes::after(ADDRESS_HEADER, &reply.payload);
    // On a point-to-point link IFA_ADDRESS is the other end; IPv6 has only that one.
    let bytes = attributes.get(IFA_LOCAL).or_else(|| attributes.get(IFA_ADDRESS))?;
    let address = Prefix { address: ip(family, bytes)?, length };
    Some(Address { link: u32::from_ne_bytes([i0, i1, i2, i3]), address })
}

/// None for a route that refuses, or that has more than one next hop.
pub(crate) fn read_route(reply: &Reply, links: &[Link]) -> Option<Route> {
    let (&[family, _, _, _, _, origin, _, kind, ..], _) =
        reply.payload.split_first_chunk::<ROUTE_HEADER>()?;
    let attributes = Attributes::after(ROUTE_HEADER, &reply.payload);
    let index = attributes.number(RTA_OIF)?;
    let link = links.iter().find(|link| link.index == index)?;
    (kind == RTN_UNICAST).then_some(Route {
        destination: destination(reply)?,
        gateway: attributes.get(RTA_GATEWAY).and_then(|bytes| ip(family, bytes)),
        link: link.name.clone(),
        table: table(reply)?,
        origin: Origin(origin),
    })
}

/// Where a route of any kind leads to.
pub(crate) fn destination(reply: &Reply) -> Option<Prefix> {
    let (&[family, length, ..], _) = reply.payload.split_first_chunk::<ROUTE_HEADER>()?;
    let address = match Attributes::after(ROUTE_HEADER, &reply.payload).get(RTA_DST) {
        Some(bytes) => ip(family, bytes)?,
        None => Family::numbered(family)?.unspecified(),
    };
    Some(Prefix { address, length })
}

/// The table that a route of any kind is in. The header has room for small numbers only.
pub(crate) fn table(reply: &Reply) -> Option<u32> {
    let (&[_, _, _, _, table, ..], _) = reply.payload.split_first_chunk::<ROUTE_HEADER>()?;
    let attributes = Attributes::after(ROUTE_HEADER, &reply.payload);
    Some(attributes.number(RTA_TABLE).unwrap_or(table.into()))
}

pub(crate) fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match Family::numbered(family)? {
        Family::V4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}
