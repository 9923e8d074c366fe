//! `/etc/resolv.conf` itself, where nobody else looks after it.
//!
//! What was there is kept as it was: the file with its mode, owner and time, or the symbolic link,
//! or nothing. Beside it is the stack of the tunnels that want the file; the topmost has it. Whatever
//! is interrupted leaves the file in a state that the stack tells of: as it was, or as one of the
//! entries wants it. In any other state somebody else has written it, and it is left alone.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, IFlags, access, flock, ioctl_getflags};

use super::Settings;
use super::stack::{Entry, Stack};

/// The file, and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    path: PathBuf,
    state: PathBuf,
    /// It cannot be replaced, only overwritten: something is mounted there, as in containers, or
    /// nothing else can be written in its directory.
    in_place: bool,
}

impl File {
    /// A file, and the folder for what must survive a power cut. A file that is overwritten is not
    /// the one that other mount namespaces see, and what is kept of it has a place of its own.
    pub(super) fn new(path: &Path, folder: &Path) -> Self {
        let read_only = access(parent(path), Access::WRITE_OK) == Err(rustix::io::Errno::ROFS);
        let in_place = read_only || is_mounted(path);
        let place = match path.metadata() {
            Ok(it) if in_place => format!("{}-{}", it.dev(), it.ino()),
            _ => "etc".into(),
        };
        Self { path: path.into(), state: folder.join(place), in_place }
    }

    /// Where what is kept of it lies; different for different files.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// Finds out whether the file can be written and kept. Changes nothing.
    pub(super) fn check(&self) -> io::Result<()> {
        let Self { path, in_place, .. } = self;
        let flags = fs::File::open(path).map(ioctl_getflags);
        if flags.is_ok_and(|flags| flags.is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE))) {
            let path = path.display();
            return Err(io::Error::other(format!("{path} is immutable: run `chattr -i {path}'")));
        }
        may_write(if *in_place { path } else { parent(path) })?;
        let there = self.state.ancestors().find(|folder| folder.exists());
        may_write(there.unwrap_or(&self.state))
    }

    /// Gives the file to a tunnel, on top of those that have it.
    pub(super) fn apply(&self, link: &str, settings: &Settings) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut stack = self.stack()?;
        if !self.is_ours(&stack)? {
            // Whoever wrote it knows better than those below.
            stack.clear();
            self.store(&stack)?;
            copy(&self.followed()?, &self.original())?;
        }
        let entry = self.entry(link, settings)?;
        stack.push(entry.clone());
        self.store(&stack)?;
        self.write(entry.text.as_bytes())?;
        stack.settle();
        self.store(&stack)
    }

    /// Whether the file is just as this tunnel wants it.
    pub(super) fn is_applied(&self, link: &str, settings: &Settings) -> io::Result<bool> {
        let entry = self.entry(link, settings)?;
        let is_top = self.stack()?.top() == Some(&entry);
        Ok(is_top && self.content()? == Content::Bytes(entry.text.into()))
    }

    /// Takes the file from a tunnel: it goes to the next one, and from the last one back to what it
    /// was. Says what has to be known of it, usually nothing.
    pub(super) fn undo(&self, link: &str) -> io::Result<String> {
        if !self.state.exists() {
            return Ok(String::new());
        }
        let _lock = self.lock()?;
        let mut stack = self.stack()?;
        if !stack.has(link) {
            return Ok(String::new());
        }
        let is_ours = self.is_ours(&stack)?;
        stack.remove(link, &boot()?);
        match stack.top() {
            _ if !is_ours => {}
            Some(entry) => self.write(entry.text.as_bytes())?,
            None => self.restore()?,
        }
        self.store(&stack)?;
        match is_ours {
            true if stack.top().is_none() => self.forget().map(|()| String::new()),
            true => Ok(String::new()),
            false => Ok(self.left_alone()),
        }
    }

    /// One at a time, until the descriptor is closed.
    fn lock(&self) -> io::Result<fs::File> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.state)?;
        let lock = fs::File::open(parent(&self.state))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        // Whoever had it may have taken the folder away.
        DirBuilder::new().recursive(true).mode(0o755).create(&self.state)?;
        Ok(lock)
    }

    fn stack(&self) -> io::Result<Stack> {
        match fs::read_to_string(self.state.join("stack")) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Stack::default()),
            text => text.map(|text| Stack::parse(&text)),
        }
    }

    fn store(&self, stack: &Stack) -> io::Result<()> {
        replace(&self.state.join("stack"), stack.to_string().as_bytes())
    }

    fn original(&self) -> PathBuf {
        self.state.join("original")
    }

    /// Whether the file is in a state that the stack tells of.
    fn is_ours(&self, stack: &Stack) -> io::Result<bool> {
        if stack.top().is_none() {
            return Ok(false);
        }
        let content = self.content()?;
        let is_ours = match &content {
            // Overwriting begins with nothing.
            Content::Bytes(bytes) if bytes.is_empty() && self.in_place => true,
            Content::Bytes(bytes) => stack.wrote(bytes),
            _ => false,
        };
        Ok(is_ours || content == Content::of(&self.original())?)
    }

    fn content(&self) -> io::Result<Content> {
        Content::of(&self.followed()?)
    }

    /// The file itself; what it leads to if that is what is overwritten.
    fn followed(&self) -> io::Result<PathBuf> {
        if self.in_place { self.path.canonicalize() } else { Ok(self.path.clone()) }
    }

    fn entry(&self, link: &str, settings: &Settings) -> io::Result<Entry> {
        let original = self.original();
        Ok(Entry::new(link, boot()?, settings, &original))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if self.in_place { overwrite(&self.path, bytes) } else { replace(&self.path, bytes) }
    }

    fn restore(&self) -> io::Result<()> {
        let original = self.original();
        // A crash can have left it.
        remove(&temporary(&self.path))?;
        if self.content()? == Content::of(&original)? {
            return Ok(());
        }
        match self.in_place {
            true => overwrite(&self.path, &fs::read(&original)?),
            false => copy(&original, &self.path),
        }
    }

    /// Keeps nothing any more.
    fn forget(&self) -> io::Result<()> {
        remove(&self.state.join("stack"))?;
        remove(&self.original())?;
        fs::remove_dir(&self.state)
    }

    fn left_alone(&self) -> String {
        let (path, original) = (self.path.display(), self.original());
        let mut words = format!("{path} is left as somebody else has written it since");
        if original.symlink_metadata().is_ok() {
            words += &format!("; what it was before is in {}", original.display());
        }
        words
    }
}

