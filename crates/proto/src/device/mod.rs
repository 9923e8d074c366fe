//! The control face of the protocol: one owner, everything by value.
//!
//! Inputs are [`Device::handle_handshake`], [`Device::handle_timeout`], [`Device::report`] and
//! [`Device::configure`]. After each of them the owner drains [`Device::poll_event`], and sleeps until
//! [`Device::poll_timeout`].

#![allow(clippy::redundant_closure_for_method_calls)] // A method of one `Conversation` is no function of all.

mod configure;
mod handshake;
mod sessions;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use zeroize::Zeroizing;

use crate::allowed_ips::{AllowedIps, Prefix};
use crate::cookie::Checker;
use crate::discard::Discard;
use crate::endpoint::Endpoint;
use crate::keypair::Keypair;
use crate::keys::{PrivateKey, PublicKey};
use crate::limiter::Limiter;
use crate::message::SessionIndex;
use crate::peer::{Peer, PeerId};
use crate::primitives::DhKey;
use crate::random::{self, Random};
use crate::time::{Now, Time};
use crate::timers::{MAX_JITTER, Timer};
use crate::traffic::Traffic;

pub use configure::TooManyPeers;

/// The device stays "under load" this long after it last was.
const LOAD_LINGERS: Duration = Duration::from_secs(1);

/// A WireGuard interface: its key, its peers, and their handshakes and timers.
pub struct Device {
    identity: Option<Identity>,
    up: bool,
    /// In the order of their creation.
    peers: BTreeMap<PeerId, Box<Peer>>,
    by_key: BTreeMap<PublicKey, PeerId>,
    /// How many peers there have ever been.
    created: u64,
    /// Whose each prefix is.
    owners: BTreeMap<Prefix, PeerId>,
    /// When the timers of all peers expire.
    deadlines: BTreeSet<(Time, PeerId, Timer)>,
    limiter: Limiter,
    /// Until when senders must prove their address.
    loaded_until: Time,
    out: Output,
}

/// Our long-term key, and what is computed from it once.
struct Identity {
    private_key: PrivateKey,
    dh: DhKey,
    checker: Checker,
}

/// A peer, and what of the device it takes to speak with it.
struct Conversation<'a> {
    now: Now,
    /// Whether the interface is.
    up: bool,
    /// Whom to speak as: nobody without a key, or while the interface is down.
    identity: Option<&'a Identity>,
    out: &'a mut Output,
    deadlines: &'a mut BTreeSet<(Time, PeerId, Timer)>,
    id: PeerId,
    peer: &'a mut Peer,
}

/// What handshakes draw from and leave behind, apart from the peers themselves.
struct Output {
    random: Box<Random>,
    /// Who uses an index, for a handshake under way or a session.
    indices: BTreeMap<SessionIndex, PeerId>,
    /// In the order in which they must be dealt with: a session is known before the message leaves
    /// that lets the other side use it.
    events: VecDeque<Event>,
}

/// A datagram to be sent: a handshake message, a cookie reply or a keepalive.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// Whose byte count it belongs to; none for cookie replies.
    pub peer: Option<PeerId>,
    /// Where to, and from which address.
    pub to: Endpoint,
    /// The type-of-service byte: AF41 for handshakes, else 0.
    pub tos: u8,
    /// The datagram.
    pub bytes: Vec<u8>,
}

/// What the owner of the data plane must know or do.
#[derive(Clone, Debug)]
pub enum Event {
    /// The peer of this key exists; its stamps are shared from now on.
    PeerAdded(PeerId, PublicKey, Arc<Traffic>),
    /// A peer is gone, with all that was staged for it.
    PeerRemoved(PeerId),
    /// The prefixes have changed: publish [`Device::routes`].
    RoutesChanged,
    /// Where to send to has changed by configuration or a handshake.
    EndpointChanged(PeerId, Endpoint),
    /// The routing table shall choose again where messages to this place leave from, unless the peer has
    /// been heard from elsewhere meanwhile.
    SourceForgotten(PeerId, Endpoint),
    /// Messages of this session are to be accepted.
    SessionAdded(PeerId, Arc<Keypair>),
    /// No more messages of this session are to be accepted.
    SessionRemoved(SessionIndex),
    /// Send on this session from now on, staged packets first. If we were its initiator and nothing is
    /// staged, call [`Device::send_keepalive`], so that the responder learns that it may send.
    SendOn(PeerId, Arc<Keypair>),
    /// There is no session to send on any more.
    SendOnNone(PeerId),
    /// This datagram is to be sent.
    Transmit(Transmit),
    /// How the handshake with a peer goes. If it was given up, drop what is staged.
    Handshake(PeerId, Progress),
    /// An initiation that came from there bears this key, which is no peer's. It may not be its sender's.
    Stranger(PublicKey, Endpoint),
}

