//! The two clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The time since boot, including what the machine slept through (`CLOCK_BOOTTIME`): a session that
/// slept past its lifetime is dead when the lid opens.
pub fn boottime() -> Duration {
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}

/// The time since the Unix epoch, as far as the machine knows it (`CLOCK_REALTIME`). It may jump
/// either way. A machine whose clock stands before 1970 is told that it is 1970.
pub fn realtime() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn boottime_never_goes_back() {
        let first = boottime();
        assert!(first > Duration::ZERO);
        assert!(boottime() >= first);
    }

    #[test]
    fn realtime_is_the_wall_clock() {
        let before = Duration::try_from(clock_gettime(ClockId::Realtime)).unwrap();
        let between = realtime();
        assert!(before <= between && between < before + Duration::from_secs(5));
    }
}
