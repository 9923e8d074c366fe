//! The rounds: every candidate in turn, A B A B, each test right after the same test of the others,
//! so that what disturbs the machine disturbs all of them alike.

use std::fmt::Display;
use std::time::Duration;

use crate::Outcome;
use crate::candidate::Candidate;
use crate::lab::usage::MachineTime;
use crate::lab::{Tunnel, Wire};
use crate::measure::{Sample, Test, peak_memory};
use crate::options::Options;
use crate::report::{Cell, Report};

/// Measures all that was asked for. What one candidate fails at is said on standard error, and
/// missing in the report.
pub fn run(options: &Options) -> Outcome<Report> {
    let mut report = Report::new(options)?;
    for round in 0..options.rounds as usize {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for test in options.tests.iter().filter(|test| !test.needs_tunnel()) {
            for (number, candidate) in with_daemon(options) {
                let cell = Cell { wire: "-", test: test.name(), candidate: number, round };
                let samples = test.run_alone(candidate, options);
                note(&mut report, cell, candidate, samples);
            }
        }
        for wire in &options.wires {
            through_tunnels(&mut report, options, round, *wire)?;
        }
    }
    Ok(report)
}

fn with_daemon(options: &Options) -> impl Iterator<Item = (usize, &Candidate)> {
    let candidates = options.candidates.iter().enumerate();
    candidates.filter(|(_, candidate)| !candidate.command.is_empty())
}

/// One round of all tests that need a tunnel, over one wire. The tunnels of all candidates stand
/// the whole time; those whose turn it is not are idle.
fn through_tunnels(
    report: &mut Report,
    options: &Options,
    round: usize,
    wire: Wire,
) -> Outcome<()> {
    let tests = || options.tests.iter().filter(|test| test.needs_tunnel());
    if tests().next().is_none() {
        return Ok(());
    }
    let mut tunnels = Vec::new();
    for (number, candidate) in options.candidates.iter().enumerate() {
        match Tunnel::open(candidate, wire) {
            Ok(tunnel) => tunnels.push((number, candidate, tunnel)),
            Err(error) => say(wire.name(), "tunnel", candidate, &error),
        }
    }
    for test in tests() {
        for (number, candidate, tunnel) in &tunnels {
            let cell = Cell { wire: wire.name(), test: test.name(), candidate: *number, round };
            let samples = watched(report, tunnel, *test, options.seconds);
            note(report, cell, candidate, samples);
        }
    }
    for (number, candidate, tunnel) in &tunnels {
        let cell = Cell { wire: wire.name(), test: "memory", candidate: *number, round };
        let samples = peak_memory(tunnel).map(|sample| sample.into_iter().collect());
        note(report, cell, candidate, samples);
    }
    Ok(())
}

/// Runs a test and keeps account of what else the machine did meanwhile.
fn watched(report: &mut Report, tunnel: &Tunnel, test: Test, seconds: u32) -> Outcome<Vec<Sample>> {
    let cpu =
        || -> Outcome<_> { Ok(tunnel.usage()?.iter().map(|usage| usage.cpu).sum::<Duration>()) };
    let (machine, daemons) = (MachineTime::now()?, cpu()?);
    let samples = test.run(tunnel, seconds)?;
    let (machine, daemons) = (MachineTime::now()? - machine, cpu()?.saturating_sub(daemons));
    let others = machine.busy.saturating_sub(machine.own + daemons);
    report.disturbed(others.as_secs_f64() * 100.0 / machine.total.as_secs_f64());
    Ok(samples)
}

fn note(report: &mut Report, cell: Cell, candidate: &Candidate, samples: Outcome<Vec<Sample>>) {
    match samples {
        Ok(samples) => {
            let words: Vec<String> = samples
                .iter()
                .map(|Sample { metric, value }| format!("{value:.2} {}", metric.name))
                .collect();
            say(cell.wire, cell.test, candidate, &words.join(", "));
            report.add(cell, &samples);
        }
        Err(error) => say(cell.wire, cell.test, candidate, &format!("FAILED: {error}")),
    }
}

fn say(wire: &str, test: &str, candidate: &Candidate, what: &dyn Display) {
    eprintln!("  {wire:8} {test:12} {:14} {what}", candidate.name);
}
