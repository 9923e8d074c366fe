//! Network namespaces: held by a descriptor, visited by a thread, made where the caller may
//! (namespaces(7)).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::{panic, thread};

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{getgid, getuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The network namespace of the calling thread.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Whether two descriptors hold the same namespace.
#[must_use]
pub fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    let identity = |file| fstat(file).map(|status| (status.st_dev, status.st_ino));
    matches!((identity(one.as_fd()), identity(other.as_fd())), (Ok(one), Ok(other)) if one == other)
}

/// A new network namespace with nothing in it but a loopback link that is down. It has no name, and
/// vanishes with the last descriptor, process or socket in it. Needs CAP_SYS_ADMIN.
pub fn create() -> io::Result<OwnedFd> {
    on_a_thread(|| {
        leave(UnshareFlags::NEWNET)?;
        current()
    })
}

/// Runs `work` on a fresh thread inside `network`. What `work` opens or spawns there stays there: a
/// socket and a child keep the namespace that they were born in. Needs CAP_SYS_ADMIN here and in
/// the owner of `network`.
pub fn within<T: Send>(network: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_a_thread(|| {
        move_into_link_name_space(network, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

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

fn leave(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the one danger is a descriptor table that threads no longer share; no caller passes
    // `FILES`.
    unsafe { unshare_unsafe(namespaces) }
}

/// A thread of its own, so that no other ever sees its namespace change.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}
