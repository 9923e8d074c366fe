//! What is known of a tunnel from one command to the next.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use config::key::to_base64;
use config::quick;
use config::wg::Settings;
use host::plan::{Entry, Item, Machine, in_force};
use host::{Change, Link, Network, Whereabouts, dns, nft};
use proto::PublicKey;
use serde::{Deserialize, Serialize};

use super::carrier::End;
use super::failure::{Failure, Kind, Outcome};
use super::lock::Lock;
use super::wish::Wish;

/// Where the journals are: they outlive a power cut.
pub const JOURNALS: &str = "/var/lib/adit";
/// Where files are that do not: locks, sockets, and what was applied.
pub const RUNTIME: &str = "/run/adit";

/// The journal of a tunnel.
pub type Journal = host::Journal<Note>;

/// What its journal tells of a tunnel beside what was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The file that it came from.
    pub file: PathBuf,
    /// When it came up, in seconds since the Unix epoch.
    pub since: u64,
    /// How many packets of IPv4 for others this machine had dropped by then. Where an earlier version
    /// did not look, none has been dropped since.
    #[serde(default = "all")]
    pub dropped: u64,
    /// The mark of its own packets, and the table of its routes; none for a split tunnel.
    pub table: Option<u32>,
    /// Whether nothing may leave beside it, if the command line said so.
    pub guard: Option<bool>,
    /// Whether the kernel carries its packets.
    pub kernel: bool,
    /// The number of its link, which stays when somebody gives it another name.
    #[serde(default)]
    pub link: Option<u32>,
    /// The hooks as they were when they ran.
    pub hooks: Hooks,
    /// Those of them that have yet to run: whoever brings the tunnel up may be killed before.
    #[serde(default)]
    pub due: Due,
    /// The endpoints as they were written, by the base64 of the peer's key.
    pub endpoints: BTreeMap<String, String>,
    /// Where those were found that are names. Once the link has gone by itself, nobody can be asked
    /// for them behind the guard.
    #[serde(default)]
    pub found: BTreeMap<String, SocketAddr>,
    /// The name servers of the network, as they were when they were last seen.
    #[serde(default)]
    pub resolvers: Vec<IpAddr>,
}

/// The user's own commands for a shell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Before the new link is configured.
    pub pre_up: Vec<Vec<u8>>,
    /// When everything is there.
    pub post_up: Vec<Vec<u8>>,
    /// Before anything is taken back.
    pub pre_down: Vec<Vec<u8>>,
    /// When everything is gone.
    pub post_down: Vec<Vec<u8>>,
}

/// What has yet to run of the hooks of a tunnel that comes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Due {
    /// Nothing: all have run, as far as none failed.
    #[default]
    Nothing,
    /// `PostUp`.
    PostUp,
    /// Both.
    PreUp,
}

/// More than any other number.
const fn all() -> u64 {
    u64::MAX
}

impl From<&quick::Hooks> for Hooks {
    fn from(hooks: &quick::Hooks) -> Self {
        Self {
            pre_up: hooks.pre_up.clone(),
            post_up: hooks.post_up.clone(),
            pre_down: hooks.pre_down.clone(),
            post_down: hooks.post_down.clone(),
        }
    }
}

impl Note {
    /// Of a tunnel that comes up now.
    pub fn new(wish: &Wish) -> Self {
        let mut note = Self {
            file: PathBuf::new(),
            since: sys::clock::realtime().as_secs(),
            dropped: host::forwarding::dropped(),
            table: None,
            guard: None,
            kernel: false,
            link: None,
            hooks: Hooks::default(),
            due: Due::Nothing,
            endpoints: BTreeMap::new(),
            found: BTreeMap::new(),
            resolvers: Vec::new(),
        };
        note.follow(wish, &Settings::default());
        note
    }

