//! The four messages on the wire (paper §5.4.2–5.4.7). All integers are little-endian.

use alloc::vec::Vec;

use crate::discard::Discard;
use crate::keys::PublicKey;
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

impl From<[u8; 4]> for SessionIndex {
    fn from(bytes: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }
}

impl From<SessionIndex> for [u8; 4] {
    fn from(SessionIndex(number): SessionIndex) -> Self {
        number.to_le_bytes()
    }
}

/// What a datagram is, by its first four bytes and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// First message of a handshake.
    Initiation,
    /// Second message of a handshake.
    Response,
    /// What a responder under load sends instead.
    CookieReply,
    /// An encrypted packet, or none (keepalive), of this session.
    Data(SessionIndex),
}

/// Tells what `datagram` is. Type and length are judged together; reserved bytes must be zero.
pub fn kind(datagram: &[u8]) -> Result<Kind, Discard> {
    let (kind, mut rest) = datagram.split_first_chunk().ok_or(Discard::Malformed)?;
    match (u32::from_le_bytes(*kind), datagram.len()) {
        (Initiation::TYPE, Initiation::LEN) => Ok(Kind::Initiation),
        (Response::TYPE, Response::LEN) => Ok(Kind::Response),
        (CookieReply::TYPE, CookieReply::LEN) => Ok(Kind::CookieReply),
        (DATA_TYPE, DATA_OVERHEAD..) => Ok(Kind::Data(take::<4>(&mut rest)?.into())),
        _ => Err(Discard::Malformed),
    }
}

pub(crate) const DATA_TYPE: u32 = 4;

/// Declares a message: its type, its fields in the order of the wire, each as long as its type, and how
/// many bytes follow that are neither read nor made here.
macro_rules! message {
    ($(#[$about:meta])* $name:ident = $number:literal { $($field:ident: $kind:ty,)+ } + $behind:expr) => {
        $(#[$about])*
        pub(crate) struct $name {
            $(pub $field: $kind,)+
        }

        impl $name {
            pub const TYPE: u32 = $number;
            pub const LEN: usize = 4 $(+ size_of::<$kind>())+ + $behind;

            /// Type and length were judged by [`kind`].
            pub fn parse(datagram: &[u8]) -> Result<Self, Discard> {
                let (_, mut rest) = datagram.split_first_chunk::<4>().ok_or(Discard::Malformed)?;
                $(let $field = take::<{ size_of::<$kind>() }>(&mut rest)?.into();)+
                Ok(Self { $($field,)+ })
            }

            pub fn encode(&self) -> Vec<u8> {
                let mut bytes = Vec::from(Self::TYPE.to_le_bytes());
                $(bytes.extend(<[u8; size_of::<$kind>()]>::from(self.$field));)+
                bytes
            }
        }
    };
}

message! {
    /// Message 1. Its two MACs are `cookie`'s concern: they cover the bytes as sent.
    Initiation = 1 {
        sender: SessionIndex,
        ephemeral: PublicKey,
        encrypted_static: [u8; 32 + TAG],
        encrypted_timestamp: [u8; Timestamp::LEN + TAG],
    } + MACS
}

message! {
    /// Message 2, with MACs as message 1.
    Response = 2 {
        sender: SessionIndex,
        receiver: SessionIndex,
        ephemeral: PublicKey,
        encrypted_nothing: [u8; TAG],
    } + MACS
}

message! {
    /// Message 3.
    CookieReply = 3 {
        receiver: SessionIndex,
        nonce: [u8; 24],
        encrypted_cookie: [u8; 16 + TAG],
    } + 0
}

/// The first `N` bytes, which are then not there any more.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Discard> {
    let (field, behind) = rest.split_first_chunk().ok_or(Discard::Malformed)?;
    *rest = behind;
    Ok(*field)
}

/// mac1 and mac2, at the end of messages 1 and 2.
pub(crate) const MACS: usize = 16 + 16;

const _: () = assert!(Initiation::LEN == 148 && Response::LEN == 92 && CookieReply::LEN == 64);
const _: () = assert!(DATA_OVERHEAD == 32);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn type_reserved_bytes_and_length_must_all_fit() {
        let zeros = [0_u8; 200];
        for (first, length, expected) in [
            ([1, 0, 0, 0], 148, Ok(Kind::Initiation)),
            ([1, 0, 0, 0], 147, Err(Discard::Malformed)),
            ([1, 0, 0, 0], 149, Err(Discard::Malformed)),
            ([1, 0, 0, 1], 148, Err(Discard::Malformed)),
            ([2, 0, 0, 0], 92, Ok(Kind::Response)),
            ([3, 0, 0, 0], 64, Ok(Kind::CookieReply)),
            ([4, 0, 0, 0], 32, Ok(Kind::Data(SessionIndex(0)))),
            ([4, 0, 0, 0], 31, Err(Discard::Malformed)),
            ([4, 1, 0, 0], 32, Err(Discard::Malformed)),
            ([5, 0, 0, 0], 64, Err(Discard::Malformed)),
        ] {
            let mut datagram = zeros[..length].to_vec();
            datagram[..4].copy_from_slice(&first);
            assert_eq!(kind(&datagram), expected, "{first:?} of {length}");
        }
        for length in 0..4 {
            assert_eq!(kind(&zeros[..length]), Err(Discard::Malformed));
        }
    }
}
