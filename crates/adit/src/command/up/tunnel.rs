//! What is known of a tunnel from one command to the next, and that only one command at a time
//! changes it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use config::key::to_base64;
use config::quick;
use proto::PublicKey;
use serde::{Deserialize, Serialize};

use super::failure::{Failure, Kind, Outcome};
use super::wish::Wish;

/// Where the journals are: they outlive a power cut.
const JOURNALS: &str = "/var/lib/adit";
/// Where the locks are: they do not.
const RUNTIME: &str = "/run/adit";

/// The journal of a tunnel.
pub type Journal = host::Journal<Note>;

/// What its journal tells of a tunnel beside what was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The file that it came from.
    pub file: PathBuf,
    /// When it came up, in seconds since the Unix epoch.
    pub since: u64,
    /// The mark of its own packets, and the table of its routes; none for a split tunnel.
    pub table: Option<u32>,
    /// The hooks as they were when they ran.
    pub hooks: Hooks,
    /// The endpoints as they were written, by the base64 of the peer's key.
    pub endpoints: BTreeMap<String, String>,
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
            table: None,
            hooks: Hooks::default(),
            endpoints: BTreeMap::new(),
        };
        note.follow(wish);
        note
    }

    /// Tells of the file as it is now.
    pub fn follow(&mut self, wish: &Wish) {
        self.file.clone_from(&wish.path);
        self.hooks = Hooks::from(&wish.file.hooks);
        let endpoints = wish.endpoints.iter();
        self.endpoints =
            endpoints.map(|(peer, endpoint)| (text(peer), endpoint.text.clone())).collect();
    }

    /// Where a peer was, as it was written.
    pub fn endpoint(&self, peer: &PublicKey) -> Option<&str> {
        self.endpoints.get(&text(peer)).map(String::as_str)
    }
}

fn text(peer: &PublicKey) -> String {
    to_base64(&peer.0).to_string()
}

/// Where the journal of a tunnel is.
pub fn journal_path(name: &str) -> PathBuf {
    Path::new(JOURNALS).join(format!("{name}.journal"))
}

/// The journal of a tunnel, if it is up or was left behind.
pub fn journal(name: &str) -> Outcome<Option<Journal>> {
    let path = journal_path(name);
    Journal::read(&path).map_err(|error| {
        let text = format!(
            "{error}: without it nobody knows what {name} has made; look at `ip \
                            rule', `ip route' and `nft list ruleset', then delete it"
        );
        Failure::new(Kind::Failed, text)
    })
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

/// Whoever holds it is the only one who changes something. Let go when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// That of one tunnel.
    pub fn of(name: &str) -> Outcome<Self> {
        Self::take(Path::new(RUNTIME).join(format!("{name}.lock")))
    }

    /// That of what all tunnels share: the numbers of tables and marks.
    pub fn of_all() -> Outcome<Self> {
        // No interface has a name that begins with a space.
        Self::take(Path::new(RUNTIME).join(" .lock"))
    }

    fn take(path: PathBuf) -> Outcome<Self> {
        const PATIENCE: Duration = Duration::from_secs(60);
        const PAUSE: Duration = Duration::from_millis(20);
        let fail = |error| Failure::io(format!("lock {}", path.display()), &error);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(RUNTIME).map_err(fail)?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path).map_err(fail)?;
            if file.try_lock().is_ok() && is_at(&file, &path) {
                return Ok(Self { path, _file: file });
            }
            thread::sleep(PAUSE);
        }
        let text = format!(
            "another adit has been working on this tunnel for a minute (it holds {}): let it finish",
            path.display()
        );
        Err(Failure::new(Kind::Timeout, text))
    }
}

/// Whoever had the lock before may have taken its file away.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |it: fs::Metadata| (it.dev(), it.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(there)) => identity(file) == identity(there),
        _ => false,
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be removed is locked by the next one all the same.
        let _ = fs::remove_file(&self.path);
    }
}
