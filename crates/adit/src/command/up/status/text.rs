//! A tunnel in words, for people: how it is, what is wrong, and what to do about it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use config::discard;
use config::key::to_base64;
use config::trouble::Unreachable;
use host::Link;
use proto::Discard;
use sys::clock::realtime;

use super::causes::is_cause;
use super::trouble::{self, Owner};
use super::{Lights, Peer, Tunnel, ago, shown};
use crate::command::up::endpoints::plain;
use crate::command::up::ways::{Fault, OUT_OF_ALLOWED_IPS};

/// Of so many senders it is told what was refused.
const MAX_REFUSED: usize = 4;

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
        let mtu = match &self.link {
            Some(Link { name, mtu, .. }) if *name == self.name => format!("MTU {mtu}"),
            Some(Link { name, mtu, .. }) => format!("MTU {mtu}  its link is called {name}"),
            None if self.state.is_some() => "its link is in another network namespace".to_owned(),
            None => "no link".to_owned(),
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
        if let Some(kept) = self.privileges.as_ref().filter(|kept| !kept.is_empty()) {
            let kept: Vec<_> = kept.iter().map(|it| it.words()).collect();
            let _ = writeln!(text, "  its daemon has kept {}", kept.join(", "));
        }
        if self.state.is_some() && self.public_key().is_none() {
            let _ = writeln!(text, "  it has no private key, without which it reaches nobody");
        }
        if self.has_gone_back() {
            let _ = writeln!(
                text,
                "  its file, or a handshake, is of a later time than now: if this machine's clock has \
                 gone back, nobody answers who has heard of a later time"
            );
        }
        if let Some(narrow) = &self.narrow {
            let _ = writeln!(text, "  {narrow}");
        }
        for strays in &self.strays {
            let _ = writeln!(text, "  {strays}");
        }
        for peer in self.peers() {
            self.tell_of(&peer, &mut text);
        }
        if let Some(sent) = self.unreturned() {
            let _ = writeln!(
                text,
                "  {sent} packets went in and none has come out, though calls are answered: look at \
                 the AllowedIPs that the other side has for this machine, its packet filter, and \
                 the way back from what is behind it"
            );
        }
        for refused in self.refused().get(&None).into_iter().flatten().take(MAX_REFUSED) {
            let _ = writeln!(text, "  refused: {}", self.owner().tell(refused, None));
        }
        for item in self.missing() {
            let _ = writeln!(text, "  missing: {item}");
        }
        if let Some(failure) = self.keeper.as_ref().and_then(|keeper| keeper.failure.as_ref()) {
            let _ = writeln!(text, "  cannot be put back: {failure}");
        }
        text
    }

    fn owner(&self) -> Owner<'_> {
        Owner { tunnel: &self.name, file: &self.note.file, key: self.public_key() }
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
        // Where it has not been told to be, it was itself.
        let way_back = match peer.written {
            Some(_) => "",
            None => {
                "; behind NAT it is there only while it speaks, as PersistentKeepalive = 25 in its \
                 file sees to"
            }
        };
        format!(
            "check that it listens at {} and UDP gets through both ways, that its key is {}{ours}{way_back}",
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
        self.tell_why(peer, text);
        for refused in peer.refused.iter().take(MAX_REFUSED) {
            let _ = writeln!(text, "    refused: {}", self.owner().tell(refused, Some(&name)));
        }
        if let Some(reason) = peer.state.last_discard {
            let failed = peer.trouble.and_then(|trouble| trouble.failed.as_ref());
            let when = failed.map(|failed| format!("{}: ", trouble::tell_failed(failed)));
            let when = when.unwrap_or_default();
            let here = if reason == Discard::NotAllowed { peer.foreign() } else { String::new() };
            let _ = writeln!(text, "    last failure: {when}{}{here}", discard::explain(reason));
        }
        if let Some(turns) = peer.trouble.and_then(|trouble| trouble.turns.as_ref()) {
            let _ = writeln!(text, "    {}", trouble::tell_turns(turns));
        }
    }

    /// Why it does not answer, or what to look at, if that is not told otherwise.
    fn tell_why(&self, peer: &Peer<'_>, text: &mut String) {
        let why = match (peer.fault, peer.state.endpoint) {
            (Some(fault @ Fault::Circle(_)), _) => format!("{fault}: {}", self.way_out()),
            (Some(fault), _) => fault.to_string(),
            (None, None) => return,
            (None, Some(endpoint)) if self.is_ourselves(endpoint) => {
                "its Endpoint is this tunnel itself".to_owned()
            }
            (None, Some(endpoint)) if let Some(unreachable) = peer.unreachable() => {
                trouble::tell_unreachable(unreachable, endpoint, &self.addresses)
            }
            (None, Some(endpoint))
                if let Some(unheard) = peer.trouble.and_then(|it| it.unheard.as_ref()) =>
            {
                trouble::tell_unheard(unheard, endpoint)
            }
            // What it said to that is told below.
            (None, Some(endpoint))
                if peer.unanswered_since.is_some()
                    && peer.state.last_discard.is_none()
                    && !peer.refused.iter().any(|it| is_cause(it)) =>
            {
                self.advice(peer, endpoint)
            }
            _ => return,
        };
        let _ = writeln!(text, "    {why}");
    }

    /// When it was, and why there was none since, if that is known.
    fn last_handshake(&self, peer: &Peer<'_>) -> String {
        // Whoever had anything to say would have made another; of a kernel nobody knows.
        let is_known = self.keeper.is_some() && !self.note.kernel;
        let is_idle = is_known && !peer.lights.handshaked && peer.unanswered_since.is_none();
        let state = peer.state;
        let could_call = state.endpoint.is_some() && self.public_key().is_some();
        match state.last_handshake.map(|time| realtime().saturating_sub(time).as_secs()) {
            None if is_idle
                && could_call
                && state.tx_bytes == 0
                && peer.fault.is_none()
                && peer.unreachable().is_none() =>
            {
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
                if written.parse::<SocketAddr>().is_ok_and(|it| plain(it) != endpoint) =>
            {
                format!("{}, though the file says {written}", shown(endpoint))
            }
            (Some(endpoint), _) => shown(endpoint),
            (None, Some(written)) => format!("{written}, which nobody has found yet"),
            (None, None) => "nowhere yet: without an Endpoint here it has to call first".to_owned(),
        }
    }

    fn unreachable(&self) -> Option<&Unreachable> {
        self.trouble?.unreachable.as_ref()
    }

    /// From which address it has spoken that is not its here, and which are.
    fn foreign(&self) -> String {
        let source = self.trouble.and_then(|trouble| trouble.source);
        let source = source.map_or_else(String::new, |source| format!("{source} is not in "));
        let allowed = self.state.allowed_ips.iter().map(ToString::to_string);
        match allowed.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => format!(": {source}nothing, as other peers may have them"),
            some => format!(": {source}{some}"),
        }
    }
}
