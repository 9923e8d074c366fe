//! Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s: the two messages and the keys they lead to (paper §5.4.2–5.4.5).
//!
//! ```text
//! ← s
//! → e, es, s, ss, {timestamp}
//! ← e, ee, se, psk, {}
//! ```
//!
//! Every step that consumes a message borrows its state and returns a value: what is not authentic
//! leaves no trace. Messages are written and read in the order of these tokens; the MACs behind them are
//! `cookie`'s concern.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::keys::{PresharedKey, PublicKey};
use crate::message::{INITIATION, RESPONSE, SessionIndex, TAG, take};
use crate::primitives::{Aead, DhKey, Secret, Unauthentic, hash, kdf};
use crate::tai64n::Timestamp;

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// Chaining key and hash, as every message so far has left them.
#[derive(Clone)]
struct Symmetric {
    chaining_key: Secret,
    hash: [u8; 32],
}

impl Symmetric {
    /// The state before the first message to `responder`.
    fn new(responder: &PublicKey) -> Self {
        let chaining_key = hash(&[CONSTRUCTION]);
        let start = hash(&[&chaining_key, IDENTIFIER]);
        Self { chaining_key: Zeroizing::new(chaining_key), hash: hash(&[&start, &responder.0]) }
    }

    fn mix_hash(&mut self, bytes: &[u8]) {
        self.hash = hash(&[&self.hash, bytes]);
    }

    fn mix_key(&mut self, input: &[u8]) {
        [self.chaining_key] = kdf(&self.chaining_key, input);
    }

    fn mix_ephemeral(&mut self, ephemeral: &PublicKey) {
        self.mix_hash(&ephemeral.0);
        self.mix_key(&ephemeral.0);
    }

    /// Mixes in a Diffie-Hellman result and yields the key for what is sealed next.
    fn mix_dh(&mut self, shared: &Secret) -> OneTimeKey {
        let key;
        [self.chaining_key, key] = kdf(&self.chaining_key, &**shared);
        OneTimeKey(key)
    }

    fn mix_psk(&mut self, psk: &PresharedKey) -> OneTimeKey {
        let (tau, key);
        [self.chaining_key, tau, key] = kdf(&self.chaining_key, psk.as_bytes());
        self.mix_hash(&*tau);
        OneTimeKey(key)
    }

    /// Appends `text`, sealed, to `message`.
    fn seal(&mut self, OneTimeKey(key): OneTimeKey, text: &[u8], message: &mut Vec<u8>) {
        let sealed = Aead::new(&key).sealed(0, &self.hash, text);
        self.mix_hash(&sealed);
        message.extend(sealed);
    }

    /// Takes `N` bytes, which are sealed, off the front of `rest`.
    fn open<const N: usize>(
        &mut self,
        OneTimeKey(key): OneTimeKey,
        rest: &mut &[u8],
    ) -> Result<[u8; N], Unauthentic> {
        let (sealed, behind) = rest.split_at_checked(N + TAG).ok_or(Unauthentic)?;
        let text = Aead::new(&key).opened(0, &self.hash, sealed)?;
        self.mix_hash(sealed);
        *rest = behind;
        Ok(text)
    }

    /// The keys of the session: from initiator to responder, and back.
    fn split(&self) -> [Secret; 2] {
        kdf(&self.chaining_key, &[])
    }
}

/// A key that serves one seal or one open, and is gone then: nonce zero cannot be used twice.
struct OneTimeKey(Secret);

/// An initiator's state between its initiation and the response.
pub(crate) struct Initiated {
    pub index: SessionIndex,
    ephemeral: DhKey,
    noise: Symmetric,
}

/// Makes message 1 to the peer `responder`; `static_static` is the agreement of both long-term keys.
pub(crate) fn create_initiation(
    own: &DhKey,
    responder: &PublicKey,
    static_static: &Secret,
    index: SessionIndex,
    ephemeral: DhKey,
    timestamp: Timestamp,
) -> Result<(Initiated, Vec<u8>), Unauthentic> {
    let mut message = [INITIATION, index.0.to_le_bytes()].concat();
    let mut noise = Symmetric::new(responder);
    message.extend(ephemeral.public.0);
    noise.mix_ephemeral(&ephemeral.public); // e
    let key = noise.mix_dh(&ephemeral.agree(responder)?); // es
    noise.seal(key, &own.public.0, &mut message); // s
    let key = noise.mix_dh(static_static); // ss
    noise.seal(key, &timestamp.0, &mut message); // {timestamp}
    Ok((Initiated { index, ephemeral, noise }, message))
}

/// An initiation of which only the claimed identity is known: enough to look the peer up.
pub(crate) struct Claim<'a> {
    pub initiator: PublicKey,
    pub sender: SessionIndex,
    ephemeral: PublicKey,
    rest: &'a [u8],
    noise: Symmetric,
}

