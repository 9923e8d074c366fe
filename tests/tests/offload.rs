//! Traffic with each offload of the kernel disabled, failing at run time, and with several workers.

use std::fs;
use std::path::PathBuf;

use adit_tests::lab::traffic::{flows_until, tcp};
use adit_tests::lab::{Daemon, Family, Implementation, Pair, Pairing};
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
    one_worker_and_another_when_needed: "ADIT_WORKERS" = "..2";
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
