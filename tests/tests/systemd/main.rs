//! adit on a machine of its own with systemd, beside whoever else changes its network: the packages
//! and units, systemd-resolved and systemd-networkd, NetworkManager and Docker; and the power fails.

mod afterwards;
mod cut;
mod docker;
mod machine;
mod network_manager;
mod outside;
mod packages;
mod units;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use adit_tests::guest::System;
use adit_tests::lab::{Implementation, find_program, skipped};

/// For one boot and what is played then, emulated on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(1200);

#[test]
fn a_machine_with_systemd() {
    if env::var_os("ADIT_LONG").is_none() {
        return skipped("takes minutes under emulation; ADIT_LONG=1 runs it");
    }
    if find_program("dpkg-deb").is_none() {
        return skipped("no program dpkg-deb");
    }
    let folder = env::temp_dir().join(format!("adit-packages-{}", std::process::id()));
    let copies = packages_in(&folder);
    match System::prepare(&machine::FILES, &machine::LINKS, &copies) {
        Ok(system) => {
            system.play(&["packages::", "units::", "cut::"], PATIENCE);
            system.play(&["afterwards::", "docker::", "network_manager::"], PATIENCE);
        }
        Err(reason) => skipped(&reason),
    }
    let _ = fs::remove_dir_all(&folder);
}

/// The packages of adit as it was built here, and where they go.
fn packages_in(folder: &Path) -> Vec<(PathBuf, String)> {
    let adit = Implementation::Adit.program().expect("it was built");
    let mut package = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../package"));
    let output = package.arg(folder).env("ADIT", adit).output().expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let copy = |name: String| (folder.join(&name), format!("/adit/packages/{name}"));
    entries.map(|it| copy(it.file_name().to_string_lossy().into_owned())).collect()
}
