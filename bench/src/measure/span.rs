//! What happened between two moments of a load.

use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::lab::Tunnel;
use crate::traffic::{Count, Load};

/// Until windows are open and processors at full clock.
const WARM_UP: Duration = Duration::from_secs(1);

/// The difference of two moments.
pub struct Span {
    pub seconds: f64,
    pub count: Count,
    /// Processor seconds of the left daemon, then of the right one; empty if there is none.
    pub cpu: Vec<f64>,
    /// TCP segments that were sent again.
    pub retransmissions: u64,
}

impl Span {
    /// Lets the load warm up, then flow for so long. An error if nothing arrives.
    pub fn of(load: &Load, tunnel: &Tunnel, seconds: u32) -> Outcome<Self> {
        thread::sleep(WARM_UP);
        let before = Moment::now(load, tunnel)?;
        thread::sleep(Duration::from_secs(seconds.into()));
        let span = Moment::now(load, tunnel)?.since(&before);
        if span.count.bytes == 0 {
            return Err("nothing came through".into());
        }
        Ok(span)
    }

    /// Processor seconds of all daemons together; none if there is none.
    pub fn cpu(&self) -> Option<f64> {
        (!self.cpu.is_empty()).then(|| self.cpu.iter().sum())
    }

    pub fn gigabytes(&self) -> f64 {
        self.count.bytes as f64 / 1e9
    }
}

struct Moment {
    at: Instant,
    count: Count,
    cpu: Vec<Duration>,
    retransmissions: u64,
}

impl Moment {
    fn now(load: &Load, tunnel: &Tunnel) -> Outcome<Self> {
        Ok(Self {
            retransmissions: tunnel.retransmissions()?,
            cpu: tunnel.usage()?.into_iter().map(|usage| usage.cpu).collect(),
            count: load.count(),
            at: Instant::now(),
        })
    }

    fn since(&self, before: &Self) -> Span {
        let cpu = self.cpu.iter().zip(&before.cpu);
        Span {
            seconds: (self.at - before.at).as_secs_f64(),
            count: Count {
                sent: self.count.sent - before.count.sent,
                received: self.count.received - before.count.received,
                bytes: self.count.bytes - before.count.bytes,
            },
            cpu: cpu.map(|(now, before)| now.saturating_sub(*before).as_secs_f64()).collect(),
            retransmissions: self.retransmissions - before.retransmissions,
        }
    }
}
