//! Instructions, as callgrind counts them (<https://valgrind.org/docs/manual/cl-manual.html>).

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

use super::harness::MARK;
use super::outcome::{Line, lines};
use crate::Outcome;

/// Whether it is installed.
pub fn is_here() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Instructions that one unit of each part takes in `build`, which is to be run with `arguments`.
pub fn count(build: &Path, arguments: &[String]) -> Outcome<Vec<Line>> {
    let folder = Folder::new()?;
    let mut command = Command::new("valgrind");
    command
        .args(["-q", "--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={MARK}"))
        .arg(format!("--dump-after={MARK}"))
        .arg(format!("--callgrind-out-file={}", folder.0.join("out").display()))
        .arg(build)
        .args(arguments);
    // Its notes are numbered from one, and each part has left two.
    (1..)
        .step_by(2)
        .zip(lines(&mut command)?)
        .map(|(number, line)| {
            let more = folder.sum(number + 1)? - folder.sum(number)?;
            Ok(Line { value: more / line.value, ..line })
        })
        .collect()
}

/// Where callgrind leaves its notes. Gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Outcome<Self> {
        let path = env::temp_dir().join(format!("adit-bench-{}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// The sum in note `number`.
    fn sum(&self, number: usize) -> Outcome<f64> {
        let note = fs::read_to_string(self.0.join(format!("out.{number}")))
            .map_err(|error| format!("note {number} of callgrind: {error}"))?;
        let line = note.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(line.ok_or("a note of callgrind without a sum")?.trim().parse()?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left there would only be a few kilobytes.
        let _ = fs::remove_dir_all(&self.0);
    }
}
