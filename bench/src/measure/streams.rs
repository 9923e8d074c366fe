//! TCP streams: goodput, and what it costs.

use super::span::Span;
use super::{Metric, Sample};
use crate::Outcome;
use crate::lab::Tunnel;
use crate::traffic::Load;

/// Payload received, of all streams together.
pub const GOODPUT: Metric = Metric::more("Gbit/s");
/// Of both daemons together, per 10⁹ bytes of payload received.
pub const COST: Metric = Metric::less("CPU s/GB");
/// The share of the daemon that seals.
const SENDER_COST: Metric = Metric::less("sender CPU s/GB");
/// The share of the daemon that opens.
const RECEIVER_COST: Metric = Metric::less("receiver CPU s/GB");
const RETRANSMISSIONS: Metric = Metric::aside("retransmits/s");

/// The direction of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the left, the initiator of the tunnel, to the right.
    Forward,
    Back,
}

/// Streams these ways at once.
pub fn run(tunnel: &Tunnel, seconds: u32, ways: &[Way]) -> Outcome<Vec<Sample>> {
    let mut load = Load::default();
    for way in ways {
        match way {
            Way::Forward => load.add_tcp(&tunnel.left, &tunnel.right)?,
            Way::Back => load.add_tcp(&tunnel.right, &tunnel.left)?,
        }
    }
    let span = Span::of(&load, tunnel, seconds)?;
    let mut samples = vec![GOODPUT.is(span.gigabytes() * 8.0 / span.seconds)];
    samples.extend(span.cpu().map(|cpu| COST.is(cpu / span.gigabytes())));
    if let (&[Way::Forward], &[left, right]) = (ways, span.cpu.as_slice()) {
        samples.push(SENDER_COST.is(left / span.gigabytes()));
        samples.push(RECEIVER_COST.is(right / span.gigabytes()));
    }
    samples.push(RETRANSMISSIONS.is(span.retransmissions as f64 / span.seconds));
    Ok(samples)
}
