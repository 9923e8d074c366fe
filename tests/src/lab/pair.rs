//! Two daemons that are peers of each other, and the scenarios that every two of them play.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::{
    Daemon, Implementation, KeyPair, Lab, Namespace, PeerState, PresharedKey, await_that,
    known_difference, skipped,
};

/// Who plays: `left` starts the conversation.
#[derive(Clone, Copy, Debug)]
pub struct Pairing {
    pub left: Implementation,
    pub right: Implementation,
    /// Environment of adit's daemons, to disable an offload or to make a fault.
    pub environment: &'static [(&'static str, &'static str)],
}

/// What two daemons do together, for any two implementations.
pub type Scenario = fn(&Lab, Pairing);

/// What a daemon does alone, for any implementation.
pub type Solo = fn(&Lab, Implementation);

impl Implementation {
    /// Plays a scenario alone, unless the player is missing or known not to be able to.
    pub fn play(self, name: &str, solo: Solo) {
        if let Some(why) = known_difference(name, Pairing::new(self, self)) {
            return skipped(&format!("known difference, {why}"));
        }
        if let Some(lab) = Lab::open(&[self]) {
            solo(&lab, self);
        }
    }
}

impl Pairing {
    pub const fn new(left: Implementation, right: Implementation) -> Self {
        Self { left, right, environment: &[] }
    }

    /// Plays a scenario, unless a player is missing or known not to be able to.
    pub fn play(self, name: &str, scenario: Scenario) {
        if let Some(why) = known_difference(name, self) {
            return skipped(&format!("known difference, {why}"));
        }
        if let Some(lab) = Lab::open(&[self.left, self.right]) {
            scenario(&lab, self);
        }
    }
}

/// The family of the packets that carry the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The loopback address.
    pub fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// One of the two: a daemon, the namespace that its interface is in, and how it is addressed.
pub struct Node {
    pub daemon: Daemon,
    pub ns: Namespace,
    pub key: KeyPair,
    /// The port it was started with.
    pub port: u16,
    /// Its addresses inside the tunnel.
    pub v4: IpAddr,
    pub v6: IpAddr,
}

/// Two nodes that know each other. Only the left one is told the other's endpoint, so it is the
/// initiator until something changes.
pub struct Pair {
    pub left: Node,
    pub right: Node,
    pub preshared: PresharedKey,
}

impl Pair {
    /// The set-up of the kernel's own test: both daemons live in one namespace and exchange
    /// datagrams over its loopback; their interfaces are moved to a namespace each.
    #[track_caller]
    pub fn new(lab: &Lab, pairing: Pairing, family: Family) -> Self {
        Self::unacquainted(lab, pairing).acquainted(family.loopback())
    }

    /// The same with a key and a port each, but no peer yet.
    #[track_caller]
    pub fn unacquainted(lab: &Lab, pairing: Pairing) -> Self {
        let home = lab.namespace("home");
        let (left, right) = (lab.namespace("left"), lab.namespace("right"));
        Self::start(lab, pairing, [(&home, &left), (&home, &right)])
    }

    /// Two machines joined by a link `eth0`–`eth0`, 10.0.0.1–10.0.0.2 and fd00:aa::1–fd00:aa::2,
    /// a daemon on each.
    #[track_caller]
    pub fn linked(lab: &Lab, pairing: Pairing, family: Family) -> Self {
        Self::linked_unacquainted(lab, pairing).acquainted(match family {
            Family::V4 => Ipv4Addr::new(10, 0, 0, 2).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0xaa, 0, 0, 0, 0, 0, 2).into(),
        })
    }

    /// The same with a key and a port each, but no peer yet.
    #[track_caller]
    pub fn linked_unacquainted(lab: &Lab, pairing: Pairing) -> Self {
        let (left, right) = (lab.namespace("left"), lab.namespace("right"));
        left.link("eth0", &right, "eth0");
        for (ns, number) in [(&left, 1), (&right, 2)] {
            ns.address("eth0", &format!("10.0.0.{number}/24"));
            ns.address("eth0", &format!("fd00:aa::{number}/96"));
        }
        Self::start(lab, pairing, [(&left, &left), (&right, &right)])
    }

    /// Two strangers; of each, where the daemon is and where its interface is.
    #[track_caller]
    fn start(lab: &Lab, pairing: Pairing, places: [(&Namespace, &Namespace); 2]) -> Self {
        let [left, right] = places;
        let node = |implementation, (home, inside), number| {
            Node::start(lab, implementation, pairing.environment, home, inside, number)
        };
        Self {
            left: node(pairing.left, left, 1),
            right: node(pairing.right, right, 2),
            preshared: lab.preshared_key(),
        }
    }

    /// Makes them peers with a preshared key; the right one is at this address.
    #[track_caller]
    fn acquainted(self, right: IpAddr) -> Self {
        let preshared = format!("preshared-key {}", self.preshared.file);
        let endpoint = SocketAddr::new(right, self.right.port);
        self.left.allow(&self.right, &format!("{preshared} endpoint {endpoint}"));
        self.right.allow(&self.left, &preshared);
        self
    }

    /// Both directions of both inner families answer.
    #[track_caller]
    pub fn ping(&self) {
        let Self { left, right, .. } = self;
        left.greet(right);
        for (from, to) in [(left, right), (right, left)] {
            from.ns.ping(to.v4, 3);
            from.ns.ping(to.v6, 3);
        }
    }

    /// Both interfaces get this MTU.
    #[track_caller]
    pub fn set_mtu(&self, mtu: usize) {
        self.left.set_mtu(mtu);
        self.right.set_mtu(mtu);
    }
}

