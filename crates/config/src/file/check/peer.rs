//! `[Peer]`: what is wrong with its settings, and with all of them together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use proto::{PrivateKey, PublicKey};

use super::overlap::Routes;
use super::value::{self, Wrong};
use super::{At, Problems, Seen};
use crate::file::{Key, Problem};

/// All peers.
#[derive(Default)]
pub(super) struct Peers {
    /// By key, with the line of it.
    keys: HashMap<[u8; 32], usize>,
    has_endpoint: bool,
    preshared_key: Option<usize>,
}

/// The one whose section it is.
pub(super) struct Peer {
    head: usize,
    seen: Seen,
    has_allowed_ips: bool,
    keeps_alive: bool,
}

impl Peer {
    pub(super) fn new(head: usize) -> Self {
        Self { head, seen: Seen::new(), has_allowed_ips: false, keeps_alive: false }
    }

    pub(super) fn setting(
        &mut self,
        at: At,
        value: &[u8],
        peers: &mut Peers,
        routes: &mut Routes,
        problems: &mut Problems,
    ) {
        if at.key != Key::AllowedIps {
            problems.repeated(at, &mut self.seen);
        }
        let taken = match at.key {
            Key::PublicKey => value::key(value).map(|key| peers.add(*key, at.line, problems)),
            Key::PresharedKey => value::key(value).map(|_| {
                peers.preshared_key.get_or_insert(at.line);
            }),
            Key::Endpoint => {
                peers.has_endpoint = true;
                value::endpoint(value).map(|address| {
                    if let Some(address) = address.filter(IpAddr::is_unspecified) {
                        let what = format!("{address} is nobody's address");
                        let instead = "write the address or name of the peer, or no `Endpoint'";
                        let code = "endpoint-unspecified";
                        problems.push(Problem::warning(at.line, code, what, instead));
                    }
                    address.into_iter().for_each(|it| routes.add_endpoint(it, at.line));
                })
            }
            Key::PersistentKeepalive => {
                value::keepalive(value).map(|seconds| self.keeps_alive = seconds > 0)
            }
            _ => self.allowed_ips(at, value, routes, problems),
        };
        if let Err(wrong) = taken {
            problems.push(wrong.into_problem(at));
        }
    }

    fn allowed_ips(
        &mut self,
        at: At,
        value: &[u8],
        routes: &mut Routes,
        problems: &mut Problems,
    ) -> Result<(), Wrong> {
        self.has_allowed_ips = true;
        for word in value::list(value)? {
            let (prefix, has_host_part) = value::allowed_ip(&word)?;
            if has_host_part {
                let network = format!("{}/{}", prefix.address(), prefix.length());
                let what = format!("`{word}' is an address in a network, which is what counts");
                let instead = format!("write {network}, or `/32' or `/128' for one address");
                problems.push(Problem::warning(at.line, "host-bits", what, instead));
            }
            if !word.starts_with('-') {
                routes.add(prefix, at.line, self.head);
            }
        }
        Ok(())
    }

    pub(super) fn end(self, problems: &mut Problems) {
        if !self.seen.contains_key(&Key::PublicKey) {
            let instead = "write `PublicKey = …' below it";
            let what = "this peer has no key";
            problems.push(Problem::error(self.head, "public-key-missing", what, instead));
        }
        if !self.has_allowed_ips {
            let what = "this peer may send nothing and is sent nothing";
            let instead = "write `AllowedIPs = …' below it";
            problems.push(Problem::warning(self.head, "allowed-ips-missing", what, instead));
        }
        let keepalive = self.seen.get(&Key::PersistentKeepalive).filter(|_| self.keeps_alive);
        if let (Some(line), false) = (keepalive, self.seen.contains_key(&Key::Endpoint)) {
            let what = "there is nowhere to send this until the peer has called";
            let instead = "write an `Endpoint', or leave this to the peer";
            problems.push(Problem::warning(*line, "keepalive-without-endpoint", what, instead));
        }
    }
}

impl Peers {
    fn add(&mut self, key: [u8; 32], line: usize, problems: &mut Problems) {
        if key == [0; 32] {
            let instead = "write the key that `adit pubkey' makes of the peer's private key";
            problems.push(Problem::error(line, "key-zero", "this key is all zeros", instead));
        }
        match self.keys.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(line)),
            Entry::Occupied(entry) => {
                let what = format!("the peer of line {} has the same key", entry.get());
                let instead = "make them one, or give each its own key";
                problems.push(Problem::error(line, "peer-repeated", what, instead));
            }
        }
    }

    /// The line of the first preshared key.
    pub(super) fn preshared_key(&self) -> Option<usize> {
        self.preshared_key
    }

    /// Whether there are peers, and all of them have to call first.
    pub(super) fn none_can_be_called(&self) -> bool {
        !self.keys.is_empty() && !self.has_endpoint
    }

    /// Compares their keys with the interface's own.
    pub(super) fn end(&self, own: Option<&PrivateKey>, problems: &mut Problems) {
        let Some(own) = own else { return };
        let PublicKey(public) = own.public_key();
        let instead = "write the public key of the peer";
        if let Some(line) = self.keys.get(&public) {
            let what = "this is the key of the interface itself";
            problems.push(Problem::error(*line, "own-key", what, instead));
        }
        if let Some(line) = self.keys.get(own.as_bytes()) {
            let what = "this is the private key of the interface";
            problems.push(Problem::error(*line, "own-key", what, instead));
        }
    }
}
