//! Tables in the words of nft(8), as `nft list ruleset` prints them.

use std::fmt;
use std::net::IpAddr;

use super::{
    Base, Chain, Expression, FILTER, Family, Field, Hook, MANGLE, RAW, Refusal, SOURCE_NAT, Table,
    Transport, Verdict,
};

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Arp => "arp",
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        for (index, chain) in self.chains.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{chain}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, base, rules } = self;
        writeln!(f, "\tchain {name} {{")?;
        if let Some(base) = base {
            writeln!(f, "\t\t{base}")?;
        }
        for rule in rules {
            let expressions: Vec<String> = rule.iter().map(Expression::to_string).collect();
            writeln!(f, "\t\t{}", expressions.join(" "))?;
        }
        f.write_str("\t}")
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hook, priority, policy } = self;
        write!(f, "type filter hook {hook} priority ")?;
        match *priority {
            RAW => f.write_str("raw"),
            MANGLE => f.write_str("mangle"),
            FILTER => f.write_str("filter"),
            SOURCE_NAT => f.write_str("srcnat"),
            number => write!(f, "{number}"),
        }?;
        write!(f, "; policy {policy};")
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(field) => field.compare(f, ""),
            Self::IsNot(field) => field.compare(f, "!= "),
            Self::SaveMark => f.write_str("ct mark set meta mark"),
            Self::RestoreMark => f.write_str("meta mark set ct mark"),
            Self::SetMark(mark) => write!(f, "meta mark set {mark:#010x}"),
            Self::Count => f.write_str("counter"),
            Self::Refuse(Refusal::Reset) => f.write_str("reject with tcp reset"),
            Self::Refuse(Refusal::Prohibited) => f.write_str("reject with icmpx admin-prohibited"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

impl Field {
    fn compare(&self, f: &mut fmt::Formatter<'_>, operator: &str) -> fmt::Result {
        let ip = |address: &IpAddr| Family::from(crate::Family::of(*address));
        match self {
            Self::InputLink(name) => write!(f, "iifname {operator}\"{name}\""),
            Self::OutputLink(name) => write!(f, "oifname {operator}\"{name}\""),
            Self::Version(crate::Family::V4) => write!(f, "meta nfproto {operator}ipv4"),
            Self::Version(crate::Family::V6) => write!(f, "meta nfproto {operator}ipv6"),
            Self::Source(address) => write!(f, "{} saddr {operator}{address}", ip(address)),
            Self::Destination(address) => write!(f, "{} daddr {operator}{address}", ip(address)),
            Self::DestinationIn(prefix) => {
                let family = crate::Family::of(prefix.address);
                write!(f, "{} daddr {operator}{}", Family::from(family), prefix.address)?;
                if prefix.length < family.bits() { write!(f, "/{}", prefix.length) } else { Ok(()) }
            }
            Self::LocalSource => write!(f, "fib saddr type {operator}local"),
            Self::LocalDestination => write!(f, "fib daddr type {operator}local"),
            Self::HopLimit(hops) => write!(f, "ip6 hoplimit {operator}{hops}"),
            Self::Protocol(6) => write!(f, "meta l4proto {operator}tcp"),
            Self::Protocol(17) => write!(f, "meta l4proto {operator}udp"),
            Self::Protocol(number) => write!(f, "meta l4proto {operator}{number}"),
            Self::SourcePort(transport, port) => write!(f, "{transport} sport {operator}{port}"),
            Self::DestinationPort(transport, port) => {
                write!(f, "{transport} dport {operator}{port}")
            }
            Self::Icmp6(kind) => {
                f.write_str("icmpv6 type ")?;
                f.write_str(operator)?;
                icmp6(f, *kind)
            }
            Self::ArpSender(address) => write!(f, "arp saddr ip {operator}{address}"),
            Self::ArpTarget(address) => write!(f, "arp daddr ip {operator}{address}"),
            Self::Mark(mark) => write!(f, "meta mark {operator}{mark:#010x}"),
            Self::Reply => write!(f, "ct direction {operator}reply"),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The types that have a name in nft(8), of those that are used here.
fn icmp6(f: &mut fmt::Formatter<'_>, kind: u8) -> fmt::Result {
    match kind {
        131 => f.write_str("mld-listener-report"),
        132 => f.write_str("mld-listener-done"),
        133 => f.write_str("nd-router-solicit"),
        135 => f.write_str("nd-neighbor-solicit"),
        136 => f.write_str("nd-neighbor-advert"),
        143 => f.write_str("mld2-listener-report"),
        other => write!(f, "{other}"),
    }
}
