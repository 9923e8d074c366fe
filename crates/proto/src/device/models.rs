//! Every order in which workers and the device may meet at what they share, one after the other (loom).

#![cfg(feature = "models")]
#![allow(clippy::unwrap_used)]

use loom::sync::Mutex;
use loom::thread::{self, JoinHandle};

use super::tests::{beginning, introduce, strangers, transmit};
use super::*;
use crate::inner::bytes_at;
use crate::keypair::REJECT_AFTER_MESSAGES;
use crate::message::DATA_OVERHEAD;
use crate::timers::{KEEPALIVE_TIMEOUT, NEW_HANDSHAKE, REKEY_ON_RECEIVE};
use crate::window::Window;

/// What a worker sees of a peer.
#[derive(Clone, Copy, Debug)]
enum Seen {
    DataIn,
    DataOut,
    KeepaliveIn,
}

use Seen::{DataIn, DataOut, KeepaliveIn};

/// A device with a peer, workers, and what these have told it and it has not read.
struct Tunnel {
    device: Device,
    id: PeerId,
    traffic: Arc<Traffic>,
    told: Arc<Mutex<u32>>,
}

impl Tunnel {
    fn new() -> Self {
        let ([mut device, _], [_, other]) = strangers(beginning());
        introduce(beginning(), &mut device, other, 1, false);
        let id = device.find(&other).unwrap();
        let traffic = Arc::clone(&device.peers.get(&id).unwrap().traffic);
        Self { device, id, traffic, told: Arc::new(Mutex::new(0)) }
    }

    fn worker(&self, now: Now, seen: &'static [Seen]) -> JoinHandle<()> {
        let (traffic, told) = (Arc::clone(&self.traffic), Arc::clone(&self.told));
        thread::spawn(move || {
            for seen in seen {
                if see(&traffic, now, *seen) {
                    *told.lock().unwrap() += 1;
                }
            }
        })
    }

    /// All of it by the device's own thread.
    fn see(&mut self, now: Now, seen: &[Seen]) {
        for seen in seen {
            *self.told.lock().unwrap() += u32::from(see(&self.traffic, now, *seen));
        }
        self.read(now);
    }

    fn read(&mut self, now: Now) {
        for _ in 0..core::mem::take(&mut *self.told.lock().unwrap()) {
            self.device.report(now, self.id, Report::Armed);
        }
    }

    /// What runs is watched, and comes to an end in time.
    fn assert_watched(&self, now: Now) {
        let peer = self.device.peers.get(&self.id).unwrap();
        for (since, timer, time) in [
            (&self.traffic.owed, Timer::Keepalive, KEEPALIVE_TIMEOUT),
            (&self.traffic.unanswered, Timer::NewHandshake, NEW_HANDSHAKE + MAX_JITTER),
        ] {
            if let Some(start) = since.watched(now.time) {
                let deadline = peer.timers.get(&timer);
                assert!(deadline.is_some(), "nobody watches {timer:?}");
                assert!(*deadline.unwrap() <= start + time, "{timer:?} comes too late");
            }
        }
    }
}

fn see(traffic: &Traffic, now: Now, seen: Seen) -> bool {
    match seen {
        DataIn => traffic.received(now.time, true),
        DataOut => traffic.sent(now.time, true),
        KeepaliveIn => traffic.received(now.time, false),
    }
}

/// Each order in which a thread is interrupted by others no more than twice: with three times, minutes become
/// hours.
fn every_order(meet: impl Fn() + Send + Sync + 'static) {
    let mut orders = loom::model::Builder::new();
    orders.preemption_bound = Some(2);
    orders.check(meet);
}

fn later(now: Now, by: Duration) -> Now {
    Now { time: now.time + by, wall: now.wall + by }
}

/// Of one worker or two, while the device does everything that is due, and reads what it was told.
#[test]
fn no_deadline_goes_unwatched() {
    const BEFORE: [&[Seen]; 4] = [&[], &[DataIn], &[DataOut], &[DataIn, DataOut, DataIn, DataOut]];
    const WORKERS: [[&[Seen]; 2]; 7] = [
        [&[DataIn, DataOut], &[]],
        [&[DataOut, DataIn], &[]],
        [&[DataOut, KeepaliveIn], &[]],
        [&[DataIn, DataIn], &[]],
        [&[DataIn], &[DataOut]],
        [&[DataIn], &[DataIn]],
        [&[DataOut], &[DataOut]],
    ];
    for before in BEFORE {
        for workers in WORKERS {
            every_order(move || {
                let mut tunnel = Tunnel::new();
                tunnel.see(later(beginning(), Duration::from_secs(1)), before);
                // All deadlines so far are due.
                let now = later(beginning(), Duration::from_secs(20));
                let workers = workers.into_iter().filter(|seen| !seen.is_empty());
                let workers: Vec<_> = workers.map(|seen| tunnel.worker(now, seen)).collect();
                tunnel.device.handle_timeout(now);
                tunnel.read(now);
                for worker in workers {
                    worker.join().unwrap();
                }
                tunnel.read(now);
                tunnel.assert_watched(now);
            });
        }
    }
}

