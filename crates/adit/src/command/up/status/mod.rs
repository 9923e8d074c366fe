//! `adit status`: what is up, and how it is (docs/up.md).

mod causes;
mod json;
mod privileges;
mod text;
mod trouble;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use config::key::to_base64;
use config::trouble::{Refused, Trouble, Troubles};
use config::wg::{Names, peer_names};
use host::plan::{Entry, Item, Machine, Observed, in_force};
use host::resolve::interface_name;
use host::{Link, Network};
use lexopt::Arg;
use proto::{DeviceState, PeerState, PrivateKey, PublicKey};
use serde_json::{Map, Value};
use sys::clock::realtime;

use privileges::Privilege;

use super::failure::{Failure, Outcome};
use super::strays::Strays;
use super::tunnel::{self, Note};
use super::ways::{Fault, Narrow, Ways};
use super::{keep, must_be_root, not_running, of_others, sync, wish};
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
    let text = if as_json {
        let all = tunnels.iter().map(|tunnel| (tunnel.name.clone(), tunnel.json()));
        format!("{:#}\n", Value::from(all.collect::<Map<_, _>>()))
    } else if tunnels.is_empty() && failures.is_empty() && others.is_empty() {
        nothing()
    } else {
        tunnels.iter().map(Tunnel::text).chain([others]).collect()
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
    /// Its link, whatever it is called now; none if it is not here.
    link: Option<Link>,
    entries: Vec<Entry>,
    observed: Observed,
    /// None if its link is gone, or nobody answers for it.
    state: Option<DeviceState>,
    troubles: Troubles,
    /// What its daemon has kept of root's, if that can be seen.
    privileges: Option<Vec<Privilege>>,
    /// How many packets have come out of its link, and how many went in.
    counts: Option<(u64, u64)>,
    /// This machine's.
    addresses: Vec<IpAddr>,
    names: Names,
    /// What its keeper knows; none without one.
    keeper: Option<keep::Kept>,
    /// Since when peers were called in vain, by their keys.
    calls: Calls,
    /// Why peers that have no session cannot be reached from here.
    faults: BTreeMap<PublicKey, Fault>,
    /// The way that its packets do not fit through.
    narrow: Option<Narrow>,
    /// What peers send to others in vain.
    strays: Vec<Strays>,
}

impl Tunnel {
    fn look(name: &str) -> Outcome<Option<Self>> {
        let Some(journal) = tunnel::journal(name)? else { return Ok(None) };
        let mut machine = Machine::open()?;
        let observed = machine.observe(journal.entries.iter().map(|it| &it.item))?;
        let link = tunnel::renamed(&mut machine.network, name, &journal)?;
        let link = match link {
            Some(link) => Some(link),
            // It may be found by another name, too.
            None => machine.network.find_link(name)?.filter(|link| link.name == name),
        };
        // That of the kernel answers to its name, the daemon goes by its socket.
        let called = link.as_ref().filter(|_| journal.note.kernel);
        let called = called.map_or(name, |link| &link.name);
        let (state, troubles) = interface::told(called.as_ref()).ok().unzip();
        let privileges = state.as_ref().and_then(|_| privileges::kept(called));
        let troubles: Troubles = troubles.unwrap_or_default();
        let counts = link.as_ref().and_then(|link| machine.network.counts(&link.name).ok());
        let addresses = machine.network.addresses()?;
        let (keeper, calls) = match keep::ask(name) {
            Some(known) => (Some(known.keeper), known.calls),
            None => (None, Calls::new()),
        };
        let faults = match (&state, &link) {
            (Some(state), Some(link)) => {
                faults(state, &link.name, &calls, &troubles, &mut machine.network)
            }
            _ => BTreeMap::new(),
        };
        let narrow = match (&state, &link) {
            (Some(state), Some(link)) => Narrow::of(state, link, &mut machine.network),
            _ => None,
        };
        let strays = link.as_ref().map(|link| Strays::of(&link.name, state.as_ref(), &journal));
        let file = std::fs::read(tunnel::applied_file(name)).map(zeroize::Zeroizing::new);
        Ok(Some(Self {
            name: name.to_owned(),
            note: journal.note,
            link,
            entries: journal.entries,
            observed,
            state,
            troubles,
            privileges,
            counts,
            addresses: addresses.iter().map(|it| it.address.address).collect(),
            names: peer_names(&String::from_utf8_lossy(&file.unwrap_or_default())),
            keeper,
            calls,
            faults,
            narrow,
            strays: strays.unwrap_or_default(),
        }))
    }

