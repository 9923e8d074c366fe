//! Packet filters by nf_tables (nft(8)), as whole tables: a table is made, replaced or deleted in
//! one transaction, so that no packet ever meets half of it.
//!
//! A [`Table`] reads as `nft list ruleset` prints it.

pub(crate) mod encode;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;

use crate::namespace;
use serde::{Deserialize, Serialize};

use crate::netlink::{DUMP, Message, Protocol, Reply, Socket};
use crate::{Error, Prefix};

/// The packet filters of one network namespace.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
}

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Family {
    /// Those of IPv4.
    Ip,
    /// Those of IPv6.
    Ip6,
    /// Those of both.
    Inet,
    /// Questions and answers about who has an IPv4 address (RFC 826).
    Arp,
}

impl From<crate::Family> for Family {
    fn from(family: crate::Family) -> Self {
        match family {
            crate::Family::V4 => Self::Ip,
            crate::Family::V6 => Self::Ip6,
        }
    }
}

/// A change to the packet filters.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Makes this table, in place of that of its family and name if there is one. At no moment is
    /// there neither. Where its chains are there already, they stay, and only their rules are others,
    /// all of them at once: kernels that may interrupt whoever sends a packet (seen with Linux 7.2 and
    /// 7.3) let a packet pass now and then while one chain takes the place of another. Where they are
    /// not, a few packets may meet chains before their rules.
    SetTable(&'a Table),
    /// Deletes a table with all that is in it; ENOENT if there is none.
    DeleteTable(Family, &'a str),
}

/// Some chains with a name of their own, for the packets of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Whose packets.
    pub family: Family,
    /// Its name, unique within the family.
    pub name: String,
    /// Its chains, of which each sees the packets at its own hook.
    pub chains: Vec<Chain>,
}

/// Rules, tried in order until one gives a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name, unique within the table.
    pub name: String,
    /// Which packets it sees by itself. Without, it sees those that a rule of another chain sends
    /// to it.
    pub base: Option<Base>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// Makes a chain one for the packets that pass one point of their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Where it sees packets.
    pub hook: Hook,
    /// Its place among the chains of this hook: the lowest is first. See [`RAW`] and [`MANGLE`].
    pub priority: i32,
    /// What becomes of a packet that no rule judged.
    pub policy: Verdict,
}

/// Before connections are tracked (`NF_IP_PRI_RAW`).
pub const RAW: i32 = -300;
/// Where packets are marked, before they are filtered (`NF_IP_PRI_MANGLE`).
pub const MANGLE: i32 = -150;
/// Where packets are filtered, when their way is known (`NF_IP_PRI_FILTER`).
pub const FILTER: i32 = 0;
/// Where sources are translated, last of all (`NF_IP_PRI_NAT_SRC`).
pub const SOURCE_NAT: i32 = 100;

/// The points that packets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    /// Arrived, and not yet routed.
    Prerouting,
    /// Routed to this machine.
    Input,
    /// Routed to another machine.
    Forward,
    /// Made by this machine, and routed.
    Output,
    /// About to leave.
    Postrouting,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It goes on to the next chain.
    Accept,
    /// It is gone.
    Drop,
}

/// Expressions, of which each is only met if those before it matched.
pub type Rule = Vec<Expression>;

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expression {
    /// Matches a packet that has this.
    Is(Field),
    /// Matches a packet that has anything else.
    IsNot(Field),
    /// Remembers the packet's mark for its connection.
    SaveMark,
    /// Gives the packet the mark that was remembered for its connection.
    RestoreMark,
    /// Gives the packet this mark.
    SetMark(u32),
    /// Counts the packet, and its bytes.
    Count,
    /// Drops the packet and tells its sender, in the words of its protocol.
    Refuse(Refusal),
    /// Goes on in the chain of this name, and does not come back: what is not judged there meets
    /// the policy here.
    Goto(String),
    /// Ends the chain for this packet.
    Verdict(Verdict),
}

/// What a sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// That the connection is over: a TCP RST, for packets of TCP only.
    Reset,
    /// That the way is administratively prohibited (RFC 1812 §5.2.7.1, RFC 4443 §3.1).
    Prohibited,
}

/// Something that a packet may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Field {
    /// The name of the link that it arrived on.
    InputLink(String),
    /// The name of the link that it is about to leave through.
    OutputLink(String),
    /// Its version of IP.
    Version(crate::Family),
    /// Its source.
    Source(IpAddr),
    /// Its destination.
    Destination(IpAddr),
    /// A destination of this prefix.
    DestinationIn(Prefix),
    /// A source address that is one of this machine's.
    LocalSource,
    /// A destination that is one of this machine's addresses.
    LocalDestination,
    /// The hop limit, of IPv6.
    HopLimit(u8),
    /// The protocol in it, by its number (IANA): 17 is UDP.
    Protocol(u8),
    /// TCP or UDP from this port.
    SourcePort(Transport, u16),
    /// TCP or UDP to this port.
    DestinationPort(Transport, u16),
    /// A message of ICMPv6 of this type.
    Icmp6(u8),
    /// In ARP, the address of whoever asks or answers.
    ArpSender(Ipv4Addr),
    /// In ARP, the address that is asked about, or of whoever is answered.
    ArpTarget(Ipv4Addr),
    /// Its mark.
    Mark(u32),
    /// Of a connection that began in the other direction. Whoever asks has all connections tracked.
    Reply,
}

/// A protocol with ports, by its number (IANA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
}

