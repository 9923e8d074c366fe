//! mac1, mac2 and cookies: silence towards strangers, and proof of address under load (paper §5.3, §5.4.4, §5.4.7).

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::keys::PublicKey;
use crate::message::{COOKIE_REPLY, take};
use crate::primitives::{Secret, Unauthentic, extended_key, hash, mac};
use crate::random::{self, Random};
use crate::time::Time;

/// A cookie's secret serves this long.
const SECRET_LIFETIME: Duration = Duration::from_secs(120);
/// A cookie is not used in its last seconds, since it may be refused on arrival.
const COOKIE_LIFETIME: Duration = Duration::from_secs(120 - 5);

type Mac = [u8; 16];

/// Whether the last bytes of `message` are the MAC of all before them.
fn is_sealed(key: &[u8], message: &[u8]) -> bool {
    message.split_last_chunk::<16>().is_some_and(|(covered, found)| {
        verify_slices_are_equal(&mac(key, &[covered]), found).is_ok()
    })
}

fn mac1_key(receiver: &PublicKey) -> [u8; 32] {
    hash(&[b"mac1----", &receiver.0])
}

fn cookie_key(sender_of_reply: &PublicKey) -> [u8; 32] {
    hash(&[b"cookie--", &sender_of_reply.0])
}

/// The receiving side of the MACs, under one private key.
pub(crate) struct Checker {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    /// What cookies are made with, and until when.
    secret: Option<(Secret, Time)>,
}

impl Checker {
    pub fn new(own: &PublicKey) -> Self {
        Self { mac1_key: mac1_key(own), cookie_key: cookie_key(own), secret: None }
    }

    /// mac1: whether the sender knows our public key.
    pub fn knows_us(&self, message: &[u8]) -> bool {
        let front = message.split_last_chunk::<16>();
        front.is_some_and(|(front, _)| is_sealed(&self.mac1_key, front))
    }

    /// mac2: nothing if the sender has proved that it receives what is sent to `from`; otherwise the
    /// message with the cookie that lets it.
    pub fn challenge(
        &mut self,
        now: Time,
        from: SocketAddr,
        message: &[u8],
        random: &mut Random,
    ) -> Option<Vec<u8>> {
        self.secret.take_if(|(_, until)| *until <= now);
        let (secret, _) = self
            .secret
            .get_or_insert_with(|| (Zeroizing::new(random::array(random)), now + SECRET_LIFETIME));
        let cookie = cookie(secret, from);
        if is_sealed(&cookie, message) {
            return None;
        }
        let nonce: [u8; 24] = random::array(random);
        let (key, counter) = extended_key(&self.cookie_key, &nonce);
        // The last but one.
        let mac1 = message.rchunks(16).nth(1).unwrap_or_default();
        let sealed = key.sealed(counter, mac1, &cookie);
        // What the message calls its sender is behind its type.
        let receiver = message.chunks(4).nth(1).unwrap_or_default();
        Some([&COOKIE_REPLY, receiver, &nonce, &sealed].concat())
    }
}

/// What proves an address: address and port under a secret that changes every two minutes.
fn cookie(secret: &Secret, from: SocketAddr) -> Mac {
    let port = from.port().to_be_bytes();
    match from.ip() {
        IpAddr::V4(v4) => mac(&**secret, &[&v4.octets(), &port]),
        IpAddr::V6(v6) => mac(&**secret, &[&v6.octets(), &port]),
    }
}

/// The sending side of the MACs, towards one peer.
#[derive(Default)]
pub(crate) struct Jar {
    /// The peer's cookie for us, and until when.
    cookie: Option<(Zeroizing<Mac>, Time)>,
    /// mac1 of the last message sent, until a cookie reply has answered it.
    unanswered: Option<Mac>,
}

impl Jar {
    /// Adds both MACs to a message to `receiver`.
    pub fn seal(&mut self, now: Time, receiver: &PublicKey, message: &mut Vec<u8>) {
        let mac1 = mac(&mac1_key(receiver), &[message]);
        message.extend(mac1);
        self.cookie.take_if(|(_, until)| *until <= now);
        let mac2 = self.cookie.as_ref().map(|(cookie, _)| mac(&**cookie, &[message]));
        message.extend(mac2.unwrap_or_default());
        self.unanswered = Some(mac1);
    }

    /// Takes the cookie out of a reply of the peer `sender` to the last message sent.
    pub fn open(
        &mut self,
        now: Time,
        sender: &PublicKey,
        mut reply: &[u8],
    ) -> Result<(), Unauthentic> {
        let mac1 = self.unanswered.ok_or(Unauthentic)?;
        let [_type, _receiver] = [take::<4>(&mut reply)?, take(&mut reply)?];
        let (key, counter) = extended_key(&cookie_key(sender), &take(&mut reply)?);
        let cookie = key.opened(counter, &mac1, reply)?;
        self.cookie = Some((Zeroizing::new(cookie), now + COOKIE_LIFETIME));
        self.unanswered = None;
        Ok(())
    }
}
