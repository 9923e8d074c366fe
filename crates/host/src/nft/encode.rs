//! Tables in the numbers of nf_tables (linux/netfilter/nf_tables.h), which are big-endian. What a
//! packet has is loaded into a register and compared there, as it lies in the kernel's memory.

use std::net::IpAddr;

use crate::netlink::{APPEND, Attributes, CREATE, Content, ECHO, EXCLUSIVE, Message, Reply};

use super::{Base, Chain, Change, Expression, Family, Field, Hook, Refusal, Rule, Table, Verdict};
use crate::Prefix;
use crate::change::{octets, terminated};
use crate::notice::Deed;

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u8 = 10;
const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
const DELETE_RULE: u8 = 8;
/// `nfgenmsg`: family, version, reserved.
const HEADER: usize = 1 + 1 + 2;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const DORMANT: u8 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const ELEMENT_NAME: u16 = 1;

/// The register of everything that is compared or copied, and that of verdicts.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;

/// What a change is made of, in order.
pub(super) fn messages(change: &Change<'_>) -> Vec<Message> {
    match change {
        Change::DeleteTable(family, name) => vec![about_table(DELETE_TABLE, *family, name)],
        Change::SetTable(table) => {
            let about = |kind| about_table(kind, table.family, &table.name);
            // Only a table that is there can be deleted, so it is made first if it was not.
            let mut messages = vec![about(NEW_TABLE), about(DELETE_TABLE), about(NEW_TABLE)];
            messages.extend(new_content(table));
            messages
        }
    }
}

/// All chains before the first rule, which may send packets to any of them.
fn new_content(table: &Table) -> impl Iterator<Item = Message> {
    let chains = table.chains.iter().map(|chain| new_chain(table, chain));
    let rules_of = move |chain| move |rule| new_rule(table, chain, rule);
    chains.chain(table.chains.iter().flat_map(move |it| it.rules.iter().map(rules_of(it))))
}

/// The question for the tables of every family.
pub(super) fn list_tables(flags: u16) -> Message {
    Message::new(kind(GET_TABLE), flags, &[0; HEADER])
}

/// The question for a table.
pub(super) fn get_table(table: &Table) -> Message {
    request(GET_TABLE, 0, table.family).with(TABLE_NAME, &terminated(&table.name))
}

/// Whether it is asleep: a table that is there, but whose chains see no packet.
pub(crate) fn is_dormant(reply: &Reply) -> bool {
    let flags = Attributes::after(HEADER, &reply.payload).get(TABLE_FLAGS);
    flags.and_then(<[u8]>::last).is_some_and(|flags| flags & DORMANT != 0)
}

/// The question for the rules of a table.
pub(super) fn list_rules(table: &Table, flags: u16) -> Message {
    request(GET_RULE, flags, table.family).with(RULE_TABLE, &terminated(&table.name))
}

/// The question for the chains of all tables of a family, since the kernel tells of one table's only
/// together with all others.
pub(super) fn list_chains(table: &Table, flags: u16) -> Message {
    request(GET_CHAIN, flags, table.family)
}

/// Makes a table just as this one, of which the kernel tells what it makes of it, and deletes it: what
/// to do for that, all together, and the name of that table. It is asleep, so that no packet ever meets
/// it, and no link has such a name, so that it is nobody's.
pub(super) fn rehearsal(table: &Table) -> (String, Vec<Message>) {
    let table = Table { name: format!("{}/", table.name), ..table.clone() };
    let new = request(NEW_TABLE, CREATE | EXCLUSIVE, table.family)
        .with(TABLE_NAME, &terminated(&table.name))
        .with(TABLE_FLAGS, &u32::from(DORMANT).to_be_bytes());
    let content = new_content(&table).map(|message| message.flagged(ECHO));
    let delete = about_table(DELETE_TABLE, table.family, &table.name);
    let messages = [new].into_iter().chain(content).chain([delete]).collect();
    (table.name, messages)
}

