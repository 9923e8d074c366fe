//! The four primitives, from proven libraries, in the shapes that the handshake uses (paper §5.4).

use alloc::vec::Vec;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use blake2s_simd::{Hash, Params};
use zeroize::Zeroizing;

use crate::keys::PublicKey;
use crate::message::TAG;

/// Thirty-two bytes that nobody else may know.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// Something was not authentic, or a Diffie-Hellman result was zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unauthentic;

/// BLAKE2s-256 of the concatenated parts.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    *digest(&Params::new(), parts).as_array()
}

/// Keyed BLAKE2s-128 of the concatenated parts: mac1, mac2 and cookies.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mac = digest(Params::new().key(key).hash_length(16), parts);
    mac.as_bytes().try_into().expect("it is as long as was asked for")
}

fn digest(params: &Params, parts: &[&[u8]]) -> Hash {
    let mut state = params.to_state();
    for part in parts {
        state.update(part);
    }
    state.finalize()
}

/// HMAC (RFC 2104) over BLAKE2s-256: the ordinary construction, not BLAKE2's own keyed mode.
fn hmac(key: &[u8; 32], [front, back]: [&[u8]; 2]) -> Secret {
    const BLOCK: usize = 64;
    let pad = |byte: u8| {
        let mut block = Zeroizing::new([byte; BLOCK]);
        for (to, from) in block.iter_mut().zip(key) {
            *to ^= from;
        }
        block
    };
    let inner = Zeroizing::new(hash(&[&*pad(0x36), front, back]));
    Zeroizing::new(hash(&[&*pad(0x5c), &*inner]))
}

/// The first `N` (at most three) outputs of HKDF (RFC 5869) with an empty info.
pub(crate) fn kdf<const N: usize>(chaining_key: &[u8; 32], input: &[u8]) -> [Secret; N] {
    let root = hmac(chaining_key, [input, &[]]);
    let mut counter = 0;
    let mut previous: Option<Secret> = None;
    core::array::from_fn(|_| {
        counter += 1;
        let before: &[u8] = previous.as_ref().map_or(&[], |previous| &**previous);
        let output = hmac(&root, [before, &[counter]]);
        previous = Some(output.clone());
        output
    })
}

/// A Curve25519 key pair ready for agreement; its public half is computed once.
pub(crate) struct DhKey {
    private: agreement::PrivateKey,
    pub public: PublicKey,
}

impl DhKey {
    /// Any 32 bytes are a scalar: X25519 clamps them itself.
    pub fn new(scalar: &[u8; 32]) -> Self {
        let private = agreement::PrivateKey::from_private_key(&X25519, scalar)
            .expect("X25519 takes every scalar of 32 bytes");
        let public = private.compute_public_key().ok();
        let public = public.and_then(|point| point.as_ref().try_into().ok());
        Self { private, public: PublicKey(public.expect("an X25519 point has 32 bytes")) }
    }

    /// X25519. A result of all zeros means that the other point is of low order; the library looks for
    /// it in constant time, and refuses it.
    pub fn agree(&self, other: &PublicKey) -> Result<Secret, Unauthentic> {
        let other = UnparsedPublicKey::new(&X25519, &other.0);
        agreement::agree(&self.private, other, Unauthentic, |shared| {
            shared.try_into().map(Zeroizing::new).map_err(|_| Unauthentic)
        })
    }
}

/// ChaCha20-Poly1305 (RFC 8439) under one key, which the library does not print.
#[derive(Debug)]
pub(crate) struct Aead(LessSafeKey);

impl Aead {
    pub fn new(key: &[u8; 32]) -> Self {
        let key =
            UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the cipher's length");
        Self(LessSafeKey::new(key))
    }

    /// Encrypts in place; the caller puts the tag behind.
    pub fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG] {
        let tag = self.0.seal_in_place_separate_tag(nonce(counter), Aad::from(aad), text);
        let tag = tag.ok().and_then(|tag| tag.as_ref().try_into().ok());
        tag.expect("a message is shorter than 256 GiB and a tag has 16 bytes")
    }

    /// Decrypts `text ‖ tag` in place; returns the plaintext.
    pub fn open<'a>(
        &self,
        counter: u64,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unauthentic> {
        self.0.open_in_place(nonce(counter), Aad::from(aad), sealed).map_err(|_| Unauthentic)
    }

    /// `text` encrypted, and its tag.
    pub fn sealed(&self, counter: u64, aad: &[u8], text: &[u8]) -> Vec<u8> {
        let mut sealed = text.to_vec();
        let tag = self.seal(counter, aad, &mut sealed);
        sealed.extend(tag);
        sealed
    }

    /// The plaintext of `sealed`, if it is authentic and `N` bytes long.
    pub fn opened<const N: usize>(
        &self,
        counter: u64,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<[u8; N], Unauthentic> {
        let mut text = Zeroizing::new(sealed.to_vec());
        let text = self.open(counter, aad, &mut text)?;
        (&*text).try_into().map_err(|_| Unauthentic)
    }
}

/// Four zero bytes, then the counter.
fn nonce(counter: u64) -> Nonce {
    let [nonce @ .., _, _, _, _] = (u128::from(counter) << 32).to_le_bytes();
    Nonce::assume_unique_for_key(nonce)
}

/// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 §2): HChaCha20 turns key and the first 16 bytes of
/// the nonce into a key of one use; the other 8 bytes are its counter.
pub(crate) fn extended_key(key: &[u8; 32], nonce: &[u8; 24]) -> (Aead, u64) {
    let (salt, counter) = nonce.split_at(16);
    let salt = <[u8; 16]>::try_from(salt).unwrap_or_default();
    let counter = <[u8; 8]>::try_from(counter).unwrap_or_default();
    let derived = chacha20::hchacha::<chacha20::R20>(&(*key).into(), &salt.into());
    (Aead::new(&Zeroizing::new(derived.into())), u64::from_le_bytes(counter))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::vectors::{array, bytes, entries, load};

    #[test]
    fn the_key_derivation_matches_the_known_answers() {
        for case in entries(&load("kdf")) {
            // HMAC fills a short key up with zeros, so the two odd cases have a 32-byte equivalent.
            let mut key = [0; 32];
            for (to, from) in key.iter_mut().zip(bytes(&case["key"])) {
                *to = from;
            }
            let input = bytes(&case["input"]);
            let [t1, t2, t3] = kdf(&key, &input);
            for (output, expected) in [t1, t2, t3].iter().zip(entries(&case["t"])) {
                assert_eq!(**output, array(expected));
            }
            let [only] = kdf(&key, &input);
            assert_eq!(*only, array(&entries(&case["t"])[0]));
        }
    }

    #[test]
    fn the_mac_matches_the_known_answers() {
        for case in entries(&load("mac")) {
            let (key, input) = (bytes(&case["key"]), bytes(&case["input"]));
            assert_eq!(mac(&key, &[&input]), array(&case["out"]));
        }
    }

    #[test]
    fn no_agreement_is_reached_with_a_point_of_low_order() {
        let own = DhKey::new(&[7; 32]);
        for point in entries(&load("keys")["low_order_public"]) {
            assert!(own.agree(&PublicKey(array(point))).is_err(), "{point}");
        }
    }
}
