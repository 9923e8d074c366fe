//! One machine: the protocol, and around it as much of a data plane as the protocol asks for.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proto::limits::{DATA_HEADER, DATA_OVERHEAD, MAX_STAGED, TAG};
use proto::{
    AllowedIps, AllowedIpsChange, Authentic, Change, Device, Discard, Endpoint, Event, Keypair,
    Kind, Now, PeerChange, PeerId, Prefix, PrivateKey, Progress, PublicKey, Report, SessionIndex,
    Time, Traffic, Transmit, Window, inner_packet, kind, padding,
};

use super::chance::Chance;
use super::packet::{destination, packet, payload};

/// What became of a packet that an application sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It left, and so did everything that was staged before it.
    Sent,
    /// It waits for a session.
    Staged,
    /// It belongs to no peer.
    NoRoute,
    /// Nobody knows where its peer is.
    NoEndpoint,
    /// The interface is down.
    Down,
}

/// A datagram as it leaves, and what only its maker knows of it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Own address and port.
    pub from: SocketAddr,
    /// The endpoint it is meant for.
    pub to: SocketAddr,
    /// The outer type of service.
    pub tos: u8,
    /// The UDP payload.
    pub bytes: Vec<u8>,
    /// Who it is meant for; none for cookie replies.
    pub peer: Option<PublicKey>,
    /// Number and bytes of the packet inside.
    pub packet: Option<(u64, Vec<u8>)>,
}

/// A packet that came out of the tunnel.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Who sent it, by the session that it came on.
    pub peer: PublicKey,
    /// Without padding.
    pub packet: Vec<u8>,
}

/// How often a machine has begun again, and how thoroughly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    /// Nothing is remembered.
    pub restarts: u64,
    /// Sessions, limits and timers are gone.
    pub downs: u64,
    /// Nothing may be sent with the old key.
    pub keys: u64,
}

/// What the data plane knows of a peer.
pub struct Peer {
    /// Its identity.
    pub key: PublicKey,
    /// Where it is.
    pub endpoint: Option<Endpoint>,
    /// What is sent on.
    pub sending: Option<Arc<Keypair>>,
    /// Numbered packets that wait for a session.
    pub staged: VecDeque<(u64, Vec<u8>)>,
    /// When an application last sent something.
    pub last_wish: Option<Time>,
    /// When the device last gave it up.
    pub gave_up: Option<Time>,
    traffic: Arc<Traffic>,
}

/// A session whose messages are accepted.
pub struct Session {
    /// With whom.
    pub peer: PeerId,
    /// The keys.
    pub keypair: Arc<Keypair>,
    window: Window,
}

/// A machine with one tunnel.
pub struct Node {
    /// Its place in the network.
    pub number: usize,
    /// The protocol.
    pub device: Device,
    /// Who it is, or was before it lost its key.
    pub key: PublicKey,
    /// What its clocks show.
    pub now: Now,
    /// Where it can be reached; datagrams leave from the first unless the endpoint says otherwise.
    pub addresses: Vec<SocketAddr>,
    /// Of the tunnel.
    pub mtu: usize,
    /// Handshake messages find a full queue.
    pub overloaded: bool,
    /// When it last was.
    pub last_load: Option<Time>,
    /// By identifier.
    pub peers: BTreeMap<PeerId, Peer>,
    /// By the index that messages carry.
    pub sessions: BTreeMap<SessionIndex, Session>,
    /// Datagrams that the network has not fetched yet.
    pub outbox: Vec<Outgoing>,
    /// Packets that nobody has looked at yet.
    pub delivered: Vec<Delivery>,
    /// Events that tell a person something.
    pub events: Vec<Event>,
    /// Who packets go to when nobody is named.
    pub towards: usize,
    routes: AllowedIps<PeerId>,
    up: bool,
    lives: Lives,
    packets: u64,
    inbox: Vec<Vec<u8>>,
}

/// Addresses inside the tunnels: those of machine `number`.
pub fn inner_addresses(number: usize) -> [IpAddr; 2] {
    let host = number as u16 + 1;
    [
        Ipv4Addr::new(10, 0, 0, host as u8).into(),
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host).into(),
    ]
}

/// The prefixes that hold exactly the inner addresses of machine `number`.
pub fn inner_prefixes(number: usize) -> Vec<AllowedIpsChange> {
    let [v4, v6] = inner_addresses(number);
    let prefixes = [Prefix::new(v4, 32), Prefix::new(v6, 128)];
    prefixes.into_iter().flatten().map(AllowedIpsChange::Insert).collect()
}

