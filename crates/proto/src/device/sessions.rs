//! The life of sessions: confirmation, keepalives, and what happens when a timer expires (paper §6).

use super::{Device, Event, Output, Timer, Transmit};
use crate::endpoint::Endpoint;
use crate::message::SessionIndex;
use crate::peer::{Peer, PeerId};
use crate::time::{Now, Time};
use crate::timers::{ERASE_KEYS, KEEPALIVE_TIMEOUT, MAX_ATTEMPTS, NEW_HANDSHAKE};

impl Device {
    /// The first message on a responder's session: the initiator has it too, so send on it.
    pub(super) fn confirm_session(&mut self, now: Now, id: PeerId, index: SessionIndex) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let next = peer.keypairs.next.as_ref().filter(|next| next.local_index() == index);
        let Some(keypair) = next.cloned() else { return };
        self.out.drop_keypairs([peer.keypairs.promote()]);
        if !keypair.can_send(now.time) {
            // Our key was changed meanwhile: it only receives, and the search for another goes on.
            return;
        }
        self.out.complete_handshake(now, id, peer);
        // It may have expired in vain, while there was nothing to send it on.
        peer.arm_persistent_keepalive(now.time);
        self.out.events.push_back(Event::SendOn { peer: id, keypair, confirm: false });
    }

    /// Sends an empty message to `peer`; if there is no session, asks for one instead.
    pub fn send_keepalive(&mut self, now: Now, id: PeerId) {
        self.keepalive(now, id);
        self.file(id);
    }

    pub(super) fn keepalive(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id).filter(|_| self.up) else { return };
        let message =
            peer.keypairs.current.as_ref().map(|current| (current, current.keepalive(now.time)));
        let (Some(to), Some((current, Ok(message)))) = (peer.endpoint, message) else {
            return self.request_session(now, id);
        };
        let wants_rekey = current.wants_rekey(now.time);
        let _ = peer.traffic.sent(now.time, false);
        peer.arm_persistent_keepalive(now.time);
        let bytes = message.to_vec();
        self.out.transmits.push_back(Transmit { peer: Some(id), to, tos: 0, bytes });
        if wants_rekey {
            self.request_session(now, id);
        }
    }

    /// The earliest timer of `id` has expired.
    pub(super) fn expire(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let Some((_, timer)) = peer.timers.next() else { return };
        peer.timers.disarm(timer);
        match timer {
            Timer::Retransmit => self.retransmit(now, id),
            Timer::Keepalive => self.owed_keepalive(now, id),
            Timer::NewHandshake => self.unanswered(now, id),
            Timer::EraseKeys => self.out.erase_keys(id, peer),
            Timer::PersistentKeepalive => {
                peer.arm_persistent_keepalive(now.time);
                // The deadline of an idle peer is not in the future.
                let deadline = &mut peer.timers.persistent_keepalive;
                if deadline.take_if(|deadline| *deadline <= now.time).is_some() {
                    self.keepalive(now, id);
                }
            }
        }
    }

    fn retransmit(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if peer.attempts > MAX_ATTEMPTS {
            peer.traffic.forgive();
            peer.timers.keepalive = None;
            peer.timers.erase_keys.get_or_insert(now.time + ERASE_KEYS);
            self.out.events.push_back(Event::GaveUp(id));
        } else {
            peer.attempts += 1;
            self.out.forget_source(id, peer);
            self.send_initiation(now, id);
        }
    }

    /// T2: a keepalive may be owed since ten seconds.
    fn owed_keepalive(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let is_due = peer.traffic.owed.lasts(now.time, KEEPALIVE_TIMEOUT);
        let owes_another = is_due && peer.traffic.forgive();
        if is_due {
            self.keepalive(now, id);
        }
        let Some(peer) = self.peers.get_mut(id) else { return };
        if owes_another {
            peer.traffic.owed.start(now.time);
        }
        peer.arm_keepalive(peer.traffic.owed.watch());
    }

    /// T3: what was sent may be unanswered since fifteen seconds.
    fn unanswered(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let is_due = peer.traffic.unanswered.lasts(now.time, NEW_HANDSHAKE);
        if is_due {
            peer.traffic.unanswered.stop();
            self.out.forget_source(id, peer);
        }
        // Also when it was due: a worker may have sent again in between, and told nobody.
        self.out.arm_new_handshake(peer, peer.traffic.unanswered.watch());
        if is_due {
            self.request_session(now, id);
        }
    }

    /// The data plane has begun a deadline; watch it.
    pub(super) fn arm_watched(&mut self, now: Time, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if !self.up {
            return peer.traffic.reset();
        }
        self.out.arm_new_handshake(peer, peer.traffic.unanswered.watched(now));
        peer.arm_keepalive(peer.traffic.owed.watched(now));
    }

    /// Whether there is no session to send on, or none that will do for long.
    pub(super) fn lacks_session(&self, now: Now, id: PeerId) -> bool {
        let current = self.peers.get(id).and_then(|peer| peer.keypairs.current.as_ref());
        current.is_none_or(|current| !current.can_send(now.time) || current.wants_rekey(now.time))
    }
}

impl Peer {
    /// T2, if a keepalive is owed.
    fn arm_keepalive(&mut self, owed_since: Option<Time>) {
        self.timers.keepalive = owed_since.map(|since| since + KEEPALIVE_TIMEOUT);
    }

    /// T5, from the stamp of the last packet.
    pub(super) fn arm_persistent_keepalive(&mut self, now: Time) {
        let interval = self.persistent_interval();
        self.timers.persistent_keepalive =
            interval.map(|interval| self.traffic.last().unwrap_or(now) + interval);
    }
}

impl Output {
    /// T3, if something is unanswered.
    fn arm_new_handshake(&mut self, peer: &mut Peer, unanswered_since: Option<Time>) {
        let deadline = |since| since + NEW_HANDSHAKE + self.jitter();
        peer.timers.new_handshake = unanswered_since.map(deadline);
    }

    /// Ends every session and handshake of a peer.
    pub(super) fn erase_keys(&mut self, id: PeerId, peer: &mut Peer) {
        self.abandon_handshake(peer);
        let keypairs = peer.keypairs.take_all();
        if keypairs.iter().any(Option::is_some) {
            self.events.push_back(Event::SendOnNone(id));
        }
        self.drop_keypairs(keypairs);
    }

    /// Lets the routing table choose again where messages to the peer leave from.
    pub(super) fn forget_source(&mut self, id: PeerId, peer: &mut Peer) {
        if let Some(endpoint) = &mut peer.endpoint
            && endpoint.source.take().is_some()
        {
            let endpoint = Endpoint::new(endpoint.remote);
            self.events.push_back(Event::EndpointChanged(id, endpoint));
        }
    }
}
