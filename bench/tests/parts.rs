//! `adit-bench parts` from outside: what it counts is what is done, and what it compares is the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::Command;
use std::{env, fs};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_adit-bench");

/// Both outputs of one round of the checksums.
fn measure(more: &[&str]) -> (Value, String) {
    let mut command = Command::new(PROGRAM);
    let output =
        command.args(["parts", "--only=checksum", "--rounds=1", "--json"]).args(more).output();
    let output = output.unwrap();
    let table = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{table}");
    (serde_json::from_slice(&output.stdout).unwrap(), table)
}

fn numbers<'a>(measured: &'a Value, part: &str) -> &'a Value {
    let parts = measured["parts"].as_array().unwrap();
    parts.iter().find(|found| found["part"] == part).unwrap()
}

fn valgrind_is_missing() -> bool {
    let missing = Command::new("valgrind").arg("--version").output().is_err();
    if missing {
        eprintln!("skipped: valgrind is not installed");
    }
    missing
}

#[test]
fn instructions_are_those_of_the_part_and_nothing_else() {
    if valgrind_is_missing() {
        return;
    }
    let (first, _) = measure(&[]);
    let instructions = |part| numbers(&first, part)["instructions"].as_f64().unwrap();
    // What both do besides summing is little, and the same.
    let ratio = instructions("checksum-64k") / instructions("checksum-1420");
    let lengths = 65_535.0 / 1420.0;
    assert!((0.8 * lengths..lengths).contains(&ratio), "{ratio} for {lengths} times the bytes");
    let (second, _) = measure(&[]);
    for part in ["checksum-1420", "checksum-64k"] {
        let both = [&first, &second].map(|run| &numbers(run, part)["instructions"]);
        assert_eq!(both[0], both[1], "{part}, counted twice");
    }
}

#[test]
fn a_part_takes_time() {
    let (measured, _) = measure(&[]);
    for part in ["checksum-1420", "checksum-64k"] {
        let rounds = numbers(&measured, part)["nanoseconds"].as_array().unwrap();
        assert_eq!(rounds.len(), 1);
        assert!(rounds[0].as_f64().unwrap() > 1.0, "{rounds:?}");
    }
}

#[test]
fn a_build_is_as_good_as_itself() {
    if valgrind_is_missing() {
        return;
    }
    let (measured, table) = measure(&["--against", PROGRAM]);
    assert_eq!(fewer_instructions(&table), ["1.000", "1.000"], "{table}");

    let former = env::temp_dir().join(format!("adit-bench-former-{}.json", std::process::id()));
    fs::write(&former, measured.to_string()).unwrap();
    let (_, table) = measure(&["--against", former.to_str().unwrap()]);
    fs::remove_file(former).unwrap();
    assert_eq!(fewer_instructions(&table), ["1.000", "1.000"], "{table}");
}

/// The ratios in the column of that name. Those of time repeat only by chance.
fn fewer_instructions(table: &str) -> Vec<&str> {
    let rows = table.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let mut rows = rows.filter(|row| row.len() > 2).collect::<Vec<_>>().into_iter();
    let head = rows.next().unwrap();
    let column = head.iter().position(|name| *name == "fewer instructions").unwrap();
    rows.skip(1).map(|row| row[column]).collect()
}
