//! Signals, as something to read.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

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

/// A descriptor that is readable while a signal is pending (signalfd).
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Takes over `signals`: they are blocked in the calling thread and in every thread that it
    /// starts from now on, so this comes first in `main`. Children inherit the block, too; see
    /// [`unblock_in`].
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        let set = set_of(signals);
        set_mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: `set` is a signal set; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd has just made this descriptor and nothing else owns it.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal, if there is one.
    #[must_use]
    pub fn read(&self) -> Option<Signal> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        rustix::io::read(&self.0, &mut info).ok()?;
        // A signalfd_siginfo begins with the signal's number.
        let number = info.first_chunk().map(|number| i32::from_ne_bytes(*number))?;
        [Signal::Hangup, Signal::Interrupt, Signal::Terminate]
            .into_iter()
            .find(|signal| signal.number() == number)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Hangup => libc::SIGHUP,
            Signal::Interrupt => libc::SIGINT,
            Signal::Terminate => libc::SIGTERM,
        }
    }
}

/// Lets the child that `command` will start receive every signal as usual, whatever its parent took
/// over.
pub fn unblock_in(command: &mut Command) {
    let none = set_of(&[]);
    // SAFETY: between fork and exec only pthread_sigmask is called, which may be called there.
    unsafe { command.pre_exec(move || set_mask(libc::SIG_SETMASK, &none)) };
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` is memory for a signal set, which this call fills.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: `set` was filled by sigemptyset above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal.number()) };
    }
    // SAFETY: as above.
    unsafe { set.assume_init() }
}

fn set_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is a signal set, and nothing is asked back through the null pointer.
    match unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
