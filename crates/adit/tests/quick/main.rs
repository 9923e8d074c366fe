//! `adit wg-quick` beside the `wg-quick` of the machine: the same files and command lines, each
//! program in namespaces of its own, and the state of the machine compared after every step.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod cases;
mod differences;
mod own;
mod record;
mod stage;

use std::sync::Mutex;
use std::thread;

use stage::{Program, Stage};

/// Every case by both programs, or the one that `ADIT_CASE` names. All that differs must be in the
/// table of differences, and all that is in the table must differ.
#[test]
fn both_leave_every_machine_alike() {
    let Some(stage) = Stage::new() else { return };
    let only = std::env::var("ADIT_CASE").ok();
    let mut cases = cases::all();
    let is_case = |name: &str| cases.iter().any(|case| case.name == name);
    assert_eq!(differences::names().find(|name| !is_case(name)), None, "there is no such case");
    cases.retain(|case| only.as_ref().is_none_or(|name| *name == case.name));
    let (queue, report) = (Mutex::new(cases.iter()), Mutex::new(String::new()));
    let work = || {
        while let Some(case) = { queue.lock().unwrap().next() } {
            let theirs = stage.play(Program::Theirs, case);
            let ours = stage.play(Program::Ours, case);
            let text = differences::judge(&case.name, theirs, ours);
            report.lock().unwrap().push_str(&text);
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    println!("{} configurations", cases.len());
    let report = report.into_inner().unwrap();
    assert!(report.is_empty(), "theirs (<) and ours (>) differ:\n{report}");
}
