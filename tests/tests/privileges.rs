//! What a daemon can do once it runs: nothing but carry packets. The rest is its broker's.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use adit_tests::lab::{
    Family, Implementation, Lab, Namespace, Pair, Pairing, await_some, await_that, only_child,
    parent,
};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

const ADIT: Implementation = Implementation::Adit;

/// A daemon with a session, and the other one.
fn pair(lab: &Lab) -> Pair {
    let pair = Pair::new(lab, Pairing::new(ADIT, ADIT), Family::V4);
    pair.ping();
    pair
}

fn is_there(pid: u32) -> bool {
    parent(pid).is_some()
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id is not zero");
    kill_process(pid, signal).expect("it is there");
}

/// What the descriptors of a process lead to.
fn holdings(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// The sockets of a family in a namespace, as [`holdings`] has them.
fn sockets(ns: &Namespace, family: &str) -> BTreeSet<String> {
    const INODE: usize = 9;
    let table = ns.within(|| fs::read_to_string(format!("/proc/thread-self/net/{family}")));
    let table = table.expect("a table of sockets");
    let inodes = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(INODE));
    inodes.map(|inode| format!("socket:[{inode}]")).collect()
}

/// Each thread's own lines of /proc/PID/status.
fn statuses(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process").flatten();
    tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).collect()
}

#[test]
fn a_daemon_that_runs_has_no_privileges() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let pair = pair(&lab);
    let daemon = &pair.left.daemon;
    let threads = statuses(daemon.pid());
    assert!(threads.len() >= 4, "control, a worker, the door, and who waits for them");
    for status in threads {
        assert_confined(&status, "0000000000000000");
        assert_is(&status, 65_521);
        assert!(status.lines().any(|line| line.trim_end() == "Groups:"), "{status}");
    }
    for held in holdings(daemon.pid()).iter().filter(|held| held.starts_with('/')) {
        let is_known = ["/dev/net/tun", "/dev/null"].contains(&&**held) || held.ends_with(".log");
        assert!(is_known, "{held}");
    }
    assert_dumps_nothing(daemon.pid());
}

/// What /proc/PID/status says of somebody behind walls who has kept these capabilities.
#[track_caller]
fn assert_confined(status: &str, capabilities: &str) {
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(of(set), Some(capabilities), "{set}: {status}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(of(set), Some("0000000000000000"), "{set}: {status}");
    }
    assert_eq!(of("NoNewPrivs"), Some("1"), "{status}");
    // A filter of system calls.
    assert_eq!(of("Seccomp"), Some("2"), "{status}");
}

/// Whose process it is, by whatever the kernel looks at.
#[track_caller]
fn assert_is(status: &str, user: u32) {
    for name in ["Uid", "Gid"] {
        let line = format!("{name}:\t{user}\t{user}\t{user}\t{user}");
        assert!(status.lines().any(|it| it == line), "{line}: {status}");
    }
}

#[track_caller]
fn assert_dumps_nothing(pid: u32) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("a process");
    let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let cores: Vec<_> = cores.expect("a limit").split_whitespace().collect();
    assert_eq!(cores[..2], ["0", "0"]);
}

#[test]
fn its_broker_has_the_rights_of_its_requests_and_no_others() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let pair = pair(&lab);
    let broker = pair.left.daemon.broker();
    let threads = statuses(broker);
    assert_eq!(threads.len(), 1);
    // CAP_NET_BIND_SERVICE, CAP_NET_BROADCAST, CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN.
    assert_confined(&threads[0], "0000000000203c00");
    assert_is(&threads[0], 0);
    assert_dumps_nothing(broker);
    assert!(!pair.left.daemon.log().contains("without one of its walls"));
}

