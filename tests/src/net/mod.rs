//! A network in virtual time: machines, the weather between them, and a judge.
//!
//! Minutes of protocol time take milliseconds. Everything follows from one seed, and after every
//! step the judge checks what must always hold.

mod chance;
mod judge;
mod node;
mod packet;
pub mod story;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use proto::limits::DATA_OVERHEAD;
use proto::{Discard, Kind, Now, PeerChange, PublicKey, Time, kind};

pub use chance::{Chance, Seed};
use judge::{Judge, look};
pub use node::{Delivery, Fate, Node, Outgoing, inner_addresses, inner_prefixes};
pub use packet::packet;
use story::Summary;

/// The number of the first machine.
pub const ALICE: usize = 0;
/// The number of the second machine.
pub const BOB: usize = 1;

/// How datagrams fare.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// On the way at least.
    pub delay: Duration,
    /// On the way at most in addition: what is spread changes places.
    pub spread: Duration,
    /// Lost, of a thousand.
    pub loss: u16,
    /// Arriving twice, of a thousand.
    pub twins: u16,
    /// Damaged, of a thousand.
    pub damage: u16,
}

impl Weather {
    /// Everything arrives once, in order, after 10 ms.
    pub const FAIR: Self = Self {
        delay: Duration::from_millis(10),
        spread: Duration::ZERO,
        loss: 0,
        twins: 0,
        damage: 0,
    };
    /// Nothing arrives.
    pub const CUT: Self = Self { loss: 1000, ..Self::FAIR };
}

/// What a datagram is, as far as a stranger can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Message 1.
    Initiation,
    /// Message 2.
    Response,
    /// Message 3.
    CookieReply,
    /// Message 4 with nothing in it.
    Keepalive,
    /// Message 4.
    Packet,
}

/// Bytes of the second MAC, at the end of messages 1 and 2.
const MAC2: usize = 16;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Its source as the receiver will see it.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// The outer type of service.
    pub tos: u8,
    /// The UDP payload.
    pub bytes: Vec<u8>,
    /// Who made exactly these bytes; none if nobody did.
    pub maker: Option<Rc<Maker>>,
}

impl fmt::Display for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, bytes, .. } = self;
        match self.what() {
            Some(what) => write!(f, "{what:?} {:08x}", self.word(1))?,
            None => write!(f, "rubbish")?,
        }
        let maker = self.maker.as_ref().map(|maker| maker.serial);
        write!(f, " of {} bytes from {from} to {to}, made as {maker:?}", bytes.len())
    }
}

/// Where a datagram comes from in truth.
#[derive(Debug)]
pub struct Maker {
    /// No two datagrams have the same.
    pub serial: u64,
    /// The machine.
    pub number: usize,
    /// Who the machine was then.
    pub key: PublicKey,
    /// Who it is meant for; none for cookie replies.
    pub peer: Option<PublicKey>,
    /// Number and bytes of the packet inside.
    pub packet: Option<(u64, Vec<u8>)>,
}

impl Parcel {
    /// What it looks like; `None` if it is malformed.
    pub fn what(&self) -> Option<What> {
        Some(match kind(&self.bytes).ok()? {
            Kind::Initiation => What::Initiation,
            Kind::Response(_) => What::Response,
            Kind::CookieReply(_) => What::CookieReply,
            Kind::Data(_) if self.bytes.len() == DATA_OVERHEAD => What::Keepalive,
            Kind::Data(_) => What::Packet,
        })
    }

    /// One bit flips, or the end is lost, or there is more than there was.
    fn damage(&mut self, chance: &mut Chance) {
        let length = self.bytes.len();
        let mut bytes = self.bytes.clone();
        match chance.below(4) {
            0 => bytes.truncate(chance.below(length)),
            1 => bytes.push(chance.below(256) as u8),
            _ => bytes[chance.below(length)] ^= 1 << chance.below(8),
        }
        if !self.is_vouched(&bytes) {
            self.maker = None;
        }
        self.bytes = bytes;
    }

