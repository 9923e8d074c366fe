//! A file system as the kernel unpacks it when it boots: cpio in the new ASCII format
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Ends the archive.
const TRAILER: &str = "TRAILER!!!";

/// Folders, files and links, in the order in which they are made.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<PathBuf>,
    entries: u32,
}

impl Archive {
    /// Adds a folder, and those that it is in.
    pub fn folder(&mut self, path: &Path) {
        if path.parent().is_some() && self.folders.insert(path.to_owned()) {
            path.parent().into_iter().for_each(|parent| self.folder(parent));
            self.entry(path, FOLDER | 0o755, &[]);
        }
    }

    /// Adds a file, and the folders that it is in.
    pub fn file(&mut self, path: &Path, mode: u32, content: &[u8]) {
        path.parent().into_iter().for_each(|parent| self.folder(parent));
        self.entry(path, FILE | mode, content);
    }

    /// Adds a symbolic link, and the folders that it is in.
    pub fn link(&mut self, path: &Path, target: &str) {
        path.parent().into_iter().for_each(|parent| self.folder(parent));
        self.entry(path, LINK | 0o777, target.as_bytes());
    }

    /// Ends the archive.
    pub fn write_to(mut self, path: &Path) -> io::Result<()> {
        self.entry(Path::new(TRAILER), 0, &[]);
        fs::write(path, &self.bytes)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) {
        let name = path.to_str().expect("a path in ASCII").trim_start_matches('/');
        self.entries += 1;
        let length = content.len().try_into().expect("less than 4 GiB");
        let name_length = name.len() as u32 + 1;
        // Number, mode, owner, group, links, time, length, devices, length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
