//! What a file says to us alone: `#! Key = Value`, which `wg` and `wg-quick` take for a comment.

use std::net::IpAddr;
use std::str;

use super::key::likeliest;
use super::line::{Kind, Line, Section, lines, trim};
use super::problem::{Problem, quoted};
use crate::quick;
use crate::wg::is_space;

/// The extensions of a file, each with what it means if it is not there.
///
/// ```
/// use config::file::{Exclusion, Extensions};
/// let file = b"[Interface]\n#! ExcludeIPs = lan, 10.0.0.0/8\n#! Guard = off\n#! DNS = ~corp.example\n";
/// let extensions = Extensions::parse(file).expect("nothing is wrong");
/// assert_eq!(extensions.guard, Some(false));
/// assert_eq!(extensions.split_domains, ["corp.example"]);
/// assert_eq!(extensions.exclude_ips.first(), Some(&Exclusion::Lan));
/// ```
///
/// Each may be repeated: lists grow, and of two other values the later one counts. All but `Name`
/// belong to `[Interface]`. `#! Name = X` in a `[Peer]` is read by
/// [`peer_names`](crate::wg::peer_names), with all other ways to write a name down. Whoever adds a
/// key adds it to [`KEYS`](Self::KEYS) and gives it a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `ExcludeIPs = lan, PREFIX, …`: what stays outside of a full tunnel. Empty: nothing.
    pub exclude_ips: Vec<Exclusion>,
    /// `Guard = on | off`: whether nothing may leave beside a full tunnel. `None`: as the command
    /// has it.
    pub guard: Option<bool>,
    /// `DNS = ~DOMAIN, …`: the domains that alone are asked of the tunnel's name servers, without
    /// their `~`; a single dot is everything. Empty: every name is asked there.
    pub split_domains: Vec<String>,
}

/// Something that stays outside of a full tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// `lan`: the networks that the machine's other links are in.
    Lan,
    /// A network, without host bits.
    Prefix(IpAddr, u8),
}

impl Extensions {
    /// The keys, and whether each belongs to a peer.
    pub const KEYS: [(&'static str, bool); 4] =
        [("ExcludeIPs", false), ("Guard", false), ("DNS", false), ("Name", true)];

    /// Reads them from a whole file, whatever else is in it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them. Who would bring the interface up refuses such a file: it
    /// asks for something that would not be done.
    pub fn parse(content: &[u8]) -> Result<Self, Vec<Problem>> {
        let mut extensions = Self::default();
        let mut problems = Vec::new();
        for line in lines(content) {
            problems.extend(extensions.take(&line));
        }
        if problems.is_empty() { Ok(extensions) } else { Err(problems) }
    }

    /// Reads one line, and says what is wrong with it. Other lines are of no concern.
    pub(super) fn take(&mut self, line: &Line<'_>) -> Option<Problem> {
        let Kind::Extension { key, value } = line.kind else { return no_equals(line) };
        let Some((name, of_peer)) =
            Self::KEYS.into_iter().find(|(name, _)| key.eq_ignore_ascii_case(name.as_bytes()))
        else {
            return Some(unknown(line.number, key));
        };
        let is_placed = match line.section {
            Section::None => false,
            Section::Interface => !of_peer,
            Section::Peer(_) => of_peer,
        };
        if !is_placed {
            let head = if of_peer { "[Peer]" } else { "[Interface]" };
            let what = format!("`#! {name}' does not belong here");
            let instead = format!("write it below {head}");
            return Some(Problem::error(line.number, "extension-misplaced", what, instead));
        }
        let wrong = |(what, instead): (String, &str)| {
            let what = format!("`#! {name}' {what}");
            Problem::error(line.number, "extension-value", what, instead)
        };
        self.set(name, value).err().map(wrong)
    }

    /// What is wrong, and what would be right.
    fn set(&mut self, name: &str, value: &[u8]) -> Result<(), (String, &'static str)> {
        let text = str::from_utf8(value).unwrap_or_default();
        let none = || ("has no value that could be read".to_owned(), "write it behind `='");
        let is_other = |word: &str| format!("cannot be {}", quoted(word.as_bytes()));
        let words = || text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        words().next().ok_or_else(none)?;
        match name {
            "ExcludeIPs" => {
                for word in words() {
                    let right = "write `lan' or a network, as in `lan, 10.0.0.0/8'";
                    self.exclude_ips.push(exclusion(word).ok_or_else(|| (is_other(word), right))?);
                }
            }
            "Guard" => {
                self.guard = Some(match text {
                    on if on.eq_ignore_ascii_case("on") => true,
                    off if off.eq_ignore_ascii_case("off") => false,
                    other => return Err((is_other(other), "write `on' or `off'")),
                });
            }
            "DNS" => {
                for word in words() {
                    let domain = word.strip_prefix('~').filter(|domain| is_domain(domain));
                    let right = "write domains with `~' before each, as in `~corp.example'; name \
                                 servers and search domains go into `DNS' without `#!'";
                    self.split_domains
                        .push(domain.ok_or_else(|| (is_other(word), right))?.to_owned());
                }
            }
            _ => {} // A name may be anything.
        }
        Ok(())
    }
}

/// A comment that was meant to be an extension, going by its first word.
fn no_equals(line: &Line<'_>) -> Option<Problem> {
    let comment = trim(line.text).strip_prefix(b"#!").filter(|_| line.kind == Kind::Comment)?;
    let key = trim(comment).split(|&byte| is_space(byte)).next()?;
    let name = likeliest(key, Extensions::KEYS.into_iter().map(|(name, _)| name))?;
    let instead = format!("write `#! {name} = …'");
    Some(Problem::error(line.number, "extension-unknown", "there is no `=' in this", instead))
}

fn unknown(line: usize, key: &[u8]) -> Problem {
    let names = Extensions::KEYS.into_iter().map(|(name, _)| name);
    let instead = match likeliest(key, names.clone()) {
        Some(name) => format!("did you mean `#! {name}'?"),
        None => format!(
            "there are {}; a comment that is for nobody but people begins without `!'",
            names.collect::<Vec<_>>().join(", ")
        ),
    };
    let what = format!("there is no extension {}", quoted(key));
    Problem::error(line, "extension-unknown", what, instead)
}

fn exclusion(word: &str) -> Option<Exclusion> {
    if word.eq_ignore_ascii_case("lan") {
        return Some(Exclusion::Lan);
    }
    let (address, length) = quick::prefix(word)?;
    let prefix = proto::Prefix::new(address, length)?;
    Some(Exclusion::Prefix(prefix.address(), length))
}

/// A name of the domain name system, or a single dot for all of it.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let may = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        matches!(label.len(), 1..=63) && label.bytes().all(may)
    };
    let labels = text.strip_suffix('.').unwrap_or(text);
    text == "." || text.len() <= 254 && labels.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(content: &str) -> Result<Extensions, Vec<String>> {
        let told = |problem: &Problem| format!("{}: {problem}", problem.line);
        Extensions::parse(content.as_bytes()).map_err(|all| all.iter().map(told).collect())
    }

