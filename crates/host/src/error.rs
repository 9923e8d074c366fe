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
        write!(f, "{}: {}", self.attempt, words(&self.cause))
    }
}

/// What strerror(3) says: an error without the number that the standard library adds to the words,
/// which says no more than they do.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let number = text.split_once(" (os error ");
    match number.and_then(|(words, rest)| Some((words, rest.split_once(')')?.1))) {
        Some((words, more)) => format!("{words}{more}"),
        None => text,
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.cause)
    }
}