impl Node {
    /// A machine with a key, but without peers; its interface is down.
    pub fn new(number: usize, now: Now, mut chance: Chance) -> Self {
        let mut key = [0; 32];
        chance.fill(&mut key);
        let device = Device::new(Box::new(move |bytes| chance.fill(bytes)));
        let mut node = Self {
            number,
            key: PublicKey([0; 32]),
            routes: device.routes(Some),
            device,
            now,
            addresses: vec![SocketAddr::from(([192, 0, 2, number as u8 + 1], 51820))],
            mtu: 1420,
            overloaded: false,
            last_load: None,
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            outbox: Vec::new(),
            delivered: Vec::new(),
            events: Vec::new(),
            towards: usize::from(number == 0),
            up: false,
            lives: Lives::default(),
            packets: 0,
            inbox: Vec::new(),
        };
        node.set_private_key(PrivateKey::new(key));
        node
    }

    /// The machine is switched off and on: another `chance`, the same key and address, nothing remembered.
    pub fn restart(&mut self, mut chance: Chance) {
        let key = self.device.state().private_key;
        let mut fresh = Self::new(self.number, self.now, chance.fork());
        fresh.addresses.clone_from(&self.addresses);
        (fresh.packets, fresh.lives) = (self.packets, self.lives);
        fresh.lives.restarts += 1;
        fresh.inbox = std::mem::take(&mut self.inbox);
        *self = fresh;
        self.set_private_key(key);
        self.up();
    }

    /// How often it has begun again.
    pub fn lives(&self) -> Lives {
        self.lives
    }

    /// Whether the interface is up.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// The interface goes up.
    pub fn up(&mut self) {
        self.up = true;
        self.device.up(self.now);
        self.drain();
    }

    /// The interface goes down, with all that was staged.
    pub fn down(&mut self) {
        self.up = false;
        self.lives.downs += 1;
        self.device.down(self.now);
        self.drain();
        for peer in self.peers.values_mut() {
            peer.staged.clear();
        }
    }

