//! Waiting: one thread, many descriptors, no wake-up without a reason.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::{Errno, read, write};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A set of descriptors to wait for, level triggered: what is not drained is reported again.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Epoll> {
        Ok(Epoll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Adds a descriptor, to wait for something to read or for its end; `token` is what
    /// [`Epoll::wait`] calls it. Closing its last copy removes it.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it is there already, `EPERM` if it is of a kind that cannot be waited for.
    pub fn add(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.0, source, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
    }

    /// As [`Epoll::add`], to wait for its end only.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn add_for_end(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        let nothing = epoll::EventFlags::empty();
        Ok(epoll::add(&self.0, source, epoll::EventData::new_u64(token), nothing)?)
    }

    /// Waits until a descriptor has something to say or `timeout` has passed; `None` waits forever.
    /// Returns the tokens of up to eight that do, and the others by the next call. There may be none
    /// before the time, when a signal or a debugger interrupted it.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<impl Iterator<Item = u64> + use<>> {
        let (flags, data) = (epoll::EventFlags::empty(), epoll::EventData::new_u64(0));
        let mut events = [epoll::Event { flags, data }; 8];
        // A timeout of more seconds than the kernel can count is forever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let count = match epoll::wait(&self.0, &mut events, timeout.as_ref()) {
            Err(Errno::INTR) => 0,
            count => count?,
        };
        Ok(events.into_iter().take(count).map(|event| {
            // An epoll_event is packed on x86-64, so its field is copied out, not borrowed.
            let data = event.data;
            data.u64()
        }))
    }
}

/// A wake-up that one thread sends to another (eventfd). Signals that meet before they are drained
/// are one.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// An event that was not signalled.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Event> {
        Ok(Event(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes the descriptor readable.
    pub fn signal(&self) {
        // It can fail only when 2^64 - 2 signals were not drained: then it is readable.
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable; true if it was signalled since the last time. Drain first,
    /// then look at what the signal was about, so that a signal in between is not lost.
    pub fn drain(&self) -> bool {
        read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One deadline (timerfd on `CLOCK_BOOTTIME`, so that it is due at once after a suspend that it did
/// not survive).
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Timer(timerfd_create(TimerfdClockId::Boottime, flags)?))
    }

    /// Makes the descriptor readable at `deadline` (as [`clock::boottime`](crate::clock::boottime)
    /// counts) and from then on; at once if it has passed; never if there is none. It replaces the
    /// previous deadline, whether that was reached or not.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the deadline is more seconds away than the kernel can count.
    pub fn set(&self, deadline: Option<Duration>) -> io::Result<()> {
        // The kernel takes zero for "never".
        let deadline =
            deadline.map_or(Duration::ZERO, |deadline| deadline.max(Duration::from_nanos(1)));
        let it_value = Timespec::try_from(deadline).map_err(|_| Errno::INVAL)?;
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