/// How a handshake goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An initiation of the peer's was answered. Its first data will complete the handshake.
    Answered,
    /// It was completed: a session is ready.
    Completed,
    /// A message of it was dropped, which came from there.
    Failed(Endpoint, Discard),
    /// The peer has not answered the last initiation for 5 s, and gets another.
    CalledAgain,
    /// The peer has not answered for 90 s.
    GaveUp,
}

/// What the data plane tells of a peer.
#[derive(Clone, Copy, Debug)]
pub enum Report {
    /// There are packets and no session, or the session wants renewal. Rate-limit with [`Traffic::ask`].
    WantsSession,
    /// A deadline has begun that the device does not watch ([`Traffic::sent`], [`Traffic::received`]).
    Armed,
    /// The first message of a responder's session was authentic ([`Keypair::confirm`]).
    Confirmed(SessionIndex),
    /// An authentic message came from a new place.
    Roamed(Endpoint),
}

impl Device {
    /// A device that is down and has neither key nor peers.
    pub fn new(random: Box<Random>) -> Self {
        Self {
            identity: None,
            up: false,
            peers: BTreeMap::new(),
            by_key: BTreeMap::new(),
            created: 0,
            owners: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            limiter: Limiter::default(),
            loaded_until: Time::default(),
            out: Output { random, indices: BTreeMap::new(), events: VecDeque::new() },
        }
    }

    /// Which peer an inner address belongs to: a snapshot, in terms of what `known` makes of a peer.
    /// One that it does not know has no addresses.
    pub fn routes<P: Clone>(&self, known: impl Fn(PeerId) -> Option<P>) -> AllowedIps<P> {
        AllowedIps::new(&self.owners, known)
    }

    /// The next thing that the data plane must know or do.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// When to call [`Device::handle_timeout`], and why. What the data plane has stamped meanwhile may have
    /// put it off.
    pub fn poll_timeout(&self) -> Option<(Time, Timer)> {
        self.deadlines.first().map(|&(deadline, _, timer)| (deadline, timer))
    }

    /// The owner sees an eighth of its queue of handshake messages
    /// ([`crate::limits::HANDSHAKE_QUEUE`]) waiting: for a second, senders must prove their address.
    pub fn under_load(&mut self, now: Time) {
        self.loaded_until = now + LOAD_LINGERS;
    }

    /// Takes in what the data plane has seen of `peer`.
    pub fn report(&mut self, now: Now, peer: PeerId, report: Report) {
        self.with(now, peer, |with| match report {
            // The wish may be older than the session.
            Report::WantsSession => with.renew_session(),
            Report::Armed => with.arm_watched(),
            Report::Confirmed(index) => with.confirm_session(index),
            Report::Roamed(endpoint) => with.peer.endpoint = Some(endpoint),
        });
    }

    /// Sends an empty message to `peer`; if there is no session, asks for one instead.
    pub fn send_keepalive(&mut self, now: Now, peer: PeerId) {
        self.with(now, peer, |with| with.keepalive());
    }

    /// Does everything whose time has come.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(&(deadline, peer, timer)) = self.deadlines.first()
            && deadline <= now.time
        {
            self.with(now, peer, |with| with.expire(timer));
        }
    }

    /// Does something with a peer, and with all that it takes to speak with it. `None` if it is gone.
    fn with<T>(
        &mut self,
        now: Now,
        id: PeerId,
        speak: impl FnOnce(&mut Conversation<'_>) -> T,
    ) -> Option<T> {
        let Self { peers, out, identity, up, deadlines, .. } = self;
        let (peer, identity) = (peers.get_mut(&id)?, identity.as_ref().filter(|_| *up));
        Some(speak(&mut Conversation { now, up: *up, identity, out, deadlines, id, peer }))
    }

    fn with_all(&mut self, now: Now, mut speak: impl FnMut(&mut Conversation<'_>)) {
        for id in self.ids() {
            self.with(now, id, &mut speak);
        }
    }

    /// Of all peers, for those who need the whole device to visit one.
    fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    fn find(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }
}

impl Output {
    /// What a handshake message takes: an index that nobody uses, and an ephemeral key.
    fn draw(&mut self) -> (SessionIndex, DhKey) {
        let mut index = || SessionIndex(u32::from_le_bytes(random::array(&mut *self.random)));
        let mut unused = index();
        while self.indices.contains_key(&unused) {
            unused = index();
        }
        (unused, DhKey::new(&Zeroizing::new(random::array(&mut *self.random))))
    }

    /// Uniform between zero and a third of a second.
    fn jitter(&mut self) -> Duration {
        let random = u64::from_le_bytes(random::array(&mut *self.random));
        Duration::from_nanos(random % MAX_JITTER.as_nanos() as u64)
    }

    /// Sessions end: their indices are free, and messages on them find nothing.
    fn drop_keypairs(&mut self, keypairs: impl IntoIterator<Item = Option<Arc<Keypair>>>) {
        for keypair in keypairs.into_iter().flatten() {
            self.indices.remove(&keypair.local_index);
            self.events.push_back(Event::SessionRemoved(keypair.local_index));
        }
    }
}

#[cfg(test)]
mod models;
#[cfg(test)]
mod tests;
