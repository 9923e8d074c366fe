//! `wg show` for scripts: lines of fields with tabs between them (spec §3.2).

use proto::{PeerState, PresharedKey};

use super::View;
use super::address::{Text, endpoint};
use crate::key::to_base64;

/// What a parameter asks for, and the lines that answer it.
type Parameter = (&'static str, fn(&View<'_>) -> Vec<String>);

/// All parameters, in the order in which `wg` lists them.
const PARAMETERS: [Parameter; 12] = [
    ("public-key", |view| vec![view.public_key()]),
    ("private-key", |view| vec![view.private_key()]),
    ("listen-port", |view| vec![view.state.listen_port.to_string()]),
    ("fwmark", |view| vec![view.fwmark()]),
    ("peers", |view| view.state.peers.iter().map(public_key).collect()),
    ("preshared-keys", |view| view.of_peers(preshared_key)),
    ("endpoints", |view| view.of_peers(|peer| view.endpoint(peer))),
    ("allowed-ips", |view| view.of_peers(|peer| allowed_ips(peer, " "))),
    ("latest-handshakes", |view| view.of_peers(latest_handshake)),
    ("transfer", |view| view.of_peers(transfer)),
    ("persistent-keepalive", |view| view.of_peers(persistent_keepalive)),
    ("dump", |view| view.dump()),
];

/// What [`View::script`] can be asked for, in the order in which `wg` lists it.
pub fn parameters() -> impl Iterator<Item = &'static str> {
    PARAMETERS.into_iter().map(|(name, _)| name)
}

impl View<'_> {
    /// What one parameter asks for, or `None` if there is no such parameter. If `named`, each line
    /// begins with the interface's name. Peers come in the order in which they were created.
    #[must_use]
    pub fn script(&self, parameter: &str, named: bool) -> Option<String> {
        let (_, lines) = PARAMETERS.into_iter().find(|(name, _)| *name == parameter)?;
        let lines = lines(self);
        let name = if named { format!("{}\t", self.name) } else { String::new() };
        Some(lines.iter().map(|line| format!("{name}{line}\n")).collect())
    }

    fn of_peers(&self, field: impl Fn(&PeerState) -> String) -> Vec<String> {
        let line = |peer| format!("{}\t{}", public_key(peer), field(peer));
        self.state.peers.iter().map(line).collect()
    }

    fn dump(&self) -> Vec<String> {
        let interface = [
            self.private_key(),
            self.public_key(),
            self.state.listen_port.to_string(),
            self.fwmark(),
        ];
        let mut lines = vec![interface.join("\t")];
        lines.extend(self.of_peers(|peer| {
            let fields = [
                preshared_key(peer),
                self.endpoint(peer),
                allowed_ips(peer, ","),
                latest_handshake(peer),
                transfer(peer),
                persistent_keepalive(peer),
            ];
            fields.join("\t")
        }));
        lines
    }

    fn private_key(&self) -> String {
        let key = self.state.private_key.as_ref();
        or_none(key.map(|key| to_base64(key.as_bytes()).to_string()))
    }

    fn public_key(&self) -> String {
        let key = self.state.private_key.as_ref();
        or_none(key.map(|key| to_base64(&key.public_key().0).to_string()))
    }

    fn fwmark(&self) -> String {
        match self.state.fwmark {
            0 => "off".into(),
            mark => format!("{mark:#x}"),
        }
    }

    fn endpoint(&self, peer: &PeerState) -> String {
        or_none(peer.endpoint.map(|address| endpoint(address, self.zone)))
    }
}

fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| "(none)".into())
}

fn public_key(peer: &PeerState) -> String {
    to_base64(&peer.public_key.0).to_string()
}

fn preshared_key(peer: &PeerState) -> String {
    let key = Some(&peer.preshared_key).filter(|key| **key != PresharedKey::default());
    or_none(key.map(|key| to_base64(key.as_bytes()).to_string()))
}

fn allowed_ips(peer: &PeerState, separator: &str) -> String {
    let prefixes = peer.allowed_ips.iter();
    let prefixes = prefixes.map(|prefix| format!("{}/{}", Text(prefix.address()), prefix.length()));
    let prefixes = prefixes.collect::<Vec<_>>().join(separator);
    or_none(Some(prefixes).filter(|prefixes| !prefixes.is_empty()))
}

fn latest_handshake(peer: &PeerState) -> String {
    peer.last_handshake.unwrap_or_default().as_secs().to_string()
}

fn transfer(peer: &PeerState) -> String {
    format!("{}\t{}", peer.rx_bytes, peer.tx_bytes)
}

fn persistent_keepalive(peer: &PeerState) -> String {
    match peer.persistent_keepalive {
        0 => "off".into(),
        seconds => seconds.to_string(),
    }
}
