//! Live change of every setting (spec §1.16, §2.5, §2.6).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use super::{Conversation, Device, Event, Identity};
use crate::allowed_ips::Prefix;
use crate::atomic::Ordering::Relaxed;
use crate::change::{AllowedIpsChange, Change, DeviceState, PeerChange, PeerState};
use crate::cookie::Checker;
use crate::endpoint::Endpoint;
use crate::keys::{PrivateKey, PublicKey};
use crate::limits::MAX_PEERS;
use crate::peer::{Peer, PeerId};
use crate::primitives::DhKey;
use crate::time::{Now, Time};
use crate::timers::Timer;

/// A change would lead to more than [`MAX_PEERS`] peers; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyPeers;

impl Device {
    /// Applies `change` as a whole. Sockets are the owner's: it binds a port and sets a mark itself, and
    /// comes here when that has succeeded.
    ///
    /// # Errors
    /// [`TooManyPeers`]; then nothing was changed.
    pub fn configure(&mut self, now: Now, change: &Change) -> Result<(), TooManyPeers> {
        let before = if change.replace_peers { &BTreeMap::new() } else { &self.by_key };
        let is_new = |peer: &&PeerChange| !before.contains_key(&peer.public_key);
        if before.len() + change.peers.iter().filter(is_new).count() > MAX_PEERS {
            return Err(TooManyPeers);
        }
        if change.listen_port.is_some() || change.fwmark.is_some() {
            self.forget_sources(now, |_| true);
        }
        if change.replace_peers {
            for id in self.ids() {
                self.remove_peer(now, id);
            }
        }
        if let Some(key) = &change.private_key {
            self.set_private_key(now, key.as_ref());
        }
        for peer in &change.peers {
            self.configure_peer(now, peer);
        }
        Ok(())
    }

    /// The interface has gone up: messages are answered, persistent keepalives begin.
    pub fn up(&mut self, now: Now) {
        self.up = true;
        self.with_all(now, |with| with.start_persistent_keepalive());
    }

    /// The interface has gone down: every session and handshake ends, every timer stops.
    pub fn down(&mut self, now: Now) {
        self.up = false;
        self.with_all(now, |with| with.end());
    }

    /// Lets the routing table choose again where messages leave from, for every endpoint that is `stale`:
    /// addresses, routes, the port or the mark have changed.
    pub fn forget_sources(&mut self, now: Now, mut stale: impl FnMut(&Endpoint) -> bool) {
        self.with_all(now, |with| {
            if with.peer.endpoint.is_some_and(|endpoint| stale(&endpoint)) {
                with.forget_source();
            }
        });
    }

    /// What `get` shows, but for what only the owner knows: the port, the mark and the last failure.
    pub fn state(&self) -> DeviceState {
        let peers = self.peers.values().map(|peer| {
            let mut known = [&peer.keypairs.previous, &peer.keypairs.current].into_iter().flatten();
            PeerState {
                public_key: peer.public_key,
                preshared_key: peer.preshared_key.clone(),
                endpoint: peer.endpoint.map(|endpoint| endpoint.remote),
                last_handshake: peer.last_handshake,
                rx_bytes: peer.traffic.rx_bytes.load(Relaxed),
                tx_bytes: peer.traffic.tx_bytes.load(Relaxed),
                persistent_keepalive: peer.persistent_keepalive,
                allowed_ips: peer.allowed_ips.iter().copied().collect(),
                receives: peer.last_handshake.map(|_| known.any(|it| it.heard.load(Relaxed))),
                last_discard: peer.last_discard.or_else(|| peer.traffic.refused()),
            }
        });
        DeviceState {
            private_key: self.identity.as_ref().map(|identity| identity.private_key.clone()),
            peers: peers.collect(),
            ..DeviceState::default()
        }
    }

    fn set_private_key(&mut self, now: Now, key: Option<&PrivateKey>) {
        if self.identity.as_ref().map(|identity| &identity.private_key) == key {
            return;
        }
        self.identity = key.map(|key| {
            let dh = DhKey::new(key.as_bytes());
            Identity { checker: Checker::new(&dh.public), dh, private_key: key.clone() }
        });
        if let Some(ourselves) = self.own_key().and_then(|key| self.find(&key)) {
            self.remove_peer(now, ourselves);
        }
        self.with_all(now, |with| {
            with.abandon_handshake();
            with.arm(Timer::Retransmit, None);
            with.peer.forget_own_key();
            with.start_persistent_keepalive();
        });
    }