    /// Applies a change.
    pub fn configure(&mut self, change: &Change) {
        if let Some(key) = &change.private_key
            && self.device.state().private_key != *key
        {
            self.lives.keys += 1;
            self.key = key.as_ref().map_or(self.key, PrivateKey::public_key);
        }
        self.device.configure(self.now, change).expect("there are few peers");
        self.drain();
        if change.private_key.is_some() {
            let waiting = self.peers.iter().filter(|(_, peer)| !peer.staged.is_empty());
            for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.report(id, Report::WantsSession);
            }
        }
    }

    /// Applies a change of one peer.
    pub fn configure_peer(&mut self, change: PeerChange) {
        self.configure(&Change { peers: vec![change], ..Change::default() });
    }

    /// Becomes someone else.
    pub fn set_private_key(&mut self, key: Option<PrivateKey>) {
        self.configure(&Change { private_key: Some(key), ..Change::default() });
    }

    /// Its addresses or routes have changed.
    pub fn forget_sources(&mut self) {
        self.device.forget_sources(self.now, |_| true);
        self.drain();
    }

    /// A change of the peer `key` that changes nothing yet, and does not create it either.
    pub fn about(key: PublicKey) -> PeerChange {
        PeerChange { update_only: true, ..PeerChange::new(key) }
    }

    /// An application sends `payload` to the usual machine.
    pub fn send(&mut self, payload: &[u8]) -> Fate {
        self.send_to(self.towards, payload)
    }

    /// An application sends `payload` to machine `number`.
    pub fn send_to(&mut self, number: usize, payload: &[u8]) -> Fate {
        let [from, _] = inner_addresses(self.number);
        let [to, _] = inner_addresses(number);
        self.send_packet(packet(from, to, payload))
    }

    /// A packet enters the tunnel.
    pub fn send_packet(&mut self, packet: Vec<u8>) -> Fate {
        if !self.up {
            return Fate::Down;
        }
        let route = destination(&packet).and_then(|address| self.routes.lookup(address).copied());
        let Some((id, peer)) = route.and_then(|id| Some((id, self.peers.get_mut(&id)?))) else {
            return Fate::NoRoute;
        };
        if peer.endpoint.is_none() {
            return Fate::NoEndpoint;
        }
        self.packets += 1;
        peer.last_wish = Some(self.now.time);
        peer.staged.push_back((self.packets, packet));
        if peer.staged.len() > MAX_STAGED {
            peer.staged.pop_front();
        }
        let fate = self.flush(id);
        self.drain();
        fate
    }

    /// The payloads that have arrived, as applications see them.
    pub fn received(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.inbox)
    }

    /// Takes in whatever arrives at `to`.
    pub fn receive(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Discard> {
        if !self.up {
            return Err(Discard::NotReady);
        }
        let source = (to.ip(), 1);
        let from = Endpoint { remote: from, source: Some(source) };
        let outcome = match kind(bytes)? {
            Kind::Data(index) => self.open(from, index, bytes),
            _ => {
                if self.overloaded {
                    self.last_load = Some(self.now.time);
                    self.device.under_load(self.now.time);
                }
                self.device.handle_handshake(self.now, from, bytes)
            }
        };
        self.drain();
        outcome
    }

    /// Does what is due.
    pub fn wake(&mut self) {
        self.device.handle_timeout(self.now);
        self.drain();
    }

    /// Lets `duration` pass on its clocks only.
    pub fn jump(&mut self, duration: Duration) {
        self.now.time = self.now.time + duration;
        self.now.wall += duration;
    }

    /// The peer that is called `key`.
    pub fn peer(&self, key: PublicKey) -> Option<&Peer> {
        self.peers.values().find(|peer| peer.key == key)
    }

    /// What `get` shows of the peer `key`.
    pub fn shown(&self, key: PublicKey) -> Option<proto::PeerState> {
        let peers = self.device.state().peers;
        peers.into_iter().find(|peer| peer.public_key == key)
    }

    /// The session on which packets to `key` would leave now.
    pub fn sending(&self, key: PublicKey) -> Option<&Arc<Keypair>> {
        let sending = self.peer(key)?.sending.as_ref();
        sending.filter(|keypair| keypair.can_send(self.now.time))
    }

    /// Sends what is staged, if there is a session; else asks for one.
    fn flush(&mut self, id: PeerId) -> Fate {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Fate::NoRoute;
        };
        let to = peer.endpoint;
        let (Some(to), Some(keypair)) = (to, peer.sending.clone()) else {
            return self.ask(id);
        };
        while let Some((number, packet)) = peer.staged.pop_front() {
            let pad = padding(packet.len(), self.mtu);
            let mut bytes = [&[0; DATA_HEADER], &packet[..], &vec![0; pad], &[0; TAG]].concat();
            let stride = bytes.len();
            if keypair.seal(self.now.time, &mut bytes, stride).is_err() {
                peer.staged.push_front((number, packet));
                return self.ask(id);
            }
            peer.traffic.count_tx(stride as u64);
            let from = leaves_from(&self.addresses, &to);
            let (tos, peer) = (0, Some(peer.key));
            self.outbox.push(Outgoing {
                from,
                to: to.remote,
                tos,
                bytes,
                peer,
                packet: Some((number, packet)),
            });
        }
        let traffic = Arc::clone(&peer.traffic);
        if traffic.sent(self.now.time, true) {
            self.device.report(self.now, id, Report::Armed);
        }
        if keypair.wants_rekey(self.now.time) {
            self.ask(id);
        }
        Fate::Sent
    }

    fn ask(&mut self, id: PeerId) -> Fate {
        if self.peers.get(&id).is_some_and(|peer| peer.traffic.ask(self.now.time)) {
            self.device.report(self.now, id, Report::WantsSession);
        }
        Fate::Staged
    }

    fn report(&mut self, id: PeerId, report: Report) {
        self.device.report(self.now, id, report);
        self.drain();
    }

    /// Takes in a data message.
    fn open(
        &mut self,
        from: Endpoint,
        index: SessionIndex,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let session = self.sessions.get_mut(&index).ok_or(Discard::UnknownIndex)?;
        let (id, keypair) = (session.peer, Arc::clone(&session.keypair));
        let (mut bytes, length) = (datagram.to_vec(), datagram.len());
        let opened = keypair.open(self.now.time, &mut session.window, &mut bytes, length).next();
        let message = opened.ok_or(Discard::Malformed)??;
        self.note(id, from, &keypair, &message, length > DATA_OVERHEAD);
        let plaintext = message.into_plaintext();
        let peer = self.peers.get(&id).ok_or(Discard::UnknownPeer)?;
        if !plaintext.is_empty() {
            let inner = inner_packet(plaintext).ok_or(Discard::BadPacket)?;
            if self.routes.lookup(inner.source) != Some(&id) {
                return Err(Discard::NotAllowed);
            }
            let packet = plaintext[..inner.length].to_vec();
            self.inbox.push(payload(&packet).to_vec());
            self.delivered.push(Delivery { peer: peer.key, packet });
        }
        peer.traffic.count_rx((DATA_OVERHEAD + plaintext.len()) as u64);
        Ok(())
    }

    /// Lets endpoint, timers and sessions know of an authentic message.
    fn note(
        &mut self,
        id: PeerId,
        from: Endpoint,
        keypair: &Keypair,
        message: &Authentic<'_>,
        is_data: bool,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.endpoint != Some(from) {
            peer.endpoint = Some(from);
            self.device.report(self.now, id, Report::Roamed(from));
        }
        let traffic = Arc::clone(&peer.traffic);
        let renewed = peer.sending.as_ref().is_some_and(|sending| {
            sending.local_index == keypair.local_index
                && keypair.wants_rekey_on_receive(self.now.time)
        });
        if traffic.received(self.now.time, is_data) {
            self.device.report(self.now, id, Report::Armed);
        }
        if keypair.confirm(message) {
            self.report(id, Report::Confirmed(keypair.local_index));
        }
        if renewed {
            self.report(id, Report::WantsSession);
        }
    }

    /// Does what the device wants done.
    fn drain(&mut self) {
        while let Some(event) = self.device.poll_event() {
            self.apply(event);
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        let peer = transmit.peer.and_then(|id| self.peers.get(&id));
        if let Some(peer) = peer {
            peer.traffic.count_tx(transmit.bytes.len() as u64);
        }
        self.outbox.push(Outgoing {
            from: leaves_from(&self.addresses, &transmit.to),
            to: transmit.to.remote,
            tos: transmit.tos,
            bytes: transmit.bytes,
            peer: peer.map(|peer| peer.key),
            packet: None,
        });
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::PeerAdded(id, key, traffic) => {
                let peer = Peer {
                    key,
                    endpoint: None,
                    sending: None,
                    staged: VecDeque::new(),
                    last_wish: None,
                    gave_up: None,
                    traffic,
                };
                self.peers.insert(id, peer);
            }
            Event::PeerRemoved(id) => drop(self.peers.remove(&id)),
            Event::RoutesChanged => self.routes = self.device.routes(Some),
            Event::EndpointChanged(id, endpoint) => {
                self.with(id, |peer| peer.endpoint = Some(endpoint));
            }
            Event::SourceForgotten(id, stale) => {
                let fresh = Some(Endpoint::new(stale.remote));
                self.with(id, |peer| {
                    peer.endpoint =
                        if peer.endpoint == Some(stale) { fresh } else { peer.endpoint };
                });
            }
            Event::SessionAdded(peer, keypair) => {
                let session = Session { peer, window: Window::default(), keypair };
                self.sessions.insert(session.keypair.local_index, session);
            }
            Event::SessionRemoved(index) => drop(self.sessions.remove(&index)),
            Event::SendOn(id, keypair) => {
                let is_initiator = keypair.is_initiator;
                let mut waiting = false;
                self.with(id, |peer| {
                    peer.sending = Some(keypair);
                    waiting = !peer.staged.is_empty();
                });
                if waiting {
                    self.flush(id);
                } else if is_initiator {
                    self.device.send_keepalive(self.now, id);
                }
            }
            Event::SendOnNone(id) => self.with(id, |peer| peer.sending = None),
            Event::Transmit(transmit) => self.transmit(transmit),
            Event::Handshake(id, progress) => {
                let now = self.now.time;
                if progress == Progress::GaveUp {
                    self.with(id, |peer| {
                        peer.staged.clear();
                        peer.gave_up = Some(now);
                    });
                }
                self.events.push(event);
            }
            Event::Stranger(..) => self.events.push(event),
        }
    }

    fn with(&mut self, id: PeerId, then: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(&id) {
            then(peer);
        }
    }
}

/// The own address that a datagram to `to` leaves from.
fn leaves_from(addresses: &[SocketAddr], to: &Endpoint) -> SocketAddr {
    let source = to.source.map(|(source, _)| source);
    let sticky = addresses.iter().find(|address| Some(address.ip()) == source);
    *sticky.unwrap_or(&addresses[0])
}
