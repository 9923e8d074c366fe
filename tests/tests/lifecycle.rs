//! What becomes of a daemon when its interface, its namespace, its socket or its process is acted
//! upon. The scenarios marked so in the table of differences show where wireguard-go fails.

use std::fs::{self, File, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::lab::{
    Daemon, Family, Implementation, Lab, Namespace, Node, Pair, Pairing, await_some, await_that,
};
use adit_tests::play_alone;
use rustix::process::Signal;

// Up and down.

fn the_port_is_open_while_the_interface_is_up(lab: &Lab, implementation: Implementation) {
    let (home, inside) = (lab.namespace("home"), lab.namespace("inside"));
    let node = Node::start(lab, implementation, &[], &home, &inside, 1);
    for round in 0..3 {
        await_that("the port is open", || !is_free(&home, 1));
        node.ns.ip(&format!("link set {} down", node.daemon.interface));
        await_that("the port is closed", || is_free(&home, 1));
        assert_eq!(node.daemon.listen_port(), 1, "the port is remembered, round {round}");
        node.ns.ip(&format!("link set {} up", node.daemon.interface));
    }
}

fn a_drawn_port_is_the_same_for_both_families(lab: &Lab, implementation: Implementation) {
    let home = lab.namespace("home");
    let node = Node::start(lab, implementation, &[], &home, &home, 1);
    for _ in 0..20 {
        node.set("listen-port 0");
        let port = node.daemon.listen_port();
        assert_ne!(port, 0);
        assert!(!is_free(&home, port), "{port} is not open");
        let v6 = home.within(|| UdpSocket::bind(("::1", port)));
        assert!(v6.is_err(), "{port} is not open for IPv6");
    }
}

fn down_means_silence_and_up_a_handshake_at_once(lab: &Lab, implementation: Implementation) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let Pair { left, right, .. } = &pair;
    let shaken = left.sees(right).latest_handshake;
    for _ in 0..2 {
        left.ns.ip(&format!("link set {} down", left.daemon.interface));
        await_that("the port is closed", || is_free(&left.daemon.home, 1));
        right.ns.no_ping(left.v4);
        assert!(left.sees(right).latest_handshake >= shaken, "it forgot the last handshake");
        left.ns.ip(&format!("link set {} up", left.daemon.interface));
        left.address_inside();
        let up = Instant::now();
        left.ns.ping(right.v4, 1);
        assert!(up.elapsed() < Duration::from_secs(1), "{:?}", up.elapsed());
    }
    pair.ping();
}

fn up_starts_the_persistent_keepalive(lab: &Lab, implementation: Implementation) {
    let Pair { left, right, .. } =
        Pair::unacquainted(lab, Pairing::new(implementation, implementation));
    left.ns.ip(&format!("link set {} down", left.daemon.interface));
    await_that("the port is closed", || is_free(&left.daemon.home, 1));
    right.allow(&left, "");
    left.allow(&right, "endpoint 127.0.0.1:2 persistent-keepalive 60");
    thread::sleep(Duration::from_millis(300)); // To measure silence.
    assert_eq!(left.sees(&right).sent, 0, "it sends while the interface is down");
    left.ns.ip(&format!("link set {} up", left.daemon.interface));
    await_that("a session", || right.sees(&left).latest_handshake != 0);
}

fn many_toggles_end_in_the_last_state(lab: &Lab, implementation: Implementation) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    let Pair { left, right, .. } = &pair;
    for _ in 0..50 {
        for state in ["down", "up"] {
            left.ns.ip(&format!("link set {} {state}", left.daemon.interface));
        }
    }
    left.address_inside();
    left.greet(right);
    pair.ping();
    left.ns.ip(&format!("link set {} down", left.daemon.interface));
    await_that("the port is closed", || is_free(&left.daemon.home, 1));
}

fn an_interface_has_no_address_of_its_own_making(lab: &Lab, implementation: Implementation) {
    let home = lab.namespace("home");
    let daemon = Daemon::start(lab, implementation, &home, &[]);
    home.ip(&format!("link set {} up", daemon.interface));
    let addresses = home.ip(&format!("-oneline address show dev {}", daemon.interface));
    assert_eq!(addresses, "");
    let redirects = format!("/proc/sys/net/ipv4/conf/{}/send_redirects", daemon.interface);
    assert_eq!(home.within(|| fs::read_to_string(&redirects)).expect("a setting").trim(), "0");
}

