//! What the data plane did with a peer, as the timers need to know it.
//!
//! Timers belong to one thread, packets to many. Waking that thread for every batch would cost more
//! than the batch, so the data plane only stamps times here. The device reads the stamps when a
//! deadline comes: they tell whether it still holds. It must be told ([`crate::Report::Armed`]) only
//! when a deadline begins that it is not watching yet.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use core::time::Duration;

use crate::discard::Discard;
use crate::time::Time;

/// A wish for a session is passed on at most this often, however many packets wish it.
const ASK_INTERVAL: Duration = Duration::from_millis(250);

/// A stamp that starts a deadline, and whether the device watches that deadline.
#[derive(Debug, Default)]
pub(crate) struct Since {
    stamp: AtomicU64,
    watched: AtomicBool,
}

impl Since {
    /// Starts, unless it runs. True if it started and nobody watches: then the device must be told,
    /// and watches from now on.
    pub fn start(&self, now: Time) -> bool {
        // Both sides write one flag and then read the other's: that needs a single total order.
        self.stamp.load(Ordering::Relaxed) == 0 && {
            self.stamp.store(now.stamp(), Ordering::SeqCst);
            !self.watched.swap(true, Ordering::SeqCst)
        }
    }

    pub fn clear(&self) {
        // A store dirties the cache line that other workers read; mostly there is nothing to clear.
        if self.stamp.load(Ordering::Relaxed) != 0 {
            self.stamp.store(0, Ordering::Relaxed);
        }
    }

    /// Stops, and is watched no more: the next start must be told.
    pub fn stop(&self) {
        self.watched.store(false, Ordering::SeqCst);
        self.stamp.store(0, Ordering::SeqCst);
    }

    /// Whether it has run for `time`; then it stops.
    pub fn expire(&self, now: Time, time: Duration) -> bool {
        let expired = self.since().is_some_and(|since| now.since(since) >= time);
        if expired {
            self.stop();
        }
        expired
    }

    /// When it started, if it is watched. One that was answered before the device heard of it counts
    /// from `now`: the next one comes soon, and need not be told.
    pub fn watched(&self, now: Time) -> Option<Time> {
        self.watched.load(Ordering::SeqCst).then(|| self.since().unwrap_or(now))
    }

    /// When it started, if it runs; from now on the device watches it exactly while it runs.
    pub fn watch(&self) -> Option<Time> {
        self.watched.store(true, Ordering::SeqCst);
        self.since().or_else(|| {
            self.watched.store(false, Ordering::SeqCst);
            // It may have started in between, seen itself watched and told nobody.
            self.since().inspect(|_| self.watched.store(true, Ordering::SeqCst))
        })
    }

    fn since(&self) -> Option<Time> {
        Time::from_stamp(self.stamp.load(Ordering::SeqCst))
    }
}

/// Stamps and byte counts of one peer, shared between the device and the data plane.
#[derive(Debug, Default)]
pub struct Traffic {
    /// The first data sent since anything authentic was received: unanswered.
    pub(crate) unanswered: Since,
    /// The first data received since anything was sent: a keepalive is owed.
    pub(crate) owed: Since,
    /// More data came while one was owed already.
    more: AtomicBool,
    /// The last authentic packet in either direction.
    last: AtomicU64,
    asked: AtomicU64,
    pub(crate) tx_bytes: AtomicU64,
    pub(crate) rx_bytes: AtomicU64,
    /// One more than the number of the last reason to refuse a packet; 0 for none.
    refused: AtomicU8,
}

impl Traffic {
    /// Something authenticated was sent; `data` unless keepalives only. True: report [`crate::Report::Armed`].
    #[must_use]
    pub fn sent(&self, now: Time, data: bool) -> bool {
        self.last.store(now.stamp(), Ordering::Relaxed);
        self.owed.clear();
        if self.more.load(Ordering::Relaxed) {
            self.more.store(false, Ordering::Relaxed);
        }
        data && self.unanswered.start(now)
    }

    /// Something authentic was received; `data` unless keepalives only. True: report [`crate::Report::Armed`].
    #[must_use]
    pub fn received(&self, now: Time, data: bool) -> bool {
        self.last.store(now.stamp(), Ordering::Relaxed);
        self.unanswered.clear();
        if !data {
            return false;
        }
        let owed_before = self.owed.stamp.load(Ordering::Relaxed) != 0;
        if owed_before && !self.more.load(Ordering::Relaxed) {
            self.more.store(true, Ordering::Relaxed);
        }
        self.owed.start(now)
    }

    /// Whether to pass on the wish for a session ([`crate::Report::WantsSession`]) now.
    #[must_use]
    pub fn ask(&self, now: Time) -> bool {
        let asked = Time::from_stamp(self.asked.load(Ordering::Relaxed));
        let due = asked.is_none_or(|asked| now.since(asked) >= ASK_INTERVAL);
        if due {
            self.asked.store(now.stamp(), Ordering::Relaxed);
        }
        due
    }

    /// Adds to the bytes sent (UDP payload).
    pub fn count_tx(&self, bytes: u64) {
        self.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds to the bytes received (UDP payload).
    pub fn count_rx(&self, bytes: u64) {
        self.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes for which reason a packet of an authentic message was dropped; `None` forgets it.
    pub fn refuse(&self, reason: Option<Discard>) {
        self.refused.store(reason.map_or(0, |reason| reason as u8 + 1), Ordering::Relaxed);
    }

    /// Why a packet was refused last.
    pub(crate) fn refused(&self) -> Option<Discard> {
        let number = usize::from(self.refused.load(Ordering::Relaxed)).checked_sub(1)?;
        Discard::ALL.get(number).copied()
    }

    pub(crate) fn last(&self) -> Option<Time> {
        Time::from_stamp(self.last.load(Ordering::Relaxed))
    }

    /// The next wish for a session is passed on at once.
    pub(crate) fn forget_ask(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    /// No keepalive is owed any more, and the device watches none. True if another was to follow it.
    pub(crate) fn forgive(&self) -> bool {
        self.owed.stop();
        self.more.swap(false, Ordering::Relaxed)
    }

    /// Nothing is unanswered and nothing owed any more, and the device watches neither; byte counts stay.
    pub(crate) fn reset(&self) {
        self.unanswered.stop();
        self.forgive();
        self.forget_ask();
    }
}
