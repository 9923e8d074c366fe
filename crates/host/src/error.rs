//! What was attempted, and why the kernel refused.

use std::{error, fmt, io};

/// Reads as one sentence: "add address 10.0.0.1/24 to wg0: Operation not permitted".
#[derive(Debug)]
pub struct Error {
    attempt: String,
    cause: io::Error,
}

impl Error {
    /// What was attempted, as an order ("delete link wg0"), and why it failed.
    pub fn new(attempt: impl Into<String>, cause: io::Error) -> Self {
        Self { attempt: attempt.into(), cause }
    }

    /// The kernel's reason, with its errno.
    pub fn cause(&self) -> &io::Error {
        &self.cause
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause.to_string();
        // The number that the standard library appends says nothing that the words do not.
        let number = cause
            .split_once(" (os error ")
            .and_then(|(words, rest)| rest.split_once(')').map(|(_, more)| (words, more)));
        let (words, more) = number.unwrap_or((&cause, ""));
        write!(f, "{}: {words}{more}", self.attempt)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.cause)
    }
}