/// A shell may have a file open for itself, and wait until nobody else has it.
#[test]
fn what_its_starter_had_open_is_not_held() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let ns = lab.namespace("a");
    let file = lab.file("something", "typed");
    for mode in ["--foreground", "--"] {
        let held = |redirections: &str| {
            let script = format!("exec \"$0\" daemon {mode} \"$1\" {redirections}");
            let interface = Lab::interface_name();
            let mut shell = Command::new("sh");
            shell.args(["-c", &script]).arg(ADIT.program().expect("a program")).arg(&interface);
            shell.stdout(Stdio::null()).stderr(Stdio::null());
            let mut starter = ns.within(|| shell.spawn()).expect("a shell");
            let path = format!("/var/run/wireguard/{interface}.sock");
            let mut client = await_some("it serves", || UnixStream::connect(&path).ok());
            client.write_all(b"get=1\n\n").expect("it reads");
            client.read_exact(&mut [0; 9]).expect("it answers");
            let daemon = socket_peercred(&client).expect("who serves").pid.as_raw_nonzero().get();
            let daemon = daemon.cast_unsigned();
            let of = |pid| {
                let held = holdings(pid).into_iter();
                // Which socket it is has a number.
                let kinds = held.map(|it| it.replace(|it: char| it.is_ascii_digit(), ""));
                let mut kinds: Vec<_> = kinds.collect();
                kinds.sort();
                kinds
            };
            let both = [of(daemon), of(only_child(daemon))];
            fs::remove_file(path).expect("its file");
            let _ = client.read_to_end(&mut Vec::new());
            assert!(starter.wait().expect("the shell").success());
            both
        };
        let usual = held("</dev/null");
        let link = format!("0<{file} 3<{file} 7<{file} 9>>{file}");
        assert_eq!(held(&link), usual, "{mode}");
        assert!(!usual.concat().contains(&file));
    }
}

#[test]
fn its_broker_holds_nothing_of_the_tunnel() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let pair = pair(&lab);
    let daemon = &pair.left.daemon;
    // It has opened everything once more.
    daemon.set("listen-port 0");
    daemon.set("fwmark 7");
    let ours = holdings(daemon.pid());
    let its = holdings(daemon.broker());
    let udp: BTreeSet<_> =
        ["udp", "udp6"].iter().flat_map(|kind| sockets(&daemon.home, kind)).collect();
    let is_of_the_tunnel = |held: &&String| *held == "/dev/net/tun" || udp.contains(*held);
    assert!(ours.iter().filter(is_of_the_tunnel).count() > 4, "it is looked for elsewhere");
    assert_eq!(its.iter().find(is_of_the_tunnel), None);
    // Nothing waits for it either: it reads what the daemon says.
    assert!(!its.iter().any(|held| held.contains("epoll") || held.contains("eventfd")), "{its:?}");
}

#[test]
fn a_privileged_port_and_a_mark_are_had_when_it_runs_already() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let pair = Pair::linked(&lab, Pairing::new(ADIT, ADIT), Family::V4);
    let Pair { left, right, .. } = &pair;
    left.set("listen-port 53 fwmark 0x2a");
    left.ns.ping(right.v4, 1);
    let endpoint = right.sees(left).endpoint.expect("it has spoken");
    assert_eq!(endpoint.port(), 53);
    // What is marked is what the machine's rules see.
    left.daemon.home.ip("rule add fwmark 0x2a prohibit");
    left.ns.no_ping(right.v4);
    left.set("fwmark 0");
    left.ns.ping(right.v4, 1);
}

#[test]
fn a_killed_daemon_takes_its_broker_along() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let mut pair = pair(&lab);
    let broker = pair.left.daemon.broker();
    pair.left.daemon.signal(Signal::KILL);
    pair.left.daemon.await_end();
    await_that("the broker ends", || !is_there(broker));
}

/// A process that is killed closes what has the highest number first. Whoever sees the interface go
/// starts another daemon, which must not find that somebody still listens.
#[test]
fn the_socket_has_a_higher_number_than_the_interface() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let pair = pair(&lab);
    let daemon = &pair.left.daemon;
    let table = daemon.home.within(|| fs::read_to_string("/proc/thread-self/net/unix"));
    let table = table.expect("a table of sockets");
    // As it was named when it was opened.
    let name = format!("/.{}/sock", daemon.interface);
    let line = table.lines().find(|line| line.ends_with(&name));
    const INODE: usize = 6;
    let inode = line.and_then(|line| line.split_whitespace().nth(INODE)).expect("it listens");
    let highest = |of: &str| {
        let entries =
            fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it runs").flatten();
        let those = entries
            .filter(|entry| fs::read_link(entry.path()).is_ok_and(|it| it.as_os_str() == of));
        those.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max()
    };
    let queue = highest("/dev/net/tun");
    assert!(queue.is_some());
    assert!(queue < highest(&format!("socket:[{inode}]")), "{queue:?}");
}

