//! Single values: what each may be, and what to say if it is not.

use std::net::{IpAddr, Ipv6Addr};

use proto::Prefix;
use zeroize::Zeroizing;

use super::At;
use crate::file::problem::{Problem, quoted};
use crate::key::{self, BASE64_LEN};
use crate::wg::{number, split_endpoint, without_space};

/// Why a value is wrong, and what would be right.
pub(super) struct Wrong {
    what: String,
    instead: String,
}

impl Wrong {
    fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { what: what.into(), instead: instead.into() }
    }

    /// A word that is not what it should be.
    pub(super) fn about(not: &str, word: &str, instead: &str) -> Self {
        Self::new(format!("{} is {not}", quoted(word.as_bytes())), instead)
    }

    pub(super) fn into_problem(self, at: At) -> Problem {
        let what = format!("`{}': {}", at.key.name(), self.what);
        Problem::error(at.line, "value", what, self.instead)
    }
}

fn text(value: &[u8]) -> Result<&str, Wrong> {
    str::from_utf8(value).map_err(|_| Wrong::new("this is not UTF-8", "save the file as UTF-8"))
}

/// Words with commas or spaces between them, at least one.
pub(super) fn words(value: &[u8]) -> Result<impl Iterator<Item = &str>, Wrong> {
    let words =
        || text(value).map(|text| text.split([',', ' ', '\t']).filter(|word| !word.is_empty()));
    match words()?.next() {
        Some(_) => words(),
        None => Err(Wrong::new("there is nothing in this list", "write something, or remove it")),
    }
}

/// Words with commas between them, as `wg` has them: space means nothing, and every word is there.
pub(super) fn list(value: &[u8]) -> Result<Vec<String>, Wrong> {
    let list = without_space(value);
    let words: Vec<_> = text(&list)?.split(',').map(str::to_owned).collect();
    if words.iter().any(String::is_empty) {
        return Err(Wrong::new("there is nothing between two commas", "remove one of them"));
    }
    Ok(words)
}

/// A key, which is not repeated whatever it is: it may be a secret.
pub(super) fn key(value: &[u8]) -> Result<Zeroizing<[u8; 32]>, Wrong> {
    let value = Zeroizing::new(without_space(value));
    key::from_base64(&*value).ok_or_else(|| {
        let instead = "copy all of it: 44 characters, the last one `='";
        match value.len() {
            BASE64_LEN => Wrong::new("this is not a key, though it is as long as one", instead),
            length => Wrong::new(format!("this has {length} characters and is not a key"), instead),
        }
    })
}

/// The number of a port, from `lowest` on.
pub(super) fn port(value: &[u8], lowest: u16) -> Result<u16, Wrong> {
    let port = number(value, 10).and_then(|port| u16::try_from(port).ok());
    port.filter(|port| (lowest..).contains(port)).ok_or_else(|| {
        let what = format!("{} is not the number of a port", quoted(value));
        Wrong::new(what, format!("write a number from {lowest} to 65535"))
    })
}

pub(super) fn fwmark(value: &[u8]) -> Result<(), Wrong> {
    let mark = crate::wg::fwmark(&without_space(value));
    let wrong = |_| {
        let instead = "write `off', or a number up to 4294967295, or `0x' and up to 8 digits";
        Wrong::new(format!("{} is no mark", quoted(value)), instead)
    };
    mark.map(drop).map_err(wrong)
}

/// Seconds.
pub(super) fn keepalive(value: &[u8]) -> Result<u16, Wrong> {
    crate::wg::persistent_keepalive(&without_space(value)).map_err(|_| {
        let instead = "write `off', or seconds from 1 to 65535; 25 keeps most doors open";
        Wrong::new(format!("{} is no number of seconds", quoted(value)), instead)
    })
}

pub(super) fn mtu(value: &[u8]) -> Result<u32, Wrong> {
    number(value, 10).filter(|mtu| (68..=65535).contains(mtu)).ok_or_else(|| {
        let instead = "write a number of bytes from 68 to 65535, or leave it out";
        Wrong::new(format!("{} is no MTU", quoted(value)), instead)
    })
}

/// `off`, `auto`, or a number or name that the machine has to know.
pub(super) fn table(value: &[u8]) -> Result<(), Wrong> {
    let is_number = value.iter().all(u8::is_ascii_digit);
    let may = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    let is_table = if is_number {
        number(value, 10).is_some_and(|table| table > 0)
    } else {
        value.first().is_some_and(u8::is_ascii_alphabetic) && value.iter().all(may)
    };
    let instead = "write `auto', `off', or the number or name of a routing table";
    let what = || format!("{} is no routing table", quoted(value));
    if is_table { Ok(()) } else { Err(Wrong::new(what(), instead)) }
}

pub(super) fn boolean(value: &[u8]) -> Result<bool, Wrong> {
    match value {
        on if on.eq_ignore_ascii_case(b"true") => Ok(true),
        off if off.eq_ignore_ascii_case(b"false") => Ok(false),
        other => {
            let what = format!("{} is neither `true' nor `false'", quoted(other));
            Err(Wrong::new(what, "write one of them"))
        }
    }
}

/// A network, and whether it was written with the address of a machine in it.
pub(super) fn allowed_ip(word: &str) -> Result<(Prefix, bool), Wrong> {
    let right = "write networks with commas between them, as in `10.0.0.0/24, fd00::/64'";
    let wrong = || Wrong::about("no network", word, right);
    let network = word.strip_prefix(['+', '-']).unwrap_or(word);
    let (address, length) = crate::wg::allowed_ip(network.as_bytes()).map_err(|_| wrong())?;
    let prefix = Prefix::new(address, length).ok_or_else(wrong)?;
    Ok((prefix, prefix.address() != address))
}

/// Where a peer is: `HOST:PORT`, `[V6]:PORT`. Its address, if that is not a name, and everywhere
/// the same.
pub(super) fn endpoint(value: &[u8]) -> Result<Option<IpAddr>, Wrong> {
    let value = without_space(value);
    let right = "write `HOST:PORT', as in `vpn.example.com:51820' or `[2001:db8::1]:51820'";
    let wrong = || Wrong::new(format!("{} has no host and port", quoted(&value)), right);
    let (host, number) = split_endpoint(&value).map_err(|_| wrong())?;
    let host = text(host)?;
    if value.starts_with(b"[") {
        // A link-local address has its link behind it.
        let (address, _) = host.split_once('%').unwrap_or((host, ""));
        address.parse::<Ipv6Addr>().map_err(|_| Wrong::about("no address", host, right))?;
    } else if host.contains(':') {
        let instead = "write an IPv6 address in brackets, as in `[2001:db8::1]:51820'";
        return Err(Wrong::new("it is not clear where the address ends", instead));
    } else if host.parse::<IpAddr>().is_err() {
        domain(host)?;
    }
    port(number, 1).map(|_| host.parse().ok())
}

/// A name as hosts and domains have them. What looks like an address must be one.
pub(super) fn domain(name: &str) -> Result<(), Wrong> {
    let is_label = |label: &str| {
        let may = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_');
        matches!(label.len(), 1..=63) && label.chars().all(may) && !label.starts_with('-')
    };
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_number = labels.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_number && name.len() <= 253 && labels.split('.').all(is_label) {
        return Ok(());
    }
    Err(Wrong::about("neither an address nor a name", name, "write one or the other"))
}
