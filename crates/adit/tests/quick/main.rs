//! `adit wg-quick` beside the `wg-quick` of the machine and the newest: the same files and command
//! lines, each program in namespaces of its own, and the state of the machine compared after every
//! step.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod cases;
mod differences;
mod own;
mod record;
mod stage;

use std::env;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use adit_tests::guest;
use adit_tests::tools::Tools;

use record::Record;
use stage::{Program, Stage};

/// Every case by ours and by each of theirs, or the one that `ADIT_CASE` names. All that differs must
/// be in the table of differences, and all that is in the table must differ.
#[test]
fn both_leave_every_machine_alike() {
    let Some(stage) = Stage::new() else { return };
    let only = env::var("ADIT_CASE").ok();
    let cases = cases::all();
    let is_case = |name: &str| cases.iter().any(|case| case.name == name);
    assert_eq!(differences::names().find(|name| !is_case(name)), None, "there is no such case");
    alike(&stage, |name| only.as_ref().is_none_or(|only| *only == *name));
}

/// Some cases again where the kernel carries the packets.
#[test]
fn both_leave_a_machine_with_wireguard_alike() {
    guest::play(&["some_cases"], Duration::from_secs(600));
}

#[test]
#[ignore = "in a guest"]
fn some_cases_on_a_kernel_with_wireguard() {
    const SOME: [&str; 8] = [
        "full v4 and v6",
        "split v4 and v6",
        "save on the way down",
        "it is up already",
        "two default routes",
        "an odd name and a default route",
        "a name with a minus",
        "the MTU of a link-local endpoint",
    ];
    let stage = Stage::new().expect("a guest has all that this needs");
    assert!(stage::has_wireguard(), "a guest has this");
    for (name, record) in alike(&stage, |name| SOME.contains(&name)) {
        assert_eq!(record.0["up: code"], "0\n", "{name}: {record:#?}");
    }
}

/// Expects that the chosen cases make no difference, and tells what ours makes of them.
fn alike(stage: &Stage, chosen: impl Fn(&str) -> bool) -> Vec<(String, Record)> {
    let mut cases = cases::all();
    cases.retain(|case| chosen(&case.name));
    let tools = Tools::all();
    let (queue, report) = (Mutex::new(cases.iter()), Mutex::new(String::new()));
    let records = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = { queue.lock().unwrap().next() } {
            let ours = stage.play(Program::Ours, case);
            for tools in &tools {
                let theirs = stage.play(Program::Theirs(tools), case);
                let text = differences::judge(&case.name, tools.version, theirs, ours.clone());
                report.lock().unwrap().push_str(&text);
            }
            records.lock().unwrap().push((case.name.clone(), ours));
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let versions: Vec<_> = tools.iter().map(|tools| tools.version).collect();
    println!("{} configurations, {versions:?}", cases.len());
    let report = report.into_inner().unwrap();
    assert!(report.is_empty(), "theirs (<) and ours (>) differ:\n{report}");
    records.into_inner().unwrap()
}
