//! What can be changed, in words and in rtnetlink's numbers.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::netlink::{CREATE, EXCLUSIVE, Message};

use crate::read::{
    IFA_ADDRESS, IFA_LOCAL, IFF_UP, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, RTA_DST,
    RTA_GATEWAY, RTA_OIF, RTA_TABLE, RTN_UNICAST,
};
use crate::{Error, Family, MAIN_TABLE, Network, Origin, Prefix, Route, Rule};

// linux/rtnetlink.h, linux/if_link.h, linux/veth.h, linux/if_addr.h, linux/if.h
pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
pub(crate) const RTM_NEWRULE: u16 = 32;
pub(crate) const RTM_DELRULE: u16 = 33;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_F_NODAD: u8 = 2;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_HOST: u8 = 254;
/// `RT_SCOPE_NOWHERE`, which stands for each of them where a route is removed.
const RT_SCOPE_ANY: u8 = 255;

/// One change to a network namespace.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Makes a link of this name and this kind (`wireguard`, `dummy`, …), which is [`crate::Link::kind`];
    /// fails with EOPNOTSUPP if the kernel does not know the kind.
    CreateLink(&'a str, &'a str),
    /// Makes two links of these names, each of which delivers what the other sends.
    CreateVeth(&'a str, &'a str),
    /// Deletes a link, and with it its addresses and routes (and a veth's peer).
    DeleteLink(&'a str),
    /// Moves a link into another network namespace, where it arrives down and without addresses.
    MoveLink(&'a str, BorrowedFd<'a>),
    /// Renames a link, from and to.
    RenameLink(&'a str, &'a str),
    /// Lets a link carry packets.
    SetUp(&'a str),
    /// Stops it.
    SetDown(&'a str),
    /// Sets a link's largest packet, in bytes.
    SetMtu(&'a str, u32),
    /// Gives a link an address, and the route to its network. An IPv6 address is usable at once: it
    /// is not searched for duplicates, which delays it by a second.
    AddAddress(&'a str, Prefix),
    /// Takes an address away, with the route to its network.
    RemoveAddress(&'a str, Prefix),
    /// Adds a route; fails with EEXIST if it is there.
    AddRoute(&'a Route),
    /// Removes a route.
    RemoveRoute(&'a Route),
    /// Adds a rule before all others but that of the local table, or where its priority says.
    AddRule(&'a Rule),
    /// Removes the first rule with this table and mark and suppressed length, and priority, as far
    /// as they are given; ENOENT if there is none.
    RemoveRule(&'a Rule),
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateLink(link, kind) => write!(f, "create {kind} {link}"),
            Self::CreateVeth(link, peer) => write!(f, "create veth {link} with peer {peer}"),
            Self::DeleteLink(link) => write!(f, "delete link {link}"),
            Self::MoveLink(link, _) => write!(f, "move link {link} to another network namespace"),
            Self::RenameLink(link, name) => write!(f, "rename link {link} to {name}"),
            Self::SetUp(link) => write!(f, "set link {link} up"),
            Self::SetDown(link) => write!(f, "set link {link} down"),
            Self::SetMtu(link, mtu) => write!(f, "set the MTU of {link} to {mtu}"),
            Self::AddAddress(link, address) => write!(f, "add address {address} to {link}"),
            Self::RemoveAddress(link, address) => write!(f, "remove address {address} from {link}"),
            Self::AddRoute(route) => write!(f, "add route {route}"),
            Self::RemoveRoute(route) => write!(f, "remove route {route}"),
            Self::AddRule(rule) => write!(f, "add {} rule {rule}", rule.family),
            Self::RemoveRule(rule) => write!(f, "remove {} rule {rule}", rule.family),
        }
    }
}

impl Change<'_> {
    /// What the kernel means, where its words would mislead.
    fn explain(&self, cause: io::Error) -> io::Error {
        let (link, address) = match self {
            Self::AddAddress(link, prefix) => (*link, prefix.address),
            Self::AddRoute(route) => (route.link.as_str(), route.destination.address),
            _ => return cause,
        };
        if address.is_ipv4() || cause.raw_os_error() != Some(Errno::ACCESS.raw_os_error()) {
            return cause;
        }
        io::Error::other(format!(
            "IPv6 is disabled (net.ipv6.conf.{link}.disable_ipv6): enable it by `sysctl \
             net.ipv6.conf.default.disable_ipv6=0', or do without IPv6"
        ))
    }
}

impl Network {
    /// Makes one change, which the kernel does wholly or not at all.
    pub fn apply(&mut self, change: Change<'_>) -> Result<(), Error> {
        self.message(change)
            .and_then(|message| self.socket.request(&message))
            .map(drop)
            .map_err(|cause| Error::new(change.to_string(), change.explain(cause)))
    }

    /// Makes changes in their order, up to the first that fails.
    pub fn apply_all(&mut self, changes: &[Change<'_>]) -> Result<(), Error> {
        changes.iter().try_for_each(|change| self.apply(*change))
    }

    fn message(&mut self, change: Change<'_>) -> io::Result<Message> {
        let set = |index| Message::new(RTM_NEWLINK, 0, &link_header(index, None));
        Ok(match change {
            Change::CreateLink(link, kind) => create_link(link, kind),
            Change::CreateVeth(link, peer) => create_veth(link, peer),
            Change::DeleteLink(link) => {
                Message::new(RTM_DELLINK, 0, &link_header(self.index(link)?, None))
            }
            Change::MoveLink(link, network) => {
                set(self.index(link)?).with(IFLA_NET_NS_FD, &network.as_raw_fd().to_ne_bytes())
            }
            Change::RenameLink(link, name) => {
                set(self.index(link)?).with(IFLA_IFNAME, &terminated(name))
            }
            Change::SetMtu(link, mtu) => set(self.index(link)?).with(IFLA_MTU, &mtu.to_ne_bytes()),
            Change::SetUp(link) => {
                Message::new(RTM_NEWLINK, 0, &link_header(self.index(link)?, Some(true)))
            }
            Change::SetDown(link) => {
                Message::new(RTM_NEWLINK, 0, &link_header(self.index(link)?, Some(false)))
            }
            Change::AddAddress(link, address) => {
                address_message(RTM_NEWADDR, CREATE | EXCLUSIVE, self.index(link)?, address)
            }
            Change::RemoveAddress(link, address) => {
                address_message(RTM_DELADDR, 0, self.index(link)?, address)
            }
            Change::AddRoute(route) => {
                route_message(RTM_NEWROUTE, CREATE | EXCLUSIVE, self.index(&route.link)?, route)
            }
            Change::RemoveRoute(route) => {
                route_message(RTM_DELROUTE, 0, self.index(&route.link)?, route)
            }
            Change::AddRule(rule) => rule.message(RTM_NEWRULE, CREATE | EXCLUSIVE),
            Change::RemoveRule(rule) => rule.message(RTM_DELRULE, 0),
        })
    }

    fn index(&mut self, link: &str) -> io::Result<u32> {
        self.link_named(link).map(|link| link.index)
    }
}

fn create_link(link: &str, kind: &str) -> Message {
    Message::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, None))
        .with(IFLA_IFNAME, &terminated(link))
        .nested(IFLA_LINKINFO, &[], |information| information.with(IFLA_INFO_KIND, kind.as_bytes()))
}

fn create_veth(link: &str, peer: &str) -> Message {
    let header = link_header(0, None);
    Message::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &header)
        .with(IFLA_IFNAME, &terminated(link))
        .nested(IFLA_LINKINFO, &[], |information| {
            information.with(IFLA_INFO_KIND, b"veth").nested(IFLA_INFO_DATA, &[], |data| {
                data.nested(VETH_INFO_PEER, &header, |other| {
                    other.with(IFLA_IFNAME, &terminated(peer))
                })
            })
        })
}

/// `ifinfomsg`: family, padding, hardware type, index, flags, which of the flags to change.
pub(crate) fn link_header(index: u32, up: Option<bool>) -> Vec<u8> {
    let flags = if up == Some(true) { IFF_UP } else { 0 };
    let mask = if up.is_some() { IFF_UP } else { 0 };
    [0, index, flags, mask].iter().flat_map(|number| number.to_ne_bytes()).collect()
}

pub(crate) fn terminated(name: &str) -> Vec<u8> {
    name.bytes().chain([0]).collect()
}

/// `ifaddrmsg`: family, prefix length, flags, scope, index.
fn address_message(kind: u16, flags: u16, index: u32, address: Prefix) -> Message {
    let [i0, i1, i2, i3] = index.to_ne_bytes();
    let (family, bytes) = octets(address.address);
    // As ip(8) does; of IPv6 the kernel knows by itself.
    let is_of_host = address.address.is_ipv4() && address.address.is_loopback();
    let scope = if is_of_host { RT_SCOPE_HOST } else { RT_SCOPE_UNIVERSE };
    Message::new(kind, flags, &[family, address.length, IFA_F_NODAD, scope, i0, i1, i2, i3])
        .with(IFA_LOCAL, &bytes)
        .with(IFA_ADDRESS, &bytes)
}

/// `rtmsg`: family, lengths of destination and source, TOS, table, origin, scope, type, flags.
fn route_message(kind: u16, flags: u16, index: u32, route: &Route) -> Message {
    let (family, destination) = octets(route.destination.address);
    let is_direct = route.gateway.is_none() && route.destination.address.is_ipv4();
    // Whoever adds a route without a link has its gateway looked for among all direct routes, and
    // would find it behind a tunnel that everything leads into (`fib_check_nh`).
    let is_of_tunnel = route.origin == Origin::ADIT && route.table != MAIN_TABLE;
    let scope = match kind {
        RTM_DELROUTE => RT_SCOPE_ANY,
        _ if is_direct && !is_of_tunnel => RT_SCOPE_LINK,
        _ => RT_SCOPE_UNIVERSE,
    };
    let length = route.destination.length;
    let message = Message::new(
        kind,
        flags,
        &[family, length, 0, 0, 0, route.origin.0, scope, RTN_UNICAST, 0, 0, 0, 0],
    )
    .with(RTA_DST, &destination)
    .with(RTA_OIF, &index.to_ne_bytes())
    .with(RTA_TABLE, &route.table.to_ne_bytes());
    match route.gateway {
        Some(gateway) => message.with(RTA_GATEWAY, &octets(gateway).1),
        None => message,
    }
}

/// An address as the kernel takes it: the number of its family, and its bytes.
pub(crate) fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    (Family::of(address).number(), bytes)
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.link)?;
        if self.table != MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}
