//! A daemon with nothing to do does nothing: no timer fires, no thread wakes, no packet leaves.
//!
//! `ADIT_IDLE_SECONDS` is how long it is watched, by default the sixty seconds of the promise.

use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::lab::{
    Family, Implementation, Lab, Pair, Pairing, await_that, find_program, skipped,
};

#[test]
fn an_idle_daemon_makes_no_system_call() {
    if find_program("strace").is_none() {
        return skipped("no program strace");
    }
    let Some(lab) = Lab::open(&[Implementation::Adit]) else { return };
    let pairing = Pairing::new(Implementation::Adit, Implementation::Adit);
    let pair = Pair::new(&lab, pairing, Family::V4);
    let Pair { left, right, .. } = &pair;
    let keys = (0..100_u8).map(|n| format!("{:02x}", n + 1).repeat(32)).enumerate();
    let peers = keys.map(|(n, key)| {
        format!("public_key={key}\nendpoint=127.0.0.1:9\nallowed_ip=10.0.{n}.0/24\n")
    });
    let request = format!("set=1\n{}\n", peers.collect::<String>());
    assert_eq!(left.daemon.uapi(&request), "errno=0\n\n");
    // The kernel looks for routers on every interface that has an address of IPv6.
    for node in [left, right] {
        let key = format!("ipv6/conf/{}/router_solicitations", node.daemon.interface);
        node.ns.sysctl(&key, "0");
    }
    // A past session: a keepalive follows it after ten seconds, and after fifteen the time has
    // passed at which an answer could have been missed. Its keys go after nine minutes. The kernel
    // may have packets of its own to send meanwhile, to which the same applies.
    pair.ping();
    let messages = || [left.sees(right).sent, left.sees(right).received];
    let (mut last, mut since, start) = (messages(), Instant::now(), Instant::now());
    while since.elapsed() < Duration::from_secs(17) {
        assert!(start.elapsed() < Duration::from_secs(120), "it never ends");
        thread::sleep(Duration::from_millis(500));
        if messages() != last {
            (last, since) = (messages(), Instant::now());
        }
    }

    let sent = left.sees(right).sent;
    let seconds = env::var("ADIT_IDLE_SECONDS").map_or(Ok(60), |text| text.parse());
    let seconds: u64 = seconds.expect("ADIT_IDLE_SECONDS is a number");
    let record = lab.file("strace", "");
    let (pid, broker) = (left.daemon.pid(), left.daemon.broker());
    let mut strace = left.ns.spawn(&format!("strace -f -q -o {record} -p {pid} -p {broker}"));
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let threads = tasks.count() + 1;
    let calls = || fs::read_to_string(&record).expect("what strace writes");
    await_that("strace sees every thread", || calls().lines().count() >= threads);
    // Each thread is in one call, which strace disturbs when it comes.
    thread::sleep(Duration::from_millis(500));
    let before = calls();
    thread::sleep(Duration::from_secs(seconds));
    let after = calls();
    assert!(matches!(strace.0.try_wait(), Ok(None)), "strace has ended");
    assert_eq!(after.strip_prefix(&before), Some(""), "{after}");
    assert_eq!(left.sees(right).sent, sent);
}
