//! The two clocks.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The time since boot, including what the machine slept through (`CLOCK_BOOTTIME`): a session that
/// slept past its lifetime is dead when the lid opens.
#[must_use]
pub fn boottime() -> Duration {
    since_zero(clock_gettime(ClockId::Boottime))
}

/// The time since the Unix epoch, as far as the machine knows it (`CLOCK_REALTIME`). It may jump
/// either way.
#[must_use]
pub fn realtime() -> Duration {
    since_zero(clock_gettime(ClockId::Realtime))
}

/// A machine whose clock stands before 1970 is told that it is 1970.
fn since_zero(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boottime_never_goes_back() {
        let first = boottime();
        assert!(first > Duration::ZERO);
        assert!(boottime() >= first);
    }

    #[test]
    fn realtime_is_the_wall_clock() {
        let before = std::time::UNIX_EPOCH + realtime();
        assert!(before <= std::time::SystemTime::now());
        assert!(before.elapsed().is_ok_and(|apart| apart < Duration::from_secs(5)));
    }
}
