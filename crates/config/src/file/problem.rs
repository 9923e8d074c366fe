//! What is wrong with a line, and what to write instead.

use std::fmt;

use zeroize::Zeroizing;

/// Something wrong with one line. Shown, it is the part behind `FILE:LINE: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// Whether it must be mended.
    pub severity: Severity,
    /// The sort of problem, for programs: words with hyphens, which do not change.
    pub code: &'static str,
    /// What is wrong. No secret is in it, nor anything that a terminal would obey.
    pub what: String,
    /// What to write instead, or to do.
    pub instead: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file means something other than it seems to, or is less safe than it could be.
    Warning,
    /// The file cannot be used as it is.
    Error,
}

impl Severity {
    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Problem {
    /// One that must be mended.
    pub fn error(
        line: usize,
        code: &'static str,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        let (what, instead) = (what.into(), instead.into());
        Self { line, severity: Severity::Error, code, what, instead }
    }

    /// One that may be meant.
    pub fn warning(
        line: usize,
        code: &'static str,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(line, code, what, instead) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, "{severity}{}; {}", self.what, self.instead)
    }
}

/// What was written, in quotes, as it can be shown to anybody: on one line, not for ever, with nothing
/// in it that a terminal would obey, and nothing that could be a secret in the wrong place.
pub(super) fn quoted(text: &[u8]) -> String {
    const MOST: usize = 60;
    if may_hold_key(text) {
        return "this".to_owned();
    }
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(MOST).map(plain).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    format!("`{shown}'")
}

/// Whether so much of a key may be in this that it must not be shown: whoever knows half of a secret
/// scalar can find the rest. Paths are of the same letters, but seldom of both cases. In UTF-16 there is
/// a zero byte between each two letters.
pub(super) fn may_hold_key(text: &[u8]) -> bool {
    const TOO_MUCH: usize = 20;
    let visible = text.iter().copied().filter(|byte| !byte.is_ascii_control());
    let text = Zeroizing::new(visible.collect::<Vec<_>>());
    let is_of_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let mut runs = text.chunk_by(|one, other| is_of_key(one) && is_of_key(other));
    runs.any(|run| {
        let has = |is: fn(&u8) -> bool| run.iter().any(is);
        run.len() >= TOO_MUCH && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)
    })
}

/// The same letter, or a mark in place of what cannot be seen or changes how others are seen.
pub(super) fn plain(letter: char) -> char {
    if is_invisible(letter) { '\u{fffd}' } else { letter }
}

/// Control characters, line and paragraph separators, marks that turn the direction of writing, and
/// what has no width.
pub(crate) fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
