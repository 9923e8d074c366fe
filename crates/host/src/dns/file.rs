//! `/etc/resolv.conf` itself, where nobody else looks after it. What was there is kept as it was: the
//! file with its mode, owner and time, or the symbolic link, or nothing.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, IFlags, access, ioctl_getflags};
use rustix::io::Errno;

use super::turns::{Place, Turns};
use crate::journal::remove;

/// How each file begins that a tunnel has written.
const HEADING: &str = "# Written by adit for the tunnel ";

/// A file that programs read to know whom to ask (resolv.conf(5)).
pub(super) struct File {
    path: PathBuf,
    /// It cannot be replaced, only overwritten: something is mounted there, as in containers, or
    /// nothing else can be written in its folder.
    in_place: bool,
}

/// Tunnels take turns at a file. A file that is overwritten is perhaps not the one that other mount
/// namespaces see, and what is kept of it has a place of its own in the folder.
pub(super) fn turns(path: &Path, folder: &Path) -> Turns<File> {
    let read_only = access(parent(path), Access::WRITE_OK) == Err(Errno::ROFS);
    let in_place = read_only || is_mounted(path);
    let place = match path.metadata() {
        Ok(it) if in_place => format!("{}-{}", it.dev(), it.ino()),
        _ => "etc".into(),
    };
    Turns::new(File { path: path.into(), in_place }, folder.join(place))
}

impl Turns<File> {
    /// Finds out whether the file can be written and kept. Changes nothing.
    pub(super) fn check(&self) -> io::Result<()> {
        let File { path, in_place } = &self.place;
        let flags = fs::File::open(path).map(ioctl_getflags);
        if flags.is_ok_and(|flags| flags.is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE))) {
            let path = path.display();
            return Err(io::Error::other(format!("{path} is immutable: run `chattr -i {path}'")));
        }
        let place = if *in_place { path } else { parent(path) };
        may_write(place, "leave `DNS' out and set the servers outside, as of a container")?;
        let there = self.state().ancestors().find(|folder| folder.exists());
        let or_else =
            "let a container have a folder of its own there, as by `--tmpfs /var/lib/adit'";
        may_write(there.unwrap_or(self.state()), or_else)
    }
}

impl File {
    fn content(&self) -> io::Result<Content> {
        Content::of(&self.followed()?)
    }

    /// The file itself; what it leads to if that is what is overwritten.
    fn followed(&self) -> io::Result<PathBuf> {
        if self.in_place { self.path.canonicalize() } else { Ok(self.path.clone()) }
    }

    /// Whether a content is this one, perhaps with what overwriting leaves behind it when it is cut off.
    fn holds(&self, content: &Content, wanted: &Content) -> bool {
        match (content, wanted) {
            (Content::Bytes(bytes), Content::Bytes(wanted)) if self.in_place => {
                let rest = bytes.strip_prefix(wanted.as_slice());
                rest.is_some_and(|rest| rest.iter().all(|byte| *byte == PADDING))
            }
            _ => content == wanted,
        }
    }
}

impl Place for File {
    fn heading(&self, link: &str, kept: &Path) -> String {
        format!(
            "{HEADING}{link}. What was here comes back when the tunnel goes;\n\
             # until then it is kept in {}.\n",
            kept.display()
        )
    }

    fn has(&self, text: &str) -> io::Result<bool> {
        Ok(self.holds(&self.content()?, &Content::Bytes(text.into())))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let write = if self.in_place { overwrite } else { replace };
        write(&self.path, text.as_bytes())
    }

    fn is_original(&self, kept: &Path) -> io::Result<bool> {
        let content = self.content()?;
        // Others' overwriting begins with nothing, and may have ended there.
        let cut_off = self.in_place && content == Content::Bytes(Vec::new());
        Ok(cut_off || self.holds(&content, &Content::of(kept)?))
    }

    /// What a tunnel has written is nobody's own: somebody has put back a copy of it, and what was
    /// there before the tunnel is kept already, or was nothing.
    fn keep(&self, kept: &Path) -> io::Result<()> {
        match self.content()? {
            Content::Bytes(bytes) if bytes.starts_with(HEADING.as_bytes()) => {
                match self.in_place && !kept.exists() {
                    true => replace(kept, b""),
                    false => Ok(()),
                }
            }
            _ => copy(&self.followed()?, kept),
        }
    }

    fn restore(&self, kept: &Path) -> io::Result<()> {
        // A crash can have left it.
        remove(&temporary(&self.path))?;
        match self.in_place {
            _ if self.content()? == Content::of(kept)? => Ok(()),
            true => overwrite(&self.path, &fs::read(kept)?),
            false => copy(kept, &self.path),
        }
    }

    fn left_alone(&self, kept: &Path) -> String {
        let path = self.path.display();
        let mut words = format!("{path} is left as somebody else has written it since");
        if kept.symlink_metadata().is_ok() {
            words += &format!("; what it was before is in {}", kept.display());
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
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    synchronise(parent(path))
}

/// An end of a line, which means nothing to anybody.
const PADDING: u8 = b'\n';

/// Not at once, but never half, nor is it ever empty: what is longer now has empty lines first where it
/// will end.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let former = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().max(former), PADDING);
    file.write_all(&padded)?;
    // Else a power cut could leave the beginning of what was there.
    file.sync_data()?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

fn synchronise(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.adit"))
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// What is read-only can be mounted in another way, or else.
fn may_write(path: &Path, or_else: &str) -> io::Result<()> {
    access(path, Access::WRITE_OK).map_err(|errno| {
        let cause = io::Error::from(errno);
        let remedy = match cause.kind() {
            io::ErrorKind::ReadOnlyFilesystem => format!("; mount it writable, or {or_else}"),
            _ => String::new(),
        };
        let text = format!("{} cannot be written: {cause}{remedy}", path.display());
        io::Error::new(cause.kind(), text)
    })
}

/// Whether something is mounted at just this path (proc(5), mountinfo).
fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|place| Path::new(place) == path))
}

#[cfg(test)]
mod tests;
