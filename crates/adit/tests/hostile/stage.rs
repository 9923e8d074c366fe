//! A machine where nothing can be harmed: namespaces of its own, all of the file system read-only but
//! what is made for the test.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const OURS: &str = env!("CARGO_BIN_EXE_adit");

const SETUP: &str = r#"
    set -e
    mount -t tmpfs none /run && mkdir -p /run/wireguard /run/hostile /run/canary /run/etc /run/work /run/lib
    mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp
    mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
    mount --bind /run/lib /var/lib
    mkdir -p -m 700 /etc/wireguard && rm -rf /etc/wireguard/*
    echo 'nameserver 127.0.0.1
options timeout:1 attempts:1' > /run/resolv.conf
    rm -f /etc/resolv.conf && cp /run/resolv.conf /etc/resolv.conf
    echo '127.0.0.1 localhost' > /etc/hosts
    ip link set lo up
    mount -o remount,bind,ro /
    umask 077
    exec "$0" "$@"
"#;

/// Lets the test `name` run on a stage of its own, if there can be one here.
pub fn on_stage(name: &str, play: fn()) {
    if env::var_os("ADIT_STAGE").is_some() {
        return play();
    }
    const UNSHARE: [&str; 6] =
        ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut may = Command::new("unshare");
    let may = may.args(UNSHARE).arg("true").stderr(Stdio::null()).status();
    let missing = ["/usr/bin/strace", "/dev/net/tun"].iter().find(|path| !Path::new(path).exists());
    if missing.is_some() || !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {name} needs strace, /dev/net/tun and the right to make namespaces");
        return;
    }
    let status = Command::new("unshare")
        .args(UNSHARE)
        .args(["sh", "-c", SETUP])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("ADIT_STAGE", "1")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("WG_ENDPOINT_RESOLUTION_RETRIES", "0")
        .status();
    assert!(status.unwrap().success(), "see above");
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// None if it did not end in time.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Programs that it ran, itself apart.
    pub executed: Vec<String>,
}

/// Seconds that a command may take which has to wait for nobody, on a machine that is busy.
pub const PATIENCE: &str = "60";

/// Runs adit in a folder, for as long as patience lasts.
pub fn run(words: &[&str], folder: &str, patience: &str) -> Ran {
    told(Command::new("timeout").args([patience, OURS]).args(words).current_dir(folder), Vec::new)
}

/// The same, watched by strace(1).
pub fn run_watched(words: &[&str], folder: &str, patience: &str) -> Ran {
    let mut strace = Command::new("timeout");
    strace.args([
        patience,
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=execve,execveat",
        "-o",
        "/run/trace",
    ]);
    told(strace.arg(OURS).args(words).current_dir(folder), || {
        let trace = fs::read_to_string("/run/trace").unwrap();
        fs::remove_file("/run/trace").unwrap();
        let programs = trace.lines().filter_map(|line| line.split('"').nth(1));
        programs.filter(|program| *program != OURS).map(str::to_owned).collect()
    })
}

fn told(command: &mut Command, executed: impl FnOnce() -> Vec<String>) -> Ran {
    const TIME_IS_UP: i32 = 124;
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: status.code().filter(|code| *code != TIME_IS_UP),
        stdout: text(&stdout),
        stderr: text(&stderr),
        executed: executed(),
    }
}

/// Every file that could have been touched: what it is, and when that changed.
pub fn census() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for folder in ["/run", "/etc"] {
        count(Path::new(folder), &mut files);
    }
    files
}

fn count(folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        // What is below is in the overlay too.
        if ["/run/work", "/run/etc", "/run/lib"]
            .iter()
            .any(|hidden| entry.path() == Path::new(hidden))
        {
            continue;
        }
        let path = entry.path().to_string_lossy().into_owned();
        let (seconds, nanos) = (metadata.ctime(), metadata.ctime_nsec());
        files.insert(path, format!("{:o} {} {seconds}.{nanos}", metadata.mode(), metadata.len()));
        if metadata.is_dir() {
            count(&entry.path(), files);
        }
    }
}

/// What is in a folder.
pub fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Nobody tells when a daemon has cleaned up behind itself.
pub fn wait_until(is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not come true");
        std::thread::sleep(Duration::from_millis(2));
    }
}
