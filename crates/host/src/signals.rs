//! Signals, as something to read.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// A signal that asks something of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGHUP`: the terminal closed, or a wish to reload.
    Hangup,
    /// `SIGINT`: Ctrl-C.
    Interrupt,
    /// `SIGTERM`: the service manager.
    Terminate,
}

impl Signal {
    const ALL: [(Self, i32); 3] =
        [(Self::Hangup, SIGHUP), (Self::Interrupt, SIGINT), (Self::Terminate, SIGTERM)];
}

/// A descriptor that is readable from when a signal has come until all that have come are read, and
/// that is seen.
#[derive(Debug)]
pub struct Signals {
    news: UnixStream,
    come: [Arc<AtomicBool>; Signal::ALL.len()],
}

impl Signals {
    /// Takes over all of [`Signal`] from now on, but for those that whoever started this program had
    /// it ignore (nohup(1)). Children are not concerned: theirs end them as ever.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE`.
    pub fn new() -> io::Result<Self> {
        let (news, bell) = UnixStream::pair()?;
        news.set_nonblocking(true)?;
        let signals = Self { news, come: Default::default() };
        let ignored = ignored()?;
        for ((_, number), come) in Signal::ALL.into_iter().zip(&signals.come) {
            if ignored >> (number - 1) & 1 == 0 {
                // In this order: whoever hears the bell finds what it is about.
                flag::register(number, Arc::clone(come))?;
                pipe::register(number, bell.try_clone()?)?;
            }
        }
        Ok(signals)
    }

    /// The next signal that has come, if there is one.
    #[must_use]
    pub fn read(&self) -> Option<Signal> {
        self.next().or_else(|| {
            while (&self.news).read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
            // One may have come meanwhile.
            self.next()
        })
    }

    fn next(&self) -> Option<Signal> {
        let mut signals = Signal::ALL.into_iter().zip(&self.come);
        let ((signal, _), _) = signals.find(|(_, come)| come.swap(false, Ordering::SeqCst))?;
        Some(signal)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

/// The signals that this process ignores, the first lowest (proc(5)).
fn ignored() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    Ok(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0))
}
