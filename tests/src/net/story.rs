//! The random life of a network: trouble, then fair weather, then silence.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use proto::{AllowedIpsChange, Discard, PeerChange, Prefix, PresharedKey, PrivateKey};

use super::node::{inner_addresses, inner_prefixes};
use super::packet::packet;
use super::{Chance, Fate, Net, Node, Parcel, Seed, Weather};

/// After this long in fair weather everyone reaches everyone: data that nobody answers is noticed
/// after 15.4 s, and two machines that begin at once do so again a few times at most.
const RECOVERY: Duration = Duration::from_secs(16 + 5 * 6);
const SECOND: Duration = Duration::from_secs(1);

/// What happened in a story, in numbers.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Of everything that was sent and when: equal for equal stories.
    pub digest: u64,
    /// Protocol time.
    pub duration: Duration,
    /// Datagrams sent.
    pub datagrams: usize,
    /// Packets delivered.
    pub packets: usize,
    /// How often each reason made a datagram come to nothing, in the order of [`Discard::ALL`].
    pub discards: [usize; Discard::ALL.len()],
}

/// Lives through the story of `seed`.
///
/// # Panics
/// When an invariant does not hold.
pub fn tell(seed: Seed) -> Summary {
    tell_by(Chance::new(seed), Seed(!seed.0))
}

/// Lives through the story that `chance` makes, in the network of `seed`.
///
/// # Panics
/// When an invariant does not hold.
pub fn tell_by(mut chance: Chance, seed: Seed) -> Summary {
    let calm = chance.below(8) == 0;
    let count = 2 + chance.below(3) * chance.below(2);
    let mut story = Story {
        net: Net::mesh(seed, count),
        chance,
        count,
        addresses: 0,
        latest_wall: Duration::ZERO,
        marks: 0,
    };
    if calm {
        story.calm();
    } else {
        story.trouble();
        story.heal();
        story.recover();
    }
    story.silence();
    story.net.summary()
}

struct Story {
    net: Net,
    chance: Chance,
    count: usize,
    /// How many have been given out.
    addresses: u16,
    /// The latest that any wall clock has shown.
    latest_wall: Duration,
    /// How many payloads have been numbered.
    marks: u64,
}

impl Story {
    /// Two different machines.
    fn two(&mut self) -> (usize, usize) {
        let one = self.chance.below(self.count);
        let other = self.chance.below(self.count - 1);
        (one, other + usize::from(other >= one))
    }

    /// Nothing goes wrong: every packet arrives, in order, whatever the sessions do meanwhile (I14).
    fn calm(&mut self) {
        let mut sent = vec![Vec::new(); self.count * self.count];
        for _ in 0..60 {
            let (from, to) = self.two();
            for _ in 0..1 + self.chance.below(4) {
                let payload = self.payload(from);
                assert_ne!(self.net.node_mut(from).send_to(to, &payload), Fate::NoRoute);
                sent[to * self.count + from].push(payload);
            }
            let pause = *self.chance.pick(&[1, 10, 1_000, 12_000, 40_000, 190_000]);
            let pause = self.chance.up_to(Duration::from_millis(pause));
            self.net.run(pause);
        }
        self.net.run(RECOVERY);
        let mut lost = 0;
        for to in 0..self.count {
            let received = self.net.node_mut(to).received();
            for from in 0..self.count {
                let mut sent = sent[to * self.count + from].iter();
                for payload in received.iter().filter(|payload| payload[0] == from as u8) {
                    let missed = sent.position(|sent| sent == payload);
                    lost += missed.expect("I14: out of order in fair weather");
                }
                lost += sent.len();
            }
        }
        assert_eq!(lost, self.expired(), "I14: lost in fair weather");
    }

    /// A payload that is told apart from every other.
    fn payload(&mut self, from: usize) -> Vec<u8> {
        self.marks += 1;
        let longest = *self.chance.pick(&[1, 16, 100, 1_391]);
        let filler = vec![0x5a; self.chance.below(longest)];
        [&[from as u8], &self.marks.to_le_bytes()[..], &filler].concat()
    }

