//! Whether anything leaves beside a full tunnel: a capture on the wire outside, while probes of
//! every kind are sent and the worst happens. The groups are those that are known of other programs
//! (docs/guard.md); three of them are also played with Debian's `wg-quick`, which is known to fail
//! them, so that it is seen that they can fail.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod asleep;
mod attacks;
mod lan;
mod machine;
mod names;
mod neighbours;
mod probe;
mod stage;
mod windows;
mod wire;

use stage::Stage;

/// A tunnel for everything, and one for everything of IPv4.
const BOTH: &str = "0.0.0.0/0, ::/0";
const ONLY_V4: &str = "0.0.0.0/0";

/// A steady state, in which nothing leaks, and whatever is allowed works.
#[track_caller]
fn assert_tight(stage: &mut Stage, least: usize, what: &str) {
    let leaks = stage.leaks_during(least, |_| ());
    assert_eq!(leaks.count(), 0, "{what}:\n{leaks}");
}
