//! What was measured of the parts, by which build, and how two of them compare.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::callgrind;
use super::options::{Options, Role};
use crate::Outcome;
use crate::measure::Better;
use crate::report::{Spread, cell, machine, ratio, short, write_aligned};

/// What a build says of one part.
pub struct Line {
    pub part: String,
    /// One of what.
    pub unit: String,
    pub value: f64,
}

/// Runs `command` and reads what it says of each part.
pub fn lines(command: &mut Command) -> Outcome<Vec<Line>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().map(|line| match *line.split(' ').collect::<Vec<_>>() {
        [part, unit, value] => {
            Ok(Line { part: part.to_owned(), unit: unit.to_owned(), value: value.parse()? })
        }
        _ => Err(format!("{command:?} says {line}").into()),
    });
    lines.collect()
}

/// A build of this program.
pub struct Build {
    path: PathBuf,
    measured: Measured,
}

impl Build {
    /// Nothing is measured of it yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, measured: Measured::default() }
    }

    /// Measures them in turn, so that what disturbs the machine disturbs all of them alike.
    pub fn measure<const N: usize>(
        mut builds: [Self; N],
        options: &Options,
    ) -> Outcome<[Measured; N]> {
        if callgrind::is_here() {
            for build in &mut builds {
                build.count(options)?;
            }
        } else {
            eprintln!("adit-bench: no instructions are counted, since valgrind is not installed");
        }
        for _ in 0..options.rounds {
            for build in &mut builds {
                build.time(options)?;
            }
        }
        Ok(builds.map(|build| build.measured))
    }

    fn count(&mut self, options: &Options) -> Outcome<()> {
        for line in callgrind::count(&self.path, &arguments(Role::Counts, options))? {
            self.measured.row(&line).instructions = Some(line.value);
        }
        Ok(())
    }

    fn time(&mut self, options: &Options) -> Outcome<()> {
        let mut command = Command::new(&self.path);
        for line in lines(command.args(arguments(Role::Times, options)))? {
            self.measured.row(&line).nanoseconds.push(Some(line.value));
        }
        Ok(())
    }
}

fn arguments(role: Role, options: &Options) -> Vec<String> {
    let mut arguments = vec!["parts".to_owned()];
    arguments.extend(role.option().map(|role| format!("--{role}")));
    if !options.only.is_empty() {
        arguments.push(format!("--only={}", options.only.join(",")));
    }
    arguments
}

/// What is known of each part of one build.
#[derive(Clone, Default)]
pub struct Measured(Vec<Row>);

#[derive(Clone)]
struct Row {
    part: String,
    unit: String,
    /// For one unit.
    instructions: Option<f64>,
    /// For one unit, in each round.
    nanoseconds: Vec<Option<f64>>,
}

impl Measured {
    fn row(&mut self, line: &Line) -> &mut Row {
        let Line { part, unit, .. } = line;
        let place = self.0.iter().position(|row| row.part == *part).unwrap_or(self.0.len());
        if place == self.0.len() {
            let (part, unit) = (part.clone(), unit.clone());
            self.0.push(Row { part, unit, instructions: None, nanoseconds: Vec::new() });
        }
        self.0.get_mut(place).expect("it was there or has just been added")
    }

    /// All of it, with every round.
    pub fn to_json(&self) -> Value {
        let parts = self.0.iter().map(|row| {
            json!({
                "part": row.part,
                "unit": row.unit,
                "instructions": row.instructions,
                "nanoseconds": row.nanoseconds,
            })
        });
        json!({ "machine": machine().ok(), "parts": parts.collect::<Vec<_>>() })
    }

    /// The inverse.
    pub fn from_json(value: &Value) -> Outcome<Self> {
        let parts = value.get("parts").and_then(Value::as_array);
        let rows = parts.and_then(|parts| parts.iter().map(Row::from_json).collect());
        Ok(Self(rows.ok_or("not what adit-bench parts --json has written")?))
    }

    /// A table of it, with ratios to `other`.
    pub fn beside<'a>(&'a self, other: Option<&'a Self>) -> Table<'a> {
        Table { measured: self, other }
    }
}

impl Row {
    fn from_json(value: &Value) -> Option<Self> {
        let text = |name| Some(value.get(name)?.as_str()?.to_owned());
        Some(Self {
            part: text("part")?,
            unit: text("unit")?,
            instructions: value.get("instructions")?.as_f64(),
            nanoseconds: value.get("nanoseconds")?.as_array()?.iter().map(Value::as_f64).collect(),
        })
    }

    /// How this row compares with the same one of another build; more than one is better. Of the
    /// rounds the least count: whoever disturbs can only make them longer.
    fn ratios(&self, other: Option<&Self>) -> [String; 2] {
        let least = |row: &Self| {
            Spread::of(row.nanoseconds.iter().flatten().copied()).map(|spread| spread.least)
        };
        let ratios = other.map_or([None; 2], |other| {
            let instructions = ratio(Better::Less, &[self.instructions], &[other.instructions]);
            [instructions, ratio(Better::Less, &[least(self)], &[least(other)])]
        });
        ratios.map(|ratio| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")))
    }
}

/// What is printed.
pub struct Table<'a> {
    measured: &'a Measured,
    other: Option<&'a Measured>,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![["part", "of", "instructions", "ns"].map(str::to_owned).to_vec()];
        lines.extend(self.measured.0.iter().map(|row| {
            let instructions = row.instructions.map_or_else(|| "-".to_owned(), short);
            vec![row.part.clone(), row.unit.clone(), instructions, cell(&row.nanoseconds)]
        }));
        if let Some(other) = self.other {
            let heads = ["fewer instructions", "less time"].map(str::to_owned);
            let ratios = self
                .measured
                .0
                .iter()
                .map(|row| row.ratios(other.0.iter().find(|other| other.part == row.part)));
            for (line, ratios) in lines.iter_mut().zip([heads].into_iter().chain(ratios)) {
                line.extend(ratios);
            }
        }
        if let Ok(machine) = machine() {
            writeln!(f, "{machine}\n")?;
        }
        write_aligned(f, &lines)?;
        writeln!(
            f,
            "\nFor one of what the second column names. Time: median (least–most) of the rounds' medians."
        )?;
        if self.other.is_some() {
            writeln!(
                f,
                "Ratios, of time those of the least: 2.0 means that this build needs half of what the other does."
            )?;
        }
        Ok(())
    }
}