// Renaming, moving, resizing.

fn a_renamed_interface_keeps_working(lab: &Lab, implementation: Implementation) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let Pair { left, .. } = &pair;
    left.ns.ip(&format!("link set {} down", left.daemon.interface));
    left.ns.ip(&format!("link set {} name renamed up", left.daemon.interface));
    left.ns.address("renamed", &format!("{}/24", left.v4));
    left.ns.address("renamed", &format!("{}/112", left.v6));
    pair.left.greet(&pair.right);
    pair.ping();
    padding_follows_the_mtu(&pair, &left.ns, "renamed");
}

fn a_moved_interface_keeps_working(lab: &Lab, implementation: Implementation) {
    let mut pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let elsewhere = lab.namespace("elsewhere");
    let Node { daemon, ns, .. } = &pair.left;
    ns.ip(&format!("link set {} netns {}", daemon.interface, elsewhere.name()));
    if implementation == Implementation::Adit {
        let mode = format!("cat /proc/sys/net/ipv6/conf/{}/addr_gen_mode", daemon.interface);
        await_that("it is told there, too, not to make addresses", || {
            elsewhere.attempt(&mode).is_ok_and(|mode| mode.trim() == "1")
        });
    }
    elsewhere.ip(&format!("link set {} up", daemon.interface));
    pair.left.ns = elsewhere.clone();
    pair.left.address_inside();
    pair.left.greet(&pair.right);
    pair.ping();
    let own = format!("-oneline address show dev {} scope link", pair.left.daemon.interface);
    assert_eq!(elsewhere.ip(&own), "", "the kernel gave it an address");
    padding_follows_the_mtu(&pair, &elsewhere, &pair.left.daemon.interface);
}

/// A packet of one byte less than the MTU is padded to the MTU, not to 16 bytes.
#[track_caller]
fn padding_follows_the_mtu(pair: &Pair, ns: &Namespace, interface: &str) {
    let Pair { left, right, .. } = pair;
    for mtu in [1301, 1399, 1421] {
        ns.ip(&format!("link set {interface} mtu {mtu}"));
        await_that("datagrams are padded to the new MTU", || {
            let before = left.sees(right).sent;
            left.ns.ping_whole(right.v4, 1, mtu - 1 - 28);
            left.sees(right).sent - before == 32 + mtu as u64
        });
    }
}

// The end.

fn deleting_the_interface_ends_the_daemon(lab: &Lab, implementation: Implementation) {
    let (home, inside) = (lab.namespace("home"), lab.namespace("inside"));
    for ns in [&home, &inside] {
        let mut node = Node::start(lab, implementation, &[], &home, ns, 1);
        ns.ip(&format!("link delete {}", node.daemon.interface));
        expect_clean_end(&mut node.daemon);
    }
}

fn deleting_its_namespace_ends_the_daemon(lab: &Lab, implementation: Implementation) {
    let home = lab.namespace("home");
    let Node { mut daemon, ns, .. } =
        Node::start(lab, implementation, &[], &home, &lab.namespace("inside"), 1);
    drop(ns);
    expect_clean_end(&mut daemon);
}

fn a_signal_ends_the_daemon_and_leaves_nothing(lab: &Lab, implementation: Implementation) {
    for signal in [Signal::TERM, Signal::INT] {
        let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
        pair.ping();
        let Node { mut daemon, ns, .. } = pair.left;
        daemon.signal(signal);
        expect_clean_end(&mut daemon);
        assert!(ns.attempt(&format!("ip link show {}", daemon.interface)).is_err());
        assert!(is_free(&daemon.home, 1));
    }
}

