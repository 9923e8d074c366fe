//! A tunnel in words, for people: how it is, what is wrong, and what to do about it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use config::discard;
use config::key::to_base64;
use proto::Discard;
use sys::clock::realtime;

use super::{Lights, Peer, Tunnel, shown};
use crate::command::up::ways::{Fault, OUT_OF_ALLOWED_IPS};

impl Tunnel {
    pub(super) fn text(&self) -> String {
        let name = &self.name;
        let mut text = match self.state.is_some() || self.link.is_some() {
            true => format!("{name}  up {}", ago(self.uptime())),
            // After a crash of the machine, or of everything that was to look after it.
            false => format!(
                "{name}  down, though nobody took it down: `adit up {name}' brings it back, \
                 `adit down {name}' clears up\n "
            ),
        };
        let mtu = match (self.mtu(), &self.link) {
            (Some(mtu), Some(link)) if *link == self.name => format!("MTU {mtu}"),
            (Some(mtu), Some(link)) => format!("MTU {mtu}  its link is called {link}"),
            _ if self.state.is_some() => "its link is in another network namespace".to_owned(),
            _ => "no link".to_owned(),
        };
        let port = self.state.as_ref().map(|state| state.listen_port).filter(|port| *port != 0);
        let port = port.map_or_else(String::new, |port| format!("  port {port}"));
        let dns = match self.dns() {
            None => String::new(),
            Some((servers, true)) => format!("  DNS {}", servers.join(", ")),
            Some((servers, false)) => format!("  DNS {} (taken away)", servers.join(", ")),
        };
        let keeper = if self.keeper.is_some() { "" } else { "  nobody keeps it" };
        // Nothing fails that is written into a string.
        let _ = writeln!(
            text,
            "  by {}{port}  {mtu}  guard {}{dns}{keeper}",
            self.backend(),
            self.guard()
        );
        if self.state.is_none() && self.link.is_some() {
            text += "  whoever carries its packets does not answer\n";
        }
        if self.state.is_some() && self.public_key().is_none() {
            let _ = writeln!(text, "  it has no private key, without which it reaches nobody");
        }
        if let Some(narrow) = &self.narrow {
            let _ = writeln!(text, "  {narrow}");
        }
        for peer in self.peers() {
            self.tell_of(&peer, &mut text);
        }
        let refused = self.state.as_ref().and_then(|state| state.last_discard);
        if let Some(reason) = refused.filter(|reason| !is_of_a_peer(*reason)) {
            let _ = writeln!(text, "  last refused: {}", discard::explain(reason));
        }
        for item in self.missing() {
            let _ = writeln!(text, "  missing: {item}");
        }
        if let Some(failure) = self.keeper.as_ref().and_then(|keeper| keeper.failure.as_ref()) {
            let _ = writeln!(text, "  cannot be put back: {failure}");
        }
        text
    }

    /// What keeps the tunnel from carrying itself.
    fn way_out(&self) -> String {
        match self.note.table {
            Some(_) => format!("`adit up {}' gives its datagrams their mark again", self.name),
            None => OUT_OF_ALLOWED_IPS.to_owned(),
        }
    }

    /// What may be wrong where nobody answers: a peer is silent towards strangers.
    fn advice(&self, peer: &Peer<'_>, endpoint: SocketAddr) -> String {
        let ours = self.public_key().map_or_else(String::new, |key| {
            format!(", and that it has our {} as a peer", to_base64(&key.0).as_str())
        });
        format!(
            "check that it listens at {} and UDP gets through, that its key is {}{ours}",
            shown(endpoint),
            peer.key()
        )
    }

    fn tell_of(&self, peer: &Peer<'_>, text: &mut String) {
        let light = |is_lit| if is_lit { "yes" } else { "no" };
        let Lights { handshaked, receives, is_answered } = peer.lights;
        let abbreviated = || config::key::abbreviated(&peer.state.public_key);
        let name = peer.name.map_or_else(abbreviated, str::to_owned);
        let _ = writeln!(text, "  {name}  at {}", peer.place());
        let _ = writeln!(
            text,
            "    handshaked: {} ({})  receives: {}  is answered: {}",
            light(handshaked),
            self.last_handshake(peer),
            light(receives),
            light(is_answered)
        );
        if let Some(since) = peer.unanswered_since {
            let time = ago(realtime().as_secs().saturating_sub(since));
            let _ = writeln!(text, "    called {time} ago, and has not answered since");
        }
        match (peer.fault, peer.unanswered_since, peer.state.endpoint) {
            (Some(fault @ Fault::Circle(_)), _, _) => {
                let _ = writeln!(text, "    {fault}: {}", self.way_out());
            }
            (Some(fault), _, _) => {
                let _ = writeln!(text, "    {fault}");
            }
            // What it said to that is told below.
            (None, Some(_), Some(endpoint)) if peer.state.last_discard.is_none() => {
                let _ = writeln!(text, "    {}", self.advice(peer, endpoint));
            }
            _ => {}
        }
        if let Some(reason) = peer.state.last_discard {
            let _ = writeln!(text, "    last failure: {}", discard::explain(reason));
        }
    }

    /// When it was, and why there was none since, if that is known.
    fn last_handshake(&self, peer: &Peer<'_>) -> String {
        // Whoever had anything to say would have made another; of a kernel nobody knows.
        let is_known = self.keeper.is_some() && !self.note.kernel;
        let is_idle = is_known && !peer.lights.handshaked && peer.unanswered_since.is_none();
        let state = peer.state;
        let could_call = state.endpoint.is_some() && self.public_key().is_some();
        match state.last_handshake.map(|time| realtime().saturating_sub(time).as_secs()) {
            None if is_idle && could_call && state.tx_bytes == 0 => {
                "never, as there was nothing to send".to_owned()
            }
            None => "never".to_owned(),
            Some(age) if is_idle => format!("{} ago, idle since", ago(age)),
            Some(age) => format!("{} ago", ago(age)),
        }
    }
}

impl Peer<'_> {
    /// Where it is, and where it should be, if that is elsewhere.
    fn place(&self) -> String {
        match (self.state.endpoint, self.written) {
            // Where a name leads may be another address every time.
            (Some(endpoint), Some(written))
                if written.parse::<SocketAddr>().is_ok_and(|it| it != endpoint) =>
            {
                format!("{}, though the file says {written}", shown(endpoint))
            }
            (Some(endpoint), _) => shown(endpoint),
            (None, Some(written)) => format!("{written}, which nobody has found yet"),
            (None, None) => "nowhere yet".to_owned(),
        }
    }
}

/// Of a handshake with a peer that is known, which tells it itself until one succeeds.
fn is_of_a_peer(reason: Discard) -> bool {
    matches!(reason, Discard::OldTimestamp | Discard::TooSoon | Discard::BadResponse)
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}
