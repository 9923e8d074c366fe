//! A stream cut into lines.

use std::io::{ErrorKind, Read};
use std::ops::Range;

use zeroize::{Zeroize, Zeroizing};

use super::Errno;

/// No line that means something comes near it.
const LONGEST: usize = 4096;

/// Reads lines through one buffer, which bounds their length and holds no key while it waits for
/// more.
pub(super) struct Lines<R> {
    stream: R,
    buffer: Zeroizing<Box<[u8]>>,
    /// What was read and not handed out. Once the stream has ended there is no newline in it.
    unread: Range<usize>,
    ended: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: Zeroizing::new(vec![0; LONGEST].into()), unread: 0..0, ended: false }
    }

    /// The next line without its newline, which the last line of a stream may lack. A line that is
    /// too long is skipped, and a stream that fails has ended; both are an error first.
    pub(super) fn next(&mut self) -> Option<Result<&[u8], Errno>> {
        let line = self.take_line()?;
        Some(line.map(|line| self.buffer.get(line).unwrap_or_default()))
    }

    /// The next line, if it has a newline and nothing is wrong with it.
    pub(super) fn next_whole(&mut self) -> Option<&[u8]> {
        let line = self.take_line()?.ok()?;
        self.buffer.get(line).filter(|_| !self.ended)
    }

    /// The next byte.
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        if self.unread.is_empty() {
            self.fill().ok()?;
        }
        let at = self.unread.next()?;
        self.buffer.get(at).copied()
    }

    fn take_line(&mut self) -> Option<Result<Range<usize>, Errno>> {
        let mut too_long = false;
        loop {
            let unread = self.buffer.get(self.unread.clone()).unwrap_or_default();
            if let Some(length) = unread.iter().position(|&byte| byte == b'\n') {
                let line = self.unread.start..self.unread.start + length;
                self.unread.start = line.end + 1;
                return Some(if too_long { Err(Errno::IO) } else { Ok(line) });
            }
            if self.ended {
                let line = std::mem::take(&mut self.unread);
                return (!line.is_empty()).then_some(Ok(line));
            }
            if unread.len() == LONGEST {
                too_long = true;
                self.unread = 0..0;
            }
            if let Err(errno) = self.fill() {
                return Some(Err(errno));
            }
        }
    }

    /// Reads what there is, after wiping what was handed out.
    fn fill(&mut self) -> Result<(), Errno> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let free = self.buffer.get_mut(self.unread.end..).unwrap_or_default();
        free.zeroize();
        loop {
            match self.stream.read(free) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(length) => {
                    self.unread.end += length;
                    self.ended = length == 0;
                    return Ok(());
                }
                Err(_) => {
                    self.ended = true;
                    return Err(Errno::IO);
                }
            }
        }
    }
}