    /// Whether `bytes` prove as much of their maker as these. mac2 proves nothing but an address, and
    /// matters only when there is load.
    fn is_vouched(&self, bytes: &[u8]) -> bool {
        let vouched = match self.what() {
            Some(What::Initiation | What::Response) => self.bytes.len() - MAC2,
            _ => self.bytes.len(),
        };
        bytes.len() == self.bytes.len() && bytes[..vouched] == self.bytes[..vouched]
    }

    /// The `at`th number of four bytes: 1 is the index that every message begins with.
    pub fn word(&self, at: usize) -> u32 {
        let word = self.bytes[at * 4..].first_chunk();
        u32::from_le_bytes(*word.expect("every message has that many"))
    }
}

/// A datagram that was put on the wire.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Since the network began.
    pub at: Duration,
    /// The machine that sent it.
    pub by: usize,
    /// The datagram, before any weather.
    pub parcel: Parcel,
}

/// Machines and what is between them.
pub struct Net {
    /// Machine 0.
    pub alice: Node,
    /// Machine 1.
    pub bob: Node,
    /// Machines 2 and up.
    pub others: Vec<Node>,
    /// How datagrams fare that are sent from now on.
    pub weather: Weather,
    /// Everything that was sent, until [`Net::forget`].
    pub log: Vec<Sent>,
    chance: Chance,
    judge: RefCell<Judge>,
    now: Now,
    wire: BTreeMap<(Time, u64), Parcel>,
    serial: u64,
    /// Everything is told as it happens: `ADIT_TRACE` is set.
    traced: bool,
    history: DefaultHasher,
    summary: Summary,
}

/// What all clocks show when a network begins.
fn beginning() -> Now {
    Now {
        time: Time::from_start(Duration::from_secs(1_000)),
        wall: Duration::from_secs(1_700_000_000),
    }
}

impl Net {
    /// `count` machines that are up but know nobody; at least two.
    pub fn strangers(seed: Seed, count: usize) -> Self {
        let mut chance = Chance::new(seed);
        let mut machines = (0..count).map(|number| {
            let mut node = Node::new(number, beginning(), chance.fork());
            node.up();
            node
        });
        let (alice, bob) = (machines.next(), machines.next());
        let others = machines.collect();
        let mut net = Self {
            alice: alice.expect("at least two"),
            bob: bob.expect("at least two"),
            others,
            weather: Weather::FAIR,
            log: Vec::new(),
            judge: RefCell::new(Judge::new(count)),
            chance,
            now: beginning(),
            wire: BTreeMap::new(),
            serial: 0,
            traced: std::env::var_os("ADIT_TRACE").is_some(),
            history: DefaultHasher::new(),
            summary: Summary::default(),
        };
        net.collect();
        net
    }

    /// `count` machines of which each knows every other and where it is.
    pub fn mesh(seed: Seed, count: usize) -> Self {
        let mut net = Self::strangers(seed, count);
        for number in 0..count {
            for other in (0..count).filter(|other| *other != number) {
                net.introduce(number, other);
            }
        }
        net
    }

    /// Alice and Bob, who know each other, and have not spoken yet.
    pub fn pair(seed: Seed) -> Self {
        Self::mesh(seed, 2)
    }

    /// Alice and Bob, after a handshake that Alice began and both have completed.
    pub fn connected(seed: Seed) -> Self {
        let mut net = Self::pair(seed);
        net.exchange_handshake();
        net.settle();
        net.forget();
        net
    }

    /// Tells machine `number` of machine `other`: its key, its place and its addresses.
    pub fn introduce(&mut self, number: usize, other: usize) {
        let (key, address) = (self.node(other).key, self.node(other).addresses[0]);
        self.edit(number, |node| {
            node.configure_peer(PeerChange {
                endpoint: Some(address),
                allowed_ips: inner_prefixes(other),
                ..PeerChange::new(key)
            });
        });
    }

