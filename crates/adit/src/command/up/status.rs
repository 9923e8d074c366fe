//! `adit status`: what is up, and how it is (docs/up.md).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use config::discard;
use config::key::to_base64;
use config::wg::{Names, peer_names};
use host::Network;
use host::plan::{Entry, Item, Machine, Observed};
use host::resolve::interface_name;
use lexopt::Arg;
use proto::{DeviceState, Discard, PeerState, PrivateKey, PublicKey};
use serde_json::{Map, Value, json};
use sys::clock::realtime;

use super::failure::{Failure, Outcome};
use super::tunnel::{self, Note};
use super::ways::{Fault, OUT_OF_ALLOWED_IPS, Ways};
use super::{keep, must_be_root, not_running, of_others, wish};
use crate::command::say;
use crate::command::wg::interface;

const USAGE: &str = "\
Usage: adit status [--json] [FILE | NAME]

Shows one tunnel, or all that `adit up' has brought up. Of each peer: whether a handshake was
completed in the last three minutes, whether data comes, and whether what was sent is answered.

  --json   prints one object, by interface (docs/up.md)
";

/// A session is over when its handshake is this old (REJECT_AFTER_TIME).
const LIFETIME: Duration = Duration::from_secs(180);
/// What one handshake costs either side at most: an initiation and a keepalive, in bytes of UDP.
const HANDSHAKE: u64 = 148 + 32;

/// Runs `adit status`.
pub fn status(arguments: Vec<OsString>) -> ExitCode {
    let shown = parse(arguments).and_then(|wanting| match wanting {
        None => Ok((USAGE.to_owned(), Vec::new())),
        Some((argument, as_json)) => {
            must_be_root("look at its tunnels, as with `wg show'")?;
            show(argument, as_json)
        }
    });
    let (text, failures) = match shown {
        Ok(shown) => shown,
        Err(failure) => return failure.tell(),
    };
    let said = say(&text);
    // What can be told is told first.
    failures.iter().fold(said, |_, failure| failure.tell())
}

/// None for a call for help.
fn parse(arguments: Vec<OsString>) -> Outcome<Option<(Option<OsString>, bool)>> {
    let mut words = lexopt::Parser::from_args(arguments);
    let (mut argument, mut as_json) = (None, false);
    while let Some(word) = words.next()? {
        match word {
            Arg::Long("json") => as_json = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Value(word) if argument.is_none() => argument = Some(word),
            word => return Err(word.unexpected().into()),
        }
    }
    Ok(Some((argument, as_json)))
}

/// The text, and why it leaves others out.
fn show(argument: Option<OsString>, as_json: bool) -> Outcome<(String, Vec<Failure>)> {
    let (mut tunnels, mut failures) = (Vec::new(), Vec::new());
    let mut others = String::new();
    match argument {
        Some(argument) => {
            let name = wish::name(&argument)?;
            tunnels.push(Tunnel::look(&name)?.ok_or_else(|| not_running(&name))?);
        }
        None => {
            for name in tunnel::names() {
                if let Some(way) = tunnel::way_to(&name) {
                    others += &format!("{name}  elsewhere: `{way} adit status {name}'\n");
                    continue;
                }
                match Tunnel::look(&name) {
                    // It may have gone since they were listed.
                    Ok(tunnel) => tunnels.extend(tunnel),
                    Err(failure) => failures.push(failure),
                }
            }
        }
    }
    let text = match tunnels.is_empty() {
        _ if as_json => {
            let all: Map<_, _> =
                tunnels.iter().map(|tunnel| (tunnel.name.clone(), tunnel.json())).collect();
            format!("{:#}\n", Value::from(all))
        }
        true if failures.is_empty() && others.is_empty() => nothing(),
        _ => tunnels.iter().map(Tunnel::text).chain([others]).collect(),
    };
    Ok((text, failures))
}

/// What there is to say when `adit up' has brought nothing up.
fn nothing() -> String {
    match of_others().join(", ") {
        none if none.is_empty() => "nothing is up\n".to_owned(),
        others => format!("nothing is up by `adit up'; `wg show' shows {others}\n"),
    }
}

