//! Network namespaces: held by a descriptor, visited by a thread, made where the caller may
//! (namespaces(7)).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::{panic, thread};

use rustix::fs::fstat;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use sys::namespaces::leave;

/// The network namespace of the calling thread.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Tells namespaces apart without holding them. One that has ended may leave its place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64, u64);

impl Identity {
    /// Of the namespace that the descriptor holds.
    pub fn of(namespace: impl AsFd) -> io::Result<Self> {
        let status = fstat(namespace)?;
        Ok(Self(status.st_dev, status.st_ino))
    }
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

/// A thread of its own, so that no other ever sees its namespace change.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}
