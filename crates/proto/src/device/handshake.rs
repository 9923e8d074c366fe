//! Handshake messages in, handshake messages out (paper §5.4.2–5.4.4, §5.4.7).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Conversation, Device, Event, Identity, Progress, Transmit};
use crate::discard::Discard;
use crate::endpoint::Endpoint;
use crate::keypair::Keypair;
use crate::message::{INITIATION_LEN, Kind, RESPONSE_LEN, SessionIndex, kind};
use crate::noise::{Claim, create_initiation, open_claim};
use crate::peer::PeerId;
use crate::primitives::DhKey;
use crate::tai64n::Timestamp;
use crate::time::Now;
use crate::timers::{ERASE_KEYS, REKEY_TIMEOUT, Timer};

/// At most 50 initiations a second of one peer are answered.
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);
/// DSCP AF41, not ECN-capable.
const HANDSHAKE_TOS: u8 = 0x88;

impl Device {
    /// Takes in a message of type 1, 2 or 3 that came from `from`.
    ///
    /// # Errors
    /// The reason for which it was dropped. A dropped message changes nothing but what is told of
    /// it, and under load a cookie reply may have been queued.
    pub fn handle_handshake(
        &mut self,
        now: Now,
        from: Endpoint,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let kind = kind(datagram)?;
        if !self.up || self.identity.is_none() {
            return Err(Discard::NotReady);
        }
        let consumed = match kind {
            Kind::Initiation => {
                let own = self.admit(now, from, datagram)?;
                let claim = open_claim(own, datagram).map_err(|_| Discard::BadInitiation)?;
                let Some(peer) = self.find(&claim.initiator) else {
                    self.out.events.push_back(Event::Stranger(claim.initiator, from));
                    return Err(Discard::UnknownPeer);
                };
                self.with(now, peer, |with| with.consume_initiation(from, claim))
            }
            Kind::Response(index) => {
                self.admit(now, from, datagram)?;
                let peer = self.addressee(index)?;
                self.with(now, peer, |with| with.consume_response(from, index, datagram))
            }
            Kind::CookieReply(index) => {
                let peer = self.addressee(index)?;
                self.with(now, peer, |with| with.consume_cookie_reply(datagram))
            }
            Kind::Data(_) => return Err(Discard::Malformed),
        };
        consumed.ok_or(Discard::UnknownPeer)?
    }

    /// With whom we have a handshake or session by this index.
    fn addressee(&self, index: SessionIndex) -> Result<PeerId, Discard> {
        self.out.indices.get(&index).copied().ok_or(Discard::UnknownIndex)
    }

    /// The key to agree with, if a message earns that: mac1 always; under load also proof of address.
    fn admit(&mut self, now: Now, from: Endpoint, datagram: &[u8]) -> Result<&DhKey, Discard> {
        let Identity { dh, checker, .. } = self.identity.as_mut().ok_or(Discard::NotReady)?;
        if !checker.knows_us(datagram) {
            return Err(Discard::BadMac);
        }
        if now.time >= self.loaded_until {
            return Ok(dh);
        }
        let random = &mut *self.out.random;
        match checker.challenge(now.time, from.remote, datagram, random) {
            None if self.limiter.allow(from.remote.ip(), now.time) => Ok(dh),
            None => Err(Discard::Flood),
            Some(bytes) => {
                let reply = Transmit { peer: None, to: from, tos: 0, bytes };
                self.out.events.push_back(Event::Transmit(reply));
                Err(Discard::CookieRequired)
            }
        }
    }
}

