//! Namespaces of a program's own, so that nothing it does has a name outside, and nothing is left of
//! it (namespaces(7)).

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{getgid, getuid};
use rustix::thread::UnshareFlags;
use sys::namespaces::leave;

/// Whether [`isolate`] needed a user namespace to be allowed the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// The process was privileged enough as it was.
    Privileged,
    /// The process is root in a user namespace of its own, and nobody outside.
    User,
}

/// Moves the calling process into a network and a mount namespace of its own, and its future
/// children into a process namespace: when the first of these ends, the kernel ends the rest.
/// Without the right to do so it becomes root of a user namespace first. To be called before any
/// thread exists (a user namespace demands it), and the caller cannot start threads afterwards,
/// only children, who can.
pub fn isolate() -> io::Result<Isolation> {
    let own = UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    let isolation = match leave(own) {
        Err(Errno::PERM) => {
            let (user, group) = (getuid(), getgid());
            leave(own | UnshareFlags::NEWUSER)?;
            // Whoever may not drop groups may map exactly itself (user_namespaces(7)).
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
            fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
            Isolation::User
        }
        outcome => outcome.map(|()| Isolation::Privileged)?,
    };
    // What is mounted from here on must not spread to the namespace that this one was copied from.
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    Ok(isolation)
}

/// Covers a directory with an empty one in memory, for this mount namespace only. To be called
/// after [`isolate`].
pub fn cover(directory: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("adit", directory, "tmpfs", flags, c"mode=0755")?)
}
