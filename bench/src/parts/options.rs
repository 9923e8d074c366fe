//! The command line behind the word `parts`.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use lexopt::Arg;

use super::outcome::Measured;
use crate::Outcome;

pub const USAGE: &str = "\
Usage: adit-bench parts [OPTIONS]        (cargo run --release -p adit-bench -- parts [OPTIONS])

Measures parts of adit by themselves: instructions, counted by callgrind (where valgrind is installed),
and nanoseconds, each the median of many short samples. Prints one table.

  --only LIST     parts whose names contain one of these words (default: all)
  --against PATH  compare with another build of this program, measured in turn with this one, A B A B,
                  or with what a former run wrote by --json
  --rounds N      of time; instructions are counted once (default 15)
  --json          one JSON object; the table goes to standard error
  --help          this

Example: judge a change, the build before it against the one after it
  cp target/release/adit-bench /tmp/bench-before
  cargo run --release -p adit-bench -- parts --against /tmp/bench-before
";

/// What was asked for.
pub struct Options {
    pub only: Vec<String>,
    pub against: Option<Against>,
    pub rounds: u32,
    pub json: bool,
    pub role: Role,
}

/// What to compare with.
pub enum Against {
    /// Another build.
    Build(PathBuf),
    /// What was measured once.
    Former(Measured),
}

/// The program starts itself, to be measured.
#[derive(Clone, Copy)]
pub enum Role {
    Measures,
    Times,
    Counts,
}

impl Role {
    /// The hidden option for it.
    pub const fn option(self) -> Option<&'static str> {
        match self {
            Role::Measures => None,
            Role::Times => Some("times"),
            Role::Counts => Some("counts"),
        }
    }
}

impl Options {
    /// None if help was asked for.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Outcome<Option<Self>> {
        let mut options =
            Self { only: Vec::new(), against: None, rounds: 5, json: false, role: Role::Measures };
        let mut parser = lexopt::Parser::from_args(words);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("only") => options.only.extend(crate::options::list(&mut parser)?),
                Arg::Long("against") => {
                    options.against = Some(Against::open(parser.value()?.into())?);
                }
                Arg::Long("rounds") => options.rounds = crate::options::number(&mut parser)?,
                Arg::Long("json") => options.json = true,
                Arg::Long("times") => options.role = Role::Times,
                Arg::Long("counts") => options.role = Role::Counts,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                argument => return Err(argument.unexpected().into()),
            }
        }
        Ok(Some(options))
    }
}

impl Against {
    fn open(path: PathBuf) -> Outcome<Self> {
        let bytes =
            fs::read(&path).map_err(|error| format!("--against {}: {error}", path.display()))?;
        match serde_json::from_slice(&bytes) {
            Ok(former) => Ok(Self::Former(Measured::from_json(&former)?)),
            Err(_) => Ok(Self::Build(path)),
        }
    }

    /// What was measured once, if it is that.
    pub fn former(&self) -> Option<Measured> {
        match self {
            Self::Former(former) => Some(former.clone()),
            Self::Build(_) => None,
        }
    }
}
