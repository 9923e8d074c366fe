//! Why a command did not do what was asked, and the exit code that says so (docs/up.md).

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use host::plan::OnFailure;

use crate::command::words;

/// What came of something.
pub type Outcome<T = ()> = Result<T, Failure>;

/// One line that says what to do, and the kind of failure for scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    text: String,
}

/// Exit codes of adit's own commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The machine refused, or something else went wrong.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration file is wrong, or not there.
    Configuration = 3,
    /// There is no such tunnel now.
    NotRunning = 4,
    /// Only root may.
    Permission = 5,
    /// Somebody else is in the way for too long.
    Timeout = 6,
}

impl Failure {
    /// Of this kind, for this reason.
    pub fn new(kind: Kind, text: impl Display) -> Self {
        Self { kind, text: text.to_string() }
    }

    /// What went wrong, by the words of the system.
    pub fn io(attempt: impl Display, error: &io::Error) -> Self {
        Self::new(Kind::Failed, format!("{attempt}: {}", words(error)))
    }

    /// A step that the machine refused, and what could not be taken back.
    pub fn from_step(cause: host::Error, left: &[host::Error]) -> Self {
        let failure = Self::from(cause);
        left.iter().fold(failure, |failure, error| failure.with(&format!("could not {error}")))
    }

    /// The same with more behind it.
    pub fn with(self, more: &str) -> Self {
        Self { text: format!("{}; {more}", self.text), ..self }
    }

    /// Whether the configuration file is the reason.
    pub fn is_about_the_file(&self) -> bool {
        self.kind == Kind::Configuration
    }

    /// Tells it on stderr.
    pub fn tell(&self) -> ExitCode {
        eprintln!("adit: {}", self.text);
        ExitCode::from(self.kind as u8)
    }
}

/// What fails on the way to something: the first failure ends it, or it goes on without, and all of
/// them are told at its end.
#[derive(Debug)]
pub struct Failures {
    on_failure: OnFailure,
    all: Vec<Failure>,
}

impl Failures {
    /// None yet.
    pub fn new(on_failure: OnFailure) -> Self {
        Self { on_failure, all: Vec::new() }
    }

    /// What came of a part, unless that has failed. It may be tried more than once, and is told once.
    pub fn keep<T>(&mut self, outcome: Result<T, impl Into<Failure>>) -> Option<T> {
        match outcome.map_err(Into::into) {
            Ok(value) => Some(value),
            Err(failure) => {
                if !self.all.contains(&failure) {
                    self.all.push(failure);
                }
                None
            }
        }
    }

    /// The same, where it goes on.
    pub fn endure<T>(&mut self, outcome: Result<T, impl Into<Failure>>) -> Outcome<Option<T>> {
        match self.on_failure {
            OnFailure::GoBack => outcome.map(Some).map_err(Into::into),
            OnFailure::GoOn => Ok(self.keep(outcome)),
        }
    }

    /// What becomes of it.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// All of them, the first in front.
    pub fn take(&mut self) -> Option<Failure> {
        let mut all = self.all.drain(..);
        let first = all.next()?;
        Some(all.fold(first, |failure, more| failure.with(&more.text)))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<host::Error> for Failure {
    fn from(error: host::Error) -> Self {
        let denied = error.cause().kind() == io::ErrorKind::PermissionDenied;
        let kind = if denied { Kind::Permission } else { Kind::Failed };
        Self::new(kind, error)
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::new(Kind::Usage, error)
    }
}
