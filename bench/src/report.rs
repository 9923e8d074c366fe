//! The numbers of all rounds, and what is made of them.

mod statistics;
mod table;

use std::fs;
use std::thread;

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::candidate::Candidate;
use crate::measure::{Better, Metric, Sample};
use crate::options::Options;
pub use statistics::{Spread, ratio};
pub use table::{cell, short, write_aligned};

/// Everything that was measured.
pub struct Report {
    machine: String,
    candidates: Vec<Candidate>,
    rounds: usize,
    seconds: u32,
    rows: Vec<Row>,
    /// What share of the machine others had during each test, in percent.
    disturbances: Vec<f64>,
}

/// One metric of one test over one wire.
struct Row {
    wire: &'static str,
    test: &'static str,
    metric: Metric,
    /// Of each candidate, of each round; none where it failed.
    values: Vec<Vec<Option<f64>>>,
}

/// Where samples belong.
#[derive(Clone, Copy)]
pub struct Cell {
    /// Its name, or a dash where it does not matter.
    pub wire: &'static str,
    pub test: &'static str,
    /// Its place among the candidates.
    pub candidate: usize,
    /// From zero.
    pub round: usize,
}

impl Report {
    /// An empty one.
    pub fn new(options: &Options) -> Outcome<Self> {
        Ok(Self {
            machine: machine()?,
            candidates: options.candidates.clone(),
            rounds: options.rounds as usize,
            seconds: options.seconds,
            rows: Vec::new(),
            disturbances: Vec::new(),
        })
    }

    /// Notes what a test of a candidate gave in one round.
    pub fn add(&mut self, cell: Cell, samples: &[Sample]) {
        let Cell { wire, test, .. } = cell;
        for Sample { metric, value } in samples {
            let same = |row: &Row| (row.wire, row.test, row.metric) == (wire, test, *metric);
            if !self.rows.iter().any(same) {
                self.rows.push(Row {
                    wire,
                    test,
                    metric: *metric,
                    values: vec![vec![None; self.rounds]; self.candidates.len()],
                });
            }
            let row = self.rows.iter_mut().find(|row| same(row));
            let place = row
                .and_then(|row| row.values.get_mut(cell.candidate))
                .and_then(|rounds| rounds.get_mut(cell.round));
            if let Some(place) = place {
                *place = Some(*value);
            }
        }
    }

    /// Notes what share of the machine others had during a test, in percent.
    pub fn disturbed(&mut self, percent: f64) {
        self.disturbances.push(percent);
    }

    /// All of it, with every round.
    pub fn to_json(&self) -> Value {
        let commands: Map<String, Value> = self
            .candidates
            .iter()
            .map(|candidate| (candidate.name.clone(), json!(candidate.command.join(" "))))
            .collect();
        json!({
            "machine": self.machine,
            "candidates": commands,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "others_percent": self.disturbances,
            "results": self.rows.iter().map(|row| self.row_to_json(row)).collect::<Vec<_>>(),
        })
    }

    fn row_to_json(&self, row: &Row) -> Value {
        let named = || self.candidates.iter().zip(&row.values);
        let first = row.values.first().map(Vec::as_slice).unwrap_or_default();
        let object = |value: &dyn Fn(&[Option<f64>]) -> Value, skip| -> Value {
            named()
                .skip(skip)
                .map(|(candidate, rounds)| (candidate.name.clone(), value(rounds)))
                .collect()
        };
        json!({
            "wire": row.wire,
            "test": row.test,
            "metric": row.metric.name,
            "better": match row.metric.better {
                Better::More => "more",
                Better::Less => "less",
                Better::Neither => "neither",
            },
            "rounds": object(&|rounds| json!(rounds), 0),
            "median": object(&|rounds| json!(Spread::of(rounds.iter().flatten().copied()).map(|spread| spread.median)), 0),
            // How much better the first candidate did.
            "ratio": object(&|rounds| json!(ratio(row.metric.better, first, rounds)), 1),
        })
    }
}

/// The processor and the kernel, in words.
pub fn machine() -> Outcome<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{} × {} (family {}, model {}), Linux {}",
        thread::available_parallelism()?,
        field("model name").unwrap_or("unknown processor"),
        field("cpu family").unwrap_or("?"),
        field("model\t").unwrap_or("?"),
        kernel.trim()
    ))
}