/// Opens the first half of message 1. Costs one agreement.
pub(crate) fn open_claim<'a>(own: &DhKey, message: &'a [u8]) -> Result<Claim<'a>, Unauthentic> {
    let mut rest = message;
    let [_type, sender] = [take(&mut rest)?, take(&mut rest)?].map(u32::from_le_bytes);
    let mut noise = Symmetric::new(&own.public);
    let ephemeral = PublicKey(take(&mut rest)?);
    noise.mix_ephemeral(&ephemeral); // e
    let key = noise.mix_dh(&own.agree(&ephemeral)?); // es
    let initiator = PublicKey(noise.open(key, &mut rest)?); // s
    Ok(Claim { initiator, sender: SessionIndex(sender), ephemeral, rest, noise })
}

/// An initiation whose sender has proved its identity.
pub(crate) struct Verified<'a> {
    pub timestamp: Timestamp,
    claim: Claim<'a>,
}

impl<'a> Claim<'a> {
    /// Opens the second half of message 1: only the holder of the claimed key can have made it.
    pub fn verify(mut self, static_static: &Secret) -> Result<Verified<'a>, Unauthentic> {
        let key = self.noise.mix_dh(static_static); // ss
        let timestamp = self.noise.open(key, &mut self.rest)?; // {timestamp}
        Ok(Verified { timestamp: Timestamp(timestamp), claim: self })
    }
}

impl Verified<'_> {
    /// Makes message 2 and, with it, the session.
    pub fn respond(
        self,
        psk: &PresharedKey,
        index: SessionIndex,
        ephemeral: &DhKey,
    ) -> Result<(Vec<u8>, [Secret; 2]), Unauthentic> {
        let Claim { initiator, sender, ephemeral: theirs, mut noise, .. } = self.claim;
        let mut message = [RESPONSE, index.0.to_le_bytes(), sender.0.to_le_bytes()].concat();
        message.extend(ephemeral.public.0);
        noise.mix_ephemeral(&ephemeral.public); // e
        noise.mix_key(&*ephemeral.agree(&theirs)?); // ee
        noise.mix_key(&*ephemeral.agree(&initiator)?); // se
        let key = noise.mix_psk(psk); // psk
        noise.seal(key, &[], &mut message); // {}
        Ok((message, noise.split()))
    }
}

