//! The life of sessions: confirmation, keepalives, and what happens when a timer expires (paper §6).

use alloc::vec::Vec;
use core::time::Duration;

use super::{Conversation, Event, Progress, Timer, Transmit};
use crate::endpoint::Endpoint;
use crate::message::SessionIndex;
use crate::peer::Keypairs;
use crate::time::Time;
use crate::timers::{ERASE_KEYS, KEEPALIVE_TIMEOUT, MAX_ATTEMPTS, NEW_HANDSHAKE};

impl Conversation<'_> {
    /// The first message on a responder's session: the initiator has it too, so send on it.
    pub(super) fn confirm_session(&mut self, index: SessionIndex) {
        let next = self.peer.keypairs.next.as_ref().filter(|next| next.local_index == index);
        let Some(keypair) = next.cloned() else { return };
        self.out.drop_keypairs([self.peer.keypairs.promote()]);
        if !keypair.can_send(self.now.time) {
            // Our key was changed meanwhile: it only receives, and the search for another goes on.
            return;
        }
        self.complete_handshake();
        // It may have expired in vain, while there was nothing to send it on.
        self.arm_persistent_keepalive();
        self.out.events.push_back(Event::SendOn(self.id, keypair));
    }

    /// Sends an empty message; if there is no session, asks for one instead.
    pub(super) fn keepalive(&mut self) {
        let current = self.peer.keypairs.current.as_ref();
        let message = current.and_then(|current| current.keepalive(self.now.time).ok());
        if let (Some(to), Some(message)) = (self.peer.endpoint, message) {
            self.send(to, 0, message.to_vec());
        }
        self.renew_session();
    }

    /// Queues a datagram that is no data: it answers what was received, and calls for no answer.
    pub(super) fn send(&mut self, to: Endpoint, tos: u8, bytes: Vec<u8>) {
        let _ = self.peer.traffic.sent(self.now.time, false);
        self.arm_persistent_keepalive();
        let datagram = Transmit { peer: Some(self.id), to, tos, bytes };
        self.out.events.push_back(Event::Transmit(datagram));
    }

    /// `timer` has expired; it is disarmed or armed anew.
    pub(super) fn expire(&mut self, timer: Timer) {
        match timer {
            Timer::Retransmit => self.retransmit(),
            Timer::Keepalive => self.owed_keepalive(),
            Timer::NewHandshake => self.unanswered(),
            Timer::EraseKeys => self.erase_keys(),
            Timer::PersistentKeepalive => {
                self.arm_persistent_keepalive();
                // The deadline of an idle peer is not in the future.
                if self.peer.timers.get(&timer).is_some_and(|deadline| *deadline <= self.now.time) {
                    self.arm(timer, None);
                    self.keepalive();
                }
            }
        }
    }

    fn retransmit(&mut self) {
        self.arm(Timer::Retransmit, None);
        if self.peer.attempts > MAX_ATTEMPTS {
            self.peer.traffic.forgive();
            self.arm(Timer::Keepalive, None);
            if !self.peer.timers.contains_key(&Timer::EraseKeys) {
                self.arm(Timer::EraseKeys, Some(self.now.time + ERASE_KEYS));
            }
            self.out.events.push_back(Event::Handshake(self.id, Progress::GaveUp));
        } else {
            self.peer.attempts += 1;
            self.forget_source();
            self.send_initiation();
        }
    }

    /// T2: a keepalive may be owed since ten seconds.
    fn owed_keepalive(&mut self) {
        if self.peer.traffic.owed.expire(self.now.time, KEEPALIVE_TIMEOUT) {
            let owes_another = self.peer.traffic.forgive();
            self.keepalive();
            if owes_another {
                self.peer.traffic.owed.start(self.now.time);
            }
        }
        self.arm_keepalive(self.peer.traffic.owed.watch());
    }

    /// T3: what was sent may be unanswered since fifteen seconds.
    fn unanswered(&mut self) {
        let is_due = self.peer.traffic.unanswered.expire(self.now.time, NEW_HANDSHAKE);
        self.arm_new_handshake(self.peer.traffic.unanswered.watch());
        if is_due {
            self.forget_source();
            self.request_session();
        }
    }

    /// The data plane has begun a deadline; watch it.
    pub(super) fn arm_watched(&mut self) {
        if !self.up {
            return self.peer.traffic.reset();
        }
        self.arm_new_handshake(self.peer.traffic.unanswered.watched(self.now.time));
        self.arm_keepalive(self.peer.traffic.owed.watched(self.now.time));
    }

    /// Asks for a session if there is none to send on, or none that will do for long.
    pub(super) fn renew_session(&mut self) {
        let (now, current) = (self.now.time, self.peer.keypairs.current.as_ref());
        if current.is_none_or(|current| !current.can_send(now) || current.wants_rekey(now)) {
            self.request_session();
        }
    }

    /// Arms `timer` anew, or disarms it.
    pub(super) fn arm(&mut self, timer: Timer, deadline: Option<Time>) {
        let before = match deadline {
            Some(deadline) => self.peer.timers.insert(timer, deadline),
            None => self.peer.timers.remove(&timer),
        };
        before.map(|before| self.deadlines.remove(&(before, self.id, timer)));
        deadline.map(|deadline| self.deadlines.insert((deadline, self.id, timer)));
    }

    /// T2, if a keepalive is owed.
    fn arm_keepalive(&mut self, owed_since: Option<Time>) {
        self.arm(Timer::Keepalive, owed_since.map(|since| since + KEEPALIVE_TIMEOUT));
    }

    /// T3, if something is unanswered.
    fn arm_new_handshake(&mut self, unanswered_since: Option<Time>) {
        let deadline = unanswered_since.map(|since| since + NEW_HANDSHAKE + self.out.jitter());
        self.arm(Timer::NewHandshake, deadline);
    }

    /// T5, from the stamp of the last packet.
    pub(super) fn arm_persistent_keepalive(&mut self) {
        let last = self.peer.traffic.last().unwrap_or(self.now.time);
        let seconds = self.peer.persistent_keepalive;
        let deadline = last + Duration::from_secs(seconds.into());
        self.arm(Timer::PersistentKeepalive, (seconds != 0).then_some(deadline));
    }

    /// Ends every session and handshake of the peer.
    pub(super) fn erase_keys(&mut self) {
        self.arm(Timer::EraseKeys, None);
        self.abandon_handshake();
        let Keypairs { previous, current, next } = core::mem::take(&mut self.peer.keypairs);
        let keypairs = [previous, current, next];
        // A worker may already send on the next one, and its word of that be on the way.
        if keypairs.iter().any(Option::is_some) {
            self.out.events.push_back(Event::SendOnNone(self.id));
        }
        self.out.drop_keypairs(keypairs);
    }

    /// Lets the routing table choose again where messages to the peer leave from.
    pub(super) fn forget_source(&mut self) {
        if let Some(endpoint) = &mut self.peer.endpoint
            && let stale = *endpoint
            && endpoint.source.take().is_some()
        {
            self.out.events.push_back(Event::SourceForgotten(self.id, stale));
        }
    }
}
