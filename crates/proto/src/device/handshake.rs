//! Handshake messages in, handshake messages out (paper §5.4.2–5.4.4, §5.4.7).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Device, Event, Identity, Output, Transmit};
use crate::cookie::Proof;
use crate::discard::Discard;
use crate::endpoint::Endpoint;
use crate::keypair::Keypair;
use crate::message::{CookieReply, Initiation, Kind, Response, SessionIndex, kind};
use crate::noise::{create_initiation, open_claim};
use crate::peer::{Peer, PeerId};
use crate::tai64n::Timestamp;
use crate::time::Now;
use crate::timers::{ERASE_KEYS, REKEY_TIMEOUT};

/// At most 50 initiations a second of one peer are answered.
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);
/// DSCP AF41, not ECN-capable.
const HANDSHAKE_TOS: u8 = 0x88;

impl Device {
    /// Takes in a message of type 1, 2 or 3 that came from `from`.
    ///
    /// # Errors
    /// The reason for which it was dropped. A dropped message changes nothing, except that under load
    /// a cookie reply may have been queued.
    pub fn handle_handshake(
        &mut self,
        now: Now,
        from: Endpoint,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let outcome = self.consume(now, from, datagram);
        match outcome {
            Ok(peer) => self.file(peer),
            Err(reason) => self.last_discard = Some(reason),
        }
        outcome.map(drop)
    }

    fn consume(&mut self, now: Now, from: Endpoint, datagram: &[u8]) -> Result<PeerId, Discard> {
        let kind = kind(datagram)?;
        if !self.up || self.identity.is_none() {
            return Err(Discard::NotReady);
        }
        match kind {
            Kind::Initiation => {
                let message = Initiation::parse(datagram)?;
                self.admit(now, from, message.sender, datagram)?;
                self.consume_initiation(now, from, &message)
            }
            Kind::Response => {
                let message = Response::parse(datagram)?;
                self.admit(now, from, message.sender, datagram)?;
                self.consume_response(now, from, &message)
            }
            Kind::CookieReply => self.consume_cookie_reply(now, &CookieReply::parse(datagram)?),
            Kind::Data => Err(Discard::Malformed),
        }
    }

    /// Whether a message earns an agreement: mac1 always; under load also proof of address.
    fn admit(
        &mut self,
        now: Now,
        from: Endpoint,
        sender: SessionIndex,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let under_load = self.is_under_load(now.time);
        let checker = &mut self.identity.as_mut().ok_or(Discard::NotReady)?.checker;
        match checker.check(now.time, from.remote, datagram, under_load)? {
            _ if !under_load => Ok(()),
            Proof::Address if self.limiter.allow(from.remote.ip(), now.time) => Ok(()),
            Proof::Address => Err(Discard::Flood),
            Proof::Key => {
                let random = &mut *self.out.random;
                let reply = checker.reply(now.time, from.remote, sender, datagram, random)?;
                let bytes = reply.encode();
                self.out.transmits.push_back(Transmit { peer: None, to: from, tos: 0, bytes });
                Err(Discard::CookieRequired)
            }
        }
    }

    fn consume_initiation(
        &mut self,
        now: Now,
        from: Endpoint,
        message: &Initiation,
    ) -> Result<PeerId, Discard> {
        let Identity { dh, .. } = self.identity.as_ref().ok_or(Discard::NotReady)?;
        let claim = open_claim(dh, message)?;
        let id = self.peers.find(&claim.initiator).ok_or(Discard::UnknownPeer)?;
        let peer = self.peers.get_mut(id).ok_or(Discard::UnknownPeer)?;
        let static_static = peer.static_static(dh).map_err(|_| Discard::BadInitiation)?;
        let verified = claim.verify(&static_static)?;

        let too_soon = |last| now.time.since(last) < INITIATION_INTERVAL;
        let refused = match verified.timestamp {
            old if old <= peer.latest_timestamp => Some(Discard::OldTimestamp),
            _ if peer.last_initiation.is_some_and(too_soon) => Some(Discard::TooSoon),
            _ => None,
        };
        if let Some(reason) = refused {
            return Err(self.out.fail(id, peer, reason));
        }

        let (timestamp, remote) = (verified.timestamp, verified.sender());
        let index = self.out.new_index(id);
        let ephemeral = self.out.new_ephemeral();
        let Ok((response, keys)) = verified.respond(&peer.preshared_key, index, &ephemeral) else {
            self.out.indices.remove(&index);
            return Err(Discard::BadInitiation);
        };
        peer.latest_timestamp = timestamp;
        peer.last_initiation = Some(now.time);
        self.out.abandon_handshake(peer);
        self.out.move_endpoint(id, peer, from);
        let keypair = Arc::new(Keypair::new(&keys, false, index, remote, now.time));
        self.out.events.push_back(Event::SessionAdded(id, Arc::clone(&keypair)));
        self.out.drop_keypairs(peer.keypairs.install_as_responder(keypair));
        peer.timers.erase_keys = Some(now.time + ERASE_KEYS);

        self.out.send_handshake(now, id, peer, from, response.encode());
        peer.received_handshake(now, Initiation::LEN);
        Ok(id)
    }

