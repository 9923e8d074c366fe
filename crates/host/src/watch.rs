//! Noticing that a file of ours was taken away, or written over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Watches one file (inotify): the descriptor becomes readable when it may no longer be what its
/// path leads to, because it was unlinked, renamed or replaced, its attributes changed, or its
/// directory was moved; and when somebody has closed it who could write into it. What has become of
/// it, the one who asks must see: an event is a reason to look, nothing more.
///
/// What happens to the file's neighbours wakes nobody.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Watches the file that `path` leads to now.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `EMFILE` or `ENOSPC` if the user has too many watches.
    pub fn new(path: impl AsRef<Path>) -> io::Result<Watch> {
        let path = path.as_ref();
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let moved = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        // Unlinking a file that is still open changes its link count: an attribute.
        let changed = moved | WatchFlags::ATTRIB | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&watch, path, changed | WatchFlags::DONT_FOLLOW)?;
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty())
        {
            inotify::add_watch(&watch, directory, moved | WatchFlags::ONLYDIR)?;
        }
        Ok(Watch(watch))
    }

    /// Makes the descriptor unreadable; true if there was an event.
    pub fn drain(&self) -> bool {
        let mut events = [0; 4096];
        let mut any = false;
        while rustix::io::read(&self.0, &mut events).is_ok_and(|length| length > 0) {
            any = true;
        }
        any
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