/// The device looks whether what has ended has begun again; that it does meanwhile.
#[test]
fn what_begins_while_the_device_looks_is_not_forgotten() {
    for seen in [&[DataIn], &[DataOut]] {
        every_order(move || {
            let mut tunnel = Tunnel::new();
            let answered = &[DataIn, DataOut, KeepaliveIn];
            tunnel.see(later(beginning(), Duration::from_secs(1)), answered);
            let now = later(beginning(), Duration::from_secs(20));
            let worker = tunnel.worker(now, seen);
            tunnel.device.handle_timeout(now);
            worker.join().unwrap();
            tunnel.read(now);
            assert!(transmit(&mut tunnel.device).is_none(), "that would have been an answer");
            let Traffic { owed, unanswered, .. } = &*tunnel.traffic;
            let since = if matches!(seen, [DataIn]) { owed } else { unanswered };
            // Of what does not run, the device would say what it is asked.
            assert_eq!(since.watched(later(now, KEEPALIVE_TIMEOUT).time), Some(now.time));
            tunnel.assert_watched(now);
        });
    }
}

/// Both ends of a session, the initiator's first. Each may seal `left` messages.
fn session(left: u64) -> [Arc<Keypair>; 2] {
    let [a, b] = [[1; 32], [2; 32]];
    let [i, j] = [1, 2].map(SessionIndex);
    [([&a, &b], true, [i, j]), ([&b, &a], false, [j, i])].map(|(keys, is_initiator, indices)| {
        let keypair = Keypair::new(keys, is_initiator, indices, beginning().time);
        keypair.skip_to(REJECT_AFTER_MESSAGES - left);
        Arc::new(keypair)
    })
}

/// Seals a run of two messages; their counters.
fn seal(keypair: &Keypair) -> Vec<u64> {
    let mut run = [0; 2 * DATA_OVERHEAD];
    if keypair.seal(beginning().time, &mut run, DATA_OVERHEAD).is_err() {
        return Vec::new();
    }
    let counter = |message: &[u8]| u64::from_le_bytes(bytes_at(message, 8).unwrap());
    run.chunks(DATA_OVERHEAD).map(counter).collect()
}

/// Nonce reuse would be the end of a key, and so would be one beyond the limit.
#[test]
fn no_counter_is_taken_twice_or_beyond_the_limit() {
    for left in 0..=6 {
        for retires in [false, true] {
            every_order(move || {
                let [keypair, _] = session(left);
                let workers = [(); 2].map(|()| {
                    let keypair = Arc::clone(&keypair);
                    thread::spawn(move || seal(&keypair))
                });
                if retires {
                    keypair.skip_to(REJECT_AFTER_MESSAGES);
                }
                let mut taken = seal(&keypair);
                assert!(!retires || taken.is_empty(), "what was retired was sent on");
                for worker in workers {
                    taken.extend(worker.join().unwrap());
                }
                let distinct: BTreeSet<_> = taken.iter().copied().collect();
                assert_eq!(distinct.len(), taken.len(), "{taken:?}");
                assert!(distinct.last().is_none_or(|last| *last < REJECT_AFTER_MESSAGES));
                let room = left / 2 * 2;
                assert!(retires || taken.len() as u64 == room, "{taken:?} of {left}");
            });
        }
    }
}

/// Two workers open a message each of a session that is older than [`REKEY_ON_RECEIVE`].
#[test]
fn what_is_told_once_is_told_once() {
    every_order(|| {
        let (ends, traffic) = (session(2), Arc::new(Traffic::default()));
        let now = later(beginning(), REKEY_ON_RECEIVE + Duration::from_secs(1)).time;
        let workers = [(); 2].map(|()| {
            let (ends, traffic) = (ends.clone(), Arc::clone(&traffic));
            let sent = ends.each_ref().map(|end| end.keepalive(now).unwrap());
            thread::spawn(move || {
                let [initiator, responder] = &ends;
                let [mut out, mut back] = sent;
                let mut windows = [(); 2].map(|()| Window::default());
                let [window, other] = &mut windows;
                let mut opened = responder.open(now, window, &mut out, DATA_OVERHEAD);
                let confirms = responder.confirm(&opened.next().unwrap().unwrap());
                let mut opened = initiator.open(now, other, &mut back, DATA_OVERHEAD);
                assert!(!initiator.confirm(&opened.next().unwrap().unwrap()));
                let renews = initiator.wants_rekey_on_receive(now);
                [confirms, renews, traffic.refuse(Discard::NotAllowed)]
            })
        });
        let [one, other] = workers.map(|worker| worker.join().unwrap());
        for (one, other) in one.into_iter().zip(other) {
            assert!(one != other, "{one} and {other}");
        }
        assert_eq!(traffic.refused(), Some(Discard::NotAllowed));
    });
}
