//! The names of routing tables, as ip(8) reads them: /etc/iproute2/rt_tables and what is beside it;
//! and who may choose numbers for new ones.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{Error, MAIN_TABLE};

/// Where ip(8) looks, the user's files before those of its package. Each may have a directory of
/// more beside it, in files that end in `.conf`.
const FILES: [&str; 3] =
    ["/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables", "/usr/lib/iproute2/rt_tables"];

/// The number of a routing table, given as that (decimal, or hexadecimal after `0x`) or by name.
pub fn table_number(name: &str) -> Option<u32> {
    number(name)
        .or_else(|| {
            FILES
                .iter()
                .flat_map(|file| files(Path::new(file)))
                .find_map(|file| named(&fs::read_to_string(file).ok()?, name))
        })
        .or(match name {
            "local" => Some(255),
            "main" => Some(MAIN_TABLE),
            "default" => Some(253),
            _ => None,
        })
}

/// Waits until nobody else holds one of the calling thread's network namespace, and holds it until
/// it is dropped: whoever looks for a free table, or for rules that belong together, and then makes
/// or removes some, is alone until that is done.
#[derive(Debug)]
pub struct TablesLock {
    _namespace: File,
}

impl TablesLock {
    /// Takes it.
    pub fn take() -> Result<Self, Error> {
        // The namespace is the one file that all have in common who share its tables.
        let path = "/proc/thread-self/ns/net";
        let locked = File::open(path).and_then(|file| file.lock().map(|()| file));
        locked
            .map(|file| Self { _namespace: file })
            .map_err(|cause| Error::new("lock the routing tables", cause))
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A file, and those of its directory.
fn files(file: &Path) -> Vec<PathBuf> {
    let beside = fs::read_dir(file.with_added_extension("d")).into_iter().flatten().flatten();
    let more = beside
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"));
    [file.to_owned()].into_iter().chain(more).collect()
}

/// The number before `name` on a line of its own; a comment follows `#`.
pub(crate) fn named(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let found = number(words.next()?)?;
        (words.next() == Some(name)).then_some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_by_number_or_name() {
        for (name, found) in [
            ("51820", Some(51820)),
            ("0xca6c", Some(51820)),
            ("main", Some(254)),
            ("local", Some(255)),
            ("default", Some(253)),
            ("4294967296", None),
            ("-1", None),
            ("no such table", None),
        ] {
            assert_eq!(table_number(name), found, "{name}");
        }
    }

    #[test]
    fn a_line_names_a_table_unless_it_is_a_comment() {
        let text =
            "# local tables\n#\n#1 inr.ruhep\n 200\tvpn # of the office\n0x1f4 lab\n7\nx y\n";
        for (name, found) in [
            ("vpn", Some(200)),
            ("lab", Some(500)),
            ("inr.ruhep", None),
            ("of", None),
            ("y", None),
            ("", None),
        ] {
            assert_eq!(named(text, name), found, "{name}");
        }
    }
}