    /// Tells of the file as it is now, and where its peers were found.
    pub fn follow(&mut self, wish: &Wish, settings: &Settings) {
        self.file.clone_from(&wish.path);
        self.hooks = Hooks::from(&wish.file.hooks);
        let endpoints = wish.endpoints.iter();
        self.endpoints =
            endpoints.map(|(peer, endpoint)| (text(peer), endpoint.text.clone())).collect();
        let is_name = |peer| wish.endpoints.get(peer).is_some_and(|it| !it.is_address());
        let peers = settings.peers.iter().filter(|peer| is_name(&peer.public_key));
        self.found = peers.filter_map(|it| Some((text(&it.public_key), it.endpoint?))).collect();
    }

    /// Where a peer was, as it was written.
    pub fn endpoint(&self, peer: &PublicKey) -> Option<&str> {
        self.endpoints.get(&text(peer)).map(String::as_str)
    }

    /// Where a peer was found, if it is still written in the same way.
    pub fn found(&self, peer: &PublicKey, written: &str) -> Option<SocketAddr> {
        let found = self.found.get(&text(peer)).copied();
        found.filter(|_| self.endpoint(peer) == Some(written))
    }
}

fn text(peer: &PublicKey) -> String {
    to_base64(&peer.0).to_string()
}

/// The journal of a tunnel, if it is up here or was left behind.
pub fn journal(name: &str) -> Outcome<Option<Journal>> {
    let journal = Journal::read(&journal_file(name));
    if let Ok(Some(Journal { elsewhere: Some(way), .. })) = &journal {
        let text = format!(
            "{name} is up in another network namespace: say it there, as by `{way} adit ...', or \
             give this tunnel another name"
        );
        return Err(Failure::new(Kind::Failed, text));
    }
    journal.map_err(|error| {
        let text = format!(
            "{error}: without it nobody knows what {name} has made; look at `ip \
                            rule', `ip route' and `nft list ruleset', then delete it"
        );
        Failure::new(Kind::Failed, text)
    })
}

fn journal_file(name: &str) -> PathBuf {
    Path::new(JOURNALS).join(format!("{name}.journal"))
}

/// The way to the network namespace where a tunnel is up; none if that is this one, or it is not up.
pub fn way_to(name: &str) -> Option<Whereabouts> {
    Journal::read(&journal_file(name)).ok()??.elsewhere
}

/// Whether `adit up' has made the link of this name.
pub fn has_made(name: &str) -> bool {
    let journal = journal(name).ok().flatten();
    journal.is_some_and(|journal| has_link(&journal, name))
}

/// Whether the link of a tunnel is among what its journal tells of.
pub fn has_link(journal: &Journal, name: &str) -> bool {
    journal.entries.iter().any(|entry| entry.item == Item::Link(name.to_owned()))
}

/// The packet filters of a tunnel that are its guard: others let everything out.
pub fn guard(entries: &[Entry]) -> impl Iterator<Item = (&Item, &nft::Table)> {
    entries.iter().filter_map(|entry| match &entry.item {
        Item::Filter(table) if table.chains.iter().any(|chain| chain.name == "output") => {
            Some((&entry.item, table))
        }
        _ => None,
    })
}

/// What whoever answers for names was told, if there is such an entry.
pub fn dns(entries: &[Entry]) -> Option<(&dns::Settings, &dns::Record)> {
    in_force(entries.iter().map(|entry| &entry.item)).find_map(|item| match item {
        Item::Dns(settings, record) => Some((settings, record)),
        _ => None,
    })
}

/// That of a tunnel that comes up now, not written yet.
pub fn new_journal(wish: &Wish) -> Journal {
    Journal::new(journal_file(&wish.name), Note::new(wish))
}

/// The link of a tunnel, if somebody has given it another name.
pub fn renamed(network: &mut Network, name: &str, journal: &Journal) -> Outcome<Option<Link>> {
    let index = journal.note.link.filter(|_| has_link(journal, name));
    let Some(index) = index else { return Ok(None) };
    let link = network.find_link_numbered(index)?;
    // A number is given again only when somebody insists, and hardly to one of these.
    Ok(link.filter(|link| link.name != name && link.is_tunnel()))
}

