//! Cookies and floods (spec §1.6, §7.3).

use std::net::SocketAddr;
use std::time::Duration;

use adit_tests::net::{ALICE, BOB, Net, Parcel, Seed, Weather, What};
use proto::Discard;

use super::{ROUND_TRIP, assert_jittered, intercept, millis, run_until_sent, seconds};

/// Two machines, of which Bob has too much to do.
fn crowded(seed: u64) -> Net {
    let mut net = Net::pair(Seed(seed));
    net.edit(BOB, |bob| bob.overloaded = true);
    net
}

fn has_cookie(parcel: &Parcel) -> bool {
    !parcel.bytes.ends_with(&[0; 16])
}

/// Alice's next initiation, after she has got a cookie.
fn initiation_with_cookie(net: &mut Net) -> Parcel {
    net.alice.send(b"x");
    net.run(seconds(5) - millis(1));
    net.intercept();
    run_until_sent(net, ALICE, What::Initiation, 2);
    let initiation = intercept(net, What::Initiation);
    assert!(has_cookie(&initiation));
    initiation
}

#[test]
fn under_load_the_first_initiation_gets_a_cookie_and_the_second_an_answer() {
    let mut net = crowded(1);
    net.alice.send(b"x");
    net.settle();
    assert_eq!(net.sent(BOB, What::CookieReply), [ROUND_TRIP / 2]);
    assert_eq!(net.sent(BOB, What::Response), []);
    net.run(seconds(6));
    assert_eq!(net.sent(BOB, What::CookieReply).len(), 1);
    assert_eq!(net.sent(BOB, What::Response).len(), 1);
    assert_eq!(net.bob.received(), [b"x"]);
}

#[test]
fn a_cookie_does_not_hasten_the_next_initiation() {
    let mut net = crowded(2);
    net.alice.send(b"x");
    net.run(seconds(6));
    let sent = net.sent(ALICE, What::Initiation);
    assert_jittered(sent[1] - sent[0], seconds(5));
}

#[test]
fn every_message_takes_one_cookie_reply() {
    let mut net = crowded(3);
    net.alice.send(b"x");
    net.run(millis(10));
    let reply = intercept(&mut net, What::CookieReply);
    let mut forged = reply.clone();
    forged.bytes[40] ^= 1;
    forged.maker = None;
    assert_eq!(net.deliver(&forged), Err(Discard::BadCookie));
    assert_eq!(net.deliver(&reply), Ok(()));
    assert_eq!(net.deliver(&reply), Err(Discard::BadCookie));
}

#[test]
fn a_cookie_reply_moves_no_endpoint_and_counts_for_nothing() {
    let mut net = crowded(4);
    net.alice.send(b"x");
    net.run(millis(10));
    let mut reply = intercept(&mut net, What::CookieReply);
    reply.from = SocketAddr::from(([203, 0, 113, 1], 1));
    let (before, deadline) = (net.alice.device.state(), net.alice.device.poll_timeout());
    assert_eq!(net.deliver(&reply), Ok(()));
    assert!(net.alice.device.state() == before);
    assert_eq!(net.alice.device.poll_timeout(), deadline);
}

#[test]
fn a_cookie_is_good_for_one_address_and_port() {
    let mut net = crowded(5);
    let initiation = initiation_with_cookie(&mut net);
    for (address, port) in [([192, 0, 2, 1], 51821), ([192, 0, 2, 9], 51820)] {
        let from = SocketAddr::from((address, port));
        let moved = Parcel { from, ..initiation.clone() };
        assert_eq!(net.deliver(&moved), Err(Discard::CookieRequired), "{from}");
    }
    assert_eq!(net.deliver(&initiation), Ok(()));
}

#[test]
fn a_cookie_is_good_for_one_message() {
    let mut net = crowded(6);
    let mut initiation = initiation_with_cookie(&mut net);
    *initiation.bytes.last_mut().unwrap() ^= 1;
    assert_eq!(net.deliver(&initiation), Err(Discard::CookieRequired));
}

#[test]
fn without_load_nobody_looks_at_mac2() {
    let mut net = Net::pair(Seed(7));
    net.alice.send(b"x");
    let mut initiation = intercept(&mut net, What::Initiation);
    initiation.bytes[140] ^= 1;
    assert_eq!(net.deliver(&initiation), Ok(()));
}

