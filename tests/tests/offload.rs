//! Traffic with each offload of the kernel disabled, failing at run time, and with several workers.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use adit_tests::lab::traffic::{flows_until, tcp, trains};
use adit_tests::lab::{
    Daemon, Family, Implementation, Lab, Namespace, Pair, Pairing, find_program, skipped,
};
use adit_tests::scenarios::*;

/// One module for each way to run adit, with the traffic scenarios between two of it and between it
/// and wireguard-go.
macro_rules! play_traffic {
    ($($module:ident: $variable:literal = $value:literal;)*) => {
        $(mod $module {
            const ENVIRONMENT: &[(&str, &str)] = &[($variable, $value)];
            play_traffic!(@ adit_with_adit, Adit, Adit);
            play_traffic!(@ adit_with_wireguard_go, Adit, WireguardGo);
        })*
    };
    (@ $module:ident, $left:ident, $right:ident) => {
        play_traffic!(@@ $module, $left, $right,
            pings_cross_in_both_families_over_both,
            transfers_arrive_whole,
            trains_of_datagrams_arrive_whole,
            packets_of_every_size_up_to_the_mtu_pass_unfragmented,
            full_packets_cross_a_smaller_outer_path,
            a_path_that_shrinks_under_way_is_noticed,
        );
    };
    (@@ $module:ident, $left:ident, $right:ident, $($scenario:ident,)*) => {
        mod $module {
            use adit_tests::lab::{Implementation, Pairing};
            $(#[test]
            fn $scenario() {
                let pairing = Pairing {
                    environment: super::ENVIRONMENT,
                    ..Pairing::new(Implementation::$left, Implementation::$right)
                };
                pairing.play(stringify!($scenario), super::super::$scenario);
            })*
        }
    };
}

// ADIT_OFFLOAD lists what may be used, ADIT_FAIL what fails with which error number.
play_traffic! {
    without_tun_tso: "ADIT_OFFLOAD" = "tun-uso,udp-gso,udp-gro";
    without_tun_uso: "ADIT_OFFLOAD" = "tun-tso,udp-gso,udp-gro";
    without_udp_gso: "ADIT_OFFLOAD" = "tun-tso,tun-uso,udp-gro";
    without_udp_gro: "ADIT_OFFLOAD" = "tun-tso,tun-uso,udp-gso";
    without_any: "ADIT_OFFLOAD" = "";
    udp_gso_fails_with_eio: "ADIT_FAIL" = "udp-gso=5";
    udp_gso_fails_with_einval: "ADIT_FAIL" = "udp-gso=22";
    udp_gso_fails_with_emsgsize: "ADIT_FAIL" = "udp-gso=90";
    tun_tso_fails_with_einval: "ADIT_FAIL" = "tun-tso=22";
    two_workers: "ADIT_WORKERS" = "2";
    three_workers: "ADIT_WORKERS" = "3";
    one_worker_and_another_when_needed: "ADIT_WORKERS" = "..2";
}

/// What a pair of daemons has of the kernel, as it is seen from outside.
#[derive(Debug, PartialEq, Eq)]
struct InUse {
    /// TUNs are given TCP, and datagrams, as super-packets.
    takes: [bool; 2],
    /// They give the kernel such.
    gives: [bool; 2],
    /// Messages leave, and arrive, as trains.
    trains: [bool; 2],
}

const ALL: InUse = InUse { takes: [true; 2], gives: [true; 2], trains: [true; 2] };

impl InUse {
    /// Of two daemons, between which a stream goes, and then datagrams; and what they tell.
    fn between(lab: &Lab, pairing: Pairing) -> (Self, String) {
        let Pair { left, right, .. } = Pair::linked(lab, pairing, Family::V4);
        left.greet(&right);
        let features = left.ns.run(&format!("ethtool -k {}", left.daemon.interface));
        let takes = ["tx-tcp-segmentation", "tx-udp-segmentation"]
            .map(|name| features.contains(&format!("{name}: on")));
        let inside = format!("iifname {}", right.daemon.interface);
        let leaving = LongPackets::watch(&left.ns, "output", "udp dport 2");
        let streams = LongPackets::watch(&right.ns, "input", &format!("{inside} meta l4proto tcp"));
        let datagrams =
            LongPackets::watch(&right.ns, "input", &format!("{inside} meta l4proto udp"));
        let arrived = || (right.sees(&left).received, datagrams_received(&right.ns));
        let before = arrived();
        tcp(&left.ns, &right.ns, right.v4, 20 << 20);
        let after = arrived();
        // No message is longer than this.
        let arrive = after.0 - before.0 > 1500 * (after.1 - before.1);
        let trains_leave = leaving.were_seen();
        // Neighbours are joined if they arrive together.
        let gives_datagrams = (0..10).any(|_| {
            trains(&left.ns, &right.ns, right.v4, 1000);
            datagrams.were_seen()
        });
        let gives = [streams.were_seen(), gives_datagrams];
        let log = [&left, &right].map(|node| node.daemon.log()).concat();
        (Self { takes, gives, trains: [trains_leave, arrive] }, log)
    }
}

/// A packet filter that looks for packets that stand for several.
struct LongPackets<'a>(&'a Namespace, String);

