//! What the demo says: a line per step as it happens, or one JSON object at the end.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::Outcome;

pub struct Report {
    json: bool,
    steps: u32,
    object: Map<String, Value>,
}

impl Report {
    pub fn new(json: bool) -> Self {
        let object = Map::from_iter([("v".into(), json!(1))]);
        Self { json, steps: 0, object }
    }

    /// How the machines are made.
    pub fn backend(&mut self, backend: &str) {
        self.object.insert("backend".into(), json!(backend));
    }

    /// A line before the steps, or after.
    pub fn line(&self, text: &str) {
        if !self.json {
            // Whoever closed the pipe did not want to read it.
            let _ = writeln!(stdout(), "{text}");
        }
    }

    /// A step that has just been made. What does not fit into a line goes on below its beginning.
    pub fn step(&mut self, name: &str, text: &str) {
        self.steps += 1;
        self.line(&format!(" {} {name:<13}{}", self.steps, wrapped(text)));
    }

    /// What was measured in it.
    pub fn measured(&mut self, key: &str, value: Value) {
        self.object.insert(key.into(), value);
    }

    /// Says how it ended.
    pub fn finish(mut self, outcome: &Outcome<()>) -> ExitCode {
        self.object.insert("ok".into(), json!(outcome.is_ok()));
        if let Err(error) = outcome {
            if self.json {
                self.object.insert("error".into(), json!(error.to_string()));
            } else {
                let _ = writeln!(stderr(), "adit demo: {error}");
            }
        }
        if self.json {
            let _ = writeln!(stdout(), "{}", Value::Object(self.object));
        }
        if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Breaks a step's text at spaces, so that no line is longer than 100 columns.
fn wrapped(text: &str) -> String {
    const INDENT: usize = 16; // " 1 ", and the width of a name
    const WIDTH: usize = 100 - INDENT;
    let (mut wrapped, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if column == 0 {
            column = length;
        } else if column + 1 + length <= WIDTH {
            wrapped.push(' ');
            column += 1 + length;
        } else {
            wrapped.extend(["\n", &" ".repeat(INDENT)]);
            column = length;
        }
        wrapped += word;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_step_goes_on_below_its_beginning_and_loses_no_word() {
        let text = ["word"; 50].join(" ");
        let wrapped = wrapped(&text);
        assert_eq!(wrapped.split_whitespace().count(), 50);
        assert_eq!(wrapped.lines().count(), 3);
        let (first, rest) = wrapped.split_once('\n').unwrap_or_default();
        assert_eq!(first.len(), 84);
        assert!(rest.lines().all(|line| line.starts_with("                word")));
        assert!(rest.lines().all(|line| line.len() <= 100));
    }

    #[test]
    fn a_short_step_stays_a_line() {
        let text = "bob moved — 150 pings sent, 0 lost";
        assert_eq!(wrapped(text), text);
    }
}
