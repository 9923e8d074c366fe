//! Noticing what others do to the machine's network: packet filters, links, addresses, routes and
//! rules, and who did it, as far as the kernel tells.

use std::fmt;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use crate::namespace;

use crate::change::{
    RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_DELRULE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE,
    RTM_NEWRULE,
};
use crate::netlink::{Notice, Protocol, Reply, Subscription};
use crate::nft::encode::{Told, read_notice};
use crate::{Error, Family, Prefix, nft, read};

/// Word of every change in one network namespace.
#[derive(Debug)]
pub struct Watcher {
    route: Subscription,
    filters: Subscription,
    /// Changes of a transaction whose author has not been told yet.
    pending: Vec<Event>,
}

/// Something that somebody did. Reads as "nft (process 4711) removed nftables table inet adit-wg0".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// To what.
    pub what: What,
    /// What was done to it.
    pub deed: Deed,
    /// Who did it. None if it was the kernel by itself, or it is not known.
    pub by: Option<Process>,
}

/// Something that can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A table of packet filters, or something in it.
    Table(nft::Family, String),
    /// A link, by its name. When it goes down, its routes go without a word.
    Link(String),
    /// An address, and the index of its link.
    Address(Prefix, u32),
    /// A route to this destination, in the table of this number.
    Route(Prefix, u32),
    /// A rule that leads to the table of this number.
    Rule(Family, u32),
    /// Anything: word of it came too fast, and was lost.
    Unknown,
}

/// What is done to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It was not there, or is there anew.
    Made,
    /// It is not the same any more.
    Changed,
    /// It is gone.
    Removed,
}

/// Who did something. It may have ended since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number, in the first of all process namespaces for packet filters, in its own else.
    pub number: u32,
    /// What it is called, if that is known.
    pub name: Option<String>,
}

impl Watcher {
    /// Watches the calling thread's network namespace from now on.
    pub fn open() -> Result<Self, Error> {
        // linux/rtnetlink.h: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR,
        // _IPV6_ROUTE; RTNLGRP_IPV6_RULE is 19. linux/nfnetlink.h: NFNLGRP_NFTABLES is 7.
        const ROUTE: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << (19 - 1);
        const FILTERS: u32 = 1 << (7 - 1);
        let subscribe = |protocol, groups| {
            Subscription::open(protocol, groups)
                .map_err(|cause| Error::new("listen to changes of the network", cause))
        };
        Ok(Self {
            route: subscribe(Protocol::Route, ROUTE)?,
            filters: subscribe(Protocol::Netfilter, FILTERS)?,
            pending: Vec::new(),
        })
    }

    /// The same in the namespace that the descriptor holds. Needs CAP_SYS_ADMIN.
    pub fn open_in(network: BorrowedFd<'_>) -> Result<Self, Error> {
        namespace::within(network, Self::open)
            .map_err(|cause| Error::new("enter a network namespace", cause))?
    }

    /// What to wait for: there is something to [`Self::receive`] when one of them is readable.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.route.as_fd(), self.filters.as_fd()]
    }

    /// Takes all that there is, without waiting.
    pub fn receive(&mut self) -> Result<Vec<Event>, Error> {
        let attempt = |cause| Error::new("hear of changes of the network", cause);
        let (route, route_lost) = self.route.receive().map_err(attempt)?;
        let (filters, filters_lost) = self.filters.receive().map_err(attempt)?;
        let mut events: Vec<_> = route.iter().filter_map(read_route_notice).collect();
        for told in filters.iter().filter_map(|notice| read_notice(&notice.reply)) {
            match told {
                Told::Table(family, name, deed) => self.note(What::Table(family, name), deed),
                Told::By(number, name) => {
                    let by = Some(Process { number, name: Some(name) });
                    let done = self.pending.drain(..);
                    events.extend(done.map(|event| Event { by: by.clone(), ..event }));
                }
            }
        }
        if route_lost || filters_lost {
            events.append(&mut self.pending);
            events.push(Event { what: What::Unknown, deed: Deed::Changed, by: None });
        }
        Ok(events)
    }

    /// One event for all that a transaction did to a table.
    fn note(&mut self, what: What, deed: Deed) {
        match self.pending.iter_mut().find(|event| event.what == what) {
            Some(_) if deed == Deed::Changed => {}
            Some(event) => event.deed = deed,
            None => self.pending.push(Event { what, deed, by: None }),
        }
    }
}

pub(crate) fn read_route_notice(Notice { reply, port }: &Notice) -> Option<Event> {
    const LOCAL_TABLE: u32 = 255;
    let by = Process::of_port(*port);
    let what = match reply.kind {
        // Others are about a bridge's ports.
        RTM_NEWLINK | RTM_DELLINK if reply.payload.first() == Some(&0) => {
            What::Link(read::read_link(reply)?.name)
        }
        RTM_NEWADDR | RTM_DELADDR => {
            let address = read::read_address(reply)?;
            What::Address(address.address, address.link)
        }
        RTM_NEWROUTE | RTM_DELROUTE => {
            // The kernel keeps those of its own addresses itself.
            let table = read::table(reply).filter(|table| *table != LOCAL_TABLE)?;
            What::Route(read::destination(reply)?, table)
        }
        RTM_NEWRULE | RTM_DELRULE => read_rule(reply)?,
        _ => return None,
    };
    let deed = match reply.kind {
        RTM_NEWLINK => Deed::Changed,
        RTM_NEWADDR | RTM_NEWROUTE | RTM_NEWRULE => Deed::Made,
        _ => Deed::Removed,
    };
    Some(Event { what, deed, by })
}

fn read_rule(reply: &Reply) -> Option<What> {
    let family = Family::numbered(*reply.payload.first()?)?;
    // `fib_rule_hdr` has the table where `rtmsg` has it, and its attribute the same number.
    Some(What::Rule(family, read::table(reply)?))
}

impl Process {
    /// Whoever opened the netlink socket with this number, which is its process's own with most
    /// programs, or has it in its lower bits with several sockets (libnl).
    fn of_port(port: u32) -> Option<Self> {
        const PROCESS_BITS: u32 = 22;
        // The kernel's own choice, where that number is taken, is negative.
        let number = u32::try_from(i32::try_from(port).ok()?).ok()? & ((1 << PROCESS_BITS) - 1);
        let name = fs::read_to_string(format!("/proc/{number}/comm")).ok();
        let name = name.map(|name| name.trim_end().to_owned());
        (number != 0).then_some(Self { number, name })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, deed, by } = self;
        match by {
            Some(process) => write!(f, "{process} {deed} {what}"),
            None => write!(f, "somebody {deed} {what}"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(family, name) => write!(f, "nftables table {family} {name}"),
            Self::Link(name) => write!(f, "link {name}"),
            Self::Address(address, link) => write!(f, "address {address} of link {link}"),
            Self::Route(destination, table) => {
                write!(f, "route {destination} of table {table}")
            }
            Self::Rule(family, table) => write!(f, "{family} rule for table {table}"),
            Self::Unknown => f.write_str("more than can be told"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Made => "made",
            Self::Changed => "changed",
            Self::Removed => "removed",
        })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (process {})", self.number),
            None => write!(f, "process {}", self.number),
        }
    }
}
