//! Letters from one thread to another: for what is rare, never for packets that flow.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sys::poll::Event;

/// A queue with an event that wakes its reader. Poll it with epoll as a descriptor.
pub(crate) struct Mailbox<T> {
    /// `None` once nobody reads any more.
    letters: Mutex<Option<VecDeque<T>>>,
    event: Event,
}

impl<T> Mailbox<T> {
    /// # Errors
    /// Those of eventfd.
    pub fn new() -> io::Result<Self> {
        Ok(Self { letters: Mutex::new(Some(VecDeque::new())), event: Event::new()? })
    }

    /// Puts a letter in, and wakes the reader unless it is awake because of an earlier one. A letter
    /// to nobody is dropped.
    pub fn post(&self, letter: T) {
        self.post_at_most(usize::MAX, letter);
    }

    /// As [`Mailbox::post`], but drops the letter if `most` wait already: for what strangers can cause.
    pub fn post_at_most(&self, most: usize, letter: T) {
        let mut letters = self.letters();
        let Some(letters) = letters.as_mut().filter(|letters| letters.len() < most) else { return };
        letters.push_back(letter);
        if letters.len() == 1 {
            self.event.signal();
        }
    }

    /// Takes all letters out.
    pub fn empty(&self) -> VecDeque<T> {
        self.event.drain();
        self.letters().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Drops all letters, now and ever after: who waits for an answer shall not wait for ever.
    pub fn close(&self) {
        *self.letters() = None;
    }

    fn letters(&self) -> MutexGuard<'_, Option<VecDeque<T>>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
