//! The control thread: owns the protocol's state and everything that is rare.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::limits::HANDSHAKE_QUEUE;
use proto::{
    Change, Device, DeviceState, Endpoint, Event, Now, PeerId, Progress, Report, Time, Transmit,
};
use sys::poll::{Epoll, Timer};
use sys::udp::{Family, Outgoing};

use crate::inbound::Inbound;
use crate::mailbox::Letter;
use crate::offload::Kind;
use crate::outbound::Outbound;
use crate::paths::Paths;
use crate::send::send;
use crate::shared::{Peer, Post, Shared, Sockets, token};
use crate::worker::Round;
use crate::{Machine, Notice, Observer};

/// Handshake messages that mean load when they wait.
const LOAD: usize = HANDSHAKE_QUEUE / 8;
/// Of these, or trains of them, taken in at once.
const SLOTS: usize = 16;

/// Runs a [`Device`] against real sockets, clocks and links.
pub(crate) struct Control {
    shared: Arc<Shared>,
    /// Of the first worker, who works here, too.
    post: Arc<Post>,
    device: Device,
    peers: HashMap<PeerId, Arc<Peer>>,
    /// Prefixes have changed since the last publication.
    stale: bool,
    link_up: bool,
    /// As configured, or as drawn once; 0 for any.
    port: u16,
    mark: u32,
    machine: Arc<dyn Machine>,
    paths: Paths,
    epoll: Epoll,
    timer: Timer,
    armed: Option<Time>,
    outbound: Outbound,
    inbound: Inbound,
    observer: Observer,
}

impl Control {
    /// A control thread for `shared`, not yet running.
    ///
    /// # Errors
    /// Those of epoll and timerfd.
    pub fn new(
        shared: Arc<Shared>,
        post: Arc<Post>,
        device: Device,
        machine: Arc<dyn Machine>,
        observer: Observer,
    ) -> io::Result<Self> {
        let (epoll, timer) = (Epoll::new()?, Timer::new()?);
        epoll.add(&shared.control, token::MAILBOX)?;
        epoll.add(&timer, token::TIMER)?;
        Ok(Self {
            device,
            peers: HashMap::new(),
            stale: false,
            link_up: false,
            port: 0,
            mark: 0,
            machine,
            paths: Paths::default(),
            epoll,
            timer,
            armed: None,
            post,
            outbound: Outbound::new(),
            inbound: Inbound::new(SLOTS, HANDSHAKE_QUEUE),
            observer,
            shared,
        })
    }

    /// Works until told to stop; then stops the workers.
    pub fn run(mut self) {
        let mut goes_on = true;
        while goes_on && let Ok(events) = self.epoll.wait(None) {
            for token in events {
                match token {
                    token::MAILBOX => goes_on &= self.read_mail(),
                    token::V4 => self.receive(Family::V4),
                    token::V6 => self.receive(Family::V6),
                    // The time has come for what follows, and another deadline will be set then.
                    _ => {}
                }
            }
            self.device.handle_timeout(self.now());
            self.settle();
        }
        self.publish(Sockets::default());
        self.settle();
        self.shared.end();
    }

    /// False if this is the end.
    fn read_mail(&mut self) -> bool {
        let letters = self.shared.control.empty();
        let is_handshake = |letter: &&Letter| matches!(letter, Letter::Handshake(..));
        if letters.iter().filter(is_handshake).count() >= LOAD {
            self.device.under_load(self.shared.clock.time());
        }
        for letter in letters {
            match letter {
                Letter::Report(peer, report) => self.device.report(self.now(), peer, report),
                Letter::Roamed(id) => {
                    if let Some(endpoint) = self.peer(id).and_then(|peer| peer.roamed())
                        && self.learn_place(id, &endpoint)
                    {
                        self.device.report(self.now(), id, Report::Roamed(endpoint));
                    }
                }
                Letter::Handshake(from, message) => {
                    let outcome = self.device.handle_handshake(self.now(), from, &message);
                    if let Err(reason) = outcome {
                        (self.observer)(Notice::Dropped(from.remote, reason));
                    }
                }
                Letter::Link(up, mtu) => self.follow_link(up, mtu),
                Letter::Paths => {
                    // Whatever changes from here on is for the next.
                    self.shared.paths_changed.store(false, Ordering::SeqCst);
                    let now = self.now();
                    let review = self.paths.review(&*self.machine, self.mark, now.time);
                    self.device.forget_sources(now, review);
                }
                Letter::Tell(notice) => (self.observer)(notice),
                Letter::Configure(change, answer) => {
                    let outcome = self.configure(&change);
                    // Workers know before the asker does, whose next packet would go the old way.
                    self.settle();
                    // The asker may have gone away meanwhile.
                    drop(answer.send(outcome));
                }
                Letter::State(answer) => {
                    let (listen_port, fwmark) = (self.port, self.mark);
                    let state = self.device.state();
                    drop(answer.send(DeviceState { listen_port, fwmark, ..state }));
                }
                Letter::Stop => return false,
            }
            self.settle();
        }
        true
    }

