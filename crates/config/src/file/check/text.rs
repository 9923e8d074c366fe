//! What is wrong with the text itself, whatever it says.

use super::Problems;
use crate::file::line::{Kind, Line};
use crate::file::problem::{Problem, Severity, is_invisible};

/// What was met so far.
#[derive(Default)]
pub(super) struct Text {
    /// The first line that ends in CR and LF.
    returned: Option<usize>,
}

impl Text {
    pub(super) fn line(&mut self, line: &Line<'_>, problems: &mut Problems) {
        let mut problem = |is_error, code, what: &str, instead: &str| {
            let severity = if is_error { Severity::Error } else { Severity::Warning };
            problems.push(Problem { severity, ..Problem::error(line.number, code, what, instead) });
        };
        if line.returned {
            self.returned.get_or_insert(line.number);
        }
        if line.text.contains(&0) {
            problem(true, "zero-byte", "there is a zero byte in this line", "remove it");
        }
        let is_remark = matches!(line.kind, Kind::Comment);
        match str::from_utf8(line.text) {
            Err(_) => {
                problem(!is_remark, "not-utf-8", "this is not UTF-8", "save the file as UTF-8")
            }
            Ok(text) => {
                let is_hidden = |letter| is_invisible(letter) && !matches!(letter, '\t' | '\0');
                if text.contains(is_hidden) {
                    let what = "there are characters in this line that cannot be seen";
                    problem(false, "invisible", what, "write the line anew, or remove them");
                }
            }
        }
    }

    pub(super) fn end(&self, problems: &mut Problems) {
        if let Some(line) = self.returned {
            let what = "lines end as on Windows (CR and LF), which is accepted";
            let instead = "`adit config fmt --write' makes them plain";
            problems.push(Problem::warning(line, "cr-lf", what, instead));
        }
    }
}

/// What some editors put in front of a file. For `wg` it is part of the first word.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The same in UTF-16, of either order. Of such a file nothing more can be said.
pub(super) fn utf_16(content: &[u8]) -> Option<Problem> {
    let is_utf_16 = content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff");
    let what = "the file is UTF-16, as PowerShell writes it, which no tool here understands";
    is_utf_16.then(|| Problem::error(1, "not-utf-8", what, "save it as UTF-8"))
}

pub(super) fn byte_order_mark() -> Problem {
    let what = "the file begins with a byte order mark, which no tool here understands";
    Problem::error(1, "byte-order-mark", what, "save it as UTF-8 without one")
}

/// As text, whatever it is.
pub(super) fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|&letter| !is_invisible(letter)).collect()
}