    fn peers(&self) -> impl Iterator<Item = Peer<'_>> {
        let mut refused = self.refused();
        self.state.iter().flat_map(|state| &state.peers).map(move |state| {
            let key = &state.public_key;
            let unanswered_since = unanswered_since(state, &self.calls);
            Peer {
                state,
                name: self.names.get(key).map(String::as_str),
                written: self.note.endpoint(key),
                unanswered_since,
                lights: Lights::of(state, unanswered_since.is_some()),
                fault: self.faults.get(key),
                trouble: self.troubles.peers.get(key),
                refused: refused.remove(&Some(*key)).unwrap_or_default(),
            }
        })
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
        let guards: Vec<_> = tunnel::guard(&self.entries).map(|(item, _)| item).collect();
        match (self.note.table, guards.is_empty()) {
            (None, _) => "none",
            (Some(_), true) => "off",
            _ if guards.iter().all(|item| self.observed.has(item)) => "on",
            _ => "missing",
        }
    }

    fn in_force(&self) -> impl Iterator<Item = &Item> {
        in_force(self.entries.iter().map(|entry| &entry.item))
    }

    /// Its name servers, and whether the machine still asks them.
    fn dns(&self) -> Option<(Vec<String>, bool)> {
        self.in_force().find_map(|item| {
            let Item::Dns(settings, _) = item else { return None };
            let servers = settings.servers.iter().map(ToString::to_string).collect();
            Some((servers, self.observed.has(item)))
        })
    }

    /// What it has made and others have taken away.
    fn missing(&self) -> Vec<String> {
        // What goes by the name of a link that has another one is there all the same.
        let is_called_otherwise = self.link.as_ref().is_some_and(|link| link.name != self.name);
        let is_there =
            |item: &Item| is_called_otherwise && (item.is_link() || item.goes_with(&self.name));
        let missing = self.in_force().filter(|item| !self.observed.has(item) && !is_there(item));
        missing.map(ToString::to_string).chain(self.missing_mark()).collect()
    }

    fn missing_mark(&self) -> Option<String> {
        let mark = sync::lost_mark(self.note.table, self.state.as_ref()?)?;
        Some(format!("mark {mark:#x} of its datagrams"))
    }

    /// Our own, which is in the files of the peers; none without a private key.
    fn public_key(&self) -> Option<PublicKey> {
        self.state.as_ref()?.private_key.as_ref().map(PrivateKey::public_key)
    }
}

/// Since when peers were called in vain, in seconds since the Unix epoch, by the base64 of their keys.
type Calls = BTreeMap<String, u64>;

/// Since when a peer has not answered, if its last handshake is older.
fn unanswered_since(peer: &PeerState, calls: &Calls) -> Option<u64> {
    let since = *calls.get(to_base64(&peer.public_key.0).as_str())?;
    Some(since).filter(|since| peer.last_handshake.is_none_or(|last| last.as_secs() < *since))
}

/// Why peers that have no session, or do not hear us, cannot be reached from here.
fn faults(
    state: &DeviceState,
    link: &str,
    calls: &Calls,
    troubles: &Troubles,
    network: &mut Network,
) -> BTreeMap<PublicKey, Fault> {
    let mut ways = Ways::new(network, link, state.fwmark);
    let has_none = |peer: &&PeerState| {
        let is_called_in_vain = unanswered_since(peer, calls).is_some();
        let trouble = troubles.peers.get(&peer.public_key);
        is_called_in_vain
            || trouble.is_some_and(|trouble| trouble.unheard.is_some())
            || !Lights::of(peer, is_called_in_vain).handshaked
    };
    let peers = state.peers.iter().filter(has_none);
    peers.filter_map(|peer| Some((peer.public_key, ways.fault(peer.endpoint?)?))).collect()
}

/// A peer as it is now.
struct Peer<'a> {
    state: &'a PeerState,
    /// What it is called, if it is.
    name: Option<&'a str>,
    /// Its endpoint as the file has it.
    written: Option<&'a str>,
    unanswered_since: Option<u64>,
    lights: Lights,
    fault: Option<&'a Fault>,
    /// What is known of failures with it.
    trouble: Option<&'a Trouble>,
    /// What was refused of a stranger where it should be.
    refused: Vec<&'a Refused>,
}

impl Peer<'_> {
    fn key(&self) -> String {
        to_base64(&self.state.public_key.0).to_string()
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

/// As `wg show` has it: a link-local address with the name of its link.
fn shown(endpoint: SocketAddr) -> String {
    config::wg::endpoint(endpoint, interface_name)
}

/// How long a time is, in round numbers.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}
