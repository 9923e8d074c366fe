//! The words of `wg`(8): its configuration file, the arguments of `wg set`, what `wg show` prints,
//! and its side of the UAPI (spec §3).
//!
//! Everything is as `wg` has it, to the byte. What only the machine knows (names of hosts and
//! services, key files, interfaces) is asked of a [`Machine`]; what to say on stderr is returned.

mod address;
mod arguments;
mod file;
mod json;
mod look;
mod names;
mod script;
mod show;
mod showconf;
mod sync;
mod uapi;
mod value;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use proto::{DeviceState, PublicKey};
use zeroize::Zeroizing;

pub use address::endpoint;
pub use arguments::from_arguments;
pub use file::{Mode, from_file};
pub use look::Look;
pub use names::{Names, NoSuchPeer, find_peer, peer_names};
pub use script::parameters;
pub use sync::keep_sessions;
pub use uapi::{ZoneIndex, read_result, read_state, read_told, stranger, write_settings};
pub use value::is_space;
pub(crate) use value::{
    allowed_ip, fwmark, number, persistent_keepalive, split_endpoint, trim, without_space,
};

/// What is to be set: what the words say, before anybody gives it a meaning. A private key is not
/// clamped yet, a prefix may have host bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// All zeros remove it.
    pub private_key: Option<Secret>,
    /// 0 asks for a random free port.
    pub listen_port: Option<u16>,
    /// 0 is "off".
    pub fwmark: Option<u32>,
    /// Remove every peer first.
    pub replace_peers: bool,
    /// In the order given; a peer may occur several times.
    pub peers: Vec<PeerSettings>,
}

/// What is to be set for one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// The peer.
    pub public_key: PublicKey,
    /// Remove it; the rest means nothing then.
    pub remove: bool,
    /// All zeros remove it.
    pub preshared_key: Option<Secret>,
    /// As the resolver found it.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 is "off".
    pub persistent_keepalive: Option<u16>,
    /// Empty the list first.
    pub replace_allowed_ips: bool,
    /// In the order given.
    pub allowed_ips: Vec<AllowedIp>,
}

impl PeerSettings {
    /// Nothing is to be set yet.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}

/// One entry of a list of allowed addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedIp {
    /// With its host bits.
    pub address: IpAddr,
    /// At most the width of the address.
    pub length: u8,
    /// Take it away instead of adding it.
    pub remove: bool,
}

/// 32 bytes as somebody wrote them, wiped in the end.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Zeroizing<[u8; 32]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What the words need of the machine. Texts are as they were given and hold no zero byte.
pub trait Machine {
    /// The port that a number or the name of a service stands for.
    ///
    /// # Errors
    ///
    /// There is none.
    fn port(&mut self, service: &[u8]) -> Result<u16, Refusal>;

    /// The first address of a host. May take long, and talk meanwhile. `endpoint` is the whole that
    /// host and service were cut from, for messages.
    ///
    /// # Errors
    ///
    /// It was not found.
    fn resolve(
        &mut self,
        host: &[u8],
        service: &[u8],
        endpoint: &[u8],
    ) -> Result<SocketAddr, Refusal>;

    /// Whether endpoints can be resolved at all; asked before one is looked at.
    ///
    /// # Errors
    ///
    /// The environment forbids it.
    fn can_resolve(&mut self) -> Result<(), Refusal>;

    /// The key in a file; all zeros if the file is empty.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is none.
    fn key_file(&mut self, path: &[u8]) -> Result<Secret, Refusal>;

    /// The peer of this name, which is no key. Nobody has one unless the machine says so.
    fn peer(&mut self, _name: &[u8]) -> Option<PublicKey> {
        None
    }

    /// Tells the user something, without a newline at its end, that is no reason to stop.
    fn warn(&mut self, text: &[u8]);
}

/// Why something was refused, in the words for stderr. Bytes, since they repeat what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The words are wrong.
    Words(Vec<u8>),
    /// The environment is wrong, whatever the words are.
    Environment(Vec<u8>),
}

impl Refusal {
    /// A reason and the word that it is about, quoted as `wg` does.
    #[must_use]
    pub fn of(reason: &str, word: &[u8]) -> Self {
        Self::Words([reason.as_bytes(), b": `", word, b"'"].concat())
    }

    /// The text for stderr, which ends without a newline.
    #[must_use]
    pub fn into_text(self) -> Vec<u8> {
        match self {
            Self::Words(text) | Self::Environment(text) => text,
        }
    }
}

impl From<&str> for Refusal {
    fn from(text: &str) -> Self {
        Self::Words(text.as_bytes().to_vec())
    }
}

/// Finds the name of the interface with a number.
pub type ZoneName = fn(u32) -> Option<String>;

/// An interface, ready to be shown.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Its name.
    pub name: &'a str,
    /// All that is known of it.
    pub state: &'a DeviceState,
    /// What its peers are called.
    pub names: &'a Names,
    /// Names the interface behind a link-local endpoint.
    pub zone: ZoneName,
}