#[test]
fn the_end_of_its_broker_ends_the_daemon() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let mut pair = pair(&lab);
    let daemon = &mut pair.left.daemon;
    signal(daemon.broker(), Signal::KILL);
    assert!(daemon.await_end().success());
    let expected =
        format!("ERROR: ({}) The broker is gone, and the tunnel ends\n", daemon.interface);
    assert!(daemon.log().contains(&expected), "{}", daemon.log());
}

/// As a service manager ends a service, or a terminal what runs in it.
#[test]
fn a_signal_to_both_processes_ends_them_and_leaves_nothing() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    for what in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut pair = pair(&lab);
        let daemon = &mut pair.left.daemon;
        let broker = daemon.broker();
        signal(broker, what);
        daemon.signal(what);
        if what == Signal::HUP {
            daemon.set("fwmark 7");
            daemon.signal(Signal::TERM);
        }
        assert!(daemon.await_end().success());
        assert!(!is_there(broker), "it has not waited for its broker");
        assert!(!daemon.socket().exists());
    }
}

/// Whoever waits for the file to go makes the next interface of that name.
#[test]
fn the_interface_goes_before_the_file_of_the_socket_does() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let mut pair = pair(&lab);
    let daemon = &mut pair.left.daemon;
    let broker = daemon.broker();
    let is_there = || pair.left.ns.attempt(&format!("ip link show {}", daemon.interface)).is_ok();
    assert!(is_there());
    signal(broker, Signal::STOP);
    daemon.signal(Signal::TERM);
    await_that("the interface goes", || !is_there());
    assert!(daemon.socket().exists());
    signal(broker, Signal::CONT);
    assert!(daemon.await_end().success());
    assert!(!daemon.socket().exists());
}

/// In JSON, such a character takes six bytes.
#[test]
fn a_question_that_is_too_long_is_not_asked() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let pair = pair(&lab);
    let (key, zone) = ("11".repeat(32), "\u{1}".repeat(3900));
    let set = format!("set=1\npublic_key={key}\nendpoint=[fe80::1%{zone}]:1\n\n");
    assert_eq!(pair.left.daemon.uapi(&set), "errno=-22\n\n");
    pair.ping();
    pair.left.daemon.set("fwmark 7");
}

/// A machine may run out of descriptors for a moment.
#[test]
fn a_broker_that_cannot_look_ends_no_tunnel() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let pair = pair(&lab);
    let Pair { left, right, .. } = &pair;
    let broker = left.daemon.broker();
    let Rlimit { current: usual, maximum } = getrlimit(Resource::Nofile);
    let limit = |current| {
        let pid = Pid::from_raw(broker.cast_signed());
        prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).expect("it is there");
    };
    limit(Some(3));
    let interface = &left.daemon.interface;
    left.ns.ip(&format!("link set {interface} mtu 1300"));
    await_that("it says so", || left.daemon.log().contains("Cannot see the interface well"));
    left.ns.ip(&format!("link set {interface} down"));
    left.ns.no_ping(right.v4);
    limit(usual);
    left.ns.ip(&format!("link set {interface} up"));
    left.address_inside();
    pair.ping();
    let said = left.daemon.log().matches("Cannot see the interface well").count();
    assert!(said < 10, "{said}");
}

/// Each is a question or more to the broker about every peer.
#[test]
fn sources_are_not_chosen_more_often_than_there_is_time_for() {
    let Some(lab) = Lab::open(&[ADIT]) else { return };
    let pair = pair(&lab);
    let daemon = &pair.left.daemon;
    let requests = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.broker()));
        let status = status.expect("a process");
        let waits = status.lines().find_map(|it| it.strip_prefix("voluntary_ctxt_switches:"));
        waits.and_then(|it| it.trim().parse::<u64>().ok()).expect("how often it has waited")
    };
    signal(daemon.broker(), Signal::STOP);
    for n in 0..200 {
        daemon.home.ip(&format!("route add blackhole 198.51.100.{n}"));
    }
    let before = requests();
    signal(daemon.broker(), Signal::CONT);
    pair.ping();
    // It is answered after all that waited.
    daemon.set("listen-port 0");
    let count = requests() - before;
    assert!(count < 50, "{count}");
}
