//! mac1, mac2 and cookies: silence towards strangers, and proof of address under load (paper §5.3, §5.4.4, §5.4.7).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::discard::Discard;
use crate::keys::PublicKey;
use crate::message::{CookieReply, MACS, SessionIndex};
use crate::primitives::{Secret, extended_key, hash, mac};
use crate::random::{self, Random};
use crate::time::Time;

/// A cookie's secret serves this long.
const SECRET_LIFETIME: Duration = Duration::from_secs(120);
/// A cookie is not used in its last seconds, since it may be refused on arrival.
const COOKIE_LIFETIME: Duration = Duration::from_secs(120 - 5);

type Mac = [u8; 16];

/// Both MACs of a message as it came.
struct Macs<'a> {
    covered_by_mac1: &'a [u8],
    covered_by_mac2: &'a [u8],
    mac1: Mac,
    mac2: Mac,
}

impl<'a> Macs<'a> {
    fn split(message: &'a [u8]) -> Result<Self, Discard> {
        let (covered_by_mac2, mac2) = message.split_last_chunk().ok_or(Discard::Malformed)?;
        let (covered_by_mac1, mac1) =
            covered_by_mac2.split_last_chunk().ok_or(Discard::Malformed)?;
        Ok(Self { covered_by_mac1, covered_by_mac2, mac1: *mac1, mac2: *mac2 })
    }
}

fn mac1_key(receiver: &PublicKey) -> [u8; 32] {
    hash(&[b"mac1----", &receiver.0])
}

fn cookie_key(sender_of_reply: &PublicKey) -> [u8; 32] {
    hash(&[b"cookie--", &sender_of_reply.0])
}

/// What a message proved of its sender.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It knows our public key.
    Key,
    /// It also receives what is sent to its address.
    Address,
}

/// The receiving side of the MACs, under one private key.
pub(crate) struct Checker {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    secret: Option<(Secret, Time)>,
}

impl Checker {
    pub fn new(own: &PublicKey) -> Self {
        Self { mac1_key: mac1_key(own), cookie_key: cookie_key(own), secret: None }
    }

    /// Checks mac1 always, mac2 only where `under_load` makes it matter.
    pub fn check(
        &self,
        now: Time,
        from: SocketAddr,
        message: &[u8],
        under_load: bool,
    ) -> Result<Proof, Discard> {
        let macs = Macs::split(message)?;
        if !equal(&mac(&self.mac1_key, &[macs.covered_by_mac1]), &macs.mac1) {
            return Err(Discard::BadMac);
        }
        let fresh = |(_, born): &&(Secret, Time)| now.since(*born) < SECRET_LIFETIME;
        let secret = self.secret.as_ref().filter(fresh).filter(|_| under_load);
        let proved = secret.is_some_and(|(secret, _)| {
            equal(&mac(&cookie(secret, from), &[macs.covered_by_mac2]), &macs.mac2)
        });
        Ok(if proved { Proof::Address } else { Proof::Key })
    }

    /// Answers the handshake message that its sender called `sender` with a cookie.
    pub fn reply(
        &mut self,
        now: Time,
        from: SocketAddr,
        sender: SessionIndex,
        message: &[u8],
        random: &mut dyn Random,
    ) -> Result<CookieReply, Discard> {
        let macs = Macs::split(message)?;
        if self.secret.as_ref().is_none_or(|(_, born)| now.since(*born) >= SECRET_LIFETIME) {
            self.secret = Some((Zeroizing::new(random::array(random)), now));
        }
        let (secret, _) = self.secret.as_ref().ok_or(Discard::NotReady)?;
        let nonce = random::array(random);
        let (key, counter) = extended_key(&self.cookie_key, &nonce);
        let encrypted_cookie = key.sealed(counter, &macs.mac1, &cookie(secret, from));
        Ok(CookieReply { receiver: sender, nonce, encrypted_cookie })
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
    cookie: Option<(Zeroizing<Mac>, Time)>,
    /// mac1 of the last message sent, until a cookie reply has answered it.
    unanswered: Option<Mac>,
}

impl Jar {
    /// Fills in both MACs of a message to `receiver`.
    pub fn seal(&mut self, now: Time, receiver: &PublicKey, message: &mut [u8]) {
        let Some((covered, macs)) = message.split_last_chunk_mut::<MACS>() else { return };
        let mac1 = mac(&mac1_key(receiver), &[covered]);
        let fresh = |(_, since): &&(Zeroizing<Mac>, Time)| now.since(*since) < COOKIE_LIFETIME;
        let mac2 = match self.cookie.as_ref().filter(fresh) {
            Some((cookie, _)) => mac(&**cookie, &[covered, &mac1]),
            None => [0; 16],
        };
        for (to, from) in macs.iter_mut().zip(mac1.iter().chain(&mac2)) {
            *to = *from;
        }
        self.unanswered = Some(mac1);
    }

    /// Takes the cookie out of a reply of the peer `sender` to the last message sent.
    pub fn open(
        &mut self,
        now: Time,
        sender: &PublicKey,
        reply: &CookieReply,
    ) -> Result<(), Discard> {
        let mac1 = self.unanswered.ok_or(Discard::BadCookie)?;
        let (key, counter) = extended_key(&cookie_key(sender), &reply.nonce);
        let cookie = key.opened(counter, &mac1, &reply.encrypted_cookie);
        let cookie = cookie.map_err(|_| Discard::BadCookie)?;
        self.cookie = Some((Zeroizing::new(cookie), now));
        self.unanswered = None;
        Ok(())
    }
}

fn equal(a: &Mac, b: &Mac) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}