/// Gives the chains of a table the rules that they should have, and no others.
pub(super) fn refill(table: &Table) -> Vec<Message> {
    let flush = request(DELETE_RULE, 0, table.family).with(RULE_TABLE, &terminated(&table.name));
    // A chain that has gone meanwhile is made, and one that is another now refused.
    [flush].into_iter().chain(new_content(table)).collect()
}

/// Whether what the kernel tells of a table is as it was written. What it tells besides, such as numbers,
/// packets that were counted, and comments, is not looked at.
pub(crate) fn is_as_it_was_written(table: &Table, told: &[Reply]) -> bool {
    let written = written(table);
    KINDS.into_iter().all(|kind| are_alike(table, told, (&table.name, &written), &written, kind))
}

/// Whether what the kernel tells of the chains of a table is as they were written, whatever is in them.
pub(super) fn are_its_chains(table: &Table, told: &[Reply]) -> bool {
    let written = written(table);
    are_alike(table, told, (&table.name, &written), &written, CHAINS)
}

/// Whether the kernel tells of a table the same, of everything that was written, as of one with this
/// name.
pub(crate) fn is_told_as(table: &Table, told: &[Reply], name: &str, other: &[Reply]) -> bool {
    let written = written(table);
    KINDS.into_iter().all(|kind| are_alike(table, told, (name, other), &written, kind))
}

/// A kind of message, and the attribute in it that names the chain.
const CHAINS: (u8, u16) = (NEW_CHAIN, CHAIN_NAME);
const RULES: (u8, u16) = (NEW_RULE, RULE_CHAIN);
const KINDS: [(u8, u16); 2] = [CHAINS, RULES];

fn written(table: &Table) -> Vec<Reply> {
    new_content(table).map(|message| message.reply()).collect()
}

/// Whether the same is told, in messages of one kind, of a table and of the one with another name, as far
/// as it was written.
fn are_alike(
    table: &Table,
    told: &[Reply],
    (name, other): (&str, &[Reply]),
    written: &[Reply],
    (message, chain): (u8, u16),
) -> bool {
    let of = |name, replies| by_chain(table.family, name, message, chain, replies);
    let (told, other) = (of(&table.name, told), of(name, other));
    let written = of(&table.name, written);
    let mut all = told.iter().zip(&other).zip(&written);
    told.len() == written.len()
        && other.len() == written.len()
        && all.all(|((told, other), written)| {
            // A chain that only others lead to must not see packets by itself.
            let is_led_to = |it: &Attributes<'_>| it.get(CHAIN_HOOK).is_none();
            (message != NEW_CHAIN || is_led_to(told) == is_led_to(written))
                && but_for_table(told, written) == but_for_table(other, written)
        })
}

fn but_for_table<'a>(told: &Attributes<'a>, written: &Attributes<'_>) -> Vec<(u16, Content<'a>)> {
    let mut content = told.clone().within(written.clone());
    content.retain(|(kind, _)| *kind != TABLE_NAME);
    content
}

/// What replies of one kind tell of a table, by the chain whose name is in this attribute. Chains have
/// no order, and a stable sort keeps that of the rules in one.
fn by_chain<'a>(
    family: Family,
    table: &str,
    message: u8,
    chain: u16,
    replies: &'a [Reply],
) -> Vec<Attributes<'a>> {
    let place = (family, table.to_owned());
    let is_meant = |reply: &&Reply| {
        reply.kind == kind(message) && table_of(&reply.payload).as_ref() == Some(&place)
    };
    let replies = replies.iter().filter(is_meant);
    let mut told: Vec<_> = replies.map(|reply| Attributes::after(HEADER, &reply.payload)).collect();
    told.sort_by_key(|attributes| attributes.get(chain));
    told
}

/// What a notice tells of the packet filters.
pub(crate) enum Told {
    /// A table, by its family and name, or something in it.
    Table(Family, String, Deed),
    /// That is what one transaction did, of the process with this number and name.
    By(u32, String),
}

