//! `wg show` for people (spec §3.2).

use std::cmp::Reverse;

use proto::{PeerState, PresharedKey};

use super::View;
use super::address::{Text, endpoint};
use super::look::{Ink, Look};
use crate::key::to_base64;

impl View<'_> {
    /// The interface and its peers, the one that was last heard first. Names are not `wg`'s: they
    /// appear only if there are some.
    #[must_use]
    pub fn pretty(&self, look: Look) -> String {
        let ink @ Ink { reset, bold, green, .. } = look.ink();
        let mut page = Page { text: String::new(), ink };
        let name = self.name;
        page.text += &format!("{reset}{green}{bold}interface{reset}: {green}{name}{reset}\n");
        if let Some(private_key) = &self.state.private_key {
            page.line("public key", &to_base64(&private_key.public_key().0));
            page.line("private key", &look.secret(private_key.as_bytes()));
        }
        if self.state.listen_port != 0 {
            page.line("listening port", &self.state.listen_port.to_string());
        }
        if self.state.fwmark != 0 {
            page.line("fwmark", &format!("{:#x}", self.state.fwmark));
        }
        let mut peers: Vec<_> = self.state.peers.iter().collect();
        peers.sort_by_key(|peer| Reverse(peer.last_handshake));
        for peer in peers {
            page.peer(peer, self, look);
        }
        page.text
    }
}

impl Look {
    fn secret(self, key: &[u8; 32]) -> String {
        if self.secrets { to_base64(key).to_string() } else { "(hidden)".into() }
    }
}

struct Page {
    text: String,
    ink: &'static Ink,
}

impl Page {
    fn line(&mut self, label: &str, value: &str) {
        let Ink { reset, bold, .. } = self.ink;
        self.text += &format!("  {bold}{label}{reset}: {value}\n");
    }

    fn peer(&mut self, peer: &PeerState, view: &View<'_>, look: Look) {
        let Ink { reset, bold, yellow, .. } = self.ink;
        let key = to_base64(&peer.public_key.0);
        self.text += &format!("\n{yellow}{bold}peer{reset}: {yellow}{}{reset}\n", *key);
        if let Some(name) = view.names.get(&peer.public_key) {
            self.line("name", name);
        }
        if peer.preshared_key != PresharedKey::default() {
            self.line("preshared key", &look.secret(peer.preshared_key.as_bytes()));
        }
        if let Some(address) = peer.endpoint {
            self.line("endpoint", &endpoint(address, view.zone));
        }
        self.line("allowed ips", &self.ink.allowed_ips(peer));
        let handshake = peer.last_handshake.map_or(0, |time| time.as_secs());
        if handshake != 0 {
            self.line("latest handshake", &self.ink.ago(handshake, look.now));
        }
        if (peer.rx_bytes, peer.tx_bytes) != (0, 0) {
            let received = self.ink.bytes(peer.rx_bytes);
            let sent = self.ink.bytes(peer.tx_bytes);
            self.line("transfer", &format!("{received} received, {sent} sent"));
        }
        if peer.persistent_keepalive != 0 {
            let interval = self.ink.duration(peer.persistent_keepalive.into());
            self.line("persistent keepalive", &format!("every {interval}"));
        }
    }
}

impl Ink {
    fn allowed_ips(&self, peer: &PeerState) -> String {
        if peer.allowed_ips.is_empty() {
            return "(none)".into();
        }
        let Ink { reset, cyan, .. } = self;
        let prefixes = peer.allowed_ips.iter();
        let prefixes = prefixes
            .map(|prefix| format!("{}{cyan}/{reset}{}", Text(prefix.address()), prefix.length()));
        prefixes.collect::<Vec<_>>().join(", ")
    }

    fn ago(&self, then: u64, now: u64) -> String {
        match now.checked_sub(then) {
            Some(0) => "Now".into(),
            Some(seconds) => format!("{} ago", self.duration(seconds)),
            None => format!(
                "({}System clock wound backward; connection problems may ensue.{})",
                self.red, self.reset
            ),
        }
    }
}
