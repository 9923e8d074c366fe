//! What sessions do: seal and open runs, find each other by index, accept each counter once.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use proto::limits::DATA_OVERHEAD;
use proto::{Counter, Keypair, SessionIndex, Time, Window};

use super::catalogue::Entry;
use super::harness::Part;
use crate::Outcome;

/// Bytes of the packets: the smallest of much traffic, and the largest that fit.
const SIZES: [usize; 2] = [64, 1420];
/// Messages in a run: one, as without offloads; as many as a network card joins; a whole train.
const RUNS: [usize; 3] = [1, 8, 44];
const TABLES: [usize; 2] = [1, 100_000];
const LOOK_UPS: usize = 1024;
/// Half of a window.
const COUNTERS: u64 = 4096;

/// All of them.
pub fn entries() -> Vec<Entry> {
    let runs = || SIZES.iter().flat_map(|size| RUNS.iter().map(|run| (*size, *run)));
    let seals = runs().map(|(size, run)| {
        Entry::new(format!("seal-{size}x{run}"), (run, "message"), move || seal(size, run))
    });
    let opens = runs().map(|(size, run)| {
        Entry::new(format!("open-{size}x{run}"), (run, "message"), move || Open::new(size, run))
    });
    let tables = TABLES
        .iter()
        .map(|size| Entry::new(format!("index-{size}"), (LOOK_UPS, "look-up"), || index(*size)));
    let window = Entry::new("window", (COUNTERS as usize, "counter"), || Ok(window));
    seals.chain(opens).chain(tables).chain([window]).collect()
}

/// Both ends of session `number`.
fn pair(number: u32) -> [Keypair; 2] {
    let ([here, there], [to, back]) = (indices(number), [&[1; 32], &[2; 32]]);
    let initiator = Keypair::new([to, back], true, [here, there], now());
    [initiator, Keypair::new([back, to], false, [there, here], now())]
}

/// As random as those of the protocol, and never the same twice.
fn indices(number: u32) -> [SessionIndex; 2] {
    [2 * number, 2 * number + 1].map(|number| SessionIndex(number.wrapping_mul(0x9e37_79b1)))
}

fn now() -> Time {
    Time::from_start(Duration::from_secs(1))
}

fn seal(size: usize, run: usize) -> Outcome<impl FnMut()> {
    let [keypair, _] = pair(0);
    let stride = DATA_OVERHEAD + size;
    let mut messages = vec![0; run * stride];
    Ok(move || {
        let sealed = keypair.seal(now(), black_box(&mut messages), stride);
        sealed.expect("no session of this program expires");
    })
}

/// Opening is done in place, and once, so each time needs its own copy of the run, and its own window.
struct Open {
    keypair: Keypair,
    sealed: Vec<u8>,
    stride: usize,
    copies: Vec<u8>,
    windows: Vec<Window>,
}

impl Open {
    fn new(size: usize, run: usize) -> Outcome<Self> {
        let [sender, keypair] = pair(0);
        let stride = DATA_OVERHEAD + size;
        let mut sealed = vec![0; run * stride];
        sender.seal(now(), &mut sealed, stride).map_err(|reason| format!("{reason:?}"))?;
        Ok(Self { keypair, sealed, stride, copies: Vec::new(), windows: Vec::new() })
    }
}

impl Part for Open {
    fn prepare(&mut self, times: usize) {
        self.copies = self.sealed.repeat(times);
        self.windows = vec![Window::default(); times];
    }

    fn run(&mut self, _times: usize) {
        let copies = self.copies.chunks_mut(self.sealed.len());
        for (messages, window) in copies.zip(&mut self.windows) {
            for message in self.keypair.open(now(), window, messages, self.stride) {
                black_box(message.expect("it was sealed at the other end"));
            }
        }
    }
}

fn index(size: usize) -> Outcome<impl FnMut()> {
    // As the engine keeps them, who takes one along.
    let keypairs = (0..).flat_map(pair).take(size).map(Arc::new);
    let sessions: HashMap<_, _> = keypairs.map(|it| (it.local_index, it)).collect();
    let sessions = RwLock::new(sessions);
    let size = u32::try_from(size)?;
    // In no order that memory could follow.
    let places = (0..LOOK_UPS as u32).map(|number| number.wrapping_mul(0x9e37_79b1) % size);
    let wanted: Vec<_> =
        places.filter_map(|place| indices(place / 2).get(place as usize % 2).copied()).collect();
    Ok(move || {
        for index in &wanted {
            let sessions = sessions.read().expect("nobody else has them");
            assert!(sessions.get(black_box(index)).cloned().is_some(), "all of them were added");
        }
    })
}

fn window() {
    let mut window = Window::default();
    for counter in (0..COUNTERS).map(Counter) {
        assert!(window.accept(black_box(counter)), "each comes once");
    }
}
