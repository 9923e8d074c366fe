//! Inputs that campaigns have found worth keeping: a file for each target, a line for each input, as
//! [`slice::escape_ascii`] writes it, so that people can read them.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::Target;

fn path(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// What was kept for a target.
///
/// # Errors
///
/// Those of reading its file, and a line that nobody can have written.
pub fn read(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(path(target))?;
    let inputs: Option<_> = text.lines().map(unescaped).collect();
    inputs.ok_or_else(|| io::Error::other(format!("{}: what is that?", path(target).display())))
}

/// Keeps these inputs for a target and no others.
///
/// # Errors
///
/// Those of writing its file.
pub fn write(target: &Target, mut inputs: Vec<Vec<u8>>) -> io::Result<()> {
    inputs.sort();
    let lines = inputs.iter().map(|input| format!("{}\n", input.escape_ascii()));
    fs::write(path(target), lines.collect::<String>())
}

fn unescaped(line: &str) -> Option<Vec<u8>> {
    let mut rest = line.as_bytes();
    let mut input = Vec::new();
    while let [first, behind @ ..] = rest {
        let byte;
        (byte, rest) = match (first, behind) {
            (b'\\', [b'x', digits @ ..]) => {
                let (digits, behind) = digits.split_at_checked(2)?;
                (u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?, behind)
            }
            (b'\\', [b't', behind @ ..]) => (b'\t', behind),
            (b'\\', [b'r', behind @ ..]) => (b'\r', behind),
            (b'\\', [b'n', behind @ ..]) => (b'\n', behind),
            (b'\\', [itself @ (b'\'' | b'"' | b'\\'), behind @ ..]) => (*itself, behind),
            (b'\\', _) => return None,
            _ => (*first, behind),
        };
        input.push(byte);
    }
    Some(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read_back() {
        let all: Vec<u8> = (0..=255).chain(*b"\\x41\\n").collect();
        assert_eq!(unescaped(&all.escape_ascii().to_string()), Some(all));
        for line in ["\\", "\\x4", "\\xgg", "\\q"] {
            assert_eq!(unescaped(line), None);
        }
    }
}
