//! A configuration file: found, read with care, whether it can be trusted, and replaced.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::words;

/// A file for a tunnel, as it was when it was read.
pub struct Source {
    /// Where it is; `-` for stdin.
    pub path: PathBuf,
    /// All of it. It usually holds a private key.
    pub content: Zeroizing<Vec<u8>>,
    /// None of a pipe.
    metadata: Option<Metadata>,
}

impl Source {
    /// Reads the file that an argument names: a path, or an interface, whose file is
    /// `/etc/wireguard/INTERFACE.conf` as for wg-quick(8), or `-` for stdin.
    ///
    /// # Errors
    ///
    /// In one sentence for the user, which begins with the path.
    pub fn read(argument: &OsStr) -> Result<Self, String> {
        if argument == "-" {
            let content = limited(io::stdin().lock(), 0)
                .map_err(|error| format!("stdin cannot be read: {}", words(&error)))?;
            return Ok(Self { path: "-".into(), content, metadata: None });
        }
        Self::of(find(argument))
    }

    /// Reads the file at a path.
    ///
    /// # Errors
    ///
    /// As those of [`Source::read`].
    pub fn of(path: PathBuf) -> Result<Self, String> {
        let about = |why: String| format!("{}: {why}", path.display());
        let unreadable = |error: io::Error| about(format!("cannot be read: {}", words(&error)));
        // Without waiting: a pipe that nobody writes to would never open.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(&path, flags, Mode::empty());
        let file = File::from(file.map_err(|errno| unreadable(errno.into()))?);
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(about("is not a file; name a file, or `-' for stdin".to_owned()));
        }
        let content = limited(file, metadata.len()).map_err(unreadable)?;
        Ok(Self { path, content, metadata: Some(metadata) })
    }

    /// Whether others than its owner may read it.
    pub fn is_readable_by_others(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.mode() & 0o044 != 0)
    }

    /// Whether others than its owner may write to it.
    pub fn is_written_by_others(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.mode() & 0o022 != 0)
    }

    /// Why it is not root's word alone that is in it, if so. Only commands in a file without such a
    /// reason may be run as root.
    pub fn writable_by_others(&self) -> Option<String> {
        let Some(metadata) = &self.metadata else {
            return Some("nobody knows who wrote it".to_owned());
        };
        let (what, who) = foreign_writer(&self.path, metadata)?;
        let verb = if what == self.path { "write to" } else { "replace what is in" };
        Some(format!("{who} can {verb} {}", what.display()))
    }
}

/// Through what somebody who is not root can change the file at `path`, which has this `metadata`,
/// and who that is: the file itself, or a folder on the way, in which another can be put in its place.
fn foreign_writer(path: &Path, metadata: &Metadata) -> Option<(PathBuf, String)> {
    if let Some(who) = other_writer(metadata) {
        return Some((path.to_owned(), who));
    }
    let ways = [Some(path.to_owned()), fs::canonicalize(path).ok()];
    let ways = ways.into_iter().flatten().filter_map(|way| std::path::absolute(way).ok());
    let mut folders =
        ways.flat_map(|way| way.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>());
    folders.find_map(|folder| {
        let who = match fs::metadata(&folder) {
            Ok(metadata) => {
                // In a sticky folder everybody's files are their own.
                let is_sticky = metadata.uid() == 0 && metadata.mode() & 0o1000 != 0;
                other_writer(&metadata).filter(|_| !is_sticky)?
            }
            Err(_) => "nobody knows who".to_owned(),
        };
        Some((folder, who))
    })
}

/// All that is in a file, a pipe or a device.
///
/// # Errors
///
/// It cannot be read, or is longer than any configuration.
pub fn content(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    limited(file, length)
}

/// Puts a new content in the place of a file: all of it or nothing, with the same owner and mode. A
/// symbolic link stays one.
///
/// # Errors
///
/// It cannot be written; the old one is still there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let old = fs::metadata(&path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new_path = path.with_file_name(name);
    let write = || {
        // Nobody else sees it before it is as the old one was.
        let mut new = File::options().write(true).create_new(true).mode(0o600).open(&new_path)?;
        new.write_all(content)?;
        fchown(&new, Some(old.uid()), Some(old.gid()))?;
        new.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
        new.sync_all()?;
        fs::rename(&new_path, &path)
    };
    write().inspect_err(|_| {
        // What cannot be removed was never made, or the disk is past help.
        let _ = fs::remove_file(&new_path);
    })
}

/// The file of an interface if there is one, else the path as it was given.
fn find(argument: &OsStr) -> PathBuf {
    let path = config::quick::path(argument);
    if !path.exists() && Path::new(argument).exists() { argument.into() } else { path }
}

fn other_writer(metadata: &Metadata) -> Option<String> {
    let mode = metadata.permissions().mode();
    if metadata.uid() != 0 {
        return Some(format!("user {}", metadata.uid()));
    }
    if mode & 0o002 != 0 {
        return Some("everybody".to_owned());
    }
    (mode & 0o020 != 0).then(|| format!("group {}", metadata.gid()))
}

fn limited(source: impl Read, length: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // More than a million peers take.
    const LONGEST: u64 = 256 << 20;
    let too_long = || io::Error::other(format!("it is longer than {} MiB", LONGEST >> 20));
    if length > LONGEST {
        return Err(too_long());
    }
    // With room for all, no copy of a key is left behind by growing.
    let mut content = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    source.take(LONGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LONGEST { Err(too_long()) } else { Ok(content) }
}
