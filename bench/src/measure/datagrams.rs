//! Datagrams: a flood of them, and trains of them.

use super::span::Span;
use super::streams::{COST, GOODPUT};
use super::{Metric, Sample};
use crate::Outcome;
use crate::lab::Tunnel;
use crate::traffic::Load;

/// Datagrams that arrive.
const RATE: Metric = Metric::more("kpps");
/// Of both daemons together, per datagram that arrives. It includes what is spent on those that do
/// not.
const COST_EACH: Metric = Metric::less("CPU µs/packet");
const LOSS: Metric = Metric::aside("loss %");

/// More datagrams than any candidate can carry: a measure of what each costs, and of behaviour
/// under too much load.
pub fn flood(tunnel: &Tunnel, seconds: u32, payload: usize) -> Outcome<Vec<Sample>> {
    let mut load = Load::default();
    load.add_udp(&tunnel.left, &tunnel.right, payload)?;
    let span = Span::of(&load, tunnel, seconds)?;
    let received = span.count.received as f64;
    let mut samples = vec![RATE.is(received / span.seconds / 1e3)];
    samples.extend(span.cpu().map(|cpu| COST_EACH.is(cpu * 1e6 / received)));
    samples.push(loss(&span));
    Ok(samples)
}

/// As many trains as their acknowledgements allow.
pub fn quic(tunnel: &Tunnel, seconds: u32) -> Outcome<Vec<Sample>> {
    let mut load = Load::default();
    load.add_quic(&tunnel.left, &tunnel.right)?;
    let span = Span::of(&load, tunnel, seconds)?;
    let mut samples = vec![GOODPUT.is(span.gigabytes() * 8.0 / span.seconds)];
    samples.extend(span.cpu().map(|cpu| COST.is(cpu / span.gigabytes())));
    samples.push(loss(&span));
    Ok(samples)
}

/// Datagrams under way at the beginning and the end make it inexact by a few.
fn loss(span: &Span) -> Sample {
    let lost = span.count.sent.saturating_sub(span.count.received);
    LOSS.is(lost as f64 * 100.0 / span.count.sent.max(1) as f64)
}
