//! What the data plane did with a peer, as the timers need to know it.
//!
//! Timers belong to one thread, packets to many. Waking that thread for every batch would cost more
//! than the batch, so the data plane only stamps times here. The device reads the stamps when a
//! deadline comes: they tell whether it still holds. It must be told ([`crate::Report::Armed`]) only
//! when a deadline begins that it is not watching yet.

use core::time::Duration;

use crate::atomic::Ordering::Relaxed;
use crate::atomic::{AtomicBool, AtomicU8, AtomicU64};
use crate::discard::Discard;
use crate::time::Time;

/// A wish for a session is passed on at most this often, however many packets wish it.
const ASK_INTERVAL: Duration = Duration::from_millis(250);

/// When a deadline started that the device watches; or [`QUIET`]; or [`UNWATCHED`]. Whatever changes it
/// knows what it was before, so that no start goes unwatched.
#[derive(Debug, Default)]
pub(crate) struct Since(AtomicU64);

/// It does not run, and the device must be told when it does.
const UNWATCHED: u64 = 0;
/// It does not run, but the device is going to look at it.
const QUIET: u64 = 1;

impl Since {
    /// Starts, unless it runs. True if nobody watched: then the device must be told, and watches from now
    /// on.
    pub fn start(&self, now: Time) -> bool {
        !self.runs() && self.0.swap(now.stamp().max(QUIET + 1), Relaxed) == UNWATCHED
    }

    /// Stops, and is watched as before.
    pub fn clear(&self) {
        // To write dirties the cache line that other workers read; mostly there is nothing to clear.
        let stamp = self.0.load(Relaxed);
        if stamp > QUIET {
            let _ = self.0.compare_exchange(stamp, QUIET, Relaxed, Relaxed);
        }
    }

    /// Stops, and is watched no more: the next start must be told.
    pub fn stop(&self) {
        self.0.swap(UNWATCHED, Relaxed);
    }

    /// Whether it has run for `time`; then it stops.
    pub fn expire(&self, now: Time, time: Duration) -> bool {
        let stamp = self.0.load(Relaxed);
        started(stamp).is_some_and(|since| now.since(since) >= time)
            && self.0.compare_exchange(stamp, UNWATCHED, Relaxed, Relaxed).is_ok()
    }

    /// When it started, if it is watched. One that was answered before the device heard of it counts
    /// from `now`: the next one comes soon, and need not be told.
    pub fn watched(&self, now: Time) -> Option<Time> {
        let stamp = self.0.load(Relaxed);
        (stamp != UNWATCHED).then(|| started(stamp).unwrap_or(now))
    }

    /// When it started, if it runs; from now on the device watches it exactly while it runs.
    pub fn watch(&self) -> Option<Time> {
        self.0.compare_exchange(QUIET, UNWATCHED, Relaxed, Relaxed).err().and_then(started)
    }

    fn runs(&self) -> bool {
        self.0.load(Relaxed) > QUIET
    }
}

fn started(stamp: u64) -> Option<Time> {
    Time::from_stamp(stamp).filter(|_| stamp > QUIET)
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
    /// One more than the number of the reason to refuse packets; 0 for none.
    refused: AtomicU8,
}

impl Traffic {
    /// Something authenticated was sent; `data` unless keepalives only. True: report [`crate::Report::Armed`].
    #[must_use]
    pub fn sent(&self, now: Time, data: bool) -> bool {
        self.last.store(now.stamp(), Relaxed);
        self.owed.clear();
        if self.more.load(Relaxed) {
            self.more.store(false, Relaxed);
        }
        data && self.unanswered.start(now)
    }

    /// Something authentic was received; `data` unless keepalives only. True: report [`crate::Report::Armed`].
    #[must_use]
    pub fn received(&self, now: Time, data: bool) -> bool {
        self.last.store(now.stamp(), Relaxed);
        self.unanswered.clear();
        if !data {
            return false;
        }
        if self.owed.runs() && !self.more.load(Relaxed) {
            self.more.store(true, Relaxed);
        }
        self.owed.start(now)
    }