fn the_removal_of_its_socket_ends_the_daemon(lab: &Lab, implementation: Implementation) {
    let home = lab.namespace("home");
    let mut daemon = Daemon::start(lab, implementation, &home, &[]);
    assert_eq!(daemon.show("peers"), "");
    fs::remove_file(daemon.socket()).expect("its socket");
    expect_clean_end(&mut daemon);
    let mut daemon = Daemon::start(lab, implementation, &home, &[]);
    let other = lab.file("other", "");
    // A move into a place in one step; the folders may be on different file systems.
    let beside = daemon.socket().with_extension("other");
    fs::copy(other, &beside).expect("a copy");
    fs::rename(&beside, daemon.socket()).expect("a replacement");
    daemon.await_end();
    // What lies there now is not its own to remove.
    assert!(daemon.socket().exists());
}

fn a_change_of_its_socket_does_not_end_the_daemon(lab: &Lab, implementation: Implementation) {
    let mut daemon = Daemon::start(lab, implementation, &lab.namespace("home"), &[]);
    let socket = daemon.socket();
    fs::set_permissions(&socket, Permissions::from_mode(0o770)).expect("chmod");
    for command in ["chgrp", "chown"] {
        let status = Command::new(command).arg("1").arg(&socket).status().expect(command);
        assert!(status.success());
    }
    let touched = Command::new("touch").arg(&socket).status().expect("touch");
    assert!(touched.success());
    thread::sleep(Duration::from_millis(300)); // To see that it stays.
    assert!(daemon.ended().is_none(), "it ended");
    daemon.set("fwmark 7");
    assert_eq!(daemon.show("fwmark"), "0x7");
}

fn a_killed_daemon_is_succeeded_under_its_name(lab: &Lab, implementation: Implementation) {
    let home = lab.namespace("home");
    let mut first = Daemon::start(lab, implementation, &home, &[]);
    first.signal(Signal::KILL);
    first.await_end();
    assert!(first.socket().exists(), "it could not clean up");
    let second = Daemon::start_as(lab, implementation, &home, &[], &first.interface);
    second.set("fwmark 7");
    assert_eq!(second.show("fwmark"), "0x7");
}

fn a_second_daemon_of_a_name_disturbs_nobody(lab: &Lab, implementation: Implementation) {
    let first = Daemon::start(lab, implementation, &lab.namespace("home"), &[]);
    let program = implementation.program().expect("it runs already");
    let word = if implementation == Implementation::Adit { "daemon " } else { "" };
    let elsewhere = lab.namespace("elsewhere");
    for ns in [&first.home, &elsewhere] {
        let second = format!("{} {word}-f {}", program.display(), first.interface);
        let error = ns.attempt(&second).expect_err("the name is taken");
        assert!(error.starts_with("exit status: 1"), "{error}");
    }
    first.set("fwmark 7");
    assert_eq!(first.show("fwmark"), "0x7");
    assert!(elsewhere.attempt(&format!("ip link show {}", first.interface)).is_err());
}

// Over time.

fn peers_come_and_go_without_a_trace(lab: &Lab, implementation: Implementation) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let daemon = &pair.left.daemon;
    let one_round = || {
        let keys: Vec<_> = (1..=200_u8).map(|n| format!("{n:02x}").repeat(32)).collect();
        let add: String = (keys.iter().enumerate())
            .map(|(n, key)| {
                format!("public_key={key}\nendpoint=127.0.0.1:9\nallowed_ip=10.0.{n}.0/24\n")
            })
            .collect();
        assert_eq!(daemon.uapi(&format!("set=1\n{add}\n")), "errno=0\n\n");
        let remove: String =
            keys.iter().map(|key| format!("public_key={key}\nremove=true\n")).collect();
        assert_eq!(daemon.uapi(&format!("set=1\n{remove}\n")), "errno=0\n\n");
    };
    one_round();
    let before = belongings(daemon);
    for _ in 0..20 {
        one_round();
    }
    let after = belongings(daemon);
    assert_eq!((before.descriptors, before.threads), (after.descriptors, after.threads));
    let growth = after.resident.saturating_sub(before.resident);
    assert!(growth < 4 << 10, "grew by {growth} KiB");
    pair.ping();
}

