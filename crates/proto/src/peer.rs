//! One peer: who it is, where it is, and how far the handshake with it has come.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use core::time::Duration;

use crate::allowed_ips::Prefix;
use crate::cookie::Jar;
use crate::discard::Discard;
use crate::endpoint::Endpoint;
use crate::keypair::{Keypair, REJECT_AFTER_MESSAGES};
use crate::keys::{PresharedKey, PublicKey};
use crate::noise::Initiated;
use crate::primitives::{DhKey, Secret, Unauthentic};
use crate::tai64n::Timestamp;
use crate::time::Time;
use crate::timers::Timer;
use crate::traffic::Traffic;

/// Names a peer of a device: greater for one that was created later, and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub(crate) u64);

/// The three sessions a peer can have (paper §5.4.5, spec §1.8).
#[derive(Default)]
pub(crate) struct Keypairs {
    pub previous: Option<Arc<Keypair>>,
    /// The only one that is sent on.
    pub current: Option<Arc<Keypair>>,
    /// A responder's newest, until its first message confirms that the initiator has it too.
    pub next: Option<Arc<Keypair>>,
}

impl Keypairs {
    /// Takes in a new session; returns what is dropped for it.
    pub fn install(&mut self, new: Arc<Keypair>) -> [Option<Arc<Keypair>>; 2] {
        if !new.is_initiator {
            return [self.next.replace(new), self.previous.take()];
        }
        let current = self.current.replace(new);
        match self.next.take() {
            Some(next) => [self.previous.replace(next), current],
            None => [core::mem::replace(&mut self.previous, current), None],
        }
    }

    /// `next` has been confirmed; returns what is dropped for it.
    pub fn promote(&mut self) -> Option<Arc<Keypair>> {
        let next = self.next.take();
        core::mem::replace(&mut self.previous, core::mem::replace(&mut self.current, next))
    }
}

#[derive(Default)]
pub(crate) struct Peer {
    pub public_key: PublicKey,
    pub preshared_key: PresharedKey,
    /// The agreement of both long-term keys, made when first needed; an error for low-order keys.
    static_static: Option<Result<Secret, Unauthentic>>,
    pub endpoint: Option<Endpoint>,
    /// In order of insertion. Who inserts a long list again takes them from its front.
    pub allowed_ips: VecDeque<Prefix>,
    /// Seconds; 0 is "off".
    pub persistent_keepalive: u16,
    pub handshake: Option<Box<Initiated>>,
    pub keypairs: Keypairs,
    pub jar: Jar,
    /// When each expires that is armed. The device has them all in their order.
    pub timers: BTreeMap<Timer, Time>,
    /// Repetitions of the present initiation.
    pub attempts: u32,
    /// No initiation is sent before: five seconds after the last handshake message.
    pub quiet_until: Time,
    /// The greatest timestamp accepted; outlives sessions and keys.
    pub latest_timestamp: Timestamp,
    /// None is accepted before.
    pub next_initiation: Time,
    /// Wall clock, for people.
    pub last_handshake: Option<Duration>,
    pub last_discard: Option<Discard>,
    pub traffic: Arc<Traffic>,
}

impl Peer {
    pub fn new(public_key: PublicKey) -> Self {
        Self { public_key, ..Self::default() }
    }

    /// The agreement of our long-term key with the peer's.
    pub fn static_static(&mut self, own: &DhKey) -> Result<Secret, Unauthentic> {
        self.static_static.get_or_insert_with(|| own.agree(&self.public_key)).clone()
    }

    /// Our long-term key has changed: nothing made with the old one is sent on any more.
    pub fn forget_own_key(&mut self) {
        self.static_static = None;
        self.quiet_until = Time::default();
        self.traffic.forget_ask();
        for keypair in [&self.keypairs.current, &self.keypairs.next].into_iter().flatten() {
            keypair.skip_to(REJECT_AFTER_MESSAGES);
        }
    }
}