#[test]
fn load_is_over_a_second_after_it_ends() {
    let mut net = crowded(8);
    net.alice.send(b"x");
    let initiation = intercept(&mut net, What::Initiation);
    assert_eq!(net.deliver(&initiation), Err(Discard::CookieRequired));
    net.edit(BOB, |bob| bob.overloaded = false);
    net.run(millis(999));
    assert_eq!(net.deliver(&initiation), Err(Discard::CookieRequired));
    net.run(millis(1));
    assert_eq!(net.deliver(&initiation), Ok(()));
}

#[test]
fn without_the_public_key_there_is_no_cookie_either() {
    let mut net = crowded(9);
    net.alice.send(b"x");
    let mut initiation = intercept(&mut net, What::Initiation);
    initiation.bytes[120] ^= 1;
    initiation.maker = None;
    assert_eq!(net.deliver(&initiation), Err(Discard::BadMac));
    assert_eq!(net.sent(BOB, What::CookieReply), []);
}

#[test]
fn a_cookie_is_used_for_115_seconds() {
    let mut net = crowded(10);
    net.alice.send(b"x");
    net.run(millis(10));
    let reply = intercept(&mut net, What::CookieReply);
    net.deliver(&reply).unwrap();
    net.weather = Weather::CUT;
    let got = net.age();
    while net.age() < seconds(130) {
        net.alice.send(b"x");
        net.run(millis(500));
    }
    let mut ages: Vec<(Duration, bool)> = Vec::new();
    for sent in net.log.iter().filter(|sent| sent.parcel.what() == Some(What::Initiation)) {
        ages.push((sent.at.saturating_sub(got), has_cookie(&sent.parcel)));
    }
    assert!(ages.len() > 20);
    for (age, cookie) in ages.split_off(1) {
        assert_eq!(cookie, age < seconds(115), "at the age of {age:?}");
    }
}

#[test]
fn a_cookie_is_accepted_for_120_seconds() {
    for (wait, expected) in [(114, Ok(())), (116, Err(Discard::CookieRequired))] {
        let mut net = crowded(11);
        // Bob's secret is five seconds old by then.
        let initiation = initiation_with_cookie(&mut net);
        net.edit(ALICE, |alice| alice.down());
        net.run(seconds(wait) - millis(500));
        assert_eq!(net.deliver(&initiation), expected, "after {wait} more seconds");
    }
}

#[test]
fn a_proven_source_has_five_messages_at_once_and_then_twenty_a_second() {
    let mut net = crowded(12);
    let initiation = initiation_with_cookie(&mut net);
    assert_eq!(net.deliver(&initiation), Ok(()));
    for _ in 0..4 {
        assert_eq!(net.deliver(&initiation), Err(Discard::OldTimestamp));
    }
    assert_eq!(net.deliver(&initiation), Err(Discard::Flood));
    net.run(millis(50));
    assert_eq!(net.deliver(&initiation), Err(Discard::OldTimestamp));
    assert_eq!(net.deliver(&initiation), Err(Discard::Flood));
}

#[test]
fn messages_in_somebodys_name_without_his_cookie_do_not_use_up_his_share() {
    let mut net = Net::mesh(Seed(15), 3);
    net.edit(BOB, |bob| bob.overloaded = true);
    let initiation = initiation_with_cookie(&mut net);
    net.node_mut(2).send_to(BOB, b"x");
    let spoofed = Parcel { from: initiation.from, ..intercept(&mut net, What::Initiation) };
    for _ in 0..100 {
        assert_eq!(net.deliver(&spoofed), Err(Discard::CookieRequired));
    }
    assert_eq!(net.deliver(&initiation), Ok(()));
}

#[test]
fn a_flood_from_one_source_does_not_shut_out_another() {
    let mut net = Net::mesh(Seed(13), 3);
    net.edit(BOB, |bob| bob.overloaded = true);
    let initiation = initiation_with_cookie(&mut net);
    for _ in 0..100 {
        let _ = net.deliver(&initiation);
    }
    assert_eq!(net.deliver(&initiation), Err(Discard::Flood));
    net.intercept();
    net.node_mut(2).send_to(BOB, b"from carol");
    net.run(seconds(6));
    assert!(net.bob.received().contains(&b"from carol".to_vec()));
}

#[test]
fn a_response_can_be_refused_with_a_cookie_too() {
    let mut net = Net::pair(Seed(14));
    net.edit(ALICE, |alice| alice.overloaded = true);
    net.alice.send(b"x");
    net.run(seconds(7));
    assert_eq!(net.sent(ALICE, What::CookieReply).len(), 1);
    assert_eq!(net.sent(BOB, What::Response).len(), 2);
    assert_eq!(net.bob.received(), [b"x"]);
}
