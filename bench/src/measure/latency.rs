//! Round-trip times of echo requests, one after the other.

use std::thread;
use std::time::{Duration, Instant};

use super::{Metric, Sample};
use crate::Outcome;
use crate::lab::{Tunnel, round_trip};
use crate::traffic::Load;

const MEDIAN: Metric = Metric::less("p50 µs");
const PERCENTILE_99: Metric = Metric::less("p99 µs");
const LOSS: Metric = Metric::aside("lost %");

/// Through an idle tunnel, every 2 ms.
pub fn idle(tunnel: &Tunnel, seconds: u32) -> Outcome<Vec<Sample>> {
    run(tunnel, seconds, Duration::from_millis(2))
}

/// Beside one TCP stream, every 5 ms.
pub fn loaded(tunnel: &Tunnel, seconds: u32) -> Outcome<Vec<Sample>> {
    let mut load = Load::default();
    load.add_tcp(&tunnel.left, &tunnel.right)?;
    thread::sleep(Duration::from_secs(1));
    run(tunnel, seconds, Duration::from_millis(5))
}

fn run(tunnel: &Tunnel, seconds: u32, interval: Duration) -> Outcome<Vec<Sample>> {
    let ping = tunnel.ping()?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let (mut sent, mut times) = (0, Vec::new());
    while Instant::now() < end {
        sent += 1;
        times.extend(round_trip(&ping, interval)?);
    }
    times.sort_unstable();
    let percentile =
        |percent: usize| times.get((times.len() * percent / 100).min(times.len().checked_sub(1)?));
    let (Some(median), Some(percentile_99)) = (percentile(50), percentile(99)) else {
        return Err("no echo request was answered".into());
    };
    Ok(vec![
        MEDIAN.is(microseconds(median)),
        PERCENTILE_99.is(microseconds(percentile_99)),
        LOSS.is(f64::from(sent - times.len() as u32) * 100.0 / f64::from(sent)),
    ])
}

fn microseconds(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
