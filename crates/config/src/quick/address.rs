//! Addresses as `ip` takes them.

use std::net::{IpAddr, Ipv4Addr};

use crate::number;

/// Whether this is an address for a name server; otherwise it is a domain to search in.
#[must_use]
pub fn is_server(word: &str) -> bool {
    is_v6(word) || word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Whether a word is of IPv6, going by its looks as `wg-quick` does.
#[must_use]
pub fn is_v6(word: &str) -> bool {
    word.contains(':')
}

/// An address and the length of its prefix, which may be given as a netmask and is the whole
/// address if it is not given. An IPv4 address may be short of its last numbers, which are zero
/// then, as in `10/8`.
#[must_use]
pub fn prefix(word: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (word, None),
    };
    let address = if is_v6(address) { IpAddr::V6(address.parse().ok()?) } else { v4(address)? };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => width,
        Some(mask) if mask.contains('.') => netmask(mask)?,
        Some(digits) => number(digits)?,
    };
    (length <= width).then_some((address, length))
}

fn v4(text: &str) -> Option<IpAddr> {
    let mut octets = [0; 4];
    let mut places = octets.iter_mut();
    for octet in text.split('.') {
        *places.next()? = number(octet)?;
    }
    Some(Ipv4Addr::from(octets).into())
}

fn netmask(text: &str) -> Option<u8> {
    let mask = u32::from(text.parse::<Ipv4Addr>().ok()?);
    let length = mask.leading_ones();
    (mask.count_ones() == length).then_some(length as u8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_read_as_ip_reads_them() {
        for (word, expected) in [
            ("10.0.0.1/24", Some(("10.0.0.1", 24))),
            ("10.0.0.1", Some(("10.0.0.1", 32))),
            ("10.0.0.1/0", Some(("10.0.0.1", 0))),
            ("10.0.0.1/255.255.254.0", Some(("10.0.0.1", 23))),
            ("10.1/16", Some(("10.1.0.0", 16))),
            ("fd00::1/64", Some(("fd00::1", 64))),
            ("fd00::1", Some(("fd00::1", 128))),
            ("::ffff:10.0.0.1/128", Some(("::ffff:10.0.0.1", 128))),
            ("10.0.0.1/33", None),
            ("fd00::1/129", None),
            ("10.0.0.1/255.0.255.0", None),
            ("10.0.0.1/", None),
            ("10.0.0.1/+8", None),
            ("10.0.0.256/8", None),
            ("10.0.0.0.1/8", None),
            ("", None),
            ("fd00::/64/1", None),
            ("example.com", None),
        ] {
            let expected = expected.map(|(address, length)| (address.parse().unwrap(), length));
            assert_eq!(prefix(word), expected, "{word}");
        }
    }
}