/// Gives the link of a tunnel its name back, if it has another now, which is told.
pub fn call_back(network: &mut Network, name: &str, journal: &Journal) -> Outcome<Option<String>> {
    let Some(Link { name: other, .. }) = renamed(network, name, journal)? else { return Ok(None) };
    if network.has_link(name)? {
        let text = format!(
            "the link of {name} is called {other} now, and another link {name}: end that one by \
             `ip link delete {name}', or give it another name"
        );
        return Err(Failure::new(Kind::Failed, text));
    }
    let rename = Change::RenameLink(&other, name);
    network.apply(rename).or_else(|error| match error.cause().kind() {
        // Before Linux 6.2 none is renamed while it is up. What that takes along is put back.
        io::ErrorKind::ResourceBusy => network.apply_all(&[Change::SetDown(&other), rename]),
        _ => Err(error),
    })?;
    Ok(Some(other))
}

/// What all tunnels but one have made.
pub fn made_by_others(name: &str) -> Vec<Entry> {
    let others = names().into_iter().filter(|other| other != name);
    let journals = others.filter_map(|other| journal(&other).ok()?);
    journals.flat_map(|journal| journal.entries).collect()
}

/// Takes back all that a tunnel has made.
pub fn undo(machine: &mut Machine, journal: &mut Journal) -> Outcome {
    let name = journal.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Of two that go at once each would leave to the other what both have made. Whoever cannot have
    // the lock takes back all the same.
    let _lock = Lock::of_undoing().ok();
    let undone = machine.undo(journal, made_by_others(&name), &mut End);
    tell_remarks(machine);
    undone.map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::new(Kind::Failed, errors.join("; "))
            .with("what is left will be tried again by `adit down'")
    })
}

/// Tells what has to be known of the steps that were taken.
pub fn tell_remarks(machine: &mut Machine) {
    for remark in machine.remarks.drain(..) {
        eprintln!("adit: {remark}");
    }
}

/// Where the file of a tunnel is as it was applied, for whoever has to restore the tunnel: not on a
/// disk, and for root only.
pub fn applied_file(name: &str) -> PathBuf {
    Path::new(RUNTIME).join(format!("{name}.conf"))
}

fn new_file(name: &str) -> PathBuf {
    applied_file(name).with_added_extension("new")
}

/// The file of a tunnel as it is about to be applied, beside the one that was before. It goes when
/// it is dropped.
pub struct NewFile(PathBuf);

impl NewFile {
    /// Writes it.
    pub fn write(wish: &Wish) -> Outcome<Self> {
        let new = Self(new_file(&wish.name));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new.0);
        file.and_then(|mut file| file.write_all(&wish.content))
            .map_err(|error| Failure::io(format!("write {}", new.0.display()), &error))?;
        Ok(new)
    }

    /// It has been applied.
    pub fn keep(self, name: &str) {
        // Within one folder nothing is in the way.
        let _ = fs::rename(&self.0, applied_file(name));
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Where it was kept there is none; what cannot be removed is overwritten by the next one.
        let _ = fs::remove_file(&self.0);
    }
}

/// The tunnel is down. Whoever comes next under its name has files of these names, too: this takes the
/// tunnel's lock. One that was killed has left both, in which there are keys.
pub fn forget_file(name: &str) {
    for file in [applied_file(name), new_file(name)] {
        let _ = fs::remove_file(file);
    }
}

/// The socket at which a tunnel's keeper answers.
pub fn keeper_socket(name: &str) -> PathBuf {
    Path::new(RUNTIME).join(format!("{name}.sock"))
}

/// The names of all tunnels that have a journal, in order.
pub fn names() -> Vec<String> {
    let entries = fs::read_dir(JOURNALS).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(".journal")?.to_owned())
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