    /// Everything that can happen, happens.
    fn trouble(&mut self) {
        let actions = 20 + self.chance.below(50);
        for _ in 0..actions {
            let pause = *self.chance.pick(&[0, 5, 100, 1_000, 3_000, 6_000, 20_000, 60_000]);
            let pause = self.chance.up_to(Duration::from_millis(pause));
            self.net.run(pause);
            match self.chance.below(100) {
                0..40 => self.talk(),
                40..50 => self.change_weather(),
                50..60 => self.attack(),
                60..64 => self.crowd(),
                64..68 => self.walk(),
                68..73 => self.change_keepalive(),
                73..78 => self.change_preshared_key(),
                78..81 => self.change_allowed_ips(),
                81..84 => self.change_peers(),
                84..87 => self.change_private_key(),
                87..92 => self.flip(),
                92..94 => self.restart(),
                94..98 => self.change_clocks(),
                _ => self.change_endpoint(),
            }
        }
    }

    /// Applications talk.
    fn talk(&mut self) {
        let (from, to) = self.two();
        let burst = *self.chance.pick(&[1, 1, 2, 4, 150]);
        let version = self.chance.below(2);
        for _ in 0..1 + self.chance.below(burst) {
            let payload = self.payload(from);
            let [source, destination] = [from, to].map(|number| inner_addresses(number)[version]);
            self.net.node_mut(from).send_packet(packet(source, destination, &payload));
        }
        if self.chance.below(10) == 0 {
            // Someone lies about where a packet comes from, or how long it is.
            let [source, destination] = [*self.chance.pick(&[from, to]), to].map(inner_addresses);
            let mut packet = packet(source[0], destination[0], &self.payload(from));
            packet[2] |= self.chance.below(2) as u8;
            self.net.node_mut(from).send_packet(packet);
        }
    }

    fn change_weather(&mut self) {
        let chance = &mut self.chance;
        let [delay, spread] = [[1, 20, 300], [0, 20, 10_000]].map(|choice| {
            let longest = Duration::from_millis(*chance.pick(&choice));
            chance.up_to(longest)
        });
        self.net.weather = Weather {
            delay,
            spread,
            loss: *chance.pick(&[0, 0, 50, 300, 500, 1000]),
            twins: *chance.pick(&[0, 100]),
            damage: *chance.pick(&[0, 0, 30, 300]),
        };
    }

    /// Somebody outside has heard everything, and says what he likes.
    fn attack(&mut self) {
        for _ in 0..1 + self.chance.below(8) {
            let from = *self.chance.pick(&[self.net.alice.addresses[0], self.net.bob.addresses[0]]);
            let from = if self.chance.below(3) == 0 { self.new_address() } else { from };
            let (to, _) = self.two();
            let to = self.net.node(to).addresses[0];
            let Some(mut parcel) = self.heard() else { return };
            match self.chance.below(6) {
                // Again, as it was.
                0 => {}
                1 => (parcel.from, parcel.to) = (from, to),
                2 => parcel.to = to,
                3 => parcel.damage(&mut self.chance),
                // The beginning of one, the rest of another.
                4 => {
                    let Some(other) = self.heard() else { return };
                    let at = self.chance.below(parcel.bytes.len().min(other.bytes.len()));
                    let spliced = [&parcel.bytes[..at], &other.bytes[at..]].concat();
                    let origin = [&parcel, &other].into_iter().find(|one| one.is_vouched(&spliced));
                    parcel.maker = origin.and_then(|origin| origin.maker.clone());
                    parcel.bytes = spliced;
                }
                _ => {
                    let length = *self.chance.pick(&[0, 4, 31, 32, 64, 92, 148, 1_500]);
                    parcel.bytes = self.chance.bytes(length);
                    let kind = self.chance.below(6) as u8;
                    for (to, from) in parcel.bytes.iter_mut().zip([kind, 0, 0, 0]) {
                        *to = from;
                    }
                    (parcel.to, parcel.maker) = (to, None);
                }
            }
            let times = *self.chance.pick(&[1, 1, 1, 10]);
            (0..times).for_each(|_| self.net.inject(parcel.clone()));
        }
    }

    /// Something that was sent once, mostly not long ago.
    fn heard(&mut self) -> Option<Parcel> {
        let all = self.net.log.len();
        let last = *self.chance.pick(&[5, 50, all]);
        let at = all.checked_sub(1 + self.chance.below(last.min(all)));
        self.net.log.get(at?).map(|sent| sent.parcel.clone())
    }

