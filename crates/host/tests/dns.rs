//! DNS records by a program that stands in for `resolvconf` and remembers how it was called.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::resolvconf::{PATIENCE, Resolvconf};

/// A program of these lines of sh(1), in a directory of its own that goes with it. There is one at
/// a time: a child of another test could still hold the file open for writing when it is to run.
struct Program(PathBuf, #[allow(dead_code)] MutexGuard<'static, ()>);

static ONE: Mutex<()> = Mutex::new(());

impl Program {
    fn new(test: &str, lines: &str) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = std::env::temp_dir().join(format!("adit-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("resolvconf");
        fs::write(&file, format!("#!/bin/sh\ncd '{}'\n{lines}\n", directory.display())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        Self(directory, one)
    }

    fn record(&self, name: &str) -> Resolvconf {
        Resolvconf::new(self.0.join("resolvconf"), name.into())
    }

    fn wrote(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

#[test]
fn a_record_is_set_and_removed_as_wg_quick_does() {
    let program = Program::new("record", "echo $* >>calls; cat >>input");
    let record = program.record("tun.wg0");
    assert_eq!(record.set(&words("1.1.1.1 fe80::1%eth0"), &words("lan example.org")).unwrap(), "");
    assert_eq!(record.set(&words("9.9.9.9"), &[]).unwrap(), "");
    assert_eq!(record.remove().unwrap(), "");
    assert_eq!(program.wrote("calls"), "-a tun.wg0 -m 0 -x\n-a tun.wg0 -m 0 -x\n-d tun.wg0 -f\n");
    assert_eq!(
        program.wrote("input"),
        "nameserver 1.1.1.1\nnameserver fe80::1%eth0\nsearch lan example.org\nnameserver 9.9.9.9\n"
    );
}

#[test]
fn the_servers_of_a_record_are_those_that_the_program_lists() {
    let lines = "[ \"$*\" = '-l wg0' ] &&\n\
                 printf '# wg0\\nnameserver ::1\\n nameserver 9.9.9.9\\nsearch lan\\n'";
    let program = Program::new("servers", lines);
    assert_eq!(program.record("wg0").servers(PATIENCE).unwrap(), words("::1 9.9.9.9"));
    let refusal = program.record("wg1").servers(PATIENCE).unwrap_err().to_string();
    assert!(refusal.starts_with("list DNS record wg1 with /"), "{refusal}");
    assert!(refusal.ends_with("/resolvconf: exit status: 1"), "{refusal}");
}

#[test]
fn a_failure_is_one_line_and_a_warning_is_handed_on() {
    let lines = "[ $1 = -d ] && exec echo signature mismatch >&2\n\
                 printf 'No DNS\\n\\n for you\\n' >&2; exit 7";
    let program = Program::new("failure", lines);
    let refusal = program.record("wg0").set(&words("::1"), &[]).unwrap_err().to_string();
    assert!(refusal.ends_with("/resolvconf: No DNS; for you"), "{refusal}");
    assert_eq!(program.record("wg0").remove().unwrap(), "signature mismatch");
    let nowhere = Resolvconf::new("/nonexistent/resolvconf".into(), "wg0".into());
    assert_eq!(
        nowhere.remove().unwrap_err().to_string(),
        "remove DNS record wg0 with /nonexistent/resolvconf: No such file or directory"
    );
}

#[test]
fn it_is_known_whether_the_program_answers_whatever_it_says() {
    let program = Program::new("check", "[ $2 = wg1 ] || exit 1; exec sleep 600");
    assert!(program.record("wg0").check(PATIENCE).is_ok(), "there is no record yet");
    let refusal = program.record("wg1").check(Duration::from_secs(1)).unwrap_err().to_string();
    assert!(refusal.ends_with("/resolvconf: no answer in 1 seconds"), "{refusal}");
}

#[test]
fn a_daemon_that_the_program_leaves_behind_is_not_waited_for() {
    let program = Program::new("daemon", "sleep 600 & echo $! >pid");
    assert_eq!(program.record("wg0").remove().unwrap(), "");
    let daemon = program.wrote("pid");
    let killed = std::process::Command::new("kill").arg(daemon.trim()).status().unwrap();
    assert!(killed.success(), "it was still running");
}
