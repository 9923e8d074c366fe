//! Many configured peers that say nothing: what one of them costs.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use config::key::to_hex;

use super::{Metric, Sample};
use crate::Outcome;
use crate::candidate::Candidate;
use crate::lab::{Daemon, Machine};

const TIME: Metric = Metric::less("configured in s");
const COST_EACH: Metric = Metric::less("CPU µs/peer");
const MEMORY_EACH: Metric = Metric::less("KiB/peer");
/// Of one processor, while nothing happens.
const IDLE: Metric = Metric::less("idle CPU %");

/// Configures `peers` of them, each with one allowed address, and then waits.
pub fn run(candidate: &Candidate, peers: u32, seconds: u32) -> Outcome<Vec<Sample>> {
    let machine = Machine::new(1)?;
    let daemon = Daemon::start(candidate, &machine)?;
    let request = configuration(peers)?;
    let empty = daemon.usage()?;
    let start = Instant::now();
    daemon.configure(&request)?;
    let time = start.elapsed();
    // What a daemon puts off until after its answer counts as well.
    thread::sleep(Duration::from_secs(1));
    let full = daemon.usage()?;
    thread::sleep(Duration::from_secs(seconds.into()));
    let idle = daemon.usage()?.cpu.saturating_sub(full.cpu);
    let each = |sum: f64| sum / f64::from(peers);
    let memory = full.resident.saturating_sub(empty.resident);
    let cpu = full.cpu.saturating_sub(empty.cpu);
    Ok(vec![
        TIME.is(time.as_secs_f64()),
        COST_EACH.is(each(cpu.as_secs_f64() * 1e6)),
        MEMORY_EACH.is(each(memory as f64 / 1024.0)),
        IDLE.is(idle.as_secs_f64() * 100.0 / f64::from(seconds)),
    ])
}

/// Peers with random public keys, of which every 32 bytes are one.
fn configuration(peers: u32) -> Outcome<String> {
    let mut lines = format!("private_key={}\n", *to_hex(&random()));
    for number in 0..peers {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 0).to_bits() + number);
        writeln!(lines, "public_key={}\nallowed_ip={address}/32", *to_hex(&random()))?;
    }
    Ok(lines)
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    sys::random::fill(&mut bytes);
    bytes
}