    /// So many strangers come that handshakes cost a cookie; or they go again.
    fn crowd(&mut self) {
        let (number, _) = self.two();
        self.net.edit(number, |node| node.overloaded ^= true);
    }

    fn new_address(&mut self) -> SocketAddr {
        self.addresses += 1;
        let [high, low] = self.addresses.to_be_bytes();
        let v4 = IpAddr::from([198, 51 + high, 100, low]);
        let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, self.addresses]);
        SocketAddr::new(*self.chance.pick(&[v4, v6]), 1024 + self.addresses)
    }

    /// A machine gets another address; sometimes it keeps the old one, too.
    fn walk(&mut self) {
        let (number, _) = self.two();
        let address = self.new_address();
        let keep = self.chance.below(2);
        self.net.edit(number, |node| {
            node.addresses.truncate(keep);
            node.addresses.insert(0, address);
            node.forget_sources();
        });
    }

    fn change(&mut self, number: usize, of: usize, change: impl FnOnce(&mut PeerChange)) {
        let mut peer = Node::about(self.net.node(of).key);
        change(&mut peer);
        self.net.edit(number, |node| node.configure_peer(peer));
    }

    fn change_keepalive(&mut self) {
        let (number, other) = self.two();
        let seconds = *self.chance.pick(&[0, 0, 1, 3, 10, 25]);
        self.change(number, other, |peer| peer.persistent_keepalive = Some(seconds));
    }

    /// One side learns a new preshared key, mostly the other does, too.
    fn change_preshared_key(&mut self) {
        let (one, other) = self.two();
        let key = PresharedKey::new([self.chance.below(3) as u8; 32]);
        self.change(one, other, |peer| peer.preshared_key = Some(key.clone()));
        if self.chance.below(4) != 0 {
            self.change(other, one, |peer| peer.preshared_key = Some(key));
        }
    }

    fn change_allowed_ips(&mut self) {
        let (number, other) = self.two();
        let host = self.chance.below(5) as u8;
        let length = *self.chance.pick(&[0, 24, 30, 31, 32]);
        let prefix = Prefix::new(Ipv4Addr::new(10, 0, 0, host).into(), length);
        let prefix = prefix.expect("it is short enough");
        let step = *self.chance.pick(&[
            AllowedIpsChange::Clear,
            AllowedIpsChange::Remove(prefix),
            AllowedIpsChange::Insert(prefix),
            AllowedIpsChange::Insert(prefix),
        ]);
        self.change(number, other, |peer| peer.allowed_ips.push(step));
    }

    fn change_peers(&mut self) {
        let (number, other) = self.two();
        match self.chance.below(2) {
            0 => self.change(number, other, |peer| peer.remove = true),
            _ => self.net.introduce(number, other),
        }
    }

    /// A machine becomes someone else; the others hear of it or not.
    fn change_private_key(&mut self) {
        let (number, _) = self.two();
        let bytes = self.chance.bytes(32);
        let mut key = PrivateKey::new(bytes.try_into().expect("thirty-two"));
        if self.chance.below(8) == 0 {
            key = None;
        }
        self.net.edit(number, |node| node.set_private_key(key));
        for other in (0..self.count).filter(|other| *other != number) {
            if self.chance.below(3) != 0 {
                self.net.introduce(other, number);
            }
        }
    }

    /// An interface goes down, or up; mostly up soon after.
    fn flip(&mut self) {
        let (number, _) = self.two();
        let again = self.chance.below(3) != 0;
        self.net.edit(number, |node| match node.is_up() {
            true => node.down(),
            false => node.up(),
        });
        if again {
            self.net.edit(number, Node::up);
        }
    }

    fn restart(&mut self) {
        let (number, _) = self.two();
        let fresh = self.chance.fork();
        self.net.edit(number, |node| node.restart(fresh));
        for other in (0..self.count).filter(|other| *other != number) {
            self.net.introduce(number, other);
        }
    }

    /// A machine sleeps; or its wall clock is set.
    fn change_clocks(&mut self) {
        let (number, _) = self.two();
        let longest = *self.chance.pick(&[10, 200, 700]);
        let duration = self.chance.up_to(SECOND * longest);
        self.latest_wall = self.latest_wall.max(self.net.node(number).now.wall);
        let choice = self.chance.below(3);
        self.net.edit(number, |node| match choice {
            0 => node.now.wall += duration,
            1 => node.now.wall -= duration,
            _ => node.jump(duration),
        });
    }

    /// Somebody tells a machine where a peer is, or where it is not.
    fn change_endpoint(&mut self) {
        let (number, other) = self.two();
        let truth = self.net.node(other).addresses[0];
        let nobody = self.new_address();
        let endpoint = *self.chance.pick(&[truth, truth, nobody]);
        self.change(number, other, |peer| peer.endpoint = Some(endpoint));
    }

    /// All machines are up, have the right time, and know each other; the weather is fair.
    fn heal(&mut self) {
        self.net.weather = Weather { delay: Duration::from_millis(5), ..Weather::FAIR };
        // What attackers have still on the way must not move an endpoint afterwards.
        self.net.settle();
        let walls = self.net.nodes().map(|node| node.now.wall);
        let wall = walls.max().unwrap_or_default().max(self.latest_wall) + SECOND;
        for number in 0..self.count {
            let bytes = self.chance.bytes(32);
            self.net.edit(number, |node| {
                node.now.wall = wall;
                node.overloaded = false;
                if node.device.state().private_key.is_none() {
                    node.set_private_key(PrivateKey::new(bytes.try_into().expect("thirty-two")));
                }
                node.up();
            });
        }
        let keys: BTreeSet<_> = self.net.nodes().map(|node| node.key).collect();
        for number in 0..self.count {
            let peers = self.net.node(number).device.state().peers;
            let strangers = peers.iter().map(|peer| peer.public_key);
            for stranger in strangers.filter(|key| !keys.contains(key)) {
                let change = PeerChange { remove: true, ..PeerChange::new(stranger) };
                self.net.edit(number, |node| node.configure_peer(change));
            }
            for other in (0..self.count).filter(|other| *other != number) {
                self.reconcile(number, other);
            }
        }
    }

    fn reconcile(&mut self, number: usize, other: usize) {
        let mut allowed_ips = inner_prefixes(other);
        allowed_ips.insert(0, AllowedIpsChange::Clear);
        let change = PeerChange {
            endpoint: Some(self.net.node(other).addresses[0]),
            preshared_key: Some(PresharedKey::default()),
            persistent_keepalive: Some(0),
            allowed_ips,
            ..PeerChange::new(self.net.node(other).key)
        };
        self.net.edit(number, |node| node.configure_peer(change));
    }

    /// With traffic both ways, everyone soon reaches everyone (I5).
    fn recover(&mut self) {
        let end = self.net.age() + RECOVERY;
        while self.net.age() < end {
            self.everyone_talks();
        }
        for number in 0..self.count {
            self.net.node_mut(number).received();
        }
        let expired = self.expired();
        for _ in 0..3 {
            self.everyone_talks();
        }
        self.net.settle();
        let received: usize = (0..self.count).map(|n| self.net.node_mut(n).received().len()).sum();
        let lost = 3 * self.count * (self.count - 1) - received;
        assert_eq!(lost, self.expired() - expired, "I5: lost after a long time of fair weather");
    }

    /// Messages so far that came too late: a session can reach 180 s while they are on their way.
    fn expired(&self) -> usize {
        self.net.summary().discards[Discard::Expired as usize]
    }

    fn everyone_talks(&mut self) {
        for from in 0..self.count {
            for to in (0..self.count).filter(|to| *to != from) {
                let payload = self.payload(from);
                self.net.node_mut(from).send_to(to, &payload);
                let pause = self.chance.up_to(SECOND / self.count as u32);
                self.net.run(pause);
            }
        }
        self.net.settle();
    }

    /// Without traffic nothing moves, and in the end nothing is left (I12, I4).
    fn silence(&mut self) {
        self.net.run(150 * SECOND);
        self.net.forget();
        self.net.run(540 * SECOND);
        assert!(self.net.log.is_empty(), "I12: {:?} in the silence", self.net.log);
        for node in self.net.nodes() {
            assert!(node.sessions.is_empty(), "I4: keys are left");
            assert_eq!(node.device.poll_timeout(), None, "I12: a timer is left");
        }
    }
}
