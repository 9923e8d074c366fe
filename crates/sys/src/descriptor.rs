//! Descriptors that whoever started this process left open for it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, FdFlags, fcntl_setfd};

/// Takes over the descriptor that was handed down under this number, which from then on is closed when
/// this process executes another. To be asked for by one thread alone.
///
/// # Errors
///
/// `EBADF` if none was, or it has been taken over already; and for stdin, stdout and stderr, which have
/// their places.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl takes any number, and says EBADF to one that is not open.
    if number <= libc::STDERR_FILENO || unsafe { libc::fcntl(number, libc::F_GETFD) } != 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: whatever this process opens has FD_CLOEXEC, and what was handed down cannot have it: it is
    // open, and nothing here owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(fcntl_setfd(&fd, FdFlags::CLOEXEC).map(|()| fd)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn what_was_handed_down_is_taken_over_once() {
        let file = File::open("/dev/zero").unwrap();
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        let number = file.into_raw_fd();
        let taken = inherited(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert_eq!(inherited(number).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn what_was_not_handed_down_is_refused() {
        let ours = File::open("/dev/zero").unwrap();
        for number in [-1, 0, 1, 2, RawFd::MAX, ours.as_raw_fd()] {
            let error = inherited(number).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }
}
