//! Tables in the words of nft(8), as `nft list ruleset` prints them.

use std::fmt;

use super::{Chain, Expression, Field, Hook, MANGLE, RAW, Table, Verdict};
use crate::Family;

/// A family's name in nft(8).
pub(super) fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", family(self.family), self.name)?;
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
        let Self { name, hook, priority, policy, rules } = self;
        writeln!(f, "\tchain {name} {{")?;
        write!(f, "\t\ttype filter hook {hook} priority ")?;
        match *priority {
            RAW => f.write_str("raw"),
            MANGLE => f.write_str("mangle"),
            0 => f.write_str("filter"),
            number => write!(f, "{number}"),
        }?;
        writeln!(f, "; policy {policy};")?;
        for rule in rules {
            let expressions: Vec<String> = rule.iter().map(Expression::to_string).collect();
            writeln!(f, "\t\t{}", expressions.join(" "))?;
        }
        f.write_str("\t}")
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
            Self::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

impl Field {
    fn compare(&self, f: &mut fmt::Formatter<'_>, operator: &str) -> fmt::Result {
        match self {
            Self::InputLink(name) => write!(f, "iifname {operator}\"{name}\""),
            Self::Destination(address) => {
                write!(f, "{} daddr {operator}{address}", family(Family::of(*address)))
            }
            Self::LocalSource => write!(f, "fib saddr type {operator}local"),
            Self::Protocol(17) => write!(f, "meta l4proto {operator}udp"),
            Self::Protocol(number) => write!(f, "meta l4proto {operator}{number}"),
            Self::Mark(mark) => write!(f, "meta mark {operator}{mark:#010x}"),
        }
    }
}
