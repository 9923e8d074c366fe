//! The four messages on the wire (paper §5.4.2–5.4.7). All integers are little-endian.

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

/// What a datagram is, by its first four bytes and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// First message of a handshake.
    Initiation,
    /// Second message of a handshake.
    Response,
    /// What a responder under load sends instead.
    CookieReply,
    /// An encrypted packet, or none (keepalive).
    Data,
}

/// Tells what `datagram` is. Type and length are judged together; reserved bytes must be zero.
pub fn kind(datagram: &[u8]) -> Result<Kind, Discard> {
    let kind = datagram.first_chunk::<4>().ok_or(Discard::Malformed)?;
    match (u32::from_le_bytes(*kind), datagram.len()) {
        (Initiation::TYPE, Initiation::LEN) => Ok(Kind::Initiation),
        (Response::TYPE, Response::LEN) => Ok(Kind::Response),
        (CookieReply::TYPE, CookieReply::LEN) => Ok(Kind::CookieReply),
        (DATA_TYPE, DATA_OVERHEAD..) => Ok(Kind::Data),
        _ => Err(Discard::Malformed),
    }
}

/// The session that a data message is for; `None` if it is not a well-formed data message.
#[must_use]
pub fn data_receiver(datagram: &[u8]) -> Option<SessionIndex> {
    match datagram {
        [4, 0, 0, 0, a, b, c, d, ..] if datagram.len() >= DATA_OVERHEAD => {
            Some(SessionIndex(u32::from_le_bytes([*a, *b, *c, *d])))
        }
        _ => None,
    }
}

pub(crate) const DATA_TYPE: u32 = 4;

/// The fields of a message, taken from its front one by one.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Discard> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Discard::Malformed)?;
        self.0 = rest;
        Ok(*field)
    }

    /// Skips the type, which [`kind`] has judged.
    fn open(datagram: &[u8], length: usize) -> Result<Reader<'_>, Discard> {
        let mut reader = Reader(datagram);
        reader.take::<4>()?;
        if datagram.len() == length { Ok(reader) } else { Err(Discard::Malformed) }
    }

    fn index(&mut self) -> Result<SessionIndex, Discard> {
        Ok(SessionIndex(u32::from_le_bytes(self.take()?)))
    }
}

/// Copies `fields` one behind the other.
fn write<const N: usize>(fields: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(fields.iter().copied().flatten()) {
        *to = *from;
    }
    bytes
}

/// Message 1. Its two MACs are `cookie`'s concern: they cover the bytes as sent.
pub(crate) struct Initiation {
    pub sender: SessionIndex,
    pub ephemeral: PublicKey,
    pub encrypted_static: [u8; 32 + TAG],
    pub encrypted_timestamp: [u8; Timestamp::LEN + TAG],
}

impl Initiation {
    pub const TYPE: u32 = 1;
    pub const LEN: usize = 4 + 4 + 32 + (32 + TAG) + (Timestamp::LEN + TAG) + MACS;

    pub fn parse(datagram: &[u8]) -> Result<Self, Discard> {
        let mut reader = Reader::open(datagram, Self::LEN)?;
        Ok(Self {
            sender: reader.index()?,
            ephemeral: PublicKey(reader.take()?),
            encrypted_static: reader.take()?,
            encrypted_timestamp: reader.take()?,
        })
    }

    /// The message with both MACs still zero.
    pub fn encode(&self) -> [u8; Self::LEN] {
        write(&[
            &Self::TYPE.to_le_bytes(),
            &self.sender.0.to_le_bytes(),
            &self.ephemeral.0,
            &self.encrypted_static,
            &self.encrypted_timestamp,
        ])
    }
}

/// Message 2.
pub(crate) struct Response {
    pub sender: SessionIndex,
    pub receiver: SessionIndex,
    pub ephemeral: PublicKey,
    pub encrypted_nothing: [u8; TAG],
}

impl Response {
    pub const TYPE: u32 = 2;
    pub const LEN: usize = 4 + 4 + 4 + 32 + TAG + MACS;

    pub fn parse(datagram: &[u8]) -> Result<Self, Discard> {
        let mut reader = Reader::open(datagram, Self::LEN)?;
        Ok(Self {
            sender: reader.index()?,
            receiver: reader.index()?,
            ephemeral: PublicKey(reader.take()?),
            encrypted_nothing: reader.take()?,
        })
    }

    /// The message with both MACs still zero.
    pub fn encode(&self) -> [u8; Self::LEN] {
        write(&[
            &Self::TYPE.to_le_bytes(),
            &self.sender.0.to_le_bytes(),
            &self.receiver.0.to_le_bytes(),
            &self.ephemeral.0,
            &self.encrypted_nothing,
        ])
    }
}

/// Message 3.
pub(crate) struct CookieReply {
    pub receiver: SessionIndex,
    pub nonce: [u8; 24],
    pub encrypted_cookie: [u8; 16 + TAG],
}

impl CookieReply {
    pub const TYPE: u32 = 3;
    pub const LEN: usize = 4 + 4 + 24 + (16 + TAG);

    pub fn parse(datagram: &[u8]) -> Result<Self, Discard> {
        let mut reader = Reader::open(datagram, Self::LEN)?;
        Ok(Self {
            receiver: reader.index()?,
            nonce: reader.take()?,
            encrypted_cookie: reader.take()?,
        })
    }

    pub fn encode(&self) -> [u8; Self::LEN] {
        write(&[
            &Self::TYPE.to_le_bytes(),
            &self.receiver.0.to_le_bytes(),
            &self.nonce,
            &self.encrypted_cookie,
        ])
    }
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
            ([4, 0, 0, 0], 32, Ok(Kind::Data)),
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
