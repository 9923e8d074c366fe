//! Tables in the numbers of nf_tables (linux/netfilter/nf_tables.h), which are big-endian. What a
//! packet has is loaded into a register and compared there, as it lies in the kernel's memory.

use std::net::IpAddr;

use crate::netlink::{APPEND, Attributes, CREATE, Message, Reply};

use super::{Chain, Change, Expression, Field, Hook, Rule, Table, Verdict};
use crate::Family;
use crate::change::{octets, terminated};

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u8 = 10;
const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const NEW_RULE: u8 = 6;
/// `nfgenmsg`: family, version, reserved.
const HEADER: usize = 1 + 1 + 2;

const TABLE_NAME: u16 = 1;
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
            for chain in &table.chains {
                messages.push(new_chain(table, chain));
                messages.extend(chain.rules.iter().map(|rule| new_rule(table, chain, rule)));
            }
            messages
        }
    }
}

/// The question for the tables of every family.
pub(super) fn list_tables(flags: u16) -> Message {
    Message::new(kind(GET_TABLE), flags, &[0; HEADER])
}

/// A table's family and name, if it is of one of our families.
pub(super) fn read_table(reply: &Reply) -> Option<(Family, String)> {
    let family = Family::numbered(*reply.payload.first()?)?;
    let name = Attributes::after(HEADER, &reply.payload).get(TABLE_NAME)?;
    let name = name.split(|byte| *byte == 0).next()?;
    (reply.kind == kind(NEW_TABLE)).then(|| (family, String::from_utf8_lossy(name).into_owned()))
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
    let hook: u32 = match chain.hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    };
    request(NEW_CHAIN, CREATE, table.family)
        .with(CHAIN_TABLE, &terminated(&table.name))
        .with(CHAIN_NAME, &terminated(&chain.name))
        .with(CHAIN_TYPE, &terminated("filter"))
        .with(CHAIN_POLICY, &code(chain.policy).to_be_bytes())
        .nested(CHAIN_HOOK, &[], |nest| {
            nest.with(HOOK_NUMBER, &hook.to_be_bytes())
                .with(HOOK_PRIORITY, &chain.priority.to_be_bytes())
        })
}

fn new_rule(table: &Table, chain: &Chain, rule: &Rule) -> Message {
    request(NEW_RULE, CREATE | APPEND, table.family)
        .with(RULE_TABLE, &terminated(&table.name))
        .with(RULE_CHAIN, &terminated(&chain.name))
        .nested(RULE_EXPRESSIONS, &[], |list| rule.iter().fold(list, add_expression))
}

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
const META_PROTOCOL: u32 = 16;
const CONNECTION: &str = "ct";
const CONNECTION_TO: u16 = 1;
const CONNECTION_KEY: u16 = 2;
const CONNECTION_FROM: u16 = 4;
const CONNECTION_MARK: u32 = 3;

fn add_expression(list: Message, expression: &Expression) -> Message {
    const LOAD_MARK: [(u16, u32); 2] = [(META_KEY, META_MARK), (META_TO, REGISTER)];
    const STORE_MARK: [(u16, u32); 2] = [(META_KEY, META_MARK), (META_FROM, REGISTER)];
    const LOAD_CONNECTION_MARK: [(u16, u32); 2] =
        [(CONNECTION_KEY, CONNECTION_MARK), (CONNECTION_TO, REGISTER)];
    const STORE_CONNECTION_MARK: [(u16, u32); 2] =
        [(CONNECTION_KEY, CONNECTION_MARK), (CONNECTION_FROM, REGISTER)];
    match expression {
        Expression::Is(field) => compare(list, field, true),
        Expression::IsNot(field) => compare(list, field, false),
        Expression::SaveMark => {
            let list = element(list, META, |data| numbers(data, &LOAD_MARK));
            element(list, CONNECTION, |data| numbers(data, &STORE_CONNECTION_MARK))
        }
        Expression::RestoreMark => {
            let list = element(list, CONNECTION, |data| numbers(data, &LOAD_CONNECTION_MARK));
            element(list, META, |data| numbers(data, &STORE_MARK))
        }
        Expression::Verdict(verdict) => judge(list, *verdict),
    }
}

