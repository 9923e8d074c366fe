//! Single values as files and arguments give them (spec §3.4).

use std::net::{IpAddr, SocketAddr};
use std::str;

use super::{AllowedIp, Machine, PeerSettings, Refusal, Secret};
use crate::key;

/// A port number or the name of a service.
pub(super) fn port(machine: &mut impl Machine, value: &[u8]) -> Result<u16, Refusal> {
    match value {
        b"" => Err("Unable to parse empty port".into()),
        _ => machine.port(value),
    }
}

/// `off`, decimal digits, or `0x` and hexadecimal ones; a leading zero means nothing.
pub(crate) fn fwmark(value: &[u8]) -> Result<u32, Refusal> {
    let number = match value.strip_prefix(b"0x") {
        Some(digits) => number(digits, 16),
        None if value.eq_ignore_ascii_case(b"off") => Some(0),
        None => number(value, 10),
    };
    number.ok_or_else(|| Refusal::of("Fwmark is neither 0/off nor 0-0xffffffff", value))
}

/// `off` or decimal digits.
pub(crate) fn persistent_keepalive(value: &[u8]) -> Result<u16, Refusal> {
    if value.eq_ignore_ascii_case(b"off") {
        return Ok(0);
    }
    number(value, 10).and_then(|seconds| u16::try_from(seconds).ok()).ok_or_else(|| {
        Refusal::of("Persistent keepalive interval is neither 0/off nor 1-65535", value)
    })
}

/// A key in base64.
pub(super) fn key(value: &[u8]) -> Result<Secret, Refusal> {
    key::from_base64(value)
        .map(Secret)
        .ok_or_else(|| Refusal::of("Key is not the correct length or format", value))
}

/// `host:port`, `[v6]:port`; without brackets the last colon is the one that counts.
pub(super) fn endpoint(machine: &mut impl Machine, value: &[u8]) -> Result<SocketAddr, Refusal> {
    machine.can_resolve()?;
    if value.is_empty() {
        return Err("Unable to parse empty endpoint".into());
    }
    let (host, port) = split_endpoint(value).map_err(|reason| Refusal::of(reason, value))?;
    machine.resolve(host, port, value)
}

/// Host and port, or what is wrong. The port is not empty, the host may be.
pub(crate) fn split_endpoint(value: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    const NO_PORT: &str = "Unable to find port of endpoint";
    let (host, rest) = match value.strip_prefix(b"[") {
        Some(inside) => split_at(inside, |&byte| byte == b']')
            .ok_or("Unable to find matching brace of endpoint")
            .and_then(|(host, rest)| Ok((host, rest.strip_prefix(b":").ok_or(NO_PORT)?)))?,
        None => {
            let colon = value.iter().rposition(|&byte| byte == b':').ok_or(NO_PORT)?;
            let (host, rest) = value.split_at(colon);
            (host, rest.get(1..).unwrap_or_default())
        }
    };
    if rest.is_empty() { Err(NO_PORT) } else { Ok((host, rest)) }
}

/// A comma list. A sign in front of any entry makes it a list of changes instead of the new list.
/// A list without entries is empty.
pub(super) fn allowed_ips(
    machine: &mut impl Machine,
    peer: &mut PeerSettings,
    value: &[u8],
) -> Result<(), Refusal> {
    peer.replace_allowed_ips = true;
    if value.is_empty() {
        return Ok(());
    }
    for entry in value.split(|&byte| byte == b',') {
        let (sign, entry) = match entry {
            [sign @ (b'+' | b'-'), entry @ ..] => (Some(sign), entry),
            entry => (None, entry),
        };
        peer.replace_allowed_ips &= sign.is_none();
        let (address, length) = allowed_ip(entry)?;
        if has_host_part(address, length) {
            machine.warn(&[b"Warning: AllowedIP has nonzero host part: ", entry].concat());
        }
        peer.allowed_ips.push(AllowedIp { address, length, remove: sign == Some(&b'-') });
    }
    Ok(())
}

/// An address and the length of its prefix, which is the whole address if it is not given.
pub(crate) fn allowed_ip(entry: &[u8]) -> Result<(IpAddr, u8), Refusal> {
    let (address, length) = match split_at(entry, |&byte| byte == b'/') {
        Some((address, length)) => (address, Some(length)),
        None => (entry, None),
    };
    let address: IpAddr = text(address)
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| Refusal::of("Unable to parse IP address", address))?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => Some(width),
        Some(digits) => number(digits, 10).filter(|&length| length <= width),
    };
    let length = length.and_then(|length| u8::try_from(length).ok());
    let length =
        length.ok_or_else(|| Refusal::of("AllowedIP is not in the correct format", entry))?;
    Ok((address, length))
}

fn has_host_part(address: IpAddr, length: u8) -> bool {
    proto::Prefix::new(address, length).is_some_and(|prefix| prefix.address() != address)
}

/// Digits and nothing else: no sign, no space.
pub(crate) fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let all = digits.iter().all(|&digit| char::from(digit).is_digit(radix));
    u32::from_str_radix(text(digits)?, radix).ok().filter(|_| all)
}

pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

/// What is before and behind the first byte that is wanted.
pub(super) fn split_at(text: &[u8], wanted: fn(&u8) -> bool) -> Option<(&[u8], &[u8])> {
    let (before, rest) = text.split_at_checked(text.iter().position(wanted)?)?;
    Some((before, rest.get(1..)?))
}

/// Whether C calls it white space.
#[must_use]
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Without what is unwanted at both ends.
pub(crate) fn trim(text: &[u8], is_unwanted: fn(u8) -> bool) -> &[u8] {
    let is_wanted = |byte: &u8| !is_unwanted(*byte);
    let first = text.iter().position(is_wanted).unwrap_or(text.len());
    let end = text.iter().rposition(is_wanted).map_or(first, |last| last + 1);
    text.get(first..end).unwrap_or_default()
}

/// Without any white space, wherever it is.
pub(crate) fn without_space(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|&byte| !is_space(byte)).collect()
}
