//! `adit genkey`, `genpsk` and `pubkey` beside the `wg` of the machine and the newest, byte for byte.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use adit_tests::tools::Tools;

const ADIT: &str = env!("CARGO_BIN_EXE_adit");

fn adit(arguments: &[&str], input: &[u8]) -> Output {
    run(Command::new(ADIT).args(arguments), input)
}

fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not care for its input may have gone before it was written.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The exit code and both streams, with `wg`'s name for itself replaced by ours.
fn words(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let stderr = text(&output.stderr).replace("wg: ", "adit: ").replace("Usage: wg", "Usage: adit");
    (output.status.code(), text(&output.stdout), stderr)
}

const PRIVATE: &str = "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rboc=";

#[test]
fn a_public_key_is_computed_as_wg_computes_it() {
    let spoilt = PRIVATE.replace("boc=", "bod=");
    let followed = |by: &str| [PRIVATE, by].concat();
    let inputs = [
        followed(""),
        followed("\n"),
        followed(" \t\r\n\x0b\x0c"),
        followed("\0\n"),
        followed("\u{a0}"),
        followed(" x"),
        followed("\n\n\nx"),
        format!(" {PRIVATE}"),
        format!("{}=", "A".repeat(43)),
        format!("{}8=", "/".repeat(42)),
        spoilt,
        String::new(),
        "abc".into(),
        "A".repeat(44),
        "A".repeat(10_000),
    ];
    let tools = Tools::all();
    for input in inputs {
        let ours = adit(&["pubkey"], input.as_bytes());
        for tools in &tools {
            let mut wg = Command::new(tools.wg());
            let theirs = run(wg.arg0("wg").arg("pubkey"), input.as_bytes());
            assert_eq!(words(&ours), words(&theirs), "{input:?}");
        }
    }
    let known = adit(&["pubkey"], PRIVATE.as_bytes());
    assert_eq!(
        words(&known),
        (Some(0), "4kH+nkDGqDuwhJlpehu6pLmDEVE/mwg0u6VqSTXqvWw=\n".into(), String::new())
    );
}

#[test]
fn an_argument_too_many_is_answered_by_the_usage() {
    for command in ["genkey", "genpsk", "pubkey"] {
        for argument in ["x", "-h", "--help", ""] {
            let ours = words(&adit(&[command, argument], b""));
            assert_eq!(ours, (Some(1), String::new(), format!("Usage: adit {command}\n")));
        }
    }
}

#[test]
fn generated_keys_are_new_each_time_and_private_ones_are_clamped() {
    let mut seen = Vec::new();
    let mut unclamped = 0;
    for _ in 0..20 {
        for command in ["genkey", "genpsk"] {
            let (code, stdout, stderr) = words(&adit(&[command], b""));
            assert_eq!((code, stderr.as_str()), (Some(0), ""));
            let key = config::key::from_base64(stdout.strip_suffix('\n').unwrap()).unwrap();
            let [first, .., last] = *key;
            let clamped = first & 7 == 0 && last >> 6 == 1;
            match command {
                "genkey" => assert!(clamped),
                _ => unclamped += u32::from(!clamped),
            }
            assert!(!seen.contains(&stdout));
            seen.push(stdout);
        }
    }
    // One in 32 preshared keys looks clamped by chance.
    assert!(unclamped > 10);
}

#[test]
fn a_file_that_everybody_can_read_is_warned_of() {
    let path = std::env::temp_dir().join(format!("adit-key-{}", std::process::id()));
    let warning = "Warning: writing to world accessible file.\n\
                   Consider setting the umask to 077 and trying again.\n";
    for (mode, expected) in [(0o600, ""), (0o660, ""), (0o604, warning), (0o602, warning)] {
        for command in ["genkey", "genpsk", "pubkey"] {
            let file = File::create(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let output =
                Command::new(ADIT).arg(command).stdin(Stdio::null()).stdout(file).output().unwrap();
            if command == "pubkey" {
                assert!(!output.stderr.starts_with(b"Warning"));
                continue;
            }
            let (code, _, stderr) = words(&output);
            assert_eq!((code, stderr.as_str()), (Some(0), expected), "{mode:o}");
            assert_eq!(fs::read(&path).unwrap().len(), 45);
        }
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_key_that_cannot_be_written_is_a_failure() {
    for command in ["genkey", "genpsk"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(ADIT).arg(command).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stderr.starts_with(b"adit: cannot write to stdout: "));
    }
}

#[test]
fn the_program_says_what_it_can_do() {
    let (code, help, stderr) = words(&adit(&["help"], b""));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for command in ["genkey", "genpsk", "pubkey", "help"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    assert_eq!(words(&adit(&["--help"], b"")), (Some(0), help.clone(), String::new()));
    assert_eq!(words(&adit(&[], b"")), (Some(2), String::new(), help));
    let version = format!("adit {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(words(&adit(&["--version"], b"")), (Some(0), version, String::new()));
    assert_eq!(words(&adit(&["demo", "--what"], b"")).0, Some(2));
    let unknown = "adit: there is no command `frobnicate'; `adit help' lists them\n";
    for words_ in [&["frobnicate"][..], &["help", "frobnicate"]] {
        assert_eq!(words(&adit(words_, b"")), (Some(2), String::new(), unknown.into()));
    }
}