/// What is at a path, as far as it matters to those who read it.
#[derive(PartialEq, Eq)]
enum Content {
    Nothing,
    Link(PathBuf),
    Bytes(Vec<u8>),
}

impl Content {
    fn of(path: &Path) -> io::Result<Self> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::Nothing),
            Err(error) => Err(error),
            Ok(it) if it.is_symlink() => fs::read_link(path).map(Self::Link),
            Ok(it) if it.is_file() => fs::read(path).map(Self::Bytes),
            Ok(_) => Err(io::Error::other(format!("{} is not a file", path.display()))),
        }
    }
}

/// Makes `to` what `from` is, at once: a file with the same bytes, mode, owner and time, a symbolic
/// link to the same target, or nothing.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let content = Content::of(from)?;
    let temporary = temporary(to);
    remove(&temporary)?;
    match content {
        Content::Nothing => return remove(to),
        Content::Link(target) => {
            symlink(target, &temporary)?;
            let it = from.symlink_metadata()?;
            lchown(&temporary, Some(it.uid()), Some(it.gid()))?;
        }
        Content::Bytes(bytes) => {
            let it = from.symlink_metadata()?;
            let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
            file.write_all(&bytes)?;
            fchown(&file, Some(it.uid()), Some(it.gid()))?;
            file.set_permissions(it.permissions())?;
            file.set_times(fs::FileTimes::new().set_modified(it.modified()?))?;
            file.sync_all()?;
        }
    }
    fs::rename(&temporary, to)?;
    synchronise(parent(to))
}

/// Puts a file that all may read in the place of whatever is there, at once.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    synchronise(parent(path))
}

/// Not at once, but never half: for a moment there is nothing in it.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn synchronise(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.adit"))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn may_write(path: &Path) -> io::Result<()> {
    access(path, Access::WRITE_OK).map_err(|errno| {
        let cause = io::Error::from(errno);
        io::Error::new(cause.kind(), format!("{} cannot be written: {cause}", path.display()))
    })
}

/// Whether something is mounted at just this path (proc(5), mountinfo).
fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|place| Path::new(place) == path))
}

/// The name that the kernel has given to the time since it started.
fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().into())
}

#[cfg(test)]
mod tests;