impl Initiated {
    /// Opens message 2; yields its sender and the session's keys. Borrows the state: a response that fails
    /// leaves it for the genuine one.
    pub fn consume_response(
        &self,
        own: &DhKey,
        psk: &PresharedKey,
        message: &[u8],
    ) -> Result<(SessionIndex, [Secret; 2]), Unauthentic> {
        let mut rest = message;
        let [_type, sender, _receiver] = [take(&mut rest)?, take(&mut rest)?, take(&mut rest)?];
        let mut noise = self.noise.clone();
        let ephemeral = PublicKey(take(&mut rest)?);
        noise.mix_ephemeral(&ephemeral); // e
        noise.mix_key(&*self.ephemeral.agree(&ephemeral)?); // ee
        noise.mix_key(&*own.agree(&ephemeral)?); // se
        let key = noise.mix_psk(psk); // psk
        noise.open::<0>(key, &mut rest)?; // {}
        Ok((SessionIndex(u32::from_le_bytes(sender)), noise.split()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use serde_json::Value;

    use super::*;
    use crate::vectors::{array, bytes, entries, load};

    fn key(transcript: &Value, name: &str) -> DhKey {
        DhKey::new(&array(&transcript[name]))
    }

    /// The initiation that is answered: after a cookie it is the repeated one.
    fn last(transcript: &Value) -> &Value {
        transcript.get("retry").unwrap_or(transcript)
    }

    /// The state after a step, against the step's name in the transcript.
    fn assert_state(noise: &Symmetric, transcript: &Value, step: &str) {
        let expected = &transcript["intermediate"];
        for (value, kind) in [(&*noise.chaining_key, "ck"), (&noise.hash, "hash")] {
            let name = alloc::format!("{step}_{kind}");
            if let Some(expected) = expected.get(&name) {
                assert_eq!(*value, array(expected), "{name} of {}", transcript["name"]);
            }
        }
    }

    #[test]
    fn the_initial_state_matches_the_known_answer() {
        let constants = load("constants");
        assert_eq!(constants["construction"], *core::str::from_utf8(CONSTRUCTION).unwrap());
        assert_eq!(constants["identifier"], *core::str::from_utf8(IDENTIFIER).unwrap());
        let chaining_key = hash(&[CONSTRUCTION]);
        assert_eq!(chaining_key, array(&constants["initial_chaining_key"]));
        assert_eq!(hash(&[&chaining_key, IDENTIFIER]), array(&constants["initial_hash"]));
    }

    #[test]
    fn every_token_of_the_first_message_matches_the_transcripts() {
        for transcript in entries(&load("transcripts")) {
            let expected = |name: &str| &transcript["intermediate"][name];
            let own = key(transcript, "initiator_static_private");
            let ephemeral = key(last(transcript), "initiator_ephemeral_private");
            let responder = PublicKey(array(&transcript["responder_static_public"]));

            let mut noise = Symmetric::new(&responder);
            noise.mix_ephemeral(&ephemeral.public);
            assert_eq!(ephemeral.public.0, array(expected("i_e_public")));
            assert_state(&noise, transcript, "i_after_e");

            let shared = ephemeral.agree(&responder).unwrap();
            assert_eq!(*shared, array(expected("i_dh_es")));
            let one_time = noise.mix_dh(&shared);
            assert_eq!(*one_time.0, array(expected("i_key_static")));
            assert_state(&noise, transcript, "i_after_es");
            let mut sealed = Vec::new();
            noise.seal(one_time, &own.public.0, &mut sealed);
            assert_eq!(sealed, bytes(expected("i_encrypted_static")));

            let shared = own.agree(&responder).unwrap();
            assert_eq!(*shared, array(expected("i_dh_ss")));
            let one_time = noise.mix_dh(&shared);
            assert_eq!(*one_time.0, array(expected("i_key_timestamp")));
            assert_state(&noise, transcript, "i_after_ss");
            let mut sealed = Vec::new();
            noise.seal(one_time, &bytes(&last(transcript)["timestamp_tai64n"]), &mut sealed);
            assert_eq!(sealed, bytes(expected("i_encrypted_timestamp")));
            assert_state(&noise, transcript, "i_final");
        }
    }

    /// The last initiation of a transcript, and the state that it leaves with its sender.
    fn initiated(transcript: &Value) -> (Initiated, Vec<u8>) {
        let last = last(transcript);
        let own = key(transcript, "initiator_static_private");
        let responder = key(transcript, "responder_static_private");
        let static_static = own.agree(&responder.public).unwrap();
        let (initiated, message) = create_initiation(
            &own,
            &responder.public,
            &static_static,
            SessionIndex(last["initiator_index"].as_u64().unwrap() as u32),
            key(last, "initiator_ephemeral_private"),
            Timestamp(array(&last["timestamp_tai64n"])),
        )
        .unwrap();
        let expected = bytes(&last["message1"]);
        assert_eq!(message, expected[..116]);
        (initiated, expected)
    }

    #[test]
    fn every_token_of_the_second_message_matches_the_transcripts() {
        for transcript in entries(&load("transcripts")) {
            let expected = |name: &str| &transcript["intermediate"][name];
            let (_, message) = initiated(transcript);
            let [own, peer, ephemeral] = [
                "responder_static_private",
                "initiator_static_private",
                "responder_ephemeral_private",
            ]
            .map(|name| key(transcript, name));
            let claim = open_claim(&own, &message).unwrap();
            assert_eq!(claim.initiator, peer.public);
            let verified = claim.verify(&own.agree(&peer.public).unwrap()).unwrap();
            let Claim { initiator, ephemeral: theirs, mut noise, .. } = verified.claim;

            noise.mix_ephemeral(&ephemeral.public);
            assert_eq!(ephemeral.public.0, array(expected("r_e_public")));
            assert_state(&noise, transcript, "r_after_e");
            let shared = ephemeral.agree(&theirs).unwrap();
            assert_eq!(*shared, array(expected("r_dh_ee")));
            noise.mix_key(&*shared);
            assert_state(&noise, transcript, "r_after_ee");
            let shared = ephemeral.agree(&initiator).unwrap();
            assert_eq!(*shared, array(expected("r_dh_se")));
            noise.mix_key(&*shared);
            assert_state(&noise, transcript, "r_after_se");
            let one_time = noise.mix_psk(&PresharedKey::new(array(&transcript["preshared_key"])));
            assert_eq!(*one_time.0, array(expected("r_key_empty")));
            assert_state(&noise, transcript, "r_after_psk");
            let mut sealed = Vec::new();
            noise.seal(one_time, &[], &mut sealed);
            assert_eq!(sealed, bytes(expected("r_encrypted_nothing")));
            assert_state(&noise, transcript, "r_final");

            let [to_responder, to_initiator] = noise.split();
            assert_eq!(*to_responder, array(&transcript["initiator_send_key"]));
            assert_eq!(*to_initiator, array(&transcript["initiator_receive_key"]));
        }
    }

    #[test]
    fn an_ephemeral_of_low_order_is_refused_in_both_messages() {
        let transcripts = load("transcripts");
        let transcript = &transcripts[0];
        let (initiated, mut initiation) = initiated(transcript);
        let psk = PresharedKey::new(array(&transcript["preshared_key"]));
        let mut response = bytes(&transcript["message2"]);
        let [own, responder] = ["initiator_static_private", "responder_static_private"]
            .map(|name| key(transcript, name));
        assert!(open_claim(&responder, &initiation).is_ok());
        assert!(initiated.consume_response(&own, &psk, &response).is_ok());
        for point in entries(&load("keys")["low_order_public"]) {
            initiation[4 + 4..][..32].copy_from_slice(&bytes(point));
            assert!(open_claim(&responder, &initiation).is_err());
            response[4 + 4 + 4..][..32].copy_from_slice(&bytes(point));
            assert!(initiated.consume_response(&own, &psk, &response).is_err());
        }
    }
}
