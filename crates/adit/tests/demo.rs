//! `adit demo` end to end: what it measures, what it says where it cannot run, and that nothing of
//! it is left however it ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use proto::Discard;
use serde_json::{Value, json};

const ADIT: &str = env!("CARGO_BIN_EXE_adit");

fn demo(options: &[&str]) -> Command {
    let mut command = Command::new(ADIT);
    command.arg("demo").args(options);
    command
}

/// Says that a test is skipped, past the harness, which would swallow it.
fn skipped(reason: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED: {test} ({reason})");
}

/// Whether the demo could run here at all; says why not.
fn was_possible(error: &str) -> bool {
    let is_refused = error.contains("no right to make namespaces") || error.contains("TUN device");
    if is_refused {
        skipped(error);
    }
    !is_refused
}

/// The only line of an output, understood.
fn only_object(output: &Output) -> Value {
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn is_positive(number: &Value) -> bool {
    number.as_f64().unwrap() > 0.0
}

#[test]
fn one_object_tells_what_was_measured() {
    let output = demo(&["--json", "--seconds", "1"]).output().unwrap();
    let told = only_object(&output);
    if !was_possible(told["error"].as_str().unwrap_or_default()) {
        return;
    }
    assert!(output.status.success() && output.stderr.is_empty(), "{told}");
    assert!(["netns+tun", "userns+tun"].contains(&told["backend"].as_str().unwrap()));
    assert_is_complete(&told);
}

/// Every field that is documented, no other, and what each must say.
fn assert_is_complete(told: &Value) {
    let all = [
        "backend",
        "handshake_ms",
        "handshake_round_trips",
        "ok",
        "ping",
        "roaming",
        "throughput",
        "v",
        "wrong_key",
    ];
    assert_eq!(keys(told), all);
    assert_eq!((&told["v"], &told["ok"]), (&json!(1), &json!(true)), "{told}");
    assert!(is_positive(&told["handshake_ms"]), "{told}");
    assert_eq!(told["handshake_round_trips"], 1, "{told}");

    let ping = &told["ping"];
    assert_eq!(keys(ping), ["lost", "median_ms", "sent"]);
    assert_eq!((&ping["sent"], &ping["lost"]), (&json!(50), &json!(0)), "{told}");
    assert!(is_positive(&ping["median_ms"]), "{told}");

    let throughput = &told["throughput"];
    assert_eq!(keys(throughput), ["bytes", "gbit_s", "seconds"]);
    let seconds = throughput["seconds"].as_f64().unwrap();
    let rate = throughput["bytes"].as_u64().unwrap() as f64 * 8.0 / 1e9 / seconds;
    assert!(seconds >= 1.0 && rate > 0.0, "{told}");
    assert!((throughput["gbit_s"].as_f64().unwrap() / rate - 1.0).abs() < 0.1, "{told}");

    let roaming = &told["roaming"];
    assert_eq!((keys(roaming), &roaming["sent"]), (vec!["lost", "sent"], &json!(150)));
    assert!(roaming["lost"].as_u64().unwrap() <= 1, "{told}");

    let reason = config::discard::explain(Discard::UnknownPeer);
    assert_eq!(told["wrong_key"], json!({"session": false, "reason": reason}));
}

#[test]
fn a_user_without_rights_sees_the_same_demo_line_by_line() {
    let file = File::open(ADIT).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = if is_root && file.metadata().unwrap().mode() & 0o5 == 0o5 {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        // Others may read the program, but perhaps not enter the folder that it is in.
        command.args(["/proc/self/fd/0", "demo", "--seconds", "1"]).stdin(file);
        command
    } else {
        demo(&["--seconds", "1"])
    };
    let output = command.output().unwrap();
    if !was_possible(str::from_utf8(&output.stderr).unwrap()) {
        return;
    }
    assert!(output.status.success(), "{output:?}");
    let text = str::from_utf8(&output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let mut lines = text.lines();
    assert!(lines.next().unwrap().ends_with("backend: userns+tun"), "{text}");
    let steps =
        ["1 keys made", "2 handshake", "3 ping", "4 throughput", "5 roaming", "6 wrong key"];
    for (line, step) in lines.zip(steps) {
        assert!(line.trim_start().starts_with(step), "{text}");
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let reason = config::discard::explain(Discard::UnknownPeer);
    let end = format!("no session; bob says why (unknown_peer): {reason}");
    assert!(words.ends_with(&end), "{text}");
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let files = named_files();
        let mut outer = demo(&["--seconds", "60"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(outer.stdout.take().unwrap()).lines();
        // The handshake is the second step; from then on everything that could be left is there.
        if lines.nth(2).is_none() {
            outer.wait().unwrap();
            return skipped("the demo does not run here");
        }
        let home = mount_namespace(outer.id()).unwrap();
        assert!(inhabitants(&home) >= 4, "two processes of the demo, and two daemons");
        send(signal, &outer);
        assert_eq!(outer.wait().unwrap().code(), code, "{signal}");

        // After SIGKILL nobody waits for the others, so they may take a moment.
        let deadline = Instant::now() + Duration::from_secs(if code.is_none() { 5 } else { 0 });
        while inhabitants(&home) > 0 && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(inhabitants(&home), 0, "{signal}");
        assert_eq!(named_files(), files, "{signal}");
    }
}

fn send(signal: &str, to: &Child) {
    let kill = Command::new("kill").args(["-s", signal, &to.id().to_string()]).status();
    assert!(kill.unwrap().success());
}

/// Where all processes of a demo live, and nobody else.
fn mount_namespace(process: u32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/mnt"))
}

/// How many processes live there. Those that only await their burial live nowhere.
fn inhabitants(home: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(|id| mount_namespace(*id).is_ok_and(|found| found == home)).count()
}

/// Which of the files that the daemons write are there for everybody to see.
fn named_files() -> Vec<&'static str> {
    let files = ["wireguard/alice.sock", "wireguard/bob.sock", "alice.log", "bob.log"];
    files.into_iter().filter(|file| Path::new("/var/run").join(file).exists()).collect()
}

#[test]
fn what_is_missing_is_named_with_a_remedy() {
    const CANNOT_BE_ARRANGED: i32 = 77;
    for (scarcity, expected) in [
        (
            "mount -t tmpfs none /dev/net || exit 77",
            "the TUN device /dev/net/tun is missing: No such file or directory. Load its driver \
             with `sudo modprobe tun'; start a container with --device /dev/net/tun",
        ),
        (
            "mount -t tmpfs none /dev/net && touch /dev/net/tun && chmod 0 /dev/net/tun || exit 77",
            "no right to open the TUN device /dev/net/tun: Permission denied. Run this as root, or \
             `sudo chmod 666 /dev/net/tun'",
        ),
        (
            "test -c /dev/net/tun && echo 0 > /proc/sys/user/max_user_namespaces || exit 77",
            "no right to make namespaces: No space left on device. The setting \
             user.max_user_namespaces is 0. Run this as root, or `sudo sysctl \
             user.max_user_namespaces=1000'",
        ),
    ] {
        for options in ["", "--json"] {
            let powerless = "exec setpriv --bounding-set=-all --inh-caps=-all";
            let script = format!("{scarcity}; {powerless} \"$0\" demo {options}");
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, ADIT]);
            let output = command.output().unwrap();
            let said = str::from_utf8(&output.stderr).unwrap();
            let code = output.status.code();
            if code == Some(CANNOT_BE_ARRANGED) || said.starts_with("unshare: ") {
                return skipped(&format!("user namespaces of the test's own: {said}"));
            }
            assert_eq!(code, Some(1));
            if options.is_empty() {
                assert_eq!(said, format!("adit demo: {expected}\n"));
                assert!(output.stdout.is_empty());
            } else {
                let object = json!({"v": 1, "ok": false, "error": expected});
                assert_eq!((only_object(&output), said), (object, ""));
            }
        }
    }
}