/// What a notice is about, if it is one of packet filters of our families.
pub(crate) fn read_notice(reply: &Reply) -> Option<Told> {
    const NEW_GENERATION: u8 = 15;
    const PROCESS: u16 = 2;
    const PROCESS_NAME: u16 = 3;
    let [SUBSYSTEM, message] = reply.kind.to_be_bytes() else { return None };
    if message == NEW_GENERATION {
        let attributes = Attributes::after(HEADER, &reply.payload);
        let number = attributes.get(PROCESS)?.try_into().ok().map(u32::from_be_bytes)?;
        return Some(Told::By(number, text(attributes.get(PROCESS_NAME)?)?));
    }
    let (family, name) = table_of(&reply.payload)?;
    let deed = match message {
        NEW_TABLE => Deed::Made,
        DELETE_TABLE => Deed::Removed,
        _ => Deed::Changed,
    };
    Some(Told::Table(family, name, deed))
}

/// A table's family and name, if it is of one of our families.
pub(crate) fn read_table(reply: &Reply) -> Option<(Family, String)> {
    (reply.kind == kind(NEW_TABLE)).then(|| table_of(&reply.payload)).flatten()
}

/// The family and name of the table that a message is about, or about something in it: every kind
/// of object has the name of its table in the first attribute.
fn table_of(payload: &[u8]) -> Option<(Family, String)> {
    let family = Family::numbered(*payload.first()?)?;
    Some((family, text(Attributes::after(HEADER, payload).get(TABLE_NAME)?)?))
}

fn text(terminated: &[u8]) -> Option<String> {
    let text = terminated.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

impl Family {
    /// `NFPROTO_*` (linux/netfilter.h).
    const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Ip6 => 10,
        }
    }

    fn numbered(number: u8) -> Option<Self> {
        [Self::Ip, Self::Ip6, Self::Inet, Self::Arp].into_iter().find(|it| it.number() == number)
    }
}

fn kind(message: u8) -> u16 {
    u16::from_be_bytes([SUBSYSTEM, message])
}

fn request(message: u8, flags: u16, family: Family) -> Message {
    let header: [u8; HEADER] = [family.number(), 0, 0, 0];
    Message::new(kind(message), flags, &header)
}

fn about_table(message: u8, family: Family, name: &str) -> Message {
    let flags = if message == NEW_TABLE { CREATE } else { 0 };
    request(message, flags, family).with(TABLE_NAME, &terminated(name))
}

fn new_chain(table: &Table, chain: &Chain) -> Message {
    let message = request(NEW_CHAIN, CREATE, table.family)
        .with(CHAIN_TABLE, &terminated(&table.name))
        .with(CHAIN_NAME, &terminated(&chain.name));
    let Some(Base { hook: point, priority, policy }) = chain.base else { return message };
    message
        .with(CHAIN_TYPE, &terminated("filter"))
        .with(CHAIN_POLICY, &code(policy).to_be_bytes())
        .nested(CHAIN_HOOK, &[], |nest| {
            nest.with(HOOK_NUMBER, &hook(table.family, point).to_be_bytes())
                .with(HOOK_PRIORITY, &priority.to_be_bytes())
        })
}

/// `NF_INET_*` or `NF_ARP_*`, which for a hook that ARP does not have is one that the kernel
/// refuses.
fn hook(family: Family, hook: Hook) -> u32 {
    match (family, hook) {
        (Family::Arp, Hook::Input) => 0,
        (Family::Arp, Hook::Output) => 1,
        (Family::Arp, _) => u32::MAX,
        (_, Hook::Prerouting) => 0,
        (_, Hook::Input) => 1,
        (_, Hook::Forward) => 2,
        (_, Hook::Output) => 3,
        (_, Hook::Postrouting) => 4,
    }
}

fn new_rule(table: &Table, chain: &Chain, rule: &Rule) -> Message {
    let mut known = Known::of(table.family);
    request(NEW_RULE, CREATE | APPEND, table.family)
        .with(RULE_TABLE, &terminated(&table.name))
        .with(RULE_CHAIN, &terminated(&chain.name))
        .nested(RULE_EXPRESSIONS, &[], |list| {
            rule.iter().fold(list, |list, expression| known.add(list, expression))
        })
}

/// `NFT_GOTO`.
const GOTO: u32 = -4i32 as u32;

/// `NF_DROP` and `NF_ACCEPT`.
fn code(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
    }
}