    /// Does what the device wants done.
    fn settle(&mut self) {
        while let Some(event) = self.device.poll_event() {
            self.apply(event);
        }
        if std::mem::take(&mut self.stale) {
            let routes = self.device.routes(|id| self.peer(id));
            self.shared.routes.store(Arc::new(routes));
        }
        let deadline = self.device.poll_timeout().map(|(deadline, _)| deadline);
        if deadline != self.armed {
            self.armed = deadline;
            // A timerfd takes every time.
            let _ = self.timer.set(deadline.map(|time| self.shared.clock.machine(time)));
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::PeerAdded(id, key, traffic) => {
                self.peers.insert(id, Arc::new(Peer::new(id, key, traffic)));
            }
            Event::PeerRemoved(id) => {
                if let Some(peer) = self.peers.remove(&id) {
                    peer.sending.store(None);
                    peer.staged().clear();
                }
            }
            Event::RoutesChanged => self.stale = true,
            Event::EndpointChanged(id, endpoint) => {
                self.with(id, |peer| peer.set_endpoint(endpoint));
                self.learn_place(id, &endpoint);
                self.ask_if_staged(id);
            }
            Event::SourceForgotten(id, stale) => {
                self.with(id, |peer| peer.forget_source(&self.shared, &stale));
            }
            Event::SessionAdded(id, keypair) => {
                if let Some(peer) = self.peer(id) {
                    self.shared.sessions.add(peer, keypair);
                }
            }
            Event::SessionRemoved(index) => self.shared.sessions.remove(index),
            Event::SendOn(id, keypair) => {
                if !self.send_on(id, &keypair) && keypair.is_initiator {
                    self.device.send_keepalive(self.now(), id);
                }
            }
            Event::SendOnNone(id) => self.with(id, |peer| peer.sending.store(None)),
            Event::Transmit(transmit) => self.transmit(&transmit),
            Event::Handshake(id, progress) => {
                if progress == Progress::GaveUp {
                    self.with(id, |peer| peer.staged().clear());
                }
                self.with(id, |peer| (self.observer)(Notice::Handshake(peer.key, progress)));
            }
            Event::Stranger(key, from) => (self.observer)(Notice::Stranger(key, from.remote)),
        }
    }

    fn now(&self) -> Now {
        self.shared.clock.now()
    }

    fn peer(&self, id: PeerId) -> Option<Arc<Peer>> {
        self.peers.get(&id).cloned()
    }

    fn with(&self, id: PeerId, then: impl FnOnce(&Peer)) {
        if let Some(peer) = self.peer(id) {
            then(&peer);
        }
    }

    /// Takes in where a peer is now. If it has spoken from there, that was at one of our addresses. False
    /// if it is not answered from that one, which another letter tells.
    fn learn_place(&mut self, id: PeerId, endpoint: &Endpoint) -> bool {
        if endpoint.source.is_some() {
            self.with(id, |peer| (self.observer)(Notice::Roamed(peer.key, endpoint.remote)));
        }
        let now = self.now().time;
        let is_right = self.paths.learn(&*self.machine, endpoint, self.mark, now);
        if !is_right {
            self.with(id, |peer| peer.forget_source(&self.shared, endpoint));
        }
        is_right
    }

    /// Sends what is staged on the new session, and only then lets workers use it. False if nothing
    /// was staged.
    fn send_on(&mut self, id: PeerId, keypair: &Arc<proto::Keypair>) -> bool {
        let Some(peer) = self.peer(id) else { return false };
        // Held over the sending of a full queue at most, once a session: workers would stage more without
        // an end.
        let mut staged = peer.staged();
        let any = !staged.is_empty();
        let round = Round::begin(&self.shared, &self.post);
        // Others wait for this thread: it does not wait for room.
        round.has_waited.set(true);
        self.outbound.send_staged(&round, &peer, keypair, std::mem::take(&mut *staged));
        peer.sending.store(Some(Arc::clone(keypair)));
        any
    }

    /// Sends a handshake message, cookie reply or keepalive.
    fn transmit(&self, transmit: &Transmit) {
        let sockets = self.shared.sockets.load();
        let Some(group) = sockets.group(Family::of(transmit.to.remote)) else { return };
        let peer = transmit.peer.and_then(|id| self.peer(id));
        let datagram = Outgoing {
            to: transmit.to.remote,
            source: transmit.to.source,
            tos: transmit.tos,
            bytes: &transmit.bytes,
            stride: transmit.bytes.len(),
            is_train: false,
        };
        let stale = || peer.iter().for_each(|peer| peer.forget_source(&self.shared, &transmit.to));
        match (send(&group.handshake, &datagram, stale), &peer) {
            (Ok(bytes), Some(peer)) => peer.traffic.count_tx(bytes as u64),
            (Err(error), Some(_)) => (self.observer)(Notice::NotSent(transmit.to.remote, error)),
            _ => {}
        }
    }

