//! The wireguard-tools that ours are compared with: those of this machine, and the newest.

use std::path::PathBuf;
use std::process::Command;

use crate::lab::{built_folder, skipped};

/// The versions whose differences from ours are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// What Debian has had since then.
    Of2021,
    /// The newest, which ours are like.
    Of2026,
}

/// A `wg` and a `wg-quick` that belong together.
#[derive(Clone, Debug)]
pub struct Tools {
    pub version: Version,
    pub folder: PathBuf,
}

impl Tools {
    /// All that can be had here, one for each version. It is said which cannot be had.
    #[must_use]
    pub fn all() -> Vec<Self> {
        // `./test` unpacks the newest there.
        let unpacked = built_folder().join("../peers/wireguard-tools/bin");
        let mut all = Vec::<Self>::new();
        for folder in [PathBuf::from("/usr/bin"), unpacked] {
            match Self::of(folder) {
                Ok(tools) if all.iter().any(|other| other.version == tools.version) => {}
                Ok(tools) => all.push(tools),
                Err(reason) => skipped(&reason),
            }
        }
        all
    }

    /// Those in a folder.
    ///
    /// # Errors
    ///
    /// That there are none, or none of a version that is known.
    pub fn of(folder: PathBuf) -> Result<Self, String> {
        let wg = folder.join("wg");
        let output = Command::new(&wg).arg("--version").output();
        let output = output.map_err(|error| {
            format!("{}: {error}; ./test fetches the newest on Debian", wg.display())
        })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = match text.split(' ').nth(1) {
            Some("v1.0.20210914") => Version::Of2021,
            Some("v1.0.20260223") => Version::Of2026,
            _ => return Err(format!("nobody knows how ours differ from {text}")),
        };
        Ok(Self { version, folder })
    }

    #[must_use]
    pub fn wg(&self) -> PathBuf {
        self.folder.join("wg")
    }

    #[must_use]
    pub fn wg_quick(&self) -> PathBuf {
        self.folder.join("wg-quick")
    }

    /// Upstream's script that makes JSON.
    #[must_use]
    pub fn wg_json(&self) -> PathBuf {
        self.folder.join("../share/doc/wireguard-tools/examples/json/wg-json")
    }

    /// Upstream's unit for a tunnel, where it is unpacked and not installed.
    #[must_use]
    pub fn unit(&self) -> PathBuf {
        self.folder.join("../share/systemd/system/wg-quick@.service")
    }
}
