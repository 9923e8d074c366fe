//! Points in time, always handed in.

use core::ops::Add;
use core::time::Duration;

/// Nanoseconds of a clock that never goes back and counts suspend (CLOCK_BOOTTIME on Linux).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The point `since_start` after the clock's own start.
    pub fn from_start(since_start: Duration) -> Self {
        Self(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The same point as a distance from the clock's start.
    pub fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long ago `earlier` was; zero when it was not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// For atomics, where zero means "never".
    pub(crate) fn stamp(self) -> u64 {
        self.0.max(1)
    }

    pub(crate) fn from_stamp(stamp: u64) -> Option<Self> {
        (stamp != 0).then_some(Self(stamp))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For everything that measures.
    pub time: Time,
    /// Since the Unix epoch; only for TAI64N timestamps and for people.
    pub wall: Duration,
}
