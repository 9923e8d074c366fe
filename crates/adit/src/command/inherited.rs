//! What whoever started this process has left open for it, and perhaps for nobody.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use sys::descriptor::inherited;

/// What was handed down under this number; a copy, if it is one of stdin, stdout and stderr.
///
/// # Errors
///
/// `EBADF` if nothing was.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    match number {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        2 => io::stderr().as_fd().try_clone_to_owned(),
        number => inherited(number),
    }
}

/// Closes all that nobody has taken, but stdin, stdout and stderr. What stays may be whatever somebody
/// had open by chance: a file that he has locked until all who have it are done, say.
///
/// # Errors
///
/// When there is no /proc.
pub fn close() -> io::Result<()> {
    let names = fs::read_dir("/proc/self/fd")?.flatten().map(|entry| entry.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
    // What is ours is refused.
    numbers.for_each(|number| drop(inherited(number)));
    Ok(())
}