const META: &str = "meta";
const META_TO: u16 = 1;
const META_KEY: u16 = 2;
const META_FROM: u16 = 3;
const META_MARK: u32 = 3;
const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_VERSION: u32 = 15;
const META_PROTOCOL: u32 = 16;
const CONNECTION: &str = "ct";
const CONNECTION_TO: u16 = 1;
const CONNECTION_KEY: u16 = 2;
const CONNECTION_FROM: u16 = 4;
const CONNECTION_DIRECTION: u32 = 1;
const CONNECTION_MARK: u32 = 3;
const ICMP6: u8 = 58;

/// What is certain of a packet at this point of a rule, so that what lies behind its headers can be
/// looked for at the right place.
struct Known {
    version: Option<crate::Family>,
    protocol: Option<u8>,
}

impl Known {
    fn of(table: Family) -> Self {
        let version = match table {
            Family::Ip => Some(crate::Family::V4),
            Family::Ip6 => Some(crate::Family::V6),
            Family::Inet | Family::Arp => None,
        };
        Self { version, protocol: None }
    }

    fn add(&mut self, list: Message, expression: &Expression) -> Message {
        const LOAD_MARK: [(u16, u32); 2] = [(META_KEY, META_MARK), (META_TO, REGISTER)];
        const STORE_MARK: [(u16, u32); 2] = [(META_KEY, META_MARK), (META_FROM, REGISTER)];
        const LOAD_CONNECTION_MARK: [(u16, u32); 2] =
            [(CONNECTION_KEY, CONNECTION_MARK), (CONNECTION_TO, REGISTER)];
        const STORE_CONNECTION_MARK: [(u16, u32); 2] =
            [(CONNECTION_KEY, CONNECTION_MARK), (CONNECTION_FROM, REGISTER)];
        match expression {
            Expression::Is(field) => self.compare(list, field, true),
            Expression::IsNot(field) => self.compare(list, field, false),
            Expression::SaveMark => {
                let list = element(list, META, |data| numbers(data, &LOAD_MARK));
                element(list, CONNECTION, |data| numbers(data, &STORE_CONNECTION_MARK))
            }
            Expression::RestoreMark => {
                let list = element(list, CONNECTION, |data| numbers(data, &LOAD_CONNECTION_MARK));
                element(list, META, |data| numbers(data, &STORE_MARK))
            }
            Expression::SetMark(mark) => {
                let list = immediate(list, REGISTER, |nest| nest.with(VALUE, &mark.to_ne_bytes()));
                element(list, META, |data| numbers(data, &STORE_MARK))
            }
            Expression::Count => element(list, "counter", |data| data),
            Expression::Refuse(refusal) => refuse(list, *refusal),
            Expression::Goto(chain) => judge(list, GOTO, Some(chain)),
            Expression::Verdict(verdict) => judge(list, code(*verdict), None),
        }
    }

    /// With what the field depends on, where that is not known yet.
    fn compare(&mut self, mut list: Message, field: &Field, equal: bool) -> Message {
        let (version, protocol) = needs(field);
        if let Some(version) = version.filter(|it| self.version != Some(*it)) {
            list = compare(list, &Field::Version(version), true);
            self.version = Some(version);
        }
        if let Some(protocol) = protocol.filter(|it| self.protocol != Some(*it)) {
            list = compare(list, &Field::Protocol(protocol), true);
            self.protocol = Some(protocol);
        }
        match field {
            Field::Version(version) if equal => self.version = Some(*version),
            Field::Protocol(protocol) if equal => self.protocol = Some(*protocol),
            _ => {}
        }
        compare(list, field, equal)
    }
}

/// The version of IP and the protocol that a packet must have to have a field.
fn needs(field: &Field) -> (Option<crate::Family>, Option<u8>) {
    match field {
        Field::Source(address)
        | Field::Destination(address)
        | Field::DestinationIn(Prefix { address, .. }) => (Some(crate::Family::of(*address)), None),
        Field::HopLimit(_) => (Some(crate::Family::V6), None),
        Field::Icmp6(_) => (Some(crate::Family::V6), Some(ICMP6)),
        Field::SourcePort(transport, _) | Field::DestinationPort(transport, _) => {
            (None, Some(*transport as u8))
        }
        _ => (None, None),
    }
}

