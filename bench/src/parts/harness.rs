//! How a part is done many times, by the clock and between callgrind's marks.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::catalogue::{Entry, chosen};
use crate::Outcome;
use crate::report::Spread;

/// A part of adit, ready to be done again and again.
pub trait Part {
    /// Makes ready for `times` more. This is not measured.
    fn prepare(&mut self, _times: usize) {}

    /// Does it `times` times.
    fn run(&mut self, times: usize);
}

impl<F: FnMut()> Part for F {
    fn run(&mut self, times: usize) {
        for _ in 0..times {
            self();
        }
    }
}

/// Samples of one part in one round.
const SAMPLES: usize = 201;
/// How long a sample takes: long beside reading the clock, short beside what disturbs.
const SAMPLE: Duration = Duration::from_micros(50);
/// What a part that prepares each time may use at most.
const MOST_TIMES: usize = 1 << 12;

/// Prints a line for each part: its name, a unit of it, and the nanoseconds that this takes.
pub fn print_times(only: &[String]) -> Outcome<()> {
    for entry in chosen(only) {
        println!("{} {} {}", entry.name, entry.unit, nanoseconds(&entry)?);
    }
    Ok(())
}

/// What one unit of a part takes: the median of many short samples, so that whoever interrupts a few
/// of them does not matter.
fn nanoseconds(entry: &Entry) -> Outcome<f64> {
    let mut part = (entry.start)()?;
    let mut sample = |times: usize| {
        part.prepare(times);
        let start = Instant::now();
        part.run(times);
        start.elapsed()
    };
    let once = [(); 4].map(|()| sample(1)).into_iter().min().unwrap_or_default();
    let times = SAMPLE.as_nanos() / once.as_nanos().max(1);
    let times = usize::try_from(times).unwrap_or(MOST_TIMES).clamp(1, MOST_TIMES);
    let samples = (0..SAMPLES).map(|_| sample(times).as_nanos() as f64);
    let spread = Spread::of(samples).ok_or("no sample")?;
    Ok(spread.median / (times * entry.units) as f64)
}

/// How often a part is done between the first two marks; then it is done twice as often.
const COUNTED_TIMES: usize = 4;
/// The function that callgrind has to look for.
pub const MARK: &str = concat!(module_path!(), "::between_marks");

/// Does each part between marks, first [`COUNTED_TIMES`] and then twice as often, and prints a line: its
/// name, a unit of it, and by how many units the two differ. What is counted differs by the part
/// itself, without whatever it stands in.
pub fn let_count(only: &[String]) -> Outcome<()> {
    for entry in chosen(only) {
        let mut part = (entry.start)()?;
        // The first time fills what is filled once.
        part.prepare(1);
        part.run(1);
        for times in [COUNTED_TIMES, 2 * COUNTED_TIMES] {
            part.prepare(times);
            between_marks(&mut *part, times);
        }
        println!("{} {} {}", entry.name, entry.unit, entry.units * COUNTED_TIMES);
    }
    Ok(())
}

/// Callgrind counts from its beginning to its end, and then notes the sum.
#[inline(never)]
fn between_marks(part: &mut dyn Part, times: usize) {
    part.run(times);
    // Were `run` the last thing to do, it would be jumped to, and the end never be seen.
    black_box(times);
}
