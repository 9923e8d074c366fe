//! What the peers of an interface are called here.

use std::fs;
use std::path::Path;

use config::wg::{Names, peer_names};
use zeroize::Zeroizing;

/// The names in the comments of an interface's configuration file; none if it cannot be read.
pub fn of(interface: &str) -> Names {
    let path = Path::new("/etc/wireguard").join(format!("{interface}.conf"));
    let file = fs::read(path).map(Zeroizing::new).unwrap_or_default();
    peer_names(&String::from_utf8_lossy(&file))
}
