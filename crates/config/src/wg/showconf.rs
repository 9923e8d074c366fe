//! `wg showconf`: a state as the configuration file that would make it (spec §3.3).

use proto::{PeerState, PresharedKey};

use super::View;
use super::address::{Text, endpoint};
use crate::key::to_base64;

impl View<'_> {
    /// The file.
    #[must_use]
    pub fn configuration(&self) -> String {
        let mut text = String::from("[Interface]\n");
        if self.state.listen_port != 0 {
            text += &format!("ListenPort = {}\n", self.state.listen_port);
        }
        if self.state.fwmark != 0 {
            text += &format!("FwMark = {:#x}\n", self.state.fwmark);
        }
        if let Some(private_key) = &self.state.private_key {
            text += &format!("PrivateKey = {}\n", *to_base64(private_key.as_bytes()));
        }
        let peers: Vec<_> = self.state.peers.iter().map(|peer| self.peer(peer)).collect();
        text + "\n" + &peers.join("\n")
    }

    /// The section of one peer.
    pub(crate) fn peer(&self, peer: &PeerState) -> String {
        let mut text = format!("[Peer]\nPublicKey = {}\n", *to_base64(&peer.public_key.0));
        if peer.preshared_key != PresharedKey::default() {
            text += &format!("PresharedKey = {}\n", *to_base64(peer.preshared_key.as_bytes()));
        }
        if let Some(prefixes) = self.allowed_ips(peer) {
            text += &format!("AllowedIPs = {prefixes}\n");
        }
        if let Some(address) = self.place(peer) {
            text += &format!("Endpoint = {address}\n");
        }
        if peer.persistent_keepalive != 0 {
            text += &format!("PersistentKeepalive = {}\n", peer.persistent_keepalive);
        }
        text
    }

    /// What a peer may send from; none if that is nothing.
    pub(crate) fn allowed_ips(&self, peer: &PeerState) -> Option<String> {
        let prefixes = peer.allowed_ips.iter();
        let prefixes: Vec<_> = prefixes
            .map(|prefix| format!("{}/{}", Text(prefix.address()), prefix.length()))
            .collect();
        (!prefixes.is_empty()).then(|| prefixes.join(", "))
    }

    /// Where a peer is, if that is known.
    pub(crate) fn place(&self, peer: &PeerState) -> Option<String> {
        peer.endpoint.map(|address| endpoint(address, self.zone))
    }
}