/// A tunnel as it is now.
struct Tunnel {
    name: String,
    note: Note,
    /// What its link is called now; none if it is not here.
    link: Option<String>,
    entries: Vec<Entry>,
    observed: Observed,
    /// None if its link is gone, or nobody answers for it.
    state: Option<DeviceState>,
    names: Names,
    /// What its keeper knows; none without one.
    keeper: Option<Value>,
    /// Since when peers were called in vain, by their keys.
    calls: Map<String, Value>,
    /// Why peers that have no session cannot be reached from here.
    faults: BTreeMap<PublicKey, Fault>,
}

impl Tunnel {
    fn look(name: &str) -> Outcome<Option<Self>> {
        let Some(journal) = tunnel::journal(name)? else { return Ok(None) };
        let mut machine = Machine::open()?;
        let observed = machine.observe(journal.entries.iter().map(|it| &it.item))?;
        let link = tunnel::renamed(&mut machine.network, name, &journal)?;
        let link = link.map(|link| link.name).or_else(|| {
            let mut links = observed.links.iter();
            links.find(|link| link.name == name).map(|link| link.name.clone())
        });
        // That of the kernel answers to its name, the daemon goes by its socket.
        let called = link.as_deref().filter(|_| journal.note.kernel).unwrap_or(name);
        let mut keeper = keep::ask(name);
        let calls = keeper.as_mut().and_then(|keeper| keeper.as_object_mut()?.remove("calls"));
        let file = std::fs::read(tunnel::applied_file(name)).map(zeroize::Zeroizing::new);
        let mut tunnel = Self {
            name: name.to_owned(),
            state: interface::state(called.as_ref()).ok(),
            names: peer_names(&String::from_utf8_lossy(&file.unwrap_or_default())),
            keeper,
            calls: match calls {
                Some(Value::Object(calls)) => calls,
                _ => Map::new(),
            },
            note: journal.note,
            link,
            entries: journal.entries,
            observed,
            faults: BTreeMap::new(),
        };
        tunnel.faults = tunnel.faults(&mut machine.network);
        Ok(Some(tunnel))
    }

    fn faults(&self, network: &mut Network) -> BTreeMap<PublicKey, Fault> {
        let Some((state, link)) = self.state.as_ref().zip(self.link.as_ref()) else {
            return BTreeMap::new();
        };
        let mut ways = Ways::new(network, link, state.fwmark);
        let has_none = |peer: &&PeerState| {
            let is_called_in_vain = self.unanswered_since(peer).is_some();
            is_called_in_vain || !Lights::of(peer, is_called_in_vain).handshaked
        };
        let peers = state.peers.iter().filter(has_none);
        peers.filter_map(|peer| Some((peer.public_key, ways.fault(peer.endpoint?)?))).collect()
    }

    fn mtu(&self) -> Option<u32> {
        let called = self.link.as_ref()?;
        self.observed.links.iter().find(|link| link.name == *called).map(|link| link.mtu)
    }

    fn uptime(&self) -> u64 {
        realtime().as_secs().saturating_sub(self.note.since)
    }