    fn consume_response(
        &mut self,
        now: Now,
        from: Endpoint,
        message: &Response,
    ) -> Result<PeerId, Discard> {
        let Identity { dh, .. } = self.identity.as_ref().ok_or(Discard::NotReady)?;
        let id = *self.out.indices.get(&message.receiver).ok_or(Discard::UnknownIndex)?;
        let peer = self.peers.get_mut(id).ok_or(Discard::UnknownIndex)?;
        let initiated =
            peer.handshake.as_ref().filter(|handshake| handshake.index == message.receiver);
        let initiated = initiated.ok_or(Discard::UnknownIndex)?;
        let Ok(keys) = initiated.consume_response(dh, &peer.preshared_key, message) else {
            return Err(self.out.fail(id, peer, Discard::BadResponse));
        };

        // The index lives on as the session's.
        peer.handshake = None;
        self.out.move_endpoint(id, peer, from);
        let keypair =
            Arc::new(Keypair::new(&keys, true, message.receiver, message.sender, now.time));
        self.out.events.push_back(Event::SessionAdded(id, Arc::clone(&keypair)));
        self.out.drop_keypairs(peer.keypairs.install_as_initiator(Arc::clone(&keypair)));
        peer.timers.erase_keys = Some(now.time + ERASE_KEYS);
        self.out.complete_handshake(now, id, peer);
        self.out.events.push_back(Event::SendOn { peer: id, keypair, confirm: true });
        peer.received_handshake(now, Response::LEN);
        Ok(id)
    }

    /// Only remembers the cookie: the next repetition will carry it. No endpoint, timer or count moves.
    fn consume_cookie_reply(&mut self, now: Now, message: &CookieReply) -> Result<PeerId, Discard> {
        let id = *self.out.indices.get(&message.receiver).ok_or(Discard::UnknownIndex)?;
        let peer = self.peers.get_mut(id).ok_or(Discard::UnknownIndex)?;
        peer.jar.open(now.time, &peer.public_key, message)?;
        Ok(id)
    }

    /// Data wants a session, or a better one: a fresh series of initiations.
    pub(super) fn request_session(&mut self, now: Now, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.attempts = 0;
            self.send_initiation(now, id);
        }
    }

    /// Sends an initiation: now, or when the last handshake message is five seconds old.
    pub(super) fn send_initiation(&mut self, now: Now, id: PeerId) {
        let (true, Some(Identity { dh, .. })) = (self.up, &self.identity) else { return };
        let Some(peer) = self.peers.get_mut(id) else { return };
        let Some(endpoint) = peer.endpoint else { return };
        let earliest = peer.last_sent_handshake.map(|last| last + REKEY_TIMEOUT);
        if let Some(earliest) = earliest.filter(|earliest| now.time < *earliest) {
            // The wish is granted then, unless a session comes first. Nobody may wish again. Two peers
            // on a slow path that answer each other in step need ever wider steps to fall out of it.
            let (out, spread) = (&mut self.out, peer.attempts + 1);
            peer.timers.retransmit.get_or_insert_with(|| earliest + out.jitter() * spread);
            return;
        }
        // A key of low order may be configured, but is never spoken to.
        let Ok(static_static) = peer.static_static(dh) else { return };
        self.out.abandon_handshake(peer);
        let index = self.out.new_index(id);
        let ephemeral = self.out.new_ephemeral();
        let timestamp = Timestamp::new(now.wall);
        match create_initiation(dh, &peer.public_key, &static_static, index, ephemeral, timestamp) {
            Ok((initiated, message)) => {
                peer.handshake = Some(Box::new(initiated));
                self.out.send_handshake(now, id, peer, endpoint, message.encode());
                peer.timers.retransmit = Some(now.time + REKEY_TIMEOUT + self.out.jitter());
            }
            Err(_) => drop(self.out.indices.remove(&index)),
        }
    }
}

impl Peer {
    /// An authentic handshake message of this peer arrived.
    fn received_handshake(&mut self, now: Now, bytes: usize) {
        // Handshakes are no data, and arm nothing that is not watched.
        let _ = self.traffic.received(now.time, false);
        self.traffic.count_rx(bytes as u64);
        self.arm_persistent_keepalive(now.time);
    }
}

impl Output {
    /// Queues a handshake message after filling in its MACs.
    fn send_handshake(
        &mut self,
        now: Now,
        id: PeerId,
        peer: &mut Peer,
        to: Endpoint,
        mut bytes: Vec<u8>,
    ) {
        peer.jar.seal(now.time, &peer.public_key, &mut bytes);
        peer.last_sent_handshake = Some(now.time);
        let _ = peer.traffic.sent(now.time, false);
        peer.arm_persistent_keepalive(now.time);
        self.transmits.push_back(Transmit { peer: Some(id), to, tos: HANDSHAKE_TOS, bytes });
    }

    /// Forgets an initiation that is still unanswered.
    pub(super) fn abandon_handshake(&mut self, peer: &mut Peer) {
        if let Some(initiated) = peer.handshake.take() {
            self.indices.remove(&initiated.index);
        }
    }

    /// The session is usable on both sides.
    pub(super) fn complete_handshake(&mut self, now: Now, id: PeerId, peer: &mut Peer) {
        peer.timers.retransmit = None;
        peer.attempts = 0;
        peer.last_handshake = Some(now.wall);
        peer.last_discard = None;
        self.events.push_back(Event::HandshakeCompleted(id));
    }

    fn move_endpoint(&mut self, id: PeerId, peer: &mut Peer, to: Endpoint) {
        if peer.endpoint.replace(to) != Some(to) {
            self.events.push_back(Event::EndpointChanged(id, to));
        }
    }

    fn fail(&mut self, id: PeerId, peer: &mut Peer, reason: Discard) -> Discard {
        peer.last_discard = Some(reason);
        self.events.push_back(Event::HandshakeFailed(id, reason));
        reason
    }
}
