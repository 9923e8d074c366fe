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
        Self {
            json,
            steps: 0,
            object,
        }
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

    /// A step that has just been made.
    pub fn step(&mut self, name: &str, text: &str) {
        self.steps += 1;
        self.line(&format!(" {} {name:<13}{text}", self.steps));
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
        if outcome.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