impl<'a> LongPackets<'a> {
    fn watch(ns: &'a Namespace, hook: &str, what: &str) -> Self {
        let table = format!("{hook}-{}", what.replace(|c: char| !c.is_alphanumeric(), "-"));
        ns.run(&format!("nft add table inet {table}"));
        let chain = format!("type filter hook {hook} priority 0");
        ns.run(&format!("nft add chain inet {table} it {{ {chain} ; }}"));
        ns.run(&format!("nft add rule inet {table} it {what} meta length > 1500 counter"));
        Self(ns, table)
    }

    fn were_seen(&self) -> bool {
        let told = self.0.run(&format!("nft list table inet {}", self.1));
        assert!(told.contains("counter packets "), "{told}");
        !told.contains("counter packets 0 ")
    }
}

/// How many datagrams, or trains, programs in a namespace have received.
fn datagrams_received(ns: &Namespace) -> u64 {
    let table = ns.within(|| fs::read_to_string("/proc/thread-self/net/snmp")).expect("counters");
    let line = table.lines().filter_map(|line| line.strip_prefix("Udp: ")).nth(1);
    let first = line.and_then(|line| line.split(' ').next()).and_then(|word| word.parse().ok());
    first.expect("a count of datagrams")
}

/// What is disabled is not used, and what fails at run time is done without: else all the above would
/// show nothing.
#[test]
fn what_is_disabled_or_fails_is_not_in_use() {
    type Case = (&'static [(&'static str, &'static str)], InUse, Option<&'static str>);
    let cases: [Case; 10] = [
        (&[], ALL, None),
        (
            &[("ADIT_OFFLOAD", "tun-uso,udp-gso,udp-gro")],
            InUse { takes: [false, true], gives: [false, true], ..ALL },
            None,
        ),
        (
            &[("ADIT_OFFLOAD", "tun-tso,udp-gso,udp-gro")],
            InUse { takes: [true, false], gives: [true, false], ..ALL },
            None,
        ),
        (&[("ADIT_OFFLOAD", "tun-tso,tun-uso,udp-gro")], InUse { trains: [false; 2], ..ALL }, None),
        (
            &[("ADIT_OFFLOAD", "tun-tso,tun-uso,udp-gso")],
            InUse { trains: [true, false], ..ALL },
            None,
        ),
        (
            &[("ADIT_OFFLOAD", "")],
            InUse { takes: [false; 2], gives: [false; 2], trains: [false; 2] },
            None,
        ),
        (
            &[("ADIT_FAIL", "udp-gso=5")],
            InUse { trains: [false; 2], ..ALL },
            Some("udp-gso: Input/output error"),
        ),
        (
            &[("ADIT_FAIL", "udp-gso=22")],
            InUse { trains: [false; 2], ..ALL },
            Some("udp-gso: Invalid argument"),
        ),
        (
            &[("ADIT_FAIL", "udp-gso=90")],
            InUse { trains: [false; 2], ..ALL },
            Some("udp-gso: Message too long"),
        ),
        (
            &[("ADIT_FAIL", "tun-tso=22")],
            InUse { gives: [false; 2], ..ALL },
            Some("tun-tso: Invalid argument"),
        ),
    ];
    if find_program("ethtool").is_none() {
        return skipped("no program ethtool");
    }
    let Some(lab) = Lab::open(&[Implementation::Adit]) else { return };
    let pairing = Pairing::new(Implementation::Adit, Implementation::Adit);
    // The youngest of them is of Linux 6.2.
    let has_all = InUse::between(&lab, pairing).0.takes[1];
    for (environment, mut expected, told) in cases {
        expected.takes[1] &= has_all;
        expected.gives[1] &= has_all;
        let (in_use, log) = InUse::between(&lab, Pairing { environment, ..pairing });
        assert_eq!(in_use, expected, "{environment:?}");
        let losses: BTreeSet<_> = log
            .lines()
            .filter_map(|line| line.split_once("Doing without "))
            .map(|it| it.1)
            .collect();
        let expected: BTreeSet<_> = told.into_iter().collect();
        assert_eq!(losses, expected, "{environment:?}: {log}");
    }
}

/// Threads of `daemon` that carry packets and have done so for a while.
fn busy_workers(daemon: &Daemon) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("a daemon that runs");
    let is_busy = |task: PathBuf| -> Option<bool> {
        let stat = fs::read_to_string(task.join("stat")).ok()?;
        // "ID (NAME) STATE ...": user and system time are the 14th and 15th of all (proc(5)).
        let (name, fields) = stat.split_once(") ")?;
        let times = fields.split(' ').skip(11).take(2);
        let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Some(name.ends_with("(worker") && ticks >= 10)
    };
    tasks.flatten().filter(|task| is_busy(task.path()) == Some(true)).count()
}

#[test]
fn a_worker_without_rest_gets_help_and_every_flow_keeps_its_order() {
    let pairing = Pairing {
        environment: &[("ADIT_WORKERS", "..4")],
        ..Pairing::new(Implementation::Adit, Implementation::Adit)
    };
    pairing.play("a_worker_without_rest_gets_help", |lab, pairing| {
        let Pair { left, right, .. } = Pair::linked(lab, pairing, Family::V4);
        left.greet(&right);
        for (from, to) in [(&left, &right), (&right, &left)] {
            flows_until(&from.ns, &to.ns, to.v4, || busy_workers(&from.daemon) > 1);
            // The spread machine is whole: also new sockets and a new session are.
            from.daemon.set("listen-port 0");
            from.greet(to);
            tcp(&from.ns, &to.ns, to.v6, 20 << 20);
        }
    });
}