impl Node {
    /// A daemon in `home` with a key and port `number`, its interface up in `ns`. Numbers below
    /// 256 have neighbouring addresses, 192.168.241.n and fd00::n; the next 256 have others.
    #[track_caller]
    pub fn start(
        lab: &Lab,
        implementation: Implementation,
        environment: &[(&str, &str)],
        home: &Namespace,
        ns: &Namespace,
        number: u16,
    ) -> Self {
        let [net, host] = number.to_be_bytes();
        let node = Self {
            daemon: Daemon::start(lab, implementation, home, environment),
            ns: ns.clone(),
            key: lab.key_pair(),
            port: number,
            v4: Ipv4Addr::from([192, 168, 241 + net, host]).into(),
            v6: Ipv6Addr::from([0xfd00, 0, 0, net.into(), 0, 0, 0, host.into()]).into(),
        };
        node.settle();
        node
    }

    /// Ends the daemon and starts it again as the same interface with the same key and port. It
    /// has forgotten its peers.
    #[track_caller]
    pub fn restart(self, lab: &Lab, environment: &[(&str, &str)]) -> Self {
        let Self { daemon, ns, key, port, v4, v6 } = self;
        let (implementation, home) = (daemon.implementation, daemon.home.clone());
        let interface = daemon.interface.clone();
        drop(daemon);
        let daemon = Daemon::start_as(lab, implementation, &home, environment, &interface);
        let node = Self { daemon, ns, key, port, v4, v6 };
        node.settle();
        node
    }

    /// Brings a new interface where it belongs, configured and up.
    #[track_caller]
    fn settle(&self) {
        if self.daemon.home.name() != self.ns.name() {
            self.daemon.move_to(&self.ns);
        }
        self.set(&format!("private-key {} listen-port {}", self.key.file, self.port));
        self.ns.ip(&format!("link set {} mtu 1420 up", self.daemon.interface));
        self.address_inside();
    }

    /// Gives the interface its addresses (again: an MTU below 1280 takes away those of IPv6).
    #[track_caller]
    pub fn address_inside(&self) {
        let interface = &self.daemon.interface;
        self.ns.address(interface, &format!("{}/24", self.v4));
        if self.has_ipv6() {
            self.ns.address(interface, &format!("{}/112", self.v6));
        }
    }

    /// An interface whose MTU is below the minimum of IPv6 does not have it.
    fn has_ipv6(&self) -> bool {
        let settings = format!("/proc/sys/net/ipv6/conf/{}", self.daemon.interface);
        self.ns.within(|| Path::new(&settings).exists())
    }

    /// Its address of this family inside the tunnel.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Its address inside the tunnel of the same family as `other`.
    pub fn address_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// Gives up all sessions for sending, so that the next packet starts a handshake: the private
    /// key changes and changes back.
    #[track_caller]
    pub fn forget_sessions(&self, lab: &Lab) {
        self.set(&format!("private-key {}", lab.key_pair().file));
        self.set(&format!("private-key {}", self.key.file));
    }

    /// Makes the other one a peer that may use its two addresses; `more` is further words for
    /// `wg set … peer`.
    #[track_caller]
    pub fn allow(&self, other: &Self, more: &str) {
        let Self { v4, v6, .. } = other;
        self.set_peer(other, &format!("{more} allowed-ips {v4}/32,{v6}/128"));
    }

    #[track_caller]
    pub fn set_mtu(&self, mtu: usize) {
        self.ns.ip(&format!("link set {} mtu {mtu}", self.daemon.interface));
    }

    /// Expects that an echo request to the other one is answered, perhaps not the first one.
    #[track_caller]
    pub fn greet(&self, other: &Self) {
        await_that("the other one answers", || self.ns.pings(other.v4, 1, 56).is_ok());
    }

    /// `wg set`.
    #[track_caller]
    pub fn set(&self, words: &str) {
        self.daemon.set(words);
    }

    /// `wg set … peer`.
    #[track_caller]
    pub fn set_peer(&self, other: &Self, words: &str) {
        self.set(&format!("peer {} {words}", other.key.public));
    }

    /// What `wg` shows of the other one here.
    #[track_caller]
    pub fn sees(&self, other: &Self) -> PeerState {
        self.daemon.peer(&other.key.public).expect("the other one is a peer")
    }
}
