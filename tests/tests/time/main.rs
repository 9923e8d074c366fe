//! What a daemon does as time goes by. Between two of adit the protocol's clock runs faster; with
//! wireguard-go it takes patience, which `ADIT_LONG=1` says is there.

mod idle;

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::lab::{Family, Implementation, Lab, Pair, Pairing, await_that, skipped};

use Implementation::{Adit, WireguardGo};

/// How many times faster the clock runs, as a number and as adit is told.
const SCALE: u32 = 20;
const FAST: Pairing =
    Pairing { left: Adit, right: Adit, environment: &[("ADIT_TIME_SCALE", "20")] };

#[test]
fn a_session_is_renewed_under_traffic_without_loss() {
    FAST.play("a_session_is_renewed_under_traffic_without_loss", |lab, pairing| {
        let pair = Pair::new(lab, pairing, Family::V4);
        renews_its_session(&pair, Duration::from_secs(120) / SCALE);
    });
}

#[test]
fn a_session_with_wireguard_go_is_renewed_under_traffic_without_loss() {
    if env::var_os("ADIT_LONG").is_none() {
        return skipped("takes two minutes each; ADIT_LONG=1 plays it");
    }
    let name = "a_session_with_wireguard_go_is_renewed_under_traffic_without_loss";
    for (left, right) in [(Adit, WireguardGo), (WireguardGo, Adit)] {
        Pairing::new(left, right).play(name, |lab, pairing| {
            let pair = Pair::new(lab, pairing, Family::V4);
            renews_its_session(&pair, Duration::from_secs(120));
        });
    }
}

/// The initiator starts another handshake when it sends on a key of this age.
#[track_caller]
fn renews_its_session(pair: &Pair, age: Duration) {
    pair.ping();
    let Pair { left, right, .. } = pair;
    let first = left.sees(right).latest_handshake;
    let started = Instant::now();
    await_long("another handshake", age + age / 4, || {
        left.ns.ping(right.v4, 10);
        right.ns.ping(left.v6, 10);
        left.sees(right).latest_handshake > first
    });
    let renewed = started.elapsed() + Duration::from_millis(1200); // Handshakes are told in seconds.
    assert!(renewed > age, "already after {:?}", started.elapsed());
    pair.ping();
}

#[test]
fn an_initiator_gives_up_after_twenty_attempts() {
    FAST.play("an_initiator_gives_up_after_twenty_attempts", |lab, pairing| {
        let Pair { left, right, .. } = Pair::unacquainted(lab, pairing);
        left.allow(&right, "endpoint 127.0.0.1:2");
        let all = 20 * 148;
        left.ns.no_ping(right.v4);
        await_that("twenty initiations", || left.sees(&right).sent == all);
        thread::sleep(Duration::from_secs(20) / SCALE); // To measure silence.
        assert_eq!(left.sees(&right).sent, all);
        // It is not for ever.
        right.allow(&left, "");
        left.greet(&right);
    });
}

#[test]
fn received_data_is_acknowledged_by_one_keepalive() {
    FAST.play("received_data_is_acknowledged_by_one_keepalive", |lab, pairing| {
        let Pair { left, right, .. } = Pair::new(lab, pairing, Family::V4);
        left.greet(&right);
        thread::sleep(Duration::from_secs(30) / SCALE); // All that follows has followed.
        let (sent, received) = (right.sees(&left).sent, right.sees(&left).received);
        let sender = left.ns.within(|| std::net::UdpSocket::bind((left.v4, 0))).expect("a sender");
        // A port that nobody has answers; one that is bound is silent.
        let sink = right.ns.within(|| std::net::UdpSocket::bind((right.v4, 9))).expect("a sink");
        sender.send_to(b"data", sink.local_addr().expect("an address")).expect("it leaves");
        await_that("the data arrives", || right.sees(&left).received > received);
        await_that("a keepalive leaves", || right.sees(&left).sent == sent + 32);
        thread::sleep(Duration::from_secs(30) / SCALE); // To measure silence.
        assert_eq!(right.sees(&left).sent, sent + 32);
    });
}

#[test]
fn unanswered_data_starts_a_handshake_with_the_one_who_came_back() {
    FAST.play("unanswered_data_starts_a_handshake_with_the_one_who_came_back", |lab, pairing| {
        let pair = Pair::new(lab, pairing, Family::V4);
        pair.ping();
        let Pair { left, right, preshared } = pair;
        let right = right.restart(lab, pairing.environment);
        right.allow(&left, &format!("preshared-key {}", preshared.file));
        // The right one has forgotten the session and is told no endpoint: only the left one can act,
        // after fifteen seconds without an answer.
        let started = Instant::now();
        await_that("the left one shakes hands", || left.ns.pings(right.v4, 1, 56).is_ok());
        assert!(started.elapsed() < PATIENCE_FOR_ANSWERS, "{:?}", started.elapsed());
        Pair { left, right, preshared }.ping();
    });
}

/// An echo request without an answer takes three seconds of real time.
const PATIENCE_FOR_ANSWERS: Duration = Duration::from_secs(8);

#[test]
fn an_old_session_is_refused_and_renewed_at_once() {
    FAST.play("an_old_session_is_refused_and_renewed_at_once", |lab: &Lab, pairing| {
        let pair = Pair::new(lab, pairing, Family::V4);
        pair.ping();
        thread::sleep(Duration::from_secs(185) / SCALE); // Past REJECT_AFTER_TIME.
        pair.left.ns.ping(pair.right.v4, 1);
        thread::sleep(Duration::from_secs(545) / SCALE); // Past the erasure of all keys.
        pair.right.ns.ping(pair.left.v4, 1);
        pair.ping();
    });
}

/// As [`await_that`], for what takes longer by nature.
#[track_caller]
fn await_long(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
    }
}
