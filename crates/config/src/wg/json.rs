//! `wg show --json`: the names of upstream's `wg-json` script, and more.

use proto::{PeerState, PresharedKey};
use serde_json::{Map, Value, json};

use super::View;
use super::address::{Text, endpoint};
use crate::discard;
use crate::key::to_base64;

impl View<'_> {
    /// All about the interface. What there is nothing of is left out, as `wg-json` does. Secret
    /// keys are there as in `dump`. Ours are `name` and `lastDiscard`, a word of [`discard::name`].
    #[must_use]
    pub fn json(&self) -> Value {
        let private_key = self.state.private_key.as_ref();
        let fields = [
            ("privateKey", private_key.map(|key| json!(*to_base64(key.as_bytes())))),
            ("publicKey", private_key.map(|key| json!(*to_base64(&key.public_key().0)))),
            ("listenPort", some_number(self.state.listen_port.into())),
            ("fwmark", some_number(self.state.fwmark.into())),
            ("lastDiscard", self.state.last_discard.map(|reason| json!(discard::name(reason)))),
            ("peers", Some(self.state.peers.iter().map(|peer| self.json_of(peer)).collect())),
        ];
        object(fields)
    }

    fn json_of(&self, peer: &PeerState) -> (String, Value) {
        let preshared_key =
            Some(&peer.preshared_key).filter(|key| **key != PresharedKey::default());
        let prefixes = peer.allowed_ips.iter();
        let prefixes =
            prefixes.map(|prefix| format!("{}/{}", Text(prefix.address()), prefix.length()));
        let fields = [
            ("name", self.names.get(&peer.public_key).map(|name| json!(name))),
            ("presharedKey", preshared_key.map(|key| json!(*to_base64(key.as_bytes())))),
            ("endpoint", peer.endpoint.map(|address| json!(endpoint(address, self.zone)))),
            ("latestHandshake", peer.last_handshake.and_then(|time| some_number(time.as_secs()))),
            ("transferRx", some_number(peer.rx_bytes)),
            ("transferTx", some_number(peer.tx_bytes)),
            ("persistentKeepalive", some_number(peer.persistent_keepalive.into())),
            ("lastDiscard", peer.last_discard.map(|reason| json!(discard::name(reason)))),
            ("allowedIps", Some(prefixes.collect())),
        ];
        (to_base64(&peer.public_key.0).to_string(), object(fields))
    }
}

fn some_number(number: u64) -> Option<Value> {
    (number != 0).then(|| number.into())
}

fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter();
    fields.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
}
