//! Leaving namespaces (namespaces(7)).

pub use rustix::thread::UnshareFlags;
use rustix::thread::unshare_unsafe;

/// Moves the calling thread out of the namespaces that it shares with its process, into new ones (and
/// its future children, where that is what the kernel does).
///
/// # Errors
///
/// `EPERM` without the right to; see unshare(2).
pub fn leave(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the one danger is a descriptor table that threads no longer share, and it stays shared.
    unsafe { unshare_unsafe(namespaces.difference(UnshareFlags::FILES)) }
}