    /// Takes in what waits in the handshake socket of `family`. Handshake messages become letters, at
    /// least as many as mean load, before any of them is answered.
    fn receive(&mut self, family: Family) {
        let round = Round::begin(&self.shared, &self.post);
        if let Some(group) = round.sockets.group(family) {
            let mut batches = 0..LOAD / SLOTS;
            let _ = batches.find(|_| !self.inbound.forward(&round, &group.handshake));
        }
    }

    /// Applies a change of configuration: what can fail first, then the rest, which cannot.
    fn configure(&mut self, change: &Change) -> io::Result<()> {
        let (port, mark) =
            (change.listen_port.unwrap_or(self.port), change.fwmark.unwrap_or(self.mark));
        let is_closed = self.shared.sockets.load().port().is_none();
        let moves = |port| port == 0 || port != self.port || is_closed;
        let opens = self.link_up && change.listen_port.is_some_and(moves);
        let open = opens.then(|| self.open(port, mark)).transpose()?;
        if open.is_none() && mark != self.mark {
            self.set_mark(mark)?;
        }
        if let Err(proto::TooManyPeers) = self.device.configure(self.now(), change) {
            const ENOSPC: i32 = 28;
            // Back to what worked a moment ago.
            let _ = self.set_mark(self.mark);
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        (self.port, self.mark) = (port, mark);
        if let Some(sockets) = open {
            self.publish(sockets);
        }
        if change.private_key.is_some() {
            self.ask_for_all_staged();
        }
        Ok(())
    }

    fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.shared.sockets.load().groups().try_for_each(|group| self.machine.mark(group, mark))
    }

    /// What waited for a key or an endpoint shall not have to wait for the next packet.
    fn ask_if_staged(&mut self, id: PeerId) {
        if self.peer(id).is_some_and(|peer| !peer.staged().is_empty()) {
            self.device.report(self.now(), id, Report::WantsSession);
        }
    }

    fn ask_for_all_staged(&mut self) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.ask_if_staged(id);
        }
    }

    /// Opens sockets on `port` and watches them; nothing is sent by them yet.
    fn open(&self, port: u16, mark: u32) -> io::Result<Sockets> {
        let sockets = Sockets(self.machine.bind(port, self.shared.workers.len(), mark)?);
        for family in [Family::V4, Family::V6] {
            let Some(group) = sockets.group(family) else { continue };
            // They are open to trains from the start. The kernel asks any socket of the port whether to
            // join packets, before it chooses one.
            for socket in group.sockets().filter(|_| !self.shared.offloads.has(Kind::UdpGro)) {
                // What does not know of trains makes none.
                let _ = socket.set_gro(false);
            }
            self.epoll.add(&group.handshake, family as u64)?;
            for (post, socket) in self.shared.workers.iter().zip(&group.data) {
                self.shared.watch(post, socket, family as u64)?;
            }
        }
        Ok(sockets)
    }

    /// Uses `sockets` from now on, and waits until no worker has those from before any more, so that
    /// their port is free. With the first ones the tunnel comes to life, and without any it sleeps.
    fn publish(&mut self, sockets: Sockets) {
        let port = sockets.port();
        // A port that was drawn stays ours over down and up.
        self.port = port.unwrap_or(self.port);
        let before = self.shared.sockets.swap(Arc::new(sockets));
        while Arc::strong_count(&before) > 1 {
            std::thread::yield_now();
        }
        let port_before = before.port();
        drop(before);
        match (port_before, port) {
            (None, Some(_)) => {
                self.device.up(self.now());
                self.ask_for_all_staged();
                (self.observer)(Notice::Up);
            }
            (Some(_), None) => {
                self.device.down(self.now());
                for peer in self.peers.values() {
                    peer.staged().clear();
                }
                (self.observer)(Notice::Down);
            }
            _ => {}
        }
    }

    /// Takes in how the interface is now.
    fn follow_link(&mut self, up: bool, mtu: Option<u32>) {
        if let Some(mtu) = mtu {
            self.shared.mtu.store(mtu as usize, Ordering::Relaxed);
        }
        match (std::mem::replace(&mut self.link_up, up), up) {
            (false, true) => match self.open(self.port, self.mark) {
                Ok(sockets) => self.publish(sockets),
                // Another port can still be configured.
                Err(error) => (self.observer)(Notice::PortRefused(self.port, error)),
            },
            (true, false) => self.publish(Sockets::default()),
            _ => {}
        }
    }
}
