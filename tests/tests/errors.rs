//! What goes wrong between a user and a daemon, as Debian's `wg` words it: text and exit code.
//!
//! The errors of adit's own commands are pinned beside each command, in `crates/adit/tests`.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use adit_tests::lab::{Daemon, Implementation, Lab, find_program, skipped};
use adit_tests::play_alone;

fn what_wg_cannot_set_is_explained(lab: &Lab, implementation: Implementation) {
    let home = lab.namespace("home");
    let daemon = Daemon::start(lab, implementation, &home, &[]);
    home.ip(&format!("link set {} up", daemon.interface));
    let _taken = home.within(|| UdpSocket::bind("0.0.0.0:99")).expect("a port");
    let key = lab.key_pair().public;
    let before = daemon.wg("show %i dump");
    for (words, error) in [
        ("listen-port 99".into(), "Unable to modify interface: Address already in use"),
        ("private-key /nonexistent".into(), "fopen: No such file or directory"),
        ("fwmark 0xq".into(), "Fwmark is neither 0/off nor 0-0xffffffff: `0xq'"),
        ("peer nonsense".into(), "Key is not the correct length or format: `nonsense'"),
        (
            format!("peer {key} allowed-ips 10.0.0.0/99"),
            "AllowedIP is not in the correct format: `10.0.0.0/99'",
        ),
    ] {
        let (code, text) = wg(&format!("set {} {words}", daemon.interface));
        assert_eq!((code, text.trim_end()), (Some(1), error), "{words}");
    }
    assert_eq!(daemon.wg("show %i dump"), before);
}

fn a_daemon_that_is_gone_is_no_interface(lab: &Lab, implementation: Implementation) {
    let home = lab.namespace("home");
    let mut daemon = Daemon::start(lab, implementation, &home, &[]);
    let absent = wg("show doesnotexist");
    assert_eq!(absent.0, Some(1));
    home.ip(&format!("link delete {}", daemon.interface));
    daemon.await_end();
    assert_eq!(wg(&format!("show {}", daemon.interface)), absent);
    assert!(absent.1.starts_with("Unable to access interface: "), "{}", absent.1);
}

play_alone!(what_wg_cannot_set_is_explained, a_daemon_that_is_gone_is_no_interface);

/// There are 128 instances of inotify for all programs of a user, and machines with many containers
/// have none left.
#[test]
fn a_daemon_that_may_watch_no_file_says_so_and_serves() {
    if find_program("strace").is_none() {
        return skipped("no program strace");
    }
    let Some(lab) = Lab::open(&[Implementation::Adit]) else { return };
    let (home, interface) = (lab.namespace("home"), "unwatched");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=inotify_init1:error=EMFILE"]);
    command.arg(Implementation::Adit.program().expect("`Lab::open` has looked for it"));
    command.args(["daemon", "-f", interface]).stderr(Stdio::piped());
    let mut daemon = home.within(|| command.spawn()).expect("strace runs");
    let mut said = String::new();
    let stderr = daemon.stderr.take().expect("a pipe");
    BufReader::new(stderr).read_line(&mut said).expect("a line");
    let expected = "ERROR: (unwatched) Would not notice that its socket is taken away: Too many open \
                    files; raise fs.inotify.max_user_instances by sysctl\n";
    assert_eq!(said, expected);
    assert_eq!(wg(&format!("show {interface}")), (Some(0), String::new()));
    home.ip(&format!("link delete {interface}"));
    assert!(daemon.wait().expect("a child").success());
}

/// The exit code and standard error of Debian's `wg`.
fn wg(words: &str) -> (Option<i32>, String) {
    let output = Command::new("wg").args(words.split_whitespace()).output().expect("wg runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