    /// Alice's initiation and Bob's response. What confirms the session to Bob is still on its way.
    pub fn exchange_handshake(&mut self) {
        let bob = self.bob.key;
        let alice = &mut self.alice;
        let id = alice.peers.iter().find(|(_, peer)| peer.key == bob);
        let id = *id.expect("Alice knows Bob").0;
        alice.device.send_keepalive(alice.now, id);
        alice.wake();
        self.run(self.weather.delay * 2);
    }

    /// Machine `number`.
    pub fn node(&self, number: usize) -> &Node {
        match number {
            ALICE => &self.alice,
            BOB => &self.bob,
            _ => &self.others[number - 2],
        }
    }

    /// Machine `number`, to be changed.
    pub fn node_mut(&mut self, number: usize) -> &mut Node {
        match number {
            ALICE => &mut self.alice,
            BOB => &mut self.bob,
            _ => &mut self.others[number - 2],
        }
    }

    /// All machines in order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        [&self.alice, &self.bob].into_iter().chain(&self.others)
    }

    /// How long the network has existed.
    pub fn age(&self) -> Duration {
        self.now.time.since(beginning().time)
    }

    /// When machine `by` sent datagrams that are `what`.
    pub fn sent(&self, by: usize, what: What) -> Vec<Duration> {
        let log = self.log.iter();
        let sent = log.filter(|sent| sent.by == by && sent.parcel.what() == Some(what));
        sent.map(|sent| sent.at).collect()
    }

    /// Empties the log.
    pub fn forget(&mut self) {
        self.collect();
        self.log.clear();
    }

    /// Does to machine `number` what no packet does: the judge takes the result as it is.
    pub fn edit<T>(&mut self, number: usize, change: impl FnOnce(&mut Node) -> T) -> T {
        self.collect();
        let done = change(self.node_mut(number));
        self.tell(|net| format!("{number} changes: {:?}", net.node(number).device.state()));
        self.judge.borrow_mut().begin_again(self.node(number));
        self.collect();
        done
    }

    /// Lets `duration` pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now.time + duration;
        self.collect();
        let mut steps_at_once = 0;
        while let Some(next) = self.next_step().filter(|next| *next <= end) {
            steps_at_once = if next > self.now.time { 0 } else { steps_at_once + 1 };
            assert!(steps_at_once < 100_000, "time stands still");
            self.advance(next);
            self.step();
        }
        self.advance(end);
    }

    /// Lets time pass until nothing is on its way.
    pub fn settle(&mut self) {
        self.collect();
        while let Some((&(arrival, _), _)) = self.wire.last_key_value() {
            self.run(arrival.since(self.now.time));
        }
    }

    /// Takes everything off the wire that is on its way.
    pub fn intercept(&mut self) -> Vec<Parcel> {
        self.collect();
        std::mem::take(&mut self.wire).into_values().collect()
    }

    /// Puts a datagram on the wire that arrives at once, whoever sends it.
    pub fn inject(&mut self, parcel: Parcel) {
        self.put(self.now.time, parcel);
    }

    /// Hands a datagram to the machine that has its address, now.
    ///
    /// # Errors
    /// The reason for which it was dropped.
    pub fn deliver(&mut self, parcel: &Parcel) -> Result<(), Discard> {
        self.collect();
        let number = self.nodes().find(|node| node.addresses.contains(&parcel.to));
        let Some(number) = number.map(|node| node.number) else {
            return Err(Discard::UnknownPeer);
        };
        let before = look(self.node(number));
        let node = self.node_mut(number);
        let outcome = node.receive(parcel.from, parcel.to, &parcel.bytes);
        let delivered = std::mem::take(&mut node.delivered);
        self.summary.packets += delivered.len();
        if let Err(reason) = outcome {
            self.summary.discards[reason as usize] += 1;
        }
        self.tell(|_| format!("{number} gets {parcel}: {outcome:?}"));
        let mut judge = self.judge.borrow_mut();
        judge.received(self.node(number), parcel, outcome, &before, &delivered);
        drop(judge);
        self.collect();
        outcome
    }

    /// What has happened so far, in numbers.
    pub fn summary(&self) -> Summary {
        Summary { digest: self.history.finish(), duration: self.age(), ..self.summary.clone() }
    }

    /// When something happens next.
    fn next_step(&self) -> Option<Time> {
        let wakes = self.nodes().filter_map(|node| {
            let (deadline, _) = node.device.poll_timeout()?;
            Some(self.now.time + deadline.since(node.now.time))
        });
        let arrival = self.wire.first_key_value().map(|((arrival, _), _)| *arrival);
        wakes.chain(arrival).min()
    }

    fn advance(&mut self, to: Time) {
        let duration = to.since(self.now.time);
        let others = self.others.iter_mut();
        for node in [&mut self.alice, &mut self.bob].into_iter().chain(others) {
            node.jump(duration);
        }
        self.now.time = self.now.time + duration;
        self.now.wall += duration;
    }

    /// One machine that is due wakes; if none is, one datagram arrives.
    fn step(&mut self) {
        let due = |node: &&Node| {
            let timeout = node.device.poll_timeout();
            timeout.is_some_and(|(deadline, _)| deadline <= node.now.time)
        };
        let due = self.nodes().find(due).map(|node| node.number);
        if let Some(number) = due {
            self.tell(|net| {
                format!("{number} wakes: {:?}", net.node(number).device.poll_timeout())
            });
            self.node_mut(number).wake();
            self.collect();
        } else if let Some((_, parcel)) = self.wire.pop_first() {
            // Whoever sent it learns nothing of its fate.
            let _ = self.deliver(&parcel);
        }
    }

    /// Fetches what the machines have sent, and lets the judge look at all of them.
    fn collect(&mut self) {
        for number in 0..2 + self.others.len() {
            let node = self.node_mut(number);
            let key = node.key;
            for outgoing in std::mem::take(&mut node.outbox) {
                let parcel = self.pack(number, key, outgoing);
                self.tell(|_| format!("{number} sends {parcel}"));
                self.judge.borrow_mut().sent(self.node(number), &parcel);
                (self.age(), number, &parcel.bytes).hash(&mut self.history);
                self.summary.datagrams += 1;
                self.log.push(Sent { at: self.age(), by: number, parcel: parcel.clone() });
                self.expose(parcel);
            }
            self.judge.borrow_mut().inspect(self.node(number));
        }
    }

    /// Tells what happens, if anybody wants to know.
    fn tell(&self, what: impl FnOnce(&Self) -> String) {
        if self.traced {
            eprintln!("{:12.6} {}", self.age().as_secs_f64(), what(self));
        }
    }

    fn pack(&mut self, number: usize, key: PublicKey, outgoing: Outgoing) -> Parcel {
        self.serial += 1;
        let Outgoing { from, to, tos, bytes, peer, packet } = outgoing;
        let serial = self.serial;
        Parcel {
            from,
            to,
            tos,
            bytes,
            maker: Some(Rc::new(Maker { serial, number, key, peer, packet })),
        }
    }

    /// Lets the weather decide whether, when, how often and how a datagram arrives.
    fn expose(&mut self, parcel: Parcel) {
        let Weather { delay, spread, loss, twins, damage } = self.weather;
        let copies = 1 + usize::from(self.chance.per_mille(twins));
        for _ in 0..copies {
            let arrival = self.now.time + delay + self.chance.up_to(spread);
            let lost = self.chance.per_mille(loss);
            let mut parcel = parcel.clone();
            if self.chance.per_mille(damage) {
                parcel.damage(&mut self.chance);
            }
            if !lost {
                self.put(arrival, parcel);
            }
        }
    }

    fn put(&mut self, arrival: Time, parcel: Parcel) {
        self.serial += 1;
        self.wire.insert((arrival, self.serial), parcel);
    }
}
