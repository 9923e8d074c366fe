//! The UAPI socket in the file system (spec §2.1).

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::command::wg::interface::{self, DIRECTORY};

/// A listening socket, and the file that leads to it, which goes when this is dropped (unless it has gone
/// by then, or this process has no right to any more).
#[derive(Debug)]
pub struct Socket {
    pub listener: UnixListener,
    pub file: File,
}

/// Where a socket is in the file system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    path: PathBuf,
    /// Device and inode of our file.
    identity: (u64, u64),
}

impl Socket {
    /// Opens the socket of the interface `name`, for root only. A file that nobody listens at any
    /// more is replaced.
    pub fn open(name: &str) -> Result<Self, Failure> {
        let path = interface::socket(name.as_ref());
        if UnixStream::connect(&path).is_ok() {
            return Err(Failure::SocketInUse(path));
        }
        match bind(&path, name) {
            Ok((listener, identity)) => Ok(Self { listener, file: File { path, identity } }),
            Err(error) => Err(Failure::Socket(path, error)),
        }
    }

    /// Takes over a listening socket of the interface `name`, and its file.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it has no file.
    pub fn inherit(name: &str, listener: OwnedFd) -> io::Result<Self> {
        let listener = UnixListener::from(listener);
        let path = interface::socket(name.as_ref());
        listener.set_nonblocking(true)?;
        let identity = identity(&path)?;
        Ok(Self { listener, file: File { path, identity } })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.file.remove();
    }
}

impl File {
    /// The way to it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to our file, whatever its owner or mode is by now.
    pub fn is_ours(&self) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    /// Removes it, if it is still ours.
    pub fn remove(&self) {
        if self.is_ours() {
            // Whoever was faster has done no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds where nobody else can enter, then moves the file to its place: there it is for root only
/// from its first moment, and takes the place of a stale one.
fn bind(path: &Path, name: &str) -> io::Result<(UnixListener, (u64, u64))> {
    let private = private(name);
    let file = private.join("sock");
    DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY)?;
    sweep(name);
    DirBuilder::new().mode(0o700).create(&private)?;
    let bound = UnixListener::bind(&file).and_then(|listener| {
        fs::set_permissions(&file, Permissions::from_mode(0o700))?;
        listener.set_nonblocking(true)?;
        let identity = identity(&file)?;
        fs::rename(&file, path)?;
        Ok((listener, identity))
    });
    if bound.is_err() {
        let _ = fs::remove_file(&file);
    }
    fs::remove_dir(&private)?;
    bound
}

/// Removes what is left if somebody was killed in the middle of [`bind`]. Nobody may be there now.
pub fn sweep(name: &str) {
    let private = private(name);
    // Usually nothing is there.
    let _ = fs::remove_file(private.join("sock"));
    let _ = fs::remove_dir(&private);
}

fn private(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!(".{name}"))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}
