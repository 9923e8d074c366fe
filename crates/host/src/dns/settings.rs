//! What a tunnel wants of DNS.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Which servers are asked through the tunnel, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// At least one, the most wanted first.
    pub servers: Vec<IpAddr>,
    /// Domains that complete a name without dots. Names below them are asked of these servers, too.
    pub search: Vec<Domain>,
    /// Domains whose names are asked of these servers: `~corp.example` in a file.
    pub routes: Vec<Domain>,
    /// All names are asked of these servers, and of no others.
    pub default: bool,
}

impl Settings {
    /// Reads the words of `DNS`: addresses of servers, and domains. A domain behind `~` splits: only
    /// its names are asked of the servers, unless there is also `~.`, which is every name. Without
    /// servers nothing is wanted, as wg-quick(8) has it.
    ///
    /// # Errors
    ///
    /// The first word that means nothing, and what to write instead; or that a domain behind `~` has
    /// no server to be asked of.
    pub fn read(servers: &[String], domains: &[String]) -> Result<Option<Self>, Misread> {
        let servers = servers.iter().map(|word| server(word)).collect::<Result<Vec<_>, _>>()?;
        let (mut search, mut routes, mut root) = (Vec::new(), Vec::new(), false);
        for word in domains {
            match word.strip_prefix('~') {
                None => search.push(Domain::read(word)?),
                Some(".") => root = true,
                Some(name) => routes.push(Domain::read(name)?),
            }
        }
        if servers.is_empty() {
            return match domains.iter().find(|word| word.starts_with('~')) {
                None => Ok(None),
                Some(word) => Err(Misread(format!(
                    "`{word}' has no server to be asked of: write `DNS = ADDRESS, {word}'"
                ))),
            };
        }
        let default = root || routes.is_empty();
        Ok(Some(Self { servers, search, routes, default }))
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ask {} for ", listed(&self.servers))?;
        match self.default {
            true => f.write_str("all names")?,
            false => write!(f, "names below {}", listed(&self.routes))?,
        }
        match self.search.is_empty() {
            true => Ok(()),
            false => write!(f, ", search in {}", listed(&self.search)),
        }
    }
}

/// The name of a domain, in ASCII, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain(String);

impl Domain {
    /// The longest name and the longest label of it, in bytes (RFC 1035 §2.3.4; the name as text).
    const LONGEST: usize = 253;
    const LONGEST_LABEL: usize = 63;

    fn read(text: &str) -> Result<Self, Misread> {
        let name = text.strip_suffix('.').unwrap_or(text);
        // What controls a terminal must not reach one.
        let word = text.escape_debug();
        if !name.is_ascii() {
            let cause = format!("`{word}' is not ASCII: write the form that begins with `xn--'");
            return Err(Misread(cause));
        }
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let label = |label: &str| {
            (1..=Self::LONGEST_LABEL).contains(&label.len()) && label.bytes().all(byte)
        };
        match name.len() <= Self::LONGEST && name.split('.').all(label) {
            true => Ok(Self(name.into())),
            false => Err(Misread(format!(
                "`{word}' is neither an address nor a domain: write `DNS = 10.0.0.1, corp.example'"
            ))),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A word of `DNS` that cannot be obeyed: which, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread(String);

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misread {}

fn server(text: &str) -> Result<IpAddr, Misread> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(it, zone)| (it, Some(zone)));
    let word = text.escape_debug();
    match (address.parse::<IpAddr>(), zone) {
        (Ok(address), None) => Ok(address),
        (Ok(address), Some(_)) => {
            Err(Misread(format!("`{word}' is asked through the tunnel anyway: write `{address}'")))
        }
        (Err(_), _) => Err(Misread(format!("`{word}' is not an address: write `10.0.0.1'"))),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed<T: fmt::Display>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(T::to_string).collect();
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(words: &str) -> Result<Option<Settings>, Misread> {
        let (servers, domains): (Vec<_>, Vec<_>) = words
            .split_whitespace()
            .map(String::from)
            .partition(|word| word.contains(':') || word.starts_with(|c: char| c.is_ascii_digit()));
        Settings::read(&servers, &domains)
    }

    #[test]
    fn what_is_asked_of_whom_is_said_in_words() {
        for (words, expected) in [
            ("10.0.0.1", "ask 10.0.0.1 for all names"),
            ("10.0.0.1 fd00::1", "ask 10.0.0.1 and fd00::1 for all names"),
            ("10.0.0.1 lan", "ask 10.0.0.1 for all names, search in lan"),
            ("10.0.0.1 ~corp.example.", "ask 10.0.0.1 for names below corp.example"),
            ("10.0.0.1 ~a ~b lan", "ask 10.0.0.1 for names below a and b, search in lan"),
            ("10.0.0.1 ~corp.example ~.", "ask 10.0.0.1 for all names"),
        ] {
            assert_eq!(read(words).unwrap().unwrap().to_string(), expected, "{words}");
        }
    }

    #[test]
    fn domains_without_a_server_ask_for_nothing_or_are_refused() {
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("lan"), Ok(None));
        let refusal = read("~corp.example").unwrap_err().to_string();
        assert!(refusal.ends_with("write `DNS = ADDRESS, ~corp.example'"), "{refusal}");
    }

    #[test]
    fn a_word_that_means_nothing_is_refused_with_what_to_write() {
        let long = format!("10.0.0.1 {}", "a".repeat(64));
        for (words, remedy) in [
            ("10.0.0.300", "`10.0.0.1'"),
            ("1.1", "`10.0.0.1'"),
            ("fe80::1%eth0", "`fe80::1'"),
            ("10.0.0.1 a..b", "`DNS = 10.0.0.1, corp.example'"),
            ("10.0.0.1 ~", "`DNS = 10.0.0.1, corp.example'"),
            ("10.0.0.1 a;b", "`DNS = 10.0.0.1, corp.example'"),
            ("10.0.0.1 \x1b[2J", "`DNS = 10.0.0.1, corp.example'"),
            ("10.0.0.1 größe.example", "`xn--'"),
            (&long, "`DNS = 10.0.0.1, corp.example'"),
        ] {
            let refusal = read(words).unwrap_err().to_string();
            assert!(refusal.ends_with(remedy), "{words}: {refusal}");
            assert!(!refusal.contains(char::is_control), "{refusal}");
        }
    }
}
