//! Long-term keys. Text forms live in `config`.

use core::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::primitives::DhKey;

/// A Curve25519 point: the identity of a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

/// A Curve25519 scalar, stored clamped (RFC 7748 §5) as the kernel does.
pub struct PrivateKey(Zeroizing<[u8; 32]>);

impl PrivateKey {
    /// Clamps `bytes`. All zeros mean "no key" everywhere in WireGuard, hence `None`.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Option<Self> {
        let mut bytes = Zeroizing::new(bytes);
        if verify_slices_are_equal(&*bytes, &[0; 32]).is_ok() {
            return None;
        }
        let [first, .., last] = &mut *bytes;
        *first &= 0b1111_1000;
        *last = *last & 0b0111_1111 | 0b0100_0000;
        Some(Self(bytes))
    }

    /// The point that others know us by.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        DhKey::new(self).public()
    }

    /// The clamped scalar, for writing it where it was asked for.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Clone for PrivateKey {
    fn clone(&self) -> Self {
        Self(Zeroizing::new(*self.0))
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&*self.0, &*other.0).is_ok()
    }
}

impl Eq for PrivateKey {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A symmetric key mixed into a handshake; all zeros are "none" (paper §5.2).
#[derive(Clone, Default)]
pub struct PresharedKey(Zeroizing<[u8; 32]>);

impl PresharedKey {
    /// Takes the bytes as they are.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for mixing and for writing them where they were asked for.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for PresharedKey {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&*self.0, &*other.0).is_ok()
    }
}

impl Eq for PresharedKey {}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
