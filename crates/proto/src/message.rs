//! The four messages on the wire (paper §5.4.2–5.4.7). All integers are little-endian.

use crate::discard::Discard;
use crate::primitives::Unauthentic;
use crate::tai64n::Timestamp;

/// Bytes that authentication adds.
pub const TAG: usize = 16;
/// Bytes before the ciphertext of a data message: type, receiver, counter.
pub const DATA_HEADER: usize = 4 + 4 + 8;
/// What a data message is longer than its plaintext; as such it is a keepalive.
pub const DATA_OVERHEAD: usize = DATA_HEADER + TAG;

/// How a receiver finds a handshake or session again: random, unique within a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionIndex(pub u32);

/// What a datagram is, by its first four bytes and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// First message of a handshake.
    Initiation,
    /// Second message of a handshake, which has this receiver.
    Response(SessionIndex),
    /// What a responder under load sends instead, to this receiver.
    CookieReply(SessionIndex),
    /// An encrypted packet, or none (keepalive), of this session.
    Data(SessionIndex),
}

/// Tells what `datagram` is. Type and length are judged together; reserved bytes must be zero.
pub fn kind(datagram: &[u8]) -> Result<Kind, Discard> {
    let index = |number: &[u8; 4]| SessionIndex(u32::from_le_bytes(*number));
    match (datagram.as_chunks().0, datagram.len()) {
        ([INITIATION, ..], INITIATION_LEN) => Ok(Kind::Initiation),
        ([RESPONSE, _, receiver, ..], RESPONSE_LEN) => Ok(Kind::Response(index(receiver))),
        ([COOKIE_REPLY, receiver, ..], COOKIE_REPLY_LEN) => Ok(Kind::CookieReply(index(receiver))),
        ([DATA, receiver, ..], DATA_OVERHEAD..) => Ok(Kind::Data(index(receiver))),
        _ => Err(Discard::Malformed),
    }
}

// The types, with their reserved bytes.
pub(crate) const INITIATION: [u8; 4] = [1, 0, 0, 0];
pub(crate) const RESPONSE: [u8; 4] = [2, 0, 0, 0];
pub(crate) const COOKIE_REPLY: [u8; 4] = [3, 0, 0, 0];
pub(crate) const DATA: [u8; 4] = [4, 0, 0, 0];

/// Type, sender, ephemeral key, sealed static key, sealed timestamp.
pub(crate) const INITIATION_LEN: usize = 4 + 4 + 32 + (32 + TAG) + (Timestamp::LEN + TAG) + MACS;
/// Type, sender, receiver, ephemeral key, nothing sealed.
pub(crate) const RESPONSE_LEN: usize = 4 + 4 + 4 + 32 + TAG + MACS;
/// Type, receiver, nonce, sealed cookie.
const COOKIE_REPLY_LEN: usize = 4 + 4 + 24 + (16 + TAG);
/// mac1 and mac2.
const MACS: usize = 16 + 16;

const _: () = assert!(INITIATION_LEN == 148 && RESPONSE_LEN == 92 && COOKIE_REPLY_LEN == 64);
const _: () = assert!(DATA_OVERHEAD == 32);

/// Takes the first `N` bytes off `rest`.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unauthentic> {
    let (field, behind) = rest.split_first_chunk().ok_or(Unauthentic)?;
    *rest = behind;
    Ok(*field)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn type_reserved_bytes_and_length_must_all_fit() {
        let numbered: [u8; 200] = core::array::from_fn(|position| position as u8);
        let index =
            |first| SessionIndex(u32::from_le_bytes([first, first + 1, first + 2, first + 3]));
        for (first, length, expected) in [
            ([1, 0, 0, 0], 148, Ok(Kind::Initiation)),
            ([1, 0, 0, 0], 147, Err(Discard::Malformed)),
            ([1, 0, 0, 0], 149, Err(Discard::Malformed)),
            ([1, 0, 0, 1], 148, Err(Discard::Malformed)),
            ([2, 0, 0, 0], 92, Ok(Kind::Response(index(8)))),
            ([3, 0, 0, 0], 64, Ok(Kind::CookieReply(index(4)))),
            ([4, 0, 0, 0], 32, Ok(Kind::Data(index(4)))),
            ([4, 0, 0, 0], 31, Err(Discard::Malformed)),
            ([4, 1, 0, 0], 32, Err(Discard::Malformed)),
            ([5, 0, 0, 0], 64, Err(Discard::Malformed)),
        ] {
            let mut datagram = numbered[..length].to_vec();
            datagram[..4].copy_from_slice(&first);
            assert_eq!(kind(&datagram), expected, "{first:?} of {length}");
        }
        for length in 0..4 {
            assert_eq!(kind(&numbered[..length]), Err(Discard::Malformed));
        }
    }
}
