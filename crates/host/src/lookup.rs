//! Questions to the routing tables: which way a packet would take, and what one table holds.

use std::io;
use std::net::IpAddr;

use crate::netlink::{Attributes, DUMP, Message, Reply};

use crate::change::octets;
use crate::read::{
    ROUTE_HEADER, RTA_DST, RTA_OIF, RTA_TABLE, RTM_GETROUTE, destination, read_route, table,
};
use crate::{Error, Family, Link, MAIN_TABLE, Network, Prefix, Route};

// linux/rtnetlink.h
const RTA_METRICS: u16 = 8;
const RTA_MARK: u16 = 16;
const RTAX_MTU: u16 = 2;

/// The way to a destination, and how large a packet may be on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The name of the link that packets leave through.
    pub link: String,
    /// Largest packet, in bytes: what the route says, or else its link.
    pub mtu: u32,
}

impl Network {
    /// The way that an unmarked packet to an address would take, as `ip route get` tells it. The
    /// errno is that of sending one: ENETUNREACH, EHOSTUNREACH, EACCES, …
    pub fn path_to(&mut self, address: IpAddr) -> Result<Path, Error> {
        self.path_of_marked(address, 0)
    }

    /// The same for a packet with a mark.
    pub fn path_of_marked(&mut self, address: IpAddr, mark: u32) -> Result<Path, Error> {
        let (family, bytes) = octets(address);
        let length = Family::of(address).bits();
        let question = Message::new(RTM_GETROUTE, 0, &route_header(family, length))
            .with(RTA_DST, &bytes)
            .with(RTA_MARK, &mark.to_ne_bytes());
        let attempt = || format!("find the route to {address}");
        let replies =
            self.socket.request(&question).map_err(|cause| Error::new(attempt(), cause))?;
        let path = self.first_path(&replies);
        path.ok_or_else(|| Error::new(attempt(), io::ErrorKind::NetworkUnreachable.into()))
    }

    /// The way of the main table's first default route, of IPv4 if there is one.
    pub fn default_path(&mut self) -> Result<Option<Path>, Error> {
        let mut routes = self.table(MAIN_TABLE)?;
        routes.retain(|it| destination(it).is_some_and(|destination| destination.length == 0));
        Ok(self.first_path(&routes))
    }

    /// The way of the first of these routes that leads through a link. Of many links on a machine with
    /// many ways to look up, only those that they lead through are asked for.
    fn first_path(&mut self, routes: &[Reply]) -> Option<Path> {
        let links = routes.iter().filter_map(link_of);
        let links: Vec<Link> = links.filter_map(|index| self.link_numbered(index).ok()).collect();
        routes.iter().find_map(|route| read_path(route, &links))
    }

    /// Every unicast route of one table, those of IPv4 first.
    pub fn routes_of(&mut self, table: u32) -> Result<Vec<Route>, Error> {
        let links = self.links()?;
        let routes = self.table(table)?;
        Ok(routes.iter().filter_map(|reply| read_route(reply, &links)).collect())
    }

    /// Whether a table has no route of either family, not even one that refuses.
    pub fn is_empty(&mut self, table: u32) -> Result<bool, Error> {
        Ok(self.table(table)?.is_empty())
    }

    /// Where the routes of the main table through `link` lead.
    pub fn destinations(&mut self, link: &str) -> Result<Vec<Prefix>, Error> {
        let routes = self.routes_of(MAIN_TABLE)?.into_iter();
        Ok(routes.filter(|route| route.link == link).map(|route| route.destination).collect())
    }

    /// The routes of a table as the kernel tells them, those of IPv4 first.
    fn table(&mut self, number: u32) -> Result<Vec<Reply>, Error> {
        let mut routes = Vec::new();
        for family in [Family::V4, Family::V6] {
            let question = Message::new(RTM_GETROUTE, DUMP, &route_header(family.number(), 0))
                .with(RTA_TABLE, &number.to_ne_bytes());
            match self.socket.request(&question) {
                // A kernel that cannot filter tells every table.
                Ok(replies) => {
                    routes.extend(replies.into_iter().filter(|reply| table(reply) == Some(number)));
                }
                // A table is made with its first route.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Error::new(format!("list the routes of table {number}"), error));
                }
            }
        }
        Ok(routes)
    }
}

fn route_header(family: u8, destination_length: u8) -> [u8; ROUTE_HEADER] {
    [family, destination_length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

pub(crate) fn read_path(reply: &Reply, links: &[Link]) -> Option<Path> {
    let attributes = Attributes::after(ROUTE_HEADER, &reply.payload);
    let index = link_of(reply)?;
    let link = links.iter().find(|link| link.index == index)?;
    let metrics = Attributes::after(0, attributes.get(RTA_METRICS).unwrap_or_default());
    let mtu = metrics.number(RTAX_MTU).unwrap_or(link.mtu);
    Some(Path { link: link.name.clone(), mtu })
}

/// The index of the link that a route leads through.
fn link_of(reply: &Reply) -> Option<u32> {
    Attributes::after(ROUTE_HEADER, &reply.payload).number(RTA_OIF)
}
