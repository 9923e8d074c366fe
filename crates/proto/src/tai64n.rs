//! The timestamp in an initiation (paper §5.1): TAI64N, coarsened.

use core::time::Duration;

/// Twelve bytes whose order as bytes is their order in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub [u8; Self::LEN]);

impl Timestamp {
    pub const LEN: usize = 8 + 4;

    /// TAI runs 10 s ahead of UTC since 1972; leap seconds since then are ignored, as by everyone.
    const EPOCH: u64 = (1 << 62) + 10;
    /// The low 24 bits (about 16.8 ms) would tell a stranger how our clock drifts.
    const COARSE: u32 = !((1 << 24) - 1);

    /// The label of the moment `wall` after the Unix epoch.
    pub fn new(wall: Duration) -> Self {
        let mut bytes = [0; Self::LEN];
        let (seconds, nanoseconds) = bytes.split_at_mut(8);
        seconds.copy_from_slice(&Self::EPOCH.saturating_add(wall.as_secs()).to_be_bytes());
        nanoseconds.copy_from_slice(&(wall.subsec_nanos() & Self::COARSE).to_be_bytes());
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::vectors::{array, entries, load};

    #[test]
    fn labels_match_the_known_answers() {
        for case in entries(&load("tai64n")) {
            let [seconds, nanoseconds] = ["sec", "nsec"].map(|name| case[name].as_u64().unwrap());
            let wall = Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
            assert_eq!(Timestamp::new(wall).0, array(&case["bytes"]));
        }
    }

    #[test]
    fn ten_milliseconds_may_be_equal_and_twenty_are_newer() {
        for start in
            (0..1_000).map(|step| Duration::from_nanos(1_700_000_000_000_000_000 + step * 997_331))
        {
            let label = Timestamp::new(start);
            assert!(Timestamp::new(start + Duration::from_millis(10)) >= label);
            assert!(Timestamp::new(start + Duration::from_millis(20)) > label);
        }
    }
}