fn compare(list: Message, field: &Field, equal: bool) -> Message {
    const FROM: u16 = 1;
    const OPERATOR: u16 = 2;
    const DATA: u16 = 3;
    const VALUE: u16 = 1;
    let operator = if equal { 0 } else { 1 };
    let (loader, how) = load(field);
    let list = element(list, loader, |data| numbers(data, how));
    element(list, "cmp", |data| {
        numbers(data, &[(FROM, REGISTER), (OPERATOR, operator)])
            .nested(DATA, &[], |nest| nest.with(VALUE, &value(field)))
    })
}

/// The expression that loads a field into the register, and its attributes.
fn load(field: &Field) -> (&'static str, &'static [(u16, u32)]) {
    const PAYLOAD_TO: u16 = 1;
    const PAYLOAD_BASE: u16 = 2;
    const PAYLOAD_OFFSET: u16 = 3;
    const PAYLOAD_LENGTH: u16 = 4;
    const NETWORK_HEADER: u32 = 1;
    const FIB_TO: u16 = 1;
    const FIB_RESULT: u16 = 2;
    const FIB_FLAGS: u16 = 3;
    const ADDRESS_TYPE: u32 = 3;
    const OF_SOURCE: u32 = 1;
    match field {
        Field::InputLink(_) => (META, &[(META_KEY, META_INPUT_NAME), (META_TO, REGISTER)]),
        Field::Protocol(_) => (META, &[(META_KEY, META_PROTOCOL), (META_TO, REGISTER)]),
        Field::Mark(_) => (META, &[(META_KEY, META_MARK), (META_TO, REGISTER)]),
        // Where the destination lies in the header: RFC 791 §3.1, RFC 8200 §3.
        Field::Destination(IpAddr::V4(_)) => (
            "payload",
            &[
                (PAYLOAD_TO, REGISTER),
                (PAYLOAD_BASE, NETWORK_HEADER),
                (PAYLOAD_OFFSET, 16),
                (PAYLOAD_LENGTH, 4),
            ],
        ),
        Field::Destination(IpAddr::V6(_)) => (
            "payload",
            &[
                (PAYLOAD_TO, REGISTER),
                (PAYLOAD_BASE, NETWORK_HEADER),
                (PAYLOAD_OFFSET, 24),
                (PAYLOAD_LENGTH, 16),
            ],
        ),
        Field::LocalSource => {
            ("fib", &[(FIB_TO, REGISTER), (FIB_RESULT, ADDRESS_TYPE), (FIB_FLAGS, OF_SOURCE)])
        }
    }
}

/// A field's value as it lies in the register.
fn value(field: &Field) -> Vec<u8> {
    const LINK_NAME_LENGTH: usize = 16;
    const LOCAL_ADDRESS: u32 = 2;
    match field {
        Field::InputLink(name) => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(LINK_NAME_LENGTH, 0);
            bytes
        }
        Field::Destination(address) => octets(*address).1,
        Field::LocalSource => LOCAL_ADDRESS.to_ne_bytes().into(),
        Field::Protocol(number) => vec![*number],
        Field::Mark(mark) => mark.to_ne_bytes().into(),
    }
}

fn judge(list: Message, verdict: Verdict) -> Message {
    const TO: u16 = 1;
    const DATA: u16 = 2;
    const VERDICT: u16 = 2;
    const CODE: u16 = 1;
    element(list, "immediate", |data| {
        numbers(data, &[(TO, VERDICT_REGISTER)]).nested(DATA, &[], |nest| {
            nest.nested(VERDICT, &[], |nest| numbers(nest, &[(CODE, code(verdict))]))
        })
    })
}

fn element(list: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    const ELEMENT: u16 = 1;
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    list.nested(ELEMENT, &[], |nest| nest.with(NAME, &terminated(name)).nested(DATA, &[], fill))
}

fn numbers(message: Message, numbers: &[(u16, u32)]) -> Message {
    numbers
        .iter()
        .fold(message, |message, (kind, number)| message.with(*kind, &number.to_be_bytes()))
}
