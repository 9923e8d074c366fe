//! What becomes of output that nobody takes.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

/// Whatever has much to say, as nobody in particular.
const LINES: [&str; 8] = [
    "help",
    "--version",
    "genkey",
    "up --help",
    "demo --help",
    "wg help",
    "config explain -",
    "config fmt -",
];

fn adit(line: &str, stdout: impl Into<Stdio>) -> Output {
    let (stdin, mut file) = io::pipe().unwrap();
    file.write_all(b"[Interface]\n").unwrap();
    drop(file);
    let mut adit = Command::new(env!("CARGO_BIN_EXE_adit"));
    adit.args(line.split(' ')).stdin(stdin).stdout(stdout).stderr(Stdio::piped());
    adit.output().unwrap()
}

#[test]
fn whoever_closes_a_pipe_is_told_nothing() {
    for line in LINES {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = adit(line, writer);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(128 + 13), ""), "{line}");
    }
}

#[test]
fn whoever_cannot_be_told_what_is_wrong_gets_the_same_code() {
    for line in [
        "",
        "x",
        "complete",
        "config",
        "config check /nowhere",
        "daemon",
        "genkey x",
        "install x",
        "pubkey",
        "up",
        "up /nowhere",
        "wg x",
        "wg-quick x",
        "wg-quick strip ./nowhere",
    ] {
        let code = |stderr: Stdio| {
            let mut adit = Command::new(env!("CARGO_BIN_EXE_adit"));
            adit.args(line.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null());
            adit.stderr(stderr).status().unwrap().code()
        };
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(code(full.into()), code(Stdio::null()), "{line}");
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    for line in LINES {
        let output = adit(line, File::options().write(true).open("/dev/full").unwrap());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        let expected = "cannot write to stdout: No space left on device\n";
        assert!(stderr.ends_with(expected), "{line}: {stderr}");
    }
}
