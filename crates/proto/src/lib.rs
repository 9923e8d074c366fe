//! The WireGuard protocol as a value.
//!
//! Datagrams, packets and the time go in; datagrams, events and a deadline come out. Nothing here
//! does I/O, reads a clock, draws randomness of its own, logs or starts a thread.
//!
//! There are two faces. **Control** is [`Device`]: one owner, `&mut`, handshakes, timers, cookies,
//! configuration. **Data** is what many threads use at once without a lock: [`AllowedIps`] as a
//! snapshot, a [`Keypair`] with its [`Window`], and the [`Traffic`] stamps that timers read.
//!
//! Section numbers in the docs are those of the WireGuard paper (<https://www.wireguard.com/papers/wireguard.pdf>).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(not(all(test, feature = "models")))]
use core::sync::atomic;
/// Of these, a test can try every order in which threads may meet there.
#[cfg(all(test, feature = "models"))]
use loom::sync::atomic;

mod allowed_ips;
mod change;
mod cookie;
mod device;
mod discard;
mod endpoint;
mod inner;
mod keypair;
mod keys;
mod limiter;
mod message;
mod noise;
mod peer;
mod primitives;
mod random;
mod tai64n;
mod time;
mod timers;
mod traffic;
#[cfg(test)]
mod vectors;
mod window;

pub use allowed_ips::{AllowedIps, Prefix};
pub use change::{AllowedIpsChange, Change, DeviceState, PeerChange, PeerState};
pub use device::{Device, Event, Progress, Report, TooManyPeers, Transmit};
pub use discard::Discard;
pub use endpoint::{Endpoint, Source};
pub use inner::{Inner, bytes_at, inner_packet, padding, u16_at};
pub use keypair::{Authentic, Keypair};
pub use keys::{PresharedKey, PrivateKey, PublicKey};
pub use limiter::Bucket;
pub use message::{Kind, SessionIndex, kind};
pub use peer::PeerId;
pub use random::Random;
pub use time::{Now, Time};
pub use timers::Timer;
pub use traffic::Traffic;
pub use window::{Counter, Window};

/// Sizes and limits of the protocol that its users must know (paper §5.4, §6).
pub mod limits {
    pub use crate::keypair::{REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES};
    pub use crate::message::{DATA_HEADER, DATA_OVERHEAD, TAG};
    pub use crate::timers::{
        KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_TIMEOUT,
    };

    /// Packets kept for a peer while its session is missing; the oldest goes first.
    pub const MAX_STAGED: usize = 128;
    /// Handshake messages that may wait; an eighth of it waiting at once means [`crate::Device::under_load`].
    pub const HANDSHAKE_QUEUE: usize = 4096;
    /// Peers of one device.
    pub const MAX_PEERS: usize = 1 << 20;
}
