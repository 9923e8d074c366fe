//! Descriptors that whoever started this process left open for it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A copy of the descriptor that was handed down under this number, closed when this process
/// executes another. The one under the number stays as it is: it may belong to somebody.
///
/// # Errors
///
/// `EBADF` if nothing is open under this number.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    const LEAST: libc::c_int = 3; // stdin, stdout and stderr keep their places
    // SAFETY: fcntl takes any number, and says EBADF to one that is not open.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, LEAST) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fcntl has just made this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_copy_reads_on_after_the_original_is_closed() {
        let original = File::open("/dev/zero").unwrap();
        let copy = inherited(original.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), original.as_raw_fd());
        drop(original);
        let mut bytes = [1; 8];
        File::from(copy).read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 8]);
    }

    #[test]
    fn a_number_under_which_nothing_is_open_is_refused() {
        for number in [-1, RawFd::MAX] {
            let error = inherited(number).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    }
}
