//! Long-term keys. Text forms live in `config`.

use alloc::boxed::Box;
use core::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::{Zeroize, Zeroizing};

use crate::primitives::DhKey;

/// A Curve25519 point: the identity of a peer. All zeros are nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// Bytes that are wiped when they are dropped, never printed, and compared in constant time; none if all
/// are zero. They stay where they are: whatever is moved leaves a copy behind that nobody wipes.
#[derive(Clone, Default)]
pub struct Hidden(Option<Box<Zeroizing<[u8; 32]>>>);

/// A symmetric key mixed into a handshake; all zeros are "none" (paper §5.2).
pub type PresharedKey = Hidden;

impl Hidden {
    /// Takes the bytes as they are.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let hidden = Box::new(Zeroizing::new([0; 32]));
        let mut hidden =
            Some(hidden).filter(|zeros| verify_slices_are_equal(&***zeros, &bytes).is_err());
        hidden.iter_mut().for_each(|hidden| hidden.copy_from_slice(&bytes));
        bytes.zeroize();
        Self(hidden)
    }

    /// The bytes, for mixing and for writing them where they were asked for.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_deref().map_or(&[0; 32], |bytes| bytes)
    }
}

impl PartialEq for Hidden {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.as_bytes(), other.as_bytes()).is_ok()
    }
}

impl Eq for Hidden {}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// A Curve25519 scalar, stored clamped (RFC 7748 §5) as the kernel does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateKey(Hidden);

impl PrivateKey {
    /// Clamps `bytes`. All zeros mean "no key" everywhere in WireGuard, hence `None`.
    pub fn new(bytes: [u8; 32]) -> Option<Self> {
        let mut hidden = Hidden::new(bytes);
        let [first, .., last] = &mut ***hidden.0.as_mut()?;
        *first &= 0b1111_1000;
        *last = *last & 0b0111_1111 | 0b0100_0000;
        Some(Self(hidden))
    }

    /// The point that others know us by.
    pub fn public_key(&self) -> PublicKey {
        DhKey::new(self.as_bytes()).public
    }

    /// The clamped scalar, for writing it where it was asked for.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}