/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;

fn compare(list: Message, field: &Field, equal: bool) -> Message {
    const FROM: u16 = 1;
    const OPERATOR: u16 = 2;
    const DATA: u16 = 3;
    let operator = if equal { 0 } else { 1 };
    let (loader, how) = load(field);
    let mut list = element(list, loader, |data| numbers(data, &how));
    if let Field::DestinationIn(prefix) = field {
        list = mask(list, *prefix);
    }
    element(list, "cmp", |data| {
        numbers(data, &[(FROM, REGISTER), (OPERATOR, operator)])
            .nested(DATA, &[], |nest| nest.with(VALUE, &value(field)))
    })
}

/// Leaves of a loaded address what its prefix has.
fn mask(list: Message, prefix: Prefix) -> Message {
    const FROM: u16 = 1;
    const TO: u16 = 2;
    const LENGTH: u16 = 3;
    const AND: u16 = 4;
    const XOR: u16 = 5;
    let bits = crate::Family::of(prefix.address).bits();
    let ones = u128::MAX.checked_shr(prefix.length.into()).map_or(u128::MAX, |rest| !rest);
    let ones = ones.to_be_bytes().into_iter().take(usize::from(bits / 8));
    if prefix.length >= bits {
        return list;
    }
    let ones: Vec<u8> = ones.collect();
    element(list, "bitwise", |data| {
        numbers(data, &[(FROM, REGISTER), (TO, REGISTER), (LENGTH, (bits / 8).into())])
            .nested(AND, &[], |nest| nest.with(VALUE, &ones))
            .nested(XOR, &[], |nest| nest.with(VALUE, &vec![0; ones.len()]))
    })
}

/// The expression that loads a field into the register, and its attributes.
fn load(field: &Field) -> (&'static str, Vec<(u16, u32)>) {
    const NETWORK_HEADER: u32 = 1;
    const TRANSPORT_HEADER: u32 = 2;
    const OF_SOURCE: u32 = 1;
    const OF_DESTINATION: u32 = 2;
    let meta = |key| (META, vec![(META_KEY, key), (META_TO, REGISTER)]);
    match field {
        Field::InputLink(_) => meta(META_INPUT_NAME),
        Field::OutputLink(_) => meta(META_OUTPUT_NAME),
        Field::Version(_) => meta(META_VERSION),
        Field::Protocol(_) => meta(META_PROTOCOL),
        Field::Mark(_) => meta(META_MARK),
        Field::Reply => {
            (CONNECTION, vec![(CONNECTION_KEY, CONNECTION_DIRECTION), (CONNECTION_TO, REGISTER)])
        }
        Field::LocalSource => address_type(OF_SOURCE),
        Field::LocalDestination => address_type(OF_DESTINATION),
        // Where they lie in the header: RFC 791 §3.1, RFC 8200 §3.
        Field::Source(IpAddr::V4(_)) => payload(NETWORK_HEADER, 12, 4),
        Field::Source(IpAddr::V6(_)) => payload(NETWORK_HEADER, 8, 16),
        Field::Destination(address) | Field::DestinationIn(Prefix { address, .. }) => match address
        {
            IpAddr::V4(_) => payload(NETWORK_HEADER, 16, 4),
            IpAddr::V6(_) => payload(NETWORK_HEADER, 24, 16),
        },
        Field::HopLimit(_) => payload(NETWORK_HEADER, 7, 1),
        // RFC 768, RFC 9293 §3.1, RFC 4443 §2.1.
        Field::SourcePort(..) => payload(TRANSPORT_HEADER, 0, 2),
        Field::DestinationPort(..) => payload(TRANSPORT_HEADER, 2, 2),
        Field::Icmp6(_) => payload(TRANSPORT_HEADER, 0, 1),
        // RFC 826, for addresses of Ethernet.
        Field::ArpSender(_) => payload(NETWORK_HEADER, 8 + 6, 4),
        Field::ArpTarget(_) => payload(NETWORK_HEADER, 8 + 6 + 4 + 6, 4),
    }
}