    fn backend(&self) -> &'static str {
        if self.note.kernel { "kernel" } else { "adit" }
    }

    /// `on` and `missing` are as it says; `off` is a full tunnel without, and `none` is needed by
    /// no other.
    fn guard(&self) -> &'static str {
        let is_guard = |item: &&Item| matches!(item, Item::Filter(table) if table.chains.iter().any(|it| it.name == "output"));
        let items = self.entries.iter().map(|entry| &entry.item);
        let guards: Vec<_> = items.filter(is_guard).collect();
        match (self.note.table, guards.is_empty()) {
            (None, _) => "none",
            (Some(_), true) => "off",
            _ if guards.iter().all(|item| self.observed.has(item)) => "on",
            _ => "missing",
        }
    }

    /// Its name servers, and whether the machine still asks them.
    fn dns(&self) -> Option<(Vec<String>, bool)> {
        self.entries.iter().find_map(|entry| match &entry.item {
            Item::Dns(settings, _) => {
                let servers = settings.servers.iter().map(ToString::to_string).collect();
                Some((servers, self.observed.has(&entry.item)))
            }
            _ => None,
        })
    }

    /// What it has made and others have taken away.
    fn missing(&self) -> Vec<String> {
        let items = self.entries.iter().map(|entry| &entry.item);
        // What goes by the name of a link that has another one is there all the same.
        let is_called_otherwise = self.link.as_ref().is_some_and(|link| *link != self.name);
        let is_there =
            |item: &Item| is_called_otherwise && (item.is_link() || item.goes_with(&self.name));
        let missing = items.filter(|item| !self.observed.has(item) && !is_there(item));
        missing.map(ToString::to_string).chain(self.missing_mark()).collect()
    }

    /// Without its mark a full tunnel carries its own datagrams.
    fn missing_mark(&self) -> Option<String> {
        let mark = self.note.table?;
        let has_another = self.state.as_ref().is_some_and(|state| state.fwmark != mark);
        has_another.then(|| format!("mark {mark:#x} of its datagrams"))
    }

    fn json(&self) -> Value {
        let peers = self.state.iter().flat_map(|state| &state.peers);
        let peers: Map<_, _> = peers
            .map(|peer| (to_base64(&peer.public_key.0).to_string(), self.json_of(peer)))
            .collect();
        let addresses: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| match &entry.item {
                Item::Address(_, address) => Some(address.to_string()),
                _ => None,
            })
            .collect();
        json!({
            "file": self.note.file,
            "since": self.note.since,
            "uptime": self.uptime(),
            "backend": self.backend(),
            "up": self.state.is_some(),
            "link": self.link,
            "mtu": self.mtu(),
            "addresses": addresses,
            "publicKey": self.public_key().map(|key| to_base64(&key.0).to_string()),
            "listenPort": self.state.as_ref().map(|state| state.listen_port),
            "fwmark": self.state.as_ref().map(|state| state.fwmark),
            "guard": self.guard(),
            "dns": self.dns().map(|(servers, holds)| json!({ "servers": servers, "holds": holds })),
            "missing": self.missing(),
            "lastFailure": self.state.as_ref().and_then(|it| it.last_discard).map(discard::name),
            "keeper": self.keeper,
            "peers": peers,
        })
    }

    /// Our own, which is in the files of the peers; none without a private key.
    fn public_key(&self) -> Option<PublicKey> {
        self.state.as_ref()?.private_key.as_ref().map(PrivateKey::public_key)
    }

    /// Since when a peer has not answered, if its last handshake is older.
    fn unanswered_since(&self, peer: &PeerState) -> Option<u64> {
        let since = self.calls.get(to_base64(&peer.public_key.0).as_str())?.as_u64()?;
        Some(since).filter(|since| peer.last_handshake.is_none_or(|last| last.as_secs() < *since))
    }

    fn json_of(&self, peer: &PeerState) -> Value {
        let unanswered = self.unanswered_since(peer);
        let lights = Lights::of(peer, unanswered.is_some());
        json!({
            "name": self.names.get(&peer.public_key),
            "endpoint": peer.endpoint.map(shown),
            "endpointInFile": self.note.endpoint(&peer.public_key),
            "latestHandshake": peer.last_handshake.map(|time| time.as_secs()),
            "allowedIps": peer
                .allowed_ips
                .iter()
                .map(|it| format!("{}/{}", it.address(), it.length()))
                .collect::<Vec<_>>(),
            "persistentKeepalive": peer.persistent_keepalive,
            "transferRx": peer.rx_bytes,
            "transferTx": peer.tx_bytes,
            "handshaked": lights.handshaked,
            "receives": lights.receives,
            "isAnswered": lights.is_answered,
            "unansweredSince": unanswered,
            "lastFailure": peer.last_discard.map(discard::name),
        })
    }

    fn text(&self) -> String {
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
        for peer in self.state.iter().flat_map(|state| &state.peers) {
            self.tell_of(peer, &mut text);
        }
        let refused = self.state.as_ref().and_then(|state| state.last_discard);
        if let Some(reason) = refused.filter(|reason| !is_of_a_peer(*reason)) {
            let _ = writeln!(text, "  last refused: {}", discard::explain(reason));
        }
        for item in self.missing() {
            let _ = writeln!(text, "  missing: {item}");
        }
        let failure = self.keeper.as_ref().and_then(|keeper| keeper.get("failure")?.as_str());
        if let Some(failure) = failure {
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
    fn advice(&self, peer: &PeerState, endpoint: SocketAddr) -> String {
        let ours = self.public_key().map_or_else(String::new, |key| {
            format!(", and that it has our {} as a peer", to_base64(&key.0).as_str())
        });
        format!(
            "check that it listens at {} and UDP gets through, that its key is {}{ours}",
            shown(endpoint),
            to_base64(&peer.public_key.0).as_str()
        )
    }

    fn tell_of(&self, peer: &PeerState, text: &mut String) {
        let unanswered = self.unanswered_since(peer);
        let lights = Lights::of(peer, unanswered.is_some());
        let light = |is_lit| if is_lit { "yes" } else { "no" };
        let name = self.names.get(&peer.public_key).cloned();
        let name = name.unwrap_or_else(|| config::key::abbreviated(&peer.public_key));
        let endpoint = match (peer.endpoint, self.note.endpoint(&peer.public_key)) {
            // Where a name leads may be another address every time.
            (Some(endpoint), Some(written))
                if written.parse::<SocketAddr>().is_ok_and(|it| it != endpoint) =>
            {
                format!("{}, though the file says {written}", shown(endpoint))
            }
            (Some(endpoint), _) => shown(endpoint),
            (None, Some(written)) => format!("{written}, which nobody has found yet"),
            (None, None) => "nowhere yet".to_owned(),
        };
        let _ = writeln!(text, "  {name}  at {endpoint}");
        let handshake = peer.last_handshake.map(|time| realtime().saturating_sub(time).as_secs());
        // Whoever had anything to say would have made another; of a kernel nobody knows.
        let is_known = self.keeper.is_some() && !self.note.kernel;
        let idle = is_known && !lights.handshaked && unanswered.is_none();
        let has_key = self.public_key().is_some();
        let handshake = match handshake {
            None if idle && peer.endpoint.is_some() && peer.tx_bytes == 0 && has_key => {
                "never, as there was nothing to send".to_owned()
            }
            None => "never".to_owned(),
            Some(age) if idle => format!("{} ago, idle since", ago(age)),
            Some(age) => format!("{} ago", ago(age)),
        };
        let _ = writeln!(
            text,
            "    handshaked: {} ({handshake})  receives: {}  is answered: {}",
            light(lights.handshaked),
            light(lights.receives),
            light(lights.is_answered)
        );
        if let Some(since) = unanswered {
            let time = ago(realtime().as_secs().saturating_sub(since));
            let _ = writeln!(text, "    called {time} ago, and has not answered since");
        }
        match (self.faults.get(&peer.public_key), unanswered, peer.endpoint) {
            (Some(fault @ Fault::Circle(_)), _, _) => {
                let _ = writeln!(text, "    {fault}: {}", self.way_out());
            }
            (Some(fault), _, _) => {
                let _ = writeln!(text, "    {fault}");
            }
            // What it said to that is told below.
            (None, Some(_), Some(endpoint)) if peer.last_discard.is_none() => {
                let _ = writeln!(text, "    {}", self.advice(peer, endpoint));
            }
            _ => {}
        }
        if let Some(reason) = peer.last_discard {
            let _ = writeln!(text, "    last failure: {}", discard::explain(reason));
        }
    }
}

/// What works between a peer and us.
struct Lights {
    handshaked: bool,
    receives: bool,
    is_answered: bool,
}

impl Lights {
    fn of(peer: &PeerState, is_called_in_vain: bool) -> Self {
        let age = peer.last_handshake.map(|time| realtime().saturating_sub(time));
        let handshaked = age.is_some_and(|age| age <= LIFETIME);
        // Of a kernel only the counters tell, where handshakes and data are summed.
        let receives = handshaked && peer.receives.unwrap_or(peer.rx_bytes > HANDSHAKE);
        let is_answered = receives && peer.tx_bytes > HANDSHAKE && !is_called_in_vain;
        Self { handshaked, receives, is_answered }
    }
}

/// Of a handshake with a peer that is known, which tells it itself until one succeeds.
fn is_of_a_peer(reason: Discard) -> bool {
    matches!(reason, Discard::OldTimestamp | Discard::TooSoon | Discard::BadResponse)
}

/// As `wg show` has it: a link-local address with the name of its link.
fn shown(endpoint: SocketAddr) -> String {
    config::wg::endpoint(endpoint, interface_name)
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}
