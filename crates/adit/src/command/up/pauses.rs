//! Pauses between attempts at something.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);

/// Each pause is twice as long as the one before, up to the longest.
pub struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// From the first, a second.
    pub fn up_to(longest: Duration) -> Self {
        Self { next: FIRST, longest }
    }

    /// Whether there has been none yet.
    pub fn are_new(&self) -> bool {
        self.next == FIRST
    }

    /// The next one.
    pub fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = self.longest.min(pause * 2);
        pause
    }

    /// Begins anew, with the first.
    pub fn restart(&mut self) {
        self.next = FIRST;
    }
}
