//! Files from somebody who means harm: what each command makes of each is fixed in `expected.txt`;
//! nothing in them is run but the hooks that `wg-quick` has always run, and nothing outside is
//! touched.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod cases;
mod stage;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cases::Case;
use stage::{PATIENCE, Ran, on_stage, run, run_watched};

/// Where the files are.
const FILES: &str = "/run/hostile";
/// What a command in a file would leave behind.
const CANARIES: &str = "/run/canary";
/// An interface that is up.
const INTERFACE: &str = "hostile0";

#[test]
fn every_file_has_its_result_and_none_does_harm() {
    on_stage("every_file_has_its_result_and_none_does_harm", || {
        let daemon = run(&["daemon", INTERFACE], FILES, PATIENCE);
        assert_eq!(daemon.code, Some(0), "{daemon:?}");
        let cases = cases::all();
        assert!(cases.len() >= 40, "{}", cases.len());
        let mut report = String::new();
        for case in &cases {
            let _ = write!(report, "{}", play(case));
        }
        println!("{} files and names", cases.len());
        let expected = include_str!("expected.txt");
        if report != expected {
            for (number, (found, expected)) in report.lines().zip(expected.lines()).enumerate() {
                assert_eq!(found, expected, "line {} of expected.txt", number + 1);
            }
            panic!("more or fewer lines than in expected.txt:\n{report}");
        }
    });
}

/// Gives a file to every command, and tells what came of it.
fn play(case: &Case) -> String {
    let folder = format!("{FILES}/{}", case.name);
    fs::create_dir(&folder).unwrap();
    let argument = case.make(&folder);
    let argument = argument.as_str();
    let mut report = format!("== {}\n", case.name);
    for (verb, words) in [
        ("check", &["config", "check", "--", argument][..]),
        ("strip", &["wg-quick", "strip", argument]),
        ("setconf", &["wg", "setconf", INTERFACE, argument]),
    ] {
        let before = stage::census();
        let ran = run_watched(words, &folder, case.patience());
        assert_eq!(ran.executed, Vec::<String>::new(), "{}: {verb} runs programs", case.name);
        assert_eq!(stage::census(), before, "{}: {verb} touches files", case.name);
        let _ = writeln!(report, "{verb}: {}", told(verb, &ran));
    }
    let before = stage::census();
    for (name, command) in [("up", &["wg-quick"][..]), ("adit up", &[])] {
        let ran = run(&[command, &["up", argument]].concat(), &folder, case.patience());
        let _ = writeln!(report, "{name}: {}", told("up", &ran));
        if ran.code == Some(0) {
            let ran = run(&[command, &["down", argument]].concat(), &folder, case.patience());
            assert_eq!(ran.code, Some(0), "{}: {name}, then down: {ran:?}", case.name);
            let left = [format!("{INTERFACE}.sock")];
            stage::wait_until(|| stage::names_in("/run/wireguard") == left);
        }
        for hook in stage::names_in(CANARIES) {
            let _ = writeln!(report, "{name} ran: {hook}");
            fs::remove_file(Path::new(CANARIES).join(hook)).unwrap();
        }
    }
    // Folders where something was for a while.
    let may_change =
        |path: &str| [CANARIES, "/run/wireguard"].contains(&path) || path.starts_with("/run/adit");
    let after = stage::census();
    let differ =
        |(path, is): &(&String, &String)| before.get(*path) != Some(is) && !may_change(path);
    let touched: Vec<_> = after.iter().filter(differ).collect();
    assert!(touched.is_empty(), "{}: up touches {touched:?}", case.name);
    let gone: Vec<_> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    assert!(gone.is_empty(), "{}: up removes {gone:?}", case.name);
    report
}

/// The exit code, and what matters of what was said.
fn told(verb: &str, ran: &Ran) -> String {
    let code = ran.code.map_or("killed".to_owned(), |code| code.to_string());
    let said = match verb {
        // Codes that do not change, and where they stand.
        "check" if ran.stderr.is_empty() => problems(&ran.stdout),
        _ => ran
            .stderr
            .lines()
            // Steps, and what this machine's kernel can do, are tested elsewhere.
            .filter(|line| !line.starts_with("[#]") && !line.starts_with("[!]"))
            .take(2)
            .collect::<Vec<_>>()
            .join(" / "),
    };
    // `wg` repeats what it was given as it was given; what is ours does not.
    assert!(verb != "check" || !said.contains(char::is_control), "a terminal would obey {said:?}");
    let said: String = said.chars().take(150).flat_map(char::escape_debug).collect();
    if said.is_empty() { code } else { format!("{code} {said}") }
}

/// `check` again in short: the line of each problem, and what is wrong, up to its value.
fn problems(lines: &str) -> String {
    let lines: Vec<_> = lines.lines().collect();
    let short: Vec<_> = lines
        .iter()
        .map(|line| {
            let line = line
                .strip_prefix(FILES)
                .and_then(|line| line.split_once(".conf:"))
                .map_or(*line, |(_, rest)| rest);
            line.split("; ").next().unwrap().to_owned()
        })
        .collect();
    short.join(" / ")
}

/// A million peers, and lines without end: what reads them takes its time in proportion.
#[test]
fn size_alone_does_no_harm() {
    on_stage("size_alone_does_no_harm", || {
        let key = "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=";
        let mut file = format!("[Interface]\nPrivateKey = {key}\nListenPort = 1\n");
        for peer in 0..1_000_000_u32 {
            let mut key = [1; 32];
            key[..4].copy_from_slice(&peer.to_le_bytes());
            let key = config::key::to_base64(&key);
            let [_, b, c, d] = peer.to_be_bytes();
            let _ = write!(file, "[Peer]\nPublicKey={}\nAllowedIPs=10.{b}.{c}.{d}\n", *key);
        }
        fs::write("/run/hostile/million.conf", &file).unwrap();
        fs::write("/run/hostile/line.conf", "x".repeat(64 << 20)).unwrap();
        for (name, code) in [("million", 0), ("line", 1)] {
            for verb in [&["config", "check"][..], &["config", "fmt"], &["wg-quick", "strip"]] {
                let start = Instant::now();
                let path = format!("/run/hostile/{name}.conf");
                let ran = run(&[verb, &[&path]].concat(), FILES, PATIENCE);
                let expected = if verb[0] == "wg-quick" { 0 } else { code };
                assert_eq!(ran.code, Some(expected), "{verb:?} {name}: {}", ran.stderr.len());
                println!("{verb:?} {name}: {:?}", start.elapsed());
                assert!(start.elapsed() < Duration::from_secs(60), "{verb:?} {name}");
            }
        }
    });
}
