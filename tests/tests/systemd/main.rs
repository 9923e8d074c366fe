//! The units of adit as systemd runs them, on a machine of their own with systemd-resolved and
//! systemd-networkd, whose power fails in the end.

mod afterwards;
mod cut;
mod machine;
mod outside;
mod units;

use std::env;
use std::time::Duration;

use adit_tests::guest::System;
use adit_tests::lab::skipped;

/// For one boot and what is played then, emulated on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn units_of_systemd() {
    if env::var_os("ADIT_LONG").is_none() {
        return skipped("takes minutes under emulation; ADIT_LONG=1 runs it");
    }
    let system = match System::prepare(&machine::FILES, &machine::LINKS) {
        Ok(system) => system,
        Err(reason) => return skipped(&reason),
    };
    system.play(&["units::", "cut::"], PATIENCE);
    system.play(&["afterwards::"], PATIENCE);
}
