//! What a daemon remembers of failures: whom it refused, and what came back instead of an answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::{Discard, PublicKey};

/// All that went wrong with one interface, as far as it is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Senders of handshake messages that belong to no peer, those who came last first.
    pub refused: Vec<Refused>,
    /// Of peers that have any.
    pub peers: BTreeMap<PublicKey, Trouble>,
}

/// Handshake messages of one sender that were dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Discard,
    /// Where the last of them came from.
    pub from: SocketAddr,
    /// That of [`Discard::UnknownPeer`], as the sender says: whoever knows our key can name any.
    pub key: Option<PublicKey>,
    /// How many there were.
    pub count: u64,
    /// When the last of them came, since the Unix epoch.
    pub last: Duration,
}

/// What went wrong with a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Of the handshake that its last discard is about.
    pub failed: Option<Failed>,
    /// That a packet of its had which is refused because the address is not its: the first since a
    /// handshake.
    pub source: Option<IpAddr>,
    /// What came back when it was called.
    pub unreachable: Option<Unreachable>,
    /// Calls of its own that were answered, and it did not go on.
    pub unheard: Option<Unheard>,
    /// It is in two places.
    pub turns: Option<Turns>,
}

/// Handshakes with a peer that failed since one has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Where the message of the last of them came from.
    pub from: SocketAddr,
    /// How many there were.
    pub count: u64,
    /// When the last of them was, since the Unix epoch.
    pub last: Duration,
}

/// Answers to a peer that it did not hear, or could not verify, since a handshake has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// How many there were.
    pub count: u64,
    /// When the last of them was given, since the Unix epoch.
    pub last: Duration,
}

/// A peer that speaks from two places in turn, as two machines with one key do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    /// Where it was before it came to its endpoint.
    pub other: SocketAddr,
    /// How often it has gone back to where it was before.
    pub count: u64,
    /// When it did so last, since the Unix epoch.
    pub last: Duration,
}

/// Somebody says that a peer cannot be reached. Nothing proves it, and nothing goes by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// What is in the way.
    pub obstacle: Obstacle,
    /// Who says so by ICMP; none if this machine does not let it out.
    pub by: Option<IpAddr>,
    /// When it was said last, since the Unix epoch.
    pub last: Duration,
}

/// What can be in the way of a datagram (RFC 1812 §5.2.7.1, RFC 4443 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nobody listens on the port.
    Port,
    /// Nobody has the address.
    Host,
    /// No route leads there.
    Network,
    /// A packet filter forbids it.
    Prohibited,
}

impl Obstacle {
    const ALL: [(Self, &str); 4] = [
        (Self::Port, "port"),
        (Self::Host, "host"),
        (Self::Network, "network"),
        (Self::Prohibited, "prohibited"),
    ];

    /// One word, for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find_map(|(it, name)| (it == self).then_some(name)).unwrap_or("")
    }

    /// The one with this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(it, name)| (name == word).then_some(it))
    }
}