    /// Whether to pass on the wish for a session ([`crate::Report::WantsSession`]) now.
    #[must_use]
    pub fn ask(&self, now: Time) -> bool {
        let asked = Time::from_stamp(self.asked.load(Relaxed));
        let due = asked.is_none_or(|asked| now.since(asked) >= ASK_INTERVAL);
        if due {
            self.asked.store(now.stamp(), Relaxed);
        }
        due
    }

    /// Adds to the bytes sent (UDP payload).
    pub fn count_tx(&self, bytes: u64) {
        self.tx_bytes.fetch_add(bytes, Relaxed);
    }

    /// Adds to the bytes received (UDP payload).
    pub fn count_rx(&self, bytes: u64) {
        self.rx_bytes.fetch_add(bytes, Relaxed);
    }

    /// Notes for which reason a packet of an authentic message was dropped, unless a later one in the
    /// order of [`Discard::ALL`] was noted before. True if it is news: each reason is, once.
    pub fn refuse(&self, reason: Discard) -> bool {
        let number = reason as u8 + 1;
        self.refused.fetch_max(number, Relaxed) < number
    }

    /// Forgets what was refused.
    pub(crate) fn pardon(&self) {
        self.refused.store(0, Relaxed);
    }

    /// Why packets were refused.
    pub(crate) fn refused(&self) -> Option<Discard> {
        let number = usize::from(self.refused.load(Relaxed)).checked_sub(1)?;
        Discard::ALL.get(number).copied()
    }

    pub(crate) fn last(&self) -> Option<Time> {
        Time::from_stamp(self.last.load(Relaxed))
    }

    /// The next wish for a session is passed on at once.
    pub(crate) fn forget_ask(&self) {
        self.asked.store(0, Relaxed);
    }

    /// No keepalive is owed any more, and the device watches none. True if another was to follow it.
    pub(crate) fn forgive(&self) -> bool {
        self.owed.stop();
        self.more.swap(false, Relaxed)
    }

    /// Nothing is unanswered and nothing owed any more, and the device watches neither; byte counts stay.
    pub(crate) fn reset(&self) {
        self.unanswered.stop();
        self.forgive();
        self.forget_ask();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::sync::atomic::Ordering::{Acquire, Release};
    use std::thread;

    use super::*;

    #[test]
    fn each_reason_to_refuse_a_packet_is_news_once() {
        let traffic = Traffic::default();
        for _ in 0..2 {
            assert_eq!(traffic.refused(), None);
            assert!(traffic.refuse(Discard::BadPacket));
            assert!(traffic.refuse(Discard::NotAllowed));
            // Whoever sends both in turn wakes nobody by it.
            for reason in [Discard::BadPacket, Discard::NotAllowed, Discard::BadPacket] {
                assert!(!traffic.refuse(reason));
            }
            assert_eq!(traffic.refused(), Some(Discard::NotAllowed));
            traffic.pardon();
        }
    }

    #[test]
    fn no_start_goes_unwatched() {
        let now = Time::from_start(Duration::from_secs(1));
        for round in 0..200 {
            let (since, told) = (Since::default(), AtomicBool::default());
            // The device arms what it is told of, and looks again when that is due.
            let device = |armed: bool, is_due: bool| {
                if told.swap(false, Acquire) {
                    since.watched(now).is_some()
                } else if is_due && armed && since.expire(now, Duration::ZERO) {
                    false
                } else {
                    armed && since.watch().is_some()
                }
            };
            let armed = thread::scope(|scope| {
                let worker = scope.spawn(|| {
                    for _ in 0..200 {
                        since.clear();
                        if since.start(now) {
                            told.store(true, Release);
                        }
                    }
                });
                let mut armed = false;
                for step in 0.. {
                    if worker.is_finished() {
                        break;
                    }
                    armed = device(armed, (step + round) % 3 == 0);
                }
                armed
            });
            assert!(armed || told.into_inner() || !since.runs(), "round {round}");
        }
    }
}
