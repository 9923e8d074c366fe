//! What may be asked of a device, and what it tells of itself. Spellings live in `config`.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::allowed_ips::Prefix;
use crate::discard::Discard;
use crate::keys::{PresharedKey, PrivateKey, PublicKey};

/// One request, applied as a whole in this order: the device's settings, then peer by peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// `Some(None)` removes the key.
    pub private_key: Option<Option<PrivateKey>>,
    /// 0 asks for a random free port.
    pub listen_port: Option<u16>,
    /// 0 is "off".
    pub fwmark: Option<u32>,
    /// Remove every peer first.
    pub replace_peers: bool,
    /// In the order given; a peer may occur several times.
    pub peers: Vec<PeerChange>,
}

/// What shall become of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerChange {
    /// The peer; our own key is accepted and ignored.
    pub public_key: PublicKey,
    /// Remove it; everything else is ignored.
    pub remove: bool,
    /// Do not create it.
    pub update_only: bool,
    /// For the next handshake.
    pub preshared_key: Option<PresharedKey>,
    /// Replaces what was configured or learnt.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 is "off".
    pub persistent_keepalive: Option<u16>,
    /// In the order given.
    pub allowed_ips: Vec<AllowedIpsChange>,
}

impl PeerChange {
    /// A section that names a peer and asks nothing of it (yet): it creates the peer.
    pub fn new(public_key: PublicKey) -> Self {
        Self { public_key, ..Self::default() }
    }
}

/// One step on a peer's list of allowed addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedIpsChange {
    /// Empties the list (`replace_allowed_ips`).
    Clear,
    /// Takes exactly this prefix from whichever peer has it and puts it last.
    Insert(Prefix),
    /// Removes exactly this prefix, if this peer has it.
    Remove(Prefix),
}

/// A device as `get` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// Clamped.
    pub private_key: Option<PrivateKey>,
    /// The port in use, or the one asked for while the interface is down.
    pub listen_port: u16,
    /// 0 is "off".
    pub fwmark: u32,
    /// The latest reason for which a handshake message was dropped.
    pub last_discard: Option<Discard>,
    /// In order of creation.
    pub peers: Vec<PeerState>,
}

/// A peer as `get` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// The peer's identity.
    pub public_key: PublicKey,
    /// All zeros if none.
    pub preshared_key: PresharedKey,
    /// Configured or learnt.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was completed, since the Unix epoch.
    pub last_handshake: Option<Duration>,
    /// UDP payload bytes received.
    pub rx_bytes: u64,
    /// UDP payload bytes sent.
    pub tx_bytes: u64,
    /// Seconds; 0 is "off".
    pub persistent_keepalive: u16,
    /// In order of insertion.
    pub allowed_ips: Vec<Prefix>,
    /// Whether anything came in the present session or the one before, handshakes apart; none before
    /// the first, or where nobody tells.
    pub receives: Option<bool>,
    /// The latest reason for which a handshake with this peer failed, or else, since the last one, for
    /// which a packet of its was refused.
    pub last_discard: Option<Discard>,
}
