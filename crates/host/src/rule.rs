//! Policy rules: which routing table a packet is looked up in (ip-rule(8)).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::change::octets;
use crate::netlink::{Attributes, DUMP, Message, Reply};
use crate::read::ip;
use crate::{Error, Family, MAIN_TABLE, Network, Origin, Prefix};

// linux/rtnetlink.h, linux/fib_rules.h
const RTM_GETRULE: u16 = 34;
const FRA_DST: u16 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_INVERT: u32 = 2;
/// `fib_rule_hdr`: family, lengths of destination and source, TOS, table, two reserved, action,
/// flags.
const HEADER: usize = 8 + 4;

/// A rule that sends the packets of one family to a table. Reads as ip-rule(8) shows it: "not from
/// all fwmark 0xca6c lookup 51820".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Whose packets.
    pub family: Family,
    /// Its place among the rules: the lowest is asked first. Without one, the kernel puts a new
    /// rule before all but that of the local table.
    pub priority: Option<u32>,
    /// Only packets without this mark.
    pub unless_marked: Option<u32>,
    /// Only packets with this mark; not together with the above.
    #[serde(default)]
    pub marked: Option<u32>,
    /// Only packets to these addresses.
    pub destination: Option<Prefix>,
    /// The table to look in.
    pub table: u32,
    /// A route whose prefix has at most this length is as if it were not there.
    pub suppress_prefix_length: Option<u32>,
    /// Who made it.
    pub origin: Origin,
}

impl Rule {
    /// Everything that the tunnel's own packets, which bear its mark, are not.
    pub const fn unless_marked(family: Family, mark: u32, table: u32) -> Self {
        Self { unless_marked: Some(mark), ..Self::everything(family, table) }
    }

    /// A tunnel's own packets.
    pub const fn marked(family: Family, mark: u32, table: u32) -> Self {
        Self { marked: Some(mark), ..Self::everything(family, table) }
    }

    /// All that goes to these addresses.
    pub const fn to(destination: Prefix, table: u32) -> Self {
        let family = Family::of(destination.address);
        Self { destination: Some(destination), ..Self::everything(family, table) }
    }

    /// All that the main table has routes for, but default routes.
    pub const fn main_without_default(family: Family) -> Self {
        Self { suppress_prefix_length: Some(0), ..Self::everything(family, MAIN_TABLE) }
    }

    const fn everything(family: Family, table: u32) -> Self {
        Self {
            family,
            priority: None,
            unless_marked: None,
            marked: None,
            destination: None,
            table,
            suppress_prefix_length: None,
            origin: Origin::UNSPECIFIED,
        }
    }

    /// The request to add it, or to remove it.
    pub(crate) fn message(&self, kind: u16, flags: u16) -> Message {
        let invert = if self.unless_marked.is_some() { FIB_RULE_INVERT } else { 0 };
        let [f0, f1, f2, f3] = invert.to_ne_bytes();
        let to = self.destination.map_or(0, |destination| destination.length);
        let header = [self.family.number(), to, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, f0, f1, f2, f3];
        let message = Message::new(kind, flags, &header).with(FRA_PROTOCOL, &[self.origin.0]);
        let message = match self.destination {
            Some(destination) => message.with(FRA_DST, &octets(destination.address).1),
            None => message,
        };
        [
            (FRA_PRIORITY, self.priority),
            (FRA_FWMARK, self.unless_marked.or(self.marked)),
            (FRA_TABLE, Some(self.table)),
            (FRA_SUPPRESS_PREFIXLEN, self.suppress_prefix_length),
        ]
        .into_iter()
        .filter_map(|(kind, value)| Some((kind, value?)))
        .fold(message, |message, (kind, value)| message.with(kind, &value.to_ne_bytes()))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unless_marked {
            Some(mark) => write!(f, "not from all fwmark {mark:#x}")?,
            None => write!(f, "from all")?,
        }
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        if let Some(mark) = self.marked {
            write!(f, " fwmark {mark:#x}")?;
        }
        match self.table {
            MAIN_TABLE => write!(f, " lookup main")?,
            table => write!(f, " lookup {table}")?,
        }
        match self.suppress_prefix_length {
            Some(length) => write!(f, " suppress_prefixlength {length}"),
            None => Ok(()),
        }
    }
}

impl Network {
    /// The rules of both families in their order, of those that a [`Rule`] can describe: such that
    /// ask for addresses, links or ports are left out.
    pub fn rules(&mut self) -> Result<Vec<Rule>, Error> {
        self.list("list the rules", &Message::new(RTM_GETRULE, DUMP, &[0; HEADER]), read)
    }
}

pub(crate) fn read(reply: &Reply) -> Option<Rule> {
    let (&[family, to, from, tos, _, _, _, action, f0, f1, f2, f3], _) =
        reply.payload.split_first_chunk::<HEADER>()?;
    let attributes = Attributes::after(HEADER, &reply.payload);
    let described = attributes.clone().all(|(kind, _)| {
        matches!(
            kind,
            FRA_DST
                | FRA_PRIORITY
                | FRA_FWMARK
                | FRA_FWMASK
                | FRA_TABLE
                | FRA_SUPPRESS_PREFIXLEN
                | FRA_PROTOCOL
        )
    });
    let inverted = u32::from_ne_bytes([f0, f1, f2, f3]) & FIB_RULE_INVERT != 0;
    let mark = attributes.number(FRA_FWMARK);
    let whole_mark = attributes.number(FRA_FWMASK).is_none_or(|mask| mask == u32::MAX);
    let destination = attributes.get(FRA_DST).and_then(|bytes| ip(family, bytes));
    let destination = destination.map(|address| Prefix { address, length: to });
    // One that is inverted asks for what is not both.
    let one_condition = !inverted || mark.is_some() && destination.is_none();
    let plain = [from, tos] == [0; 2] && action == FR_ACT_TO_TBL && whole_mark && one_condition;
    (described && plain).then_some(Rule {
        family: Family::numbered(family)?,
        // The kernel does not tell a priority of zero.
        priority: Some(attributes.number(FRA_PRIORITY).unwrap_or(0)),
        unless_marked: mark.filter(|_| inverted),
        marked: mark.filter(|_| !inverted),
        destination,
        table: attributes.number(FRA_TABLE)?,
        suppress_prefix_length: attributes
            .number(FRA_SUPPRESS_PREFIXLEN)
            .filter(|length| *length != u32::MAX),
        origin: attributes
            .get(FRA_PROTOCOL)
            .and_then(|bytes| bytes.first())
            .map_or(Origin::UNSPECIFIED, |number| Origin(*number)),
    })
}
