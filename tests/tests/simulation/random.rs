//! Random networks (security goals I1–I14).

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use adit_tests::net::Seed;
use adit_tests::net::story::{Summary, tell};
use proto::Discard;

/// A number from the environment, to repeat or to widen a campaign.
fn number(name: &str, otherwise: u64) -> u64 {
    let text = env::var(name).ok();
    text.map_or(otherwise, |text| text.parse().expect("a number"))
}

/// `ADIT_SEEDS` stories from `ADIT_SEED` on, on all processors.
#[test]
fn no_random_network_violates_an_invariant() {
    let (first, count) = (number("ADIT_SEED", 0), number("ADIT_SEEDS", 10_000));
    let next = AtomicU64::new(first);
    let total = Mutex::new(Summary::default());
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while let Some(seed) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < first + count)
                {
                    let Ok(told) = catch_unwind(AssertUnwindSafe(|| tell(Seed(seed)))) else {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                        eprintln!("to see this again: ADIT_SEED={seed} ADIT_SEEDS=1");
                        panic!("the story of seed {seed} violates an invariant");
                    };
                    add(&mut total.lock().expect("no story ends while it is added"), &told);
                }
            });
        }
    });
    let total = total.into_inner().expect("all stories ended well");
    println!("{count} stories: {total:?}");
    if count >= 1_000 {
        // Only who computes MACs himself can make a bad initiation; the known answers do.
        let reasons = Discard::ALL.iter().zip(total.discards);
        for (reason, times) in reasons.filter(|(reason, _)| **reason != Discard::BadInitiation) {
            assert!(times > 0, "{reason:?} has never happened: the stories are too tame");
        }
    }
}

fn add(total: &mut Summary, told: &Summary) {
    total.duration += told.duration;
    total.datagrams += told.datagrams;
    total.packets += told.packets;
    for (sum, number) in total.discards.iter_mut().zip(told.discards) {
        *sum += number;
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in (0..20).map(Seed) {
        assert_eq!(tell(seed).digest, tell(seed).digest);
    }
    assert_ne!(tell(Seed(0)).digest, tell(Seed(1)).digest);
    assert!(tell(Seed(0)).duration > Duration::from_secs(600));
}
