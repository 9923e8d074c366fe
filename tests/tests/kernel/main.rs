//! Tunnels of a real kernel, in a guest that has one: `adit wg` beside Debian's `wg`, to the byte, and
//! adit as a peer of the kernel, and as the one that brings its tunnels up.

mod tunnel;
mod up;
mod words;

use std::time::Duration;

use adit_tests::guest;

/// Emulated on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn a_kernel_with_wireguard() {
    guest::play(&["tunnel::", "up::", "words::"], PATIENCE);
}
