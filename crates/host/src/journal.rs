//! The journal of one tunnel: what it has made on the machine, on the disk before it is made, so
//! that a crash or a power cut leaves nothing that nobody knows of.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::Entry;
use crate::{Error, Whereabouts, whereabouts};

/// A journal, with what its owner notes beside the entries.
#[derive(Debug)]
pub struct Journal<N> {
    path: PathBuf,
    /// What the tunnel has made, in the order in which it was made.
    pub entries: Vec<Entry>,
    /// Whatever else is to be known when this process is forgotten.
    pub note: N,
    /// The way to the network namespace where all this is; none if that is this one.
    pub elsewhere: Option<Whereabouts>,
}

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Content<N, E> {
    /// So that a later version knows what it reads.
    version: u32,
    /// The kernel forgets everything when the machine starts again.
    boot: String,
    /// What is made in one network namespace is nothing in another.
    #[serde(default)]
    network: Option<String>,
    note: N,
    entries: E,
}

const VERSION: u32 = 1;

impl<N> Journal<N> {
    /// A journal that is not written yet.
    pub fn new(path: PathBuf, note: N) -> Self {
        Self { path, entries: Vec::new(), note, elsewhere: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Deletes it: nothing is left to tell of.
    ///
    /// # Errors
    ///
    /// Why it is still there.
    pub fn delete(&mut self) -> Result<(), Error> {
        remove(&self.path)
            .map_err(|error| Error::new(format!("delete {}", self.path.display()), error))?;
        self.entries.clear();
        Ok(())
    }
}

impl<N: DeserializeOwned> Journal<N> {
    /// Reads the journal at `path`, if there is one. What it tells of an earlier boot is left out
    /// as far as the machine has forgotten it, which is all but files; so is what it tells of a
    /// network namespace that is gone.
    ///
    /// # Errors
    ///
    /// That it cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let fail = |cause| Error::new(format!("read {}", path.display()), cause);
        let text = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(fail)?,
        };
        let content: Content<N, Vec<Entry>> =
            serde_json::from_slice(&text).map_err(|error| fail(error.into()))?;
        if content.version != VERSION {
            let cause = format!("it is of version {}, of another adit", content.version);
            return Err(fail(io::Error::other(cause)));
        }
        let mut entries = content.entries;
        let is_of_this_boot = content.boot == boot()?;
        let here = network()?;
        let other = content.network.filter(|other| is_of_this_boot && *other != here);
        let elsewhere = other.as_deref().and_then(whereabouts::find);
        if !is_of_this_boot || other.is_some() && elsewhere.is_none() {
            entries.retain(|entry| entry.item.outlives_the_kernel());
        }
        Ok(Some(Self { path: path.to_owned(), entries, note: content.note, elsewhere }))
    }
}

impl<N: Serialize> Journal<N> {
    /// Writes it to the disk, wholly or not at all.
    ///
    /// # Errors
    ///
    /// Why what is there is still the former one.
    pub fn write(&self) -> Result<(), Error> {
        let content = Content {
            version: VERSION,
            boot: boot()?,
            network: Some(network()?),
            note: &self.note,
            entries: &self.entries,
        };
        let written = serde_json::to_vec(&content)
            .map_err(io::Error::from)
            .and_then(|text| replace(&self.path, &text));
        written.map_err(|cause| {
            let cause = match (cause.kind(), self.path.parent()) {
                (kind @ ErrorKind::ReadOnlyFilesystem, Some(folder)) => {
                    let folder = folder.display();
                    let text = format!(
                        "the file system is read-only: mount {folder} writable, as by `--tmpfs \
                         {folder}' of a container"
                    );
                    io::Error::new(kind, text)
                }
                _ => cause,
            };
            Error::new(format!("write {}", self.path.display()), cause)
        })
    }
}

/// Removes a file, if it is there. On a file system that is read-only, what is not there cannot be
/// removed either.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if path.symlink_metadata().is_ok() => Err(error),
        _ => Ok(()),
    }
}

/// For root only, and never in part, even if the power fails.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let new = path.with_added_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        // What cannot be removed was never made, or the disk is past help.
        let _ = fs::remove_file(&new);
    })?;
    File::open(directory)?.sync_all()
}

/// Which start of the machine this is.
fn boot() -> Result<String, Error> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let id = fs::read_to_string(PATH).map_err(|cause| Error::new(format!("read {PATH}"), cause))?;
    Ok(id.trim_end().to_owned())
}

fn network() -> Result<String, Error> {
    whereabouts::here().map_err(|cause| Error::new("tell which network namespace this is", cause))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plan::Item;

    fn path(name: &str) -> PathBuf {
        let name = format!("adit-journal-{}-{name}", std::process::id());
        std::env::temp_dir().join(name).join("wg0.journal")
    }

    fn remove(path: &Path) {
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn what_is_written_is_read_until_it_is_deleted() {
        let path = path("round-trip");
        assert!(Journal::<String>::read(&path).unwrap().is_none());
        let mut journal = Journal::new(path.clone(), "note".to_owned());
        let item = Item::Up("wg0".into());
        journal.entries.push(Entry { item, before: None, until_now: None });
        journal.write().unwrap();
        let read = Journal::<String>::read(&path).unwrap().unwrap();
        assert_eq!((&read.note, &read.entries), (&journal.note, &journal.entries));
        journal.delete().unwrap();
        assert!(Journal::<String>::read(&path).unwrap().is_none());
        assert!(journal.entries.is_empty());
        journal.delete().unwrap();
        remove(&path);
    }

    #[test]
    fn the_kernel_forgets_what_an_earlier_boot_made() {
        let path = path("boot");
        let mut journal = Journal::new(path.clone(), 7);
        let item = Item::Link("wg0".into());
        journal.entries.push(Entry { item, before: None, until_now: None });
        journal.write().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&boot().unwrap(), "another")).unwrap();
        let read = Journal::<u32>::read(&path).unwrap().unwrap();
        assert_eq!((read.note, read.entries), (7, vec![]));
        remove(&path);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let path = path("unwritable");
        // No file takes the place of a folder.
        fs::create_dir_all(&path).unwrap();
        Journal::new(path.clone(), 7).write().unwrap_err();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        remove(&path);
    }

    #[test]
    fn what_is_no_journal_is_not_taken_for_an_empty_one() {
        let path = path("broken");
        Journal::new(path.clone(), 7).write().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for broken in ["", "{}", text.trim_end_matches('}'), &text.replace(":1,", ":2,")] {
            fs::write(&path, broken).unwrap();
            assert!(Journal::<u32>::read(&path).is_err(), "{broken}");
        }
        remove(&path);
    }
}