    fn own_key(&self) -> Option<PublicKey> {
        self.identity.as_ref().map(|identity| identity.dh.public)
    }

    fn configure_peer(&mut self, now: Now, change: &PeerChange) {
        let is_ours = self.own_key() == Some(change.public_key);
        let id = match self.find(&change.public_key) {
            Some(id) if change.remove => return self.remove_peer(now, id),
            Some(id) => id,
            None if change.remove || change.update_only || is_ours => return,
            None => self.add_peer(change.public_key),
        };
        for step in &change.allowed_ips {
            self.change_allowed_ips(id, *step);
        }
        self.with(now, id, |with| with.configure(change));
    }

    fn add_peer(&mut self, key: PublicKey) -> PeerId {
        let id = PeerId(self.created);
        self.created += 1;
        let peer = Box::new(Peer::new(key));
        self.out.events.push_back(Event::PeerAdded(id, key, Arc::clone(&peer.traffic)));
        self.by_key.insert(key, id);
        self.peers.insert(id, peer);
        id
    }

    fn remove_peer(&mut self, now: Now, id: PeerId) {
        self.change_allowed_ips(id, AllowedIpsChange::Clear);
        self.with(now, id, |with| with.end());
        if let Some(peer) = self.peers.remove(&id) {
            self.by_key.remove(&peer.public_key);
        }
        self.out.events.push_back(Event::PeerRemoved(id));
    }

    fn change_allowed_ips(&mut self, id: PeerId, step: AllowedIpsChange) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match step {
            AllowedIpsChange::Insert(prefix) => {
                peer.allowed_ips.push_back(prefix);
                if let Some(owner) = self.owners.insert(prefix, id) {
                    // Of two of our own, the older goes.
                    self.forget_prefix(owner, prefix);
                }
            }
            AllowedIpsChange::Remove(prefix) if self.owners.get(&prefix) == Some(&id) => {
                self.owners.remove(&prefix);
                self.forget_prefix(id, prefix);
            }
            AllowedIpsChange::Remove(_) => return,
            AllowedIpsChange::Clear if peer.allowed_ips.is_empty() => return,
            AllowedIpsChange::Clear => {
                for prefix in core::mem::take(&mut peer.allowed_ips) {
                    self.owners.remove(&prefix);
                }
            }
        }
        // One announcement serves however many changes the owner has not looked at yet.
        if !matches!(self.out.events.back(), Some(Event::RoutesChanged)) {
            self.out.events.push_back(Event::RoutesChanged);
        }
    }

    fn forget_prefix(&mut self, owner: PeerId, prefix: Prefix) {
        if let Some(list) = self.peers.get_mut(&owner).map(|peer| &mut peer.allowed_ips)
            && let Some(at) = list.iter().position(|entry| *entry == prefix)
        {
            list.remove(at);
        }
    }
}

impl Conversation<'_> {
    /// Takes over all of `change` but the prefixes.
    fn configure(&mut self, change: &PeerChange) {
        if let Some(key) = &change.preshared_key {
            self.peer.preshared_key = key.clone();
        }
        let was_nowhere = self.peer.endpoint.is_none();
        if let Some(remote) = change.endpoint {
            let endpoint = Endpoint::new(remote);
            self.peer.endpoint = Some(endpoint);
            self.out.events.push_back(Event::EndpointChanged(self.id, endpoint));
        }
        let was_off = self.peer.persistent_keepalive == 0;
        if let Some(seconds) = change.persistent_keepalive {
            self.peer.persistent_keepalive = seconds;
            if self.identity.is_some() {
                self.arm_persistent_keepalive();
            }
        }
        // A keepalive that was just turned on, or has just got somewhere to go, starts the session.
        if was_off || (was_nowhere && change.endpoint.is_some()) {
            self.start_persistent_keepalive();
        }
    }

    /// Ends every session and handshake, and stops every timer.
    fn end(&mut self) {
        self.erase_keys();
        while let Some((&timer, _)) = self.peer.timers.first_key_value() {
            self.arm(timer, None);
        }
        self.peer.quiet_until = Time::default();
        self.peer.attempts = 0;
        self.peer.traffic.reset();
    }

    fn start_persistent_keepalive(&mut self) {
        if self.peer.persistent_keepalive != 0 {
            self.keepalive();
        }
    }
}
