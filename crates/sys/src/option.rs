//! Socket options that rustix does not have (setsockopt(2)).

use std::os::fd::{AsFd, AsRawFd};
use std::{io, ptr};

/// Has a raw socket of ICMP hear nothing of the kinds of messages whose bits are set in `kinds` (raw(7);
/// RFC 3542 §3.2). Those of IPv4 are few, and have only the first of these words.
///
/// # Errors
/// Those of setsockopt(2).
pub fn keep_out(socket: impl AsFd, level: i32, kinds: &[u32; 8]) -> io::Result<()> {
    const ICMP_FILTER: i32 = 1;
    set(socket, level, ICMP_FILTER, kinds)
}

/// Sets an option that is a number.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_number(socket: impl AsFd, level: i32, name: i32, number: i32) -> io::Result<()> {
    set(socket, level, name, &number)
}

/// Sets the option `name` of `level`.
pub(crate) fn set<T>(socket: impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let (fd, value) = (socket.as_fd().as_raw_fd(), ptr::from_ref(value).cast());
    // SAFETY: the kernel reads the bytes of `value` and no more. Only one option of this crate has
    // pointers in it, to a filter that its caller keeps alive.
    let result = unsafe { libc::setsockopt(fd, level, name, value, size_of::<T>() as _) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
