//! The UAPI: how `wg` and its like talk to a tunnel in user space, line by line over a stream
//! (<https://www.wireguard.com/xplatform/>, spec §2.2–2.6).
//!
//! [`Requests`] reads what a client asks for; [`write_state`] and [`write_result`] answer it.

mod get;
mod lines;
mod set;

use std::fmt;
use std::io::{self, Read, Write};

use proto::Change;

pub use get::{write_state, write_told};
use lines::Lines;
use set::Settings;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Everything about the device; answered by [`write_state`].
    Get,
    /// A change, valid as a whole; answered by [`write_result`].
    Set(Change),
}

/// The requests of one client, one after the other.
///
/// An `Err` is a request that cannot be granted: it has been read to its end and shall be answered
/// by [`write_result`], and the next one may follow. At the end of the iteration the connection is
/// to be closed without a reply. What was read may contain keys, and is wiped before the next
/// wait for the client.
pub struct Requests<R, Z> {
    lines: Lines<R>,
    zone: Z,
}

impl<R: Read, Z: Fn(&str) -> Option<u32>> Requests<R, Z> {
    /// Reads from `stream`. `zone` finds the number of the interface that an IPv6 endpoint names
    /// behind its `%`; a number there is taken as it is.
    pub fn new(stream: R, zone: Z) -> Self {
        Self { lines: Lines::new(stream), zone }
    }

    fn get(&mut self) -> Option<Result<Request, Errno>> {
        match self.lines.next_byte()? {
            b'\n' => Some(Ok(Request::Get)),
            _ => Some(Err(Errno::INVALID)),
        }
    }

    /// Reads to the blank line or the end of the stream, whatever is wrong on the way.
    fn set(&mut self) -> Result<Request, Errno> {
        let mut settings = Settings::new(&self.zone);
        let mut outcome = Ok(());
        loop {
            match self.lines.next() {
                None | Some(Ok(b"")) => break,
                Some(line) => outcome = outcome.and_then(|()| settings.line(line?)),
            }
        }
        outcome.map(|()| Request::Set(settings.into_change()))
    }
}

impl<R: Read, Z: Fn(&str) -> Option<u32>> Iterator for Requests<R, Z> {
    type Item = Result<Request, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.lines.next_whole()? {
            b"get=1" => self.get(),
            b"set=1" => Some(self.set()),
            _ => None,
        }
    }
}

/// Why a request was not granted, as Linux numbers it (errno(3)); sent negative (spec §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// EIO: the stream failed, or a line was longer than any that means something.
    pub const IO: Self = Self(5);
    /// EINVAL: an unknown key, a bad value, or a key in the wrong place.
    pub const INVALID: Self = Self(22);
    /// "Something else", a number that wireguard-go chose.
    pub const UNKNOWN: Self = Self(55);
    /// EPROTO: a line without `=`.
    pub const PROTOCOL: Self = Self(71);
}

impl From<&io::Error> for Errno {
    fn from(error: &io::Error) -> Self {
        error.raw_os_error().map_or(Self::UNKNOWN, Self)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-{}", self.0)
    }
}

/// Answers a request that was to change something, or one that could not be granted.
///
/// # Errors
///
/// Those of `out`.
pub fn write_result(out: &mut impl Write, result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Ok(()) => out.write_all(b"errno=0\n\n"),
        Err(errno) => out.write_all(format!("errno={errno}\n\n").as_bytes()),
    }
}
