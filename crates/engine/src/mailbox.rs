//! Letters from one thread to another: for what is rare, never for packets that flow.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use sys::poll::Event;

/// A queue with an event that wakes its reader. Poll it with epoll as a descriptor.
pub(crate) struct Mailbox<T> {
    letters: Mutex<VecDeque<T>>,
    event: Event,
}

impl<T> Mailbox<T> {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            letters: Mutex::default(),
            event: Event::new()?,
        })
    }

    /// Puts a letter in, and wakes the reader unless it has not yet emptied the box anyway.
    pub fn post(&self, letter: T) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = letters.is_empty();
        letters.push_back(letter);
        drop(letters);
        if was_empty {
            self.event.signal();
        }
    }

    /// As [`Mailbox::post`], unless `most` letters wait already: for what strangers can cause.
    pub fn post_at_most(&self, most: usize, letter: T) {
        let full = self
            .letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
            >= most;
        if !full {
            self.post(letter);
        }
    }

    /// Takes all letters out.
    pub fn empty(&self) -> VecDeque<T> {
        self.event.drain();
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
