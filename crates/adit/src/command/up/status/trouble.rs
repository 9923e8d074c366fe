//! What went wrong with a tunnel, in words.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use config::discard;
use config::key::to_base64;
use config::trouble::{Failed, Obstacle, Refused, Turns, Unheard, Unreachable};
use proto::{Discard, PublicKey};
use sys::clock::realtime;

use super::{ago, shown};

/// Whose tunnel it is.
pub(super) struct Owner<'a> {
    pub tunnel: &'a str,
    pub file: &'a Path,
    pub key: Option<PublicKey>,
}

impl Owner<'_> {
    /// What of strangers was refused. `peer` is the name of the one that should be where it came from.
    pub(super) fn tell(&self, refused: &Refused, peer: Option<&str>) -> String {
        let Refused { reason, from, key, count, .. } = refused;
        let (calls, is_call) = match reason {
            Discard::BadMac | Discard::UnknownPeer => ("call", true),
            _ => ("message", false),
        };
        let many = match count {
            1 => format!("a {calls} from {}, {}", shown(*from), since(refused.last)),
            _ => format!("{count} {calls}s from {}, last {}", shown(*from), since(refused.last)),
        };
        match (reason, key) {
            (Discard::UnknownPeer, Some(key)) => {
                let key = to_base64(&key.0);
                let advice = match peer {
                    Some(peer) => format!("if that is {peer}, its PublicKey is to be this one"),
                    None => "if that is a machine of yours, it lacks a [Peer] with this PublicKey"
                        .to_owned(),
                };
                format!(
                    "{many}, with a key that is in no [Peer] here: {}\n    {advice} in {}; then \
                     `adit reload {}'",
                    key.as_str(),
                    self.file.display(),
                    self.tunnel
                )
            }
            (Discard::BadMac, _) if is_call => {
                let ours = self.key.map_or_else(String::new, |key| {
                    format!(": ours is {}", to_base64(&key.0).as_str())
                });
                let whose = match peer {
                    Some(peer) => format!("if that is {peer}, its"),
                    None => "the other side's".to_owned(),
                };
                format!(
                    "{many}, for another key than ours\n    {whose} PublicKey for this machine is \
                     wrong{ours}"
                )
            }
            _ => format!("{many}\n    {}", discard::explain(*reason)),
        }
    }
}

/// Behind the reason for which a handshake failed.
pub(super) fn tell_failed(Failed { from, count, last }: &Failed) -> String {
    let times = if *count == 1 { String::new() } else { format!("{count} times, last ") };
    format!("{times}{}, from {}", since(*last), shown(*from))
}

/// What came back when a peer was called. `own` are this machine's addresses.
pub(super) fn tell_unreachable(
    unreachable: &Unreachable,
    endpoint: SocketAddr,
    own: &[IpAddr],
) -> String {
    let Unreachable { obstacle, by, last } = unreachable;
    let is_local = |address: &IpAddr| address.is_loopback() || own.contains(address);
    let (to, address, port) = (shown(endpoint), endpoint.ip(), endpoint.port());
    let here = "this machine's own packet filter";
    let what = match (by, obstacle) {
        (Some(_), Obstacle::Port) if is_local(&address) => {
            format!("nothing listens on port {port} of this machine itself, where Endpoint leads")
        }
        (Some(by), Obstacle::Port) if *by == address => format!(
            "{by} answers that nothing listens on its port {port}: start the tunnel there, mend the \
             port in Endpoint, or look at its packet filter"
        ),
        (Some(by), Obstacle::Host) if is_local(by) => {
            format!("nobody on this machine's network has the address {address}")
        }
        (Some(by), _) if is_local(by) => format!("{here} rejects what is sent to {to}"),
        // Whoever is there, and says that nobody is, is a packet filter.
        (Some(by), _) if *by == address => {
            format!("a packet filter of {by} rejects what is sent to its port {port}")
        }
        (Some(by), Obstacle::Port | Obstacle::Prohibited) => {
            format!("a packet filter of {by}, on the way, rejects what is sent to {to}")
        }
        (Some(by), Obstacle::Host) => format!("{by}, on the way, finds nobody at {address}"),
        (Some(by), Obstacle::Network) => format!("{by}, on the way, knows no route to {address}"),
        (None, Obstacle::Prohibited) => format!("{here} lets nothing out to {to}"),
        (None, _) => format!("this machine knows no way to {address}"),
    };
    format!("{what} ({})", since(*last))
}

/// What a peer does that hears no answer.
pub(super) fn tell_unheard(Unheard { count, last }: &Unheard, endpoint: SocketAddr) -> String {
    format!(
        "it calls, and goes on as if nobody answered ({count} times, last {}): check that UDP from \
         here gets to {}, and that the PresharedKey is the same on both sides",
        since(*last),
        shown(endpoint)
    )
}

/// That a peer is in two places.
pub(super) fn tell_turns(Turns { other, count, last }: &Turns) -> String {
    format!(
        "it speaks from there and from {} in turn ({count} times, last {}), as two machines \
         with one key do",
        shown(*other),
        since(*last)
    )
}

fn since(time: Duration) -> String {
    format!("{} ago", ago(realtime().saturating_sub(time).as_secs()))
}
