//! Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s: the two messages and the keys they lead to (paper §5.4.2–5.4.5).
//!
//! ```text
//! ← s
//! → e, es, s, ss, {timestamp}
//! ← e, ee, se, psk, {}
//! ```
//!
//! Every step that consumes a message borrows its state and returns a value: what is not authentic
//! leaves no trace.

use zeroize::Zeroizing;

use crate::discard::Discard;
use crate::keys::{PresharedKey, PublicKey};
use crate::message::{Initiation, Response, SessionIndex};
use crate::primitives::{DhKey, OneTimeKey, Secret, Unauthentic, hash, kdf};
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
        Self {
            chaining_key: Zeroizing::new(chaining_key),
            hash: hash(&[&start, &responder.0]),
        }
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

    fn seal<const N: usize, const SEALED: usize>(
        &mut self,
        key: OneTimeKey,
        text: &[u8; N],
    ) -> [u8; SEALED] {
        let sealed = key.seal(&self.hash, text);
        self.mix_hash(&sealed);
        sealed
    }

    fn open<const SEALED: usize, const N: usize>(
        &mut self,
        key: OneTimeKey,
        sealed: &[u8; SEALED],
    ) -> Result<[u8; N], Unauthentic> {
        let text = key.open(&self.hash, sealed)?;
        self.mix_hash(sealed);
        Ok(text)
    }

    /// The keys of the session: from initiator to responder, and back.
    fn split(&self) -> SessionKeys {
        let [to_responder, to_initiator] = kdf(&self.chaining_key, &[]);
        SessionKeys {
            to_responder,
            to_initiator,
        }
    }
}

/// The two keys of a session, before anyone has taken a side.
pub(crate) struct SessionKeys {
    pub to_responder: Secret,
    pub to_initiator: Secret,
}

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
) -> Result<(Initiated, Initiation), Unauthentic> {
    let mut noise = Symmetric::new(responder);
    noise.mix_ephemeral(&ephemeral.public()); // e
    let key = noise.mix_dh(&ephemeral.agree(responder)?); // es
    let encrypted_static = noise.seal(key, &own.public().0); // s
    let key = noise.mix_dh(static_static); // ss
    let encrypted_timestamp = noise.seal(key, &timestamp.0); // {timestamp}
    let message = Initiation {
        sender: index,
        ephemeral: ephemeral.public(),
        encrypted_static,
        encrypted_timestamp,
    };
    Ok((
        Initiated {
            index,
            ephemeral,
            noise,
        },
        message,
    ))
}

/// An initiation of which only the claimed identity is known: enough to look the peer up.
pub(crate) struct Claim<'a> {
    pub initiator: PublicKey,
    message: &'a Initiation,
    noise: Symmetric,
}

/// Opens the first half of message 1. Costs one agreement.
pub(crate) fn open_claim<'a>(own: &DhKey, message: &'a Initiation) -> Result<Claim<'a>, Discard> {
    let mut noise = Symmetric::new(&own.public());
    noise.mix_ephemeral(&message.ephemeral); // e
    let shared = own
        .agree(&message.ephemeral)
        .map_err(|_| Discard::BadInitiation)?;
    let key = noise.mix_dh(&shared); // es
    let initiator = noise
        .open(key, &message.encrypted_static)
        .map_err(|_| Discard::BadInitiation)?; // s
    Ok(Claim {
        initiator: PublicKey(initiator),
        message,
        noise,
    })
}

/// An initiation whose sender has proved its identity.
pub(crate) struct Verified {
    pub timestamp: Timestamp,
    initiator: PublicKey,
    sender: SessionIndex,
    ephemeral: PublicKey,
    noise: Symmetric,
}

impl Claim<'_> {
    /// Opens the second half of message 1: only the holder of the claimed key can have made it.
    pub fn verify(mut self, static_static: &Secret) -> Result<Verified, Discard> {
        let key = self.noise.mix_dh(static_static); // ss
        let timestamp = self.noise.open(key, &self.message.encrypted_timestamp); // {timestamp}
        Ok(Verified {
            timestamp: Timestamp(timestamp.map_err(|_| Discard::BadInitiation)?),
            initiator: self.initiator,
            sender: self.message.sender,
            ephemeral: self.message.ephemeral,
            noise: self.noise,
        })
    }
}

impl Verified {
    /// How the initiator calls the handshake.
    pub fn sender(&self) -> SessionIndex {
        self.sender
    }

    /// Makes message 2 and, with it, the session.
    pub fn respond(
        self,
        psk: &PresharedKey,
        index: SessionIndex,
        ephemeral: &DhKey,
    ) -> Result<(Response, SessionKeys), Unauthentic> {
        let mut noise = self.noise;
        noise.mix_ephemeral(&ephemeral.public()); // e
        noise.mix_key(&*ephemeral.agree(&self.ephemeral)?); // ee
        noise.mix_key(&*ephemeral.agree(&self.initiator)?); // se
        let key = noise.mix_psk(psk); // psk
        let encrypted_nothing = noise.seal(key, &[]); // {}
        let response = Response {
            sender: index,
            receiver: self.sender,
            ephemeral: ephemeral.public(),
            encrypted_nothing,
        };
        Ok((response, noise.split()))
    }
}

impl Initiated {
    /// Opens message 2. Borrows the state: a response that fails leaves it for the genuine one.
    pub fn consume_response(
        &self,
        own: &DhKey,
        psk: &PresharedKey,
        message: &Response,
    ) -> Result<SessionKeys, Unauthentic> {
        let mut noise = self.noise.clone();
        noise.mix_ephemeral(&message.ephemeral); // e
        noise.mix_key(&*self.ephemeral.agree(&message.ephemeral)?); // ee
        noise.mix_key(&*own.agree(&message.ephemeral)?); // se
        let key = noise.mix_psk(psk); // psk
        noise.open::<_, 0>(key, &message.encrypted_nothing)?; // {}
        Ok(noise.split())
    }
}
