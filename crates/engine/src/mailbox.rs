//! Letters to the control thread: for what is rare, never for packets that flow.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use proto::{Change, DeviceState, Endpoint, PeerId, Report};
use sys::poll::Event;

use crate::Notice;

/// What the control thread is asked and told.
pub(crate) enum Letter {
    Report(PeerId, Report),
    /// The peer's endpoint is not where it was.
    Roamed(PeerId),
    Handshake(Endpoint, Box<[u8]>),
    /// Whether the interface is up, and its MTU.
    Link(bool, Option<u32>),
    /// Addresses or routes of this machine have changed.
    Paths,
    Tell(Notice),
    Configure(Box<Change>, mpsc::Sender<io::Result<()>>),
    State(mpsc::Sender<DeviceState>),
    /// This is the end: somebody wants it, or the interface was deleted.
    Stop,
}

/// A queue with an event that wakes its reader. Poll it with epoll as a descriptor.
pub(crate) struct Mailbox {
    /// `None` once nobody reads any more.
    letters: Mutex<Option<Vec<Letter>>>,
    event: Event,
}

impl Mailbox {
    /// # Errors
    /// Those of eventfd.
    pub fn new() -> io::Result<Self> {
        Ok(Self { letters: Mutex::new(Some(Vec::new())), event: Event::new()? })
    }

    /// Puts a letter in, and wakes the reader unless it is awake because of an earlier one. A letter
    /// to nobody is dropped.
    pub fn post(&self, letter: Letter) {
        self.post_at_most(usize::MAX, || letter);
    }

    /// As [`Mailbox::post`], but no letter is written if `most` wait already: for what strangers can
    /// cause.
    pub fn post_at_most(&self, most: usize, write: impl FnOnce() -> Letter) {
        let mut letters = self.letters();
        let Some(letters) = letters.as_mut().filter(|letters| letters.len() < most) else { return };
        letters.push(write());
        if letters.len() == 1 {
            self.event.signal();
        }
    }

    /// Takes all letters out.
    pub fn empty(&self) -> Vec<Letter> {
        self.event.drain();
        self.letters().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Drops all letters, now and ever after: who waits for an answer shall not wait for ever.
    pub fn close(&self) {
        *self.letters() = None;
    }

    fn letters(&self) -> MutexGuard<'_, Option<Vec<Letter>>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