fn payload(base: u32, offset: u32, length: u32) -> (&'static str, Vec<(u16, u32)>) {
    const TO: u16 = 1;
    const BASE: u16 = 2;
    const OFFSET: u16 = 3;
    const LENGTH: u16 = 4;
    ("payload", vec![(TO, REGISTER), (BASE, base), (OFFSET, offset), (LENGTH, length)])
}

/// What the routing tables think of an address.
fn address_type(of: u32) -> (&'static str, Vec<(u16, u32)>) {
    const TO: u16 = 1;
    const RESULT: u16 = 2;
    const FLAGS: u16 = 3;
    const ADDRESS_TYPE: u32 = 3;
    ("fib", vec![(TO, REGISTER), (RESULT, ADDRESS_TYPE), (FLAGS, of)])
}

/// A field's value as it lies in the register.
fn value(field: &Field) -> Vec<u8> {
    const LINK_NAME_LENGTH: usize = 16;
    const LOCAL_ADDRESS: u32 = 2;
    match field {
        Field::InputLink(name) | Field::OutputLink(name) => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(LINK_NAME_LENGTH, 0);
            bytes
        }
        Field::Version(version) => vec![version.number()],
        Field::Source(address)
        | Field::Destination(address)
        | Field::DestinationIn(Prefix { address, .. }) => octets(*address).1,
        Field::LocalSource | Field::LocalDestination => LOCAL_ADDRESS.to_ne_bytes().into(),
        Field::HopLimit(number) | Field::Protocol(number) | Field::Icmp6(number) => vec![*number],
        Field::SourcePort(_, port) | Field::DestinationPort(_, port) => port.to_be_bytes().into(),
        Field::ArpSender(address) | Field::ArpTarget(address) => address.octets().into(),
        Field::Mark(mark) => mark.to_ne_bytes().into(),
        // `IP_CT_DIR_REPLY` (linux/netfilter/nf_conntrack_tuple_common.h).
        Field::Reply => vec![1],
    }
}

fn refuse(list: Message, refusal: Refusal) -> Message {
    const TYPE: u16 = 1;
    const CODE: u16 = 2;
    const TCP_RESET: u32 = 1;
    const ICMP_OF_EITHER_VERSION: u32 = 2;
    const ADMINISTRATIVELY_PROHIBITED: u8 = 3;
    element(list, "reject", |data| match refusal {
        // It has no code, nor does the kernel tell of any.
        Refusal::Reset => numbers(data, &[(TYPE, TCP_RESET)]),
        Refusal::Prohibited => numbers(data, &[(TYPE, ICMP_OF_EITHER_VERSION)])
            .with(CODE, &[ADMINISTRATIVELY_PROHIBITED]),
    })
}

/// With the chain to go on in, if the verdict is to do so.
fn judge(list: Message, verdict: u32, chain: Option<&String>) -> Message {
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    immediate(list, VERDICT_REGISTER, |nest| {
        nest.nested(VERDICT, &[], |nest| {
            let nest = numbers(nest, &[(CODE, verdict)]);
            chain.map(|chain| terminated(chain)).iter().fold(nest, |nest, it| nest.with(CHAIN, it))
        })
    })
}

/// Puts what `fill` appends into a register.
fn immediate(list: Message, to: u32, fill: impl FnOnce(Message) -> Message) -> Message {
    const TO: u16 = 1;
    const DATA: u16 = 2;
    element(list, "immediate", |data| numbers(data, &[(TO, to)]).nested(DATA, &[], fill))
}

fn element(list: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    const ELEMENT: u16 = 1;
    const DATA: u16 = 2;
    list.nested(ELEMENT, &[], |nest| {
        nest.with(ELEMENT_NAME, &terminated(name)).nested(DATA, &[], fill)
    })
}

fn numbers(message: Message, numbers: &[(u16, u32)]) -> Message {
    numbers
        .iter()
        .fold(message, |message, (kind, number)| message.with(*kind, &number.to_be_bytes()))
}