impl Nftables {
    /// Of the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Self::from(Socket::open(Protocol::Netfilter))
    }

    /// Of the namespace that the descriptor holds. Needs CAP_SYS_ADMIN.
    pub fn open_in(network: BorrowedFd<'_>) -> Result<Self, Error> {
        Self::from(namespace::within(network, || Socket::open(Protocol::Netfilter)).flatten())
    }

    fn from(socket: io::Result<Socket>) -> Result<Self, Error> {
        let socket = socket.map_err(|cause| Error::new("open a netfilter socket", cause))?;
        Ok(Self { socket })
    }

    /// The families and names of the tables, in the kernel's order.
    pub fn tables(&mut self) -> Result<Vec<(Family, String)>, Error> {
        let replies = self
            .socket
            .request(&encode::list_tables(DUMP))
            .map_err(|cause| Error::new("list the nftables tables", cause))?;
        Ok(replies.iter().filter_map(encode::read_table).collect())
    }

    /// Whether a table is there, awake, and has the chains and rules that it should have, and no
    /// others: nobody has emptied it, put something before or between them, or changed a value. Of one
    /// that is not as it was written the kernel is asked, without any effect, how it would tell of that.
    pub fn is_intact(&mut self, table: &Table) -> Result<bool, Error> {
        let Some(mut told) = self.chains(table)? else { return Ok(false) };
        told.extend(self.ask(table, &encode::list_rules(table, DUMP))?);
        if encode::is_as_it_was_written(table, &told) {
            return Ok(true);
        }
        // Perhaps this kernel has other words than ours for the same.
        let (name, rehearsal) = encode::rehearsal(table);
        let heard = self.socket.transaction(encode::SUBSYSTEM, &rehearsal);
        Ok(heard.is_ok_and(|heard| encode::is_told_as(table, &told, &name, &heard)))
    }

    /// What is told of the chains of a table, if it is there and awake.
    fn chains(&mut self, table: &Table) -> Result<Option<Vec<Reply>>, Error> {
        let found = self.ask(table, &encode::get_table(table))?;
        if found.is_empty() || found.iter().any(encode::is_dormant) {
            return Ok(None);
        }
        self.ask(table, &encode::list_chains(table, DUMP)).map(Some)
    }

    /// Where that cannot be known, it is taken for another.
    fn has_chains_of(&mut self, table: &Table) -> bool {
        let told = self.chains(table).ok().flatten();
        told.is_some_and(|told| encode::are_its_chains(table, &told))
    }

    fn ask(&mut self, table: &Table, question: &Message) -> Result<Vec<Reply>, Error> {
        match self.socket.request(question) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            replies => replies.map_err(|cause| {
                let attempt = format!("look at nftables table {} {}", table.family, table.name);
                Error::new(attempt, cause)
            }),
        }
    }

    /// Makes changes, all together or none.
    pub fn apply(&mut self, changes: &[Change<'_>]) -> Result<(), Error> {
        let (mut messages, mut are_refilled) = (Vec::new(), false);
        for change in changes {
            messages.extend(match change {
                Change::SetTable(table) if self.has_chains_of(table) => {
                    are_refilled = true;
                    encode::refill(table)
                }
                _ => encode::messages(change),
            });
        }
        let mut outcome = self.socket.transaction(encode::SUBSYSTEM, &messages);
        if are_refilled && outcome.is_err() {
            // Somebody was faster, perhaps, and what was there is not there any more.
            let messages: Vec<_> = changes.iter().flat_map(encode::messages).collect();
            outcome = self.socket.transaction(encode::SUBSYSTEM, &messages);
        }
        outcome.map(drop).map_err(|cause| {
            let attempts: Vec<String> = changes.iter().map(Change::to_string).collect();
            Error::new(attempts.join(", "), cause)
        })
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, family, name) = match self {
            Self::SetTable(Table { family, name, .. }) => ("set", family, name.as_str()),
            Self::DeleteTable(family, name) => ("delete", family, *name),
        };
        write!(f, "{verb} nftables table {family} {name}")
    }
}

impl Table {
    /// A table for a tunnel that is the default route of a family and whose own packets bear a
    /// mark: what is sent to the tunnel's addresses must come out of it, unless this machine sends
    /// it, and replies to the tunnel's own packets get their mark, so that the reverse path filter
    /// finds a route for them. It is what wg-quick(8) makes.
    pub fn of_tunnel(
        name: String,
        link: &str,
        family: crate::Family,
        addresses: &[IpAddr],
        mark: u32,
    ) -> Self {
        use Expression::{Is, IsNot, RestoreMark, SaveMark};
        let chain = |name: &str, hook, priority, rules| Chain {
            name: name.into(),
            base: Some(Base { hook, priority, policy: Verdict::Accept }),
            rules,
        };
        let spoofed =
            addresses.iter().filter(|it| crate::Family::of(**it) == family).map(|address| {
                vec![
                    IsNot(Field::InputLink(link.into())),
                    Is(Field::Destination(*address)),
                    IsNot(Field::LocalSource),
                    Expression::Verdict(Verdict::Drop),
                ]
            });
        let restore = vec![Is(Field::Protocol(Transport::Udp as u8)), RestoreMark];
        let save = vec![Is(Field::Protocol(Transport::Udp as u8)), Is(Field::Mark(mark)), SaveMark];
        Self {
            family: family.into(),
            name,
            chains: vec![
                chain("preraw", Hook::Prerouting, RAW, spoofed.collect()),
                chain("premangle", Hook::Prerouting, MANGLE, vec![restore]),
                chain("postmangle", Hook::Postrouting, MANGLE, vec![save]),
            ],
        }
    }
}
