//! The list of what was installed: a line for each file, so that exactly that can be removed again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Below the prefix.
pub const PATH: &str = "share/adit/installed";

/// What adit has made below a prefix, by paths as they are once installed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Record(pub BTreeMap<PathBuf, Made>);

/// How something came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// A file or link where there was nothing.
    New,
    /// A file or link in the place of another, which is kept beside it.
    Replacing,
    /// A folder.
    Folder,
}

const WORDS: [(&str, Made); 3] =
    [("new", Made::New), ("replacing", Made::Replacing), ("folder", Made::Folder)];

impl Record {
    /// Reads the list; without one, nothing was installed. Lines of a later adit are passed over.
    ///
    /// # Errors
    ///
    /// It is there and cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let lines = text.lines().filter_map(|line| {
            let (word, path) = line.split_once(' ')?;
            let (_, made) = WORDS.into_iter().find(|(name, _)| *name == word)?;
            Some((PathBuf::from(path), made))
        });
        Ok(Self(lines.collect()))
    }

    /// As [`Record::read`] reads it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (path, made) in &self.0 {
            let word = WORDS.iter().find(|(_, is)| is == made).map_or("", |(word, _)| word);
            // Nothing fails that is written into a string.
            let _ = writeln!(text, "{word} {}", path.display());
        }
        text
    }
}