    #[test]
    fn lists_grow_and_the_later_of_two_values_counts() {
        let extensions = parse(
            "#!/bin/sh\n#! a remark\n[Interface]\n#! excludeips = LAN, 10.1/16\n#!Guard=off\n\
             PostUp = echo #! Guard = maybe\n  #! ExcludeIPs = fd00::1/8 192.0.2.1\n\
             #! DNS = ~corp.example, ~.\n#! Guard = On\n[Peer]\n#! Name = ann, or = bob\n",
        );
        let extensions = extensions.unwrap();
        let prefix = |address: &str, length| Exclusion::Prefix(address.parse().unwrap(), length);
        assert_eq!(
            extensions.exclude_ips,
            [Exclusion::Lan, prefix("10.1.0.0", 16), prefix("fd00::", 8), prefix("192.0.2.1", 32)]
        );
        assert_eq!(extensions.guard, Some(true));
        assert_eq!(extensions.split_domains, ["corp.example", "."]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_what_would_be_right() {
        let told = parse(
            "#! Guard = on\n[Interface]\n#! Gaurd = off\n#! Colour = red\n#! Guard = maybe\n\
             #! ExcludeIPs = lan, wan\n#! DNS = corp.example\n#! DNS =\n#! Name = x\n[Peer]\n\
             #! Guard = off\n#! ExcludeIPs = \u{2028}\n#! Guard off\n",
        );
        assert_eq!(
            told.unwrap_err(),
            [
                "1: `#! Guard' does not belong here; write it below [Interface]",
                "3: there is no extension `Gaurd'; did you mean `#! Guard'?",
                "4: there is no extension `Colour'; there are ExcludeIPs, Guard, DNS, Name; a \
                 comment that is for nobody but people begins without `!'",
                "5: `#! Guard' cannot be `maybe'; write `on' or `off'",
                "6: `#! ExcludeIPs' cannot be `wan'; write `lan' or a network, as in `lan, \
                 10.0.0.0/8'",
                "7: `#! DNS' cannot be `corp.example'; write domains with `~' before each, as in \
                 `~corp.example'; name servers and search domains go into `DNS' without `#!'",
                "8: `#! DNS' has no value that could be read; write it behind `='",
                "9: `#! Name' does not belong here; write it below [Peer]",
                "11: `#! Guard' does not belong here; write it below [Interface]",
                "12: `#! ExcludeIPs' does not belong here; write it below [Interface]",
                "13: there is no `=' in this; write `#! Guard = …'",
            ]
        );
    }
}