impl Conversation<'_> {
    fn consume_initiation(&mut self, from: Endpoint, claim: Claim<'_>) -> Result<(), Discard> {
        let Identity { dh, .. } = self.identity.ok_or(Discard::NotReady)?;
        let (sender, static_static) = (claim.sender, self.peer.static_static(dh));
        let verified = static_static.and_then(|shared| claim.verify(&shared));
        let verified = verified.map_err(|_| Discard::BadInitiation)?;
        let (now, timestamp) = (self.now.time, verified.timestamp);
        if timestamp <= self.peer.latest_timestamp {
            return Err(self.fail(from, Discard::OldTimestamp));
        }
        if now < self.peer.next_initiation {
            return Err(self.fail(from, Discard::TooSoon));
        }

        let (index, ephemeral) = self.out.draw();
        let responded = verified.respond(&self.peer.preshared_key, index, &ephemeral);
        let (response, [receiving, sending]) = responded.map_err(|_| Discard::BadInitiation)?;
        self.peer.latest_timestamp = timestamp;
        self.peer.next_initiation = now + INITIATION_INTERVAL;
        let indices = [index, sender];
        let keypair = Keypair::new([&sending, &receiving], false, indices, now);
        self.establish(from, INITIATION_LEN, keypair);
        self.send_handshake(from, response);
        self.out.events.push_back(Event::Handshake(self.id, Progress::Answered));
        Ok(())
    }

    fn consume_response(
        &mut self,
        from: Endpoint,
        index: SessionIndex,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let Identity { dh, .. } = self.identity.ok_or(Discard::NotReady)?;
        let initiated = self.peer.handshake.as_ref().filter(|handshake| handshake.index == index);
        let initiated = initiated.ok_or(Discard::UnknownIndex)?;
        let consumed = initiated.consume_response(dh, &self.peer.preshared_key, datagram);
        let (sender, [sending, receiving]) =
            consumed.map_err(|_| self.fail(from, Discard::BadResponse))?;

        let indices = [index, sender];
        let keypair = Keypair::new([&sending, &receiving], true, indices, self.now.time);
        let keypair = self.establish(from, RESPONSE_LEN, keypair);
        self.complete_handshake();
        self.out.events.push_back(Event::SendOn(self.id, keypair));
        Ok(())
    }

    /// An authentic message of `bytes` bytes from `from` has led to a session.
    fn establish(&mut self, from: Endpoint, bytes: usize, keypair: Keypair) -> Arc<Keypair> {
        // Handshakes are no data, and arm nothing that is not watched.
        let _ = self.peer.traffic.received(self.now.time, false);
        self.peer.traffic.count_rx(bytes as u64);
        self.arm_persistent_keepalive();
        self.abandon_handshake();
        if self.peer.endpoint.replace(from) != Some(from) {
            self.out.events.push_back(Event::EndpointChanged(self.id, from));
        }
        let keypair = Arc::new(keypair);
        // An initiator's lives on; nothing else can have taken it since.
        self.out.indices.insert(keypair.local_index, self.id);
        self.out.events.push_back(Event::SessionAdded(self.id, Arc::clone(&keypair)));
        self.out.drop_keypairs(self.peer.keypairs.install(Arc::clone(&keypair)));
        self.arm(Timer::EraseKeys, Some(self.now.time + ERASE_KEYS));
        keypair
    }

    /// Only remembers the cookie: the next repetition will carry it. No endpoint, timer or count moves.
    fn consume_cookie_reply(&mut self, datagram: &[u8]) -> Result<(), Discard> {
        let opened = self.peer.jar.open(self.now.time, &self.peer.public_key, datagram);
        opened.map_err(|_| Discard::BadCookie)
    }

    /// Data wants a session, or a better one: a fresh series of initiations.
    pub(super) fn request_session(&mut self) {
        self.peer.attempts = 0;
        self.send_initiation();
    }

    /// Sends an initiation: now, or when the last handshake message is five seconds old.
    pub(super) fn send_initiation(&mut self) {
        let Some(Identity { dh, .. }) = self.identity else { return };
        let Some(endpoint) = self.peer.endpoint else { return };
        let now = self.now.time;
        let earliest = self.peer.quiet_until;
        if now < earliest {
            // The wish is granted then, unless a session comes first. Nobody may wish again. Two peers
            // on a slow path that answer each other in step need ever wider steps to fall out of it.
            if !self.peer.timers.contains_key(&Timer::Retransmit) {
                let deadline = earliest + self.out.jitter() * (self.peer.attempts + 1);
                self.arm(Timer::Retransmit, Some(deadline));
            }
            return;
        }
        // A key of low order may be configured, but is never spoken to.
        let Ok(static_static) = self.peer.static_static(dh) else { return };
        if self.peer.handshake.is_some() {
            self.out.events.push_back(Event::Handshake(self.id, Progress::CalledAgain));
        }
        self.abandon_handshake();
        let (index, ephemeral) = self.out.draw();
        let timestamp = Timestamp::new(self.now.wall);
        let responder = &self.peer.public_key;
        let created = create_initiation(dh, responder, &static_static, index, ephemeral, timestamp);
        let Ok((initiated, message)) = created else { return };
        self.out.indices.insert(index, self.id);
        self.peer.handshake = Some(Box::new(initiated));
        self.send_handshake(endpoint, message);
        let deadline = now + REKEY_TIMEOUT + self.out.jitter();
        self.arm(Timer::Retransmit, Some(deadline));
    }

    /// Queues a handshake message after adding its MACs.
    fn send_handshake(&mut self, to: Endpoint, mut bytes: Vec<u8>) {
        self.peer.jar.seal(self.now.time, &self.peer.public_key, &mut bytes);
        self.peer.quiet_until = self.now.time + REKEY_TIMEOUT;
        self.send(to, HANDSHAKE_TOS, bytes);
    }

    /// Forgets an initiation that is still unanswered.
    pub(super) fn abandon_handshake(&mut self) {
        if let Some(initiated) = self.peer.handshake.take() {
            self.out.indices.remove(&initiated.index);
        }
    }

    /// The session is usable on both sides.
    pub(super) fn complete_handshake(&mut self) {
        self.arm(Timer::Retransmit, None);
        self.peer.attempts = 0;
        self.peer.last_handshake = Some(self.now.wall);
        self.peer.last_discard = None;
        self.peer.traffic.pardon();
        self.out.events.push_back(Event::Handshake(self.id, Progress::Completed));
    }

    fn fail(&mut self, from: Endpoint, reason: Discard) -> Discard {
        self.peer.last_discard = Some(reason);
        self.out.events.push_back(Event::Handshake(self.id, Progress::Failed(from, reason)));
        reason
    }
}