/// Nor of the changes that brought them there.
#[test]
fn of_keys_that_were_removed_nothing_is_left_in_memory() {
    let name = "of_keys_that_were_removed_nothing_is_left_in_memory";
    Implementation::Adit.play(name, |lab, implementation| {
        let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
        pair.ping();
        let Pair { left, right, .. } = &pair;
        let told = left.daemon.uapi("get=1\n\n");
        let secrets = ["private_key=", "preshared_key="].map(|key| {
            let hex = told.lines().find_map(|line| line.strip_prefix(key)).expect(key);
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("a byte");
            (0..64).step_by(2).map(byte).collect::<Vec<_>>()
        });
        let pid = left.daemon.pid();
        assert!(
            secrets.iter().all(|secret| is_in_memory(pid, secret)),
            "it is looked for elsewhere"
        );
        let broker = left.daemon.broker();
        assert!(!secrets.iter().any(|secret| is_in_memory(broker, secret)));
        left.set("private-key /dev/null");
        left.set_peer(right, "remove");
        for secret in &secrets {
            await_that("the key is gone", || !is_in_memory(pid, secret));
        }
    });
}

/// Whether bytes are anywhere in what a process has written to its memory.
fn is_in_memory(pid: u32, bytes: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("a process");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("a process");
    // Neither of files, nor the kernel's own.
    let own = maps.lines().filter(|line| !line.contains(['/', '[']) || line.ends_with(']'));
    own.filter(|line| line.contains(" rw")).any(|line| {
        let (range, _) = line.split_once(' ').expect("a range");
        let (start, end) = range.split_once('-').expect("a range");
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).expect("an address"));
        let mut content = vec![0; (end - start) as usize];
        // What has gone meanwhile has nothing in it.
        let is_there = memory.read_exact_at(&mut content, start).is_ok();
        is_there && content.windows(bytes.len()).any(|place| place == bytes)
    })
}

/// What a process holds.
struct Belongings {
    descriptors: usize,
    threads: usize,
    /// In KiB.
    resident: usize,
}

/// When the last connection to its socket has ended: nothing changes any more.
fn belongings(daemon: &Daemon) -> Belongings {
    let mut last = belongings_now(daemon);
    await_some("nothing changes any more", || {
        thread::sleep(Duration::from_millis(100));
        let before = std::mem::replace(&mut last, belongings_now(daemon));
        let same = (before.descriptors, before.threads) == (last.descriptors, last.threads);
        same.then_some(before)
    })
}

fn belongings_now(daemon: &Daemon) -> Belongings {
    let folder = format!("/proc/{}", daemon.pid());
    let count = |what| fs::read_dir(format!("{folder}/{what}")).expect("a process").count();
    let status = fs::read_to_string(format!("{folder}/status")).expect("a process");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let resident = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    Belongings { descriptors: count("fd"), threads: count("task"), resident }
}

play_alone!(
    the_port_is_open_while_the_interface_is_up,
    a_drawn_port_is_the_same_for_both_families,
    down_means_silence_and_up_a_handshake_at_once,
    up_starts_the_persistent_keepalive,
    many_toggles_end_in_the_last_state,
    an_interface_has_no_address_of_its_own_making,
    a_renamed_interface_keeps_working,
    a_moved_interface_keeps_working,
    deleting_the_interface_ends_the_daemon,
    deleting_its_namespace_ends_the_daemon,
    a_signal_ends_the_daemon_and_leaves_nothing,
    the_removal_of_its_socket_ends_the_daemon,
    a_change_of_its_socket_does_not_end_the_daemon,
    a_killed_daemon_is_succeeded_under_its_name,
    a_second_daemon_of_a_name_disturbs_nobody,
    peers_come_and_go_without_a_trace,
);

/// Waits until the daemon has ended with success, in a second, has removed its socket, and has given no
/// more than one reason.
#[track_caller]
fn expect_clean_end(daemon: &mut Daemon) {
    let started = Instant::now();
    let status = daemon.await_end();
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(!daemon.socket().exists(), "its socket is still there");
    let log = daemon.log();
    assert!(log.matches("The tunnel ends").count() <= 1, "{log}");
}

/// Whether nobody has this UDP port of IPv4.
fn is_free(ns: &Namespace, port: u16) -> bool {
    let table = ns.within(|| fs::read_to_string("/proc/thread-self/net/udp"));
    !table.expect("a table of sockets").contains(&format!(":{port:04X} "))
}
