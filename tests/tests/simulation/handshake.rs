//! Sessions: how they are made, and by whom (spec §1.3–1.5, §7.1).

use adit_tests::net::{ALICE, BOB, Chance, Fate, Net, Node, Seed, Weather, What};
use proto::{Discard, Event, Progress};

use super::{ROUND_TRIP, assert_jittered, change, intercept, millis, run_until_sent, seconds};

#[test]
fn the_first_packet_makes_a_session_and_arrives() {
    let mut net = Net::pair(Seed(1));
    assert_eq!(net.alice.send(b"one"), Fate::Staged);
    net.settle();
    assert_eq!(net.alice.send(b"two"), Fate::Sent);
    net.settle();
    assert_eq!(net.bob.received(), [b"one", b"two"]);
}

#[test]
fn a_responder_sends_nothing_until_the_initiator_confirms() {
    let mut net = Net::pair(Seed(7));
    net.exchange_handshake();
    assert_eq!(net.bob.send(b"hello"), Fate::Staged);
    net.alice.send(b"hello");
    net.settle();
    assert_eq!(net.alice.received(), [b"hello"]);
    assert_eq!(net.bob.received(), [b"hello"]);
}

#[test]
fn staged_data_confirms_the_session_and_no_keepalive_comes_first() {
    let mut net = Net::pair(Seed(2));
    net.alice.send(b"one");
    net.alice.send(b"two");
    net.settle();
    assert_eq!(net.sent(ALICE, What::Keepalive), []);
    let packets = net.log.iter().filter(|sent| sent.parcel.what() == Some(What::Packet));
    let counters: Vec<_> = packets.map(|sent| sent.parcel.word(2)).collect();
    assert_eq!(counters, [0, 1]);
    assert_eq!(net.bob.received(), [b"one", b"two"]);
}

#[test]
fn without_data_a_keepalive_confirms_the_session_at_once() {
    let mut net = Net::pair(Seed(3));
    net.exchange_handshake();
    assert_eq!(net.sent(ALICE, What::Keepalive), [ROUND_TRIP]);
}

#[test]
fn a_responder_shows_the_handshake_when_it_is_confirmed() {
    let mut net = Net::pair(Seed(4));
    net.exchange_handshake();
    let [alice, bob] = [net.alice.key, net.bob.key];
    assert_eq!(net.alice.shown(bob).unwrap().last_handshake, Some(net.alice.now.wall));
    assert_eq!(net.bob.shown(alice).unwrap().last_handshake, None);
    net.settle();
    assert_eq!(net.bob.shown(alice).unwrap().last_handshake, Some(net.bob.now.wall));
}

#[test]
fn a_peer_that_only_answers_handshakes_is_not_heard_any_more() {
    let mut net = Net::pair(Seed(8));
    let [alice, bob] = [net.alice.key, net.bob.key];
    let heard =
        |net: &Net| [net.alice.shown(bob), net.bob.shown(alice)].map(|peer| peer.unwrap().receives);
    change(&mut net, ALICE, BOB, |peer| peer.persistent_keepalive = Some(25));
    net.run(ROUND_TRIP);
    assert_eq!(heard(&net), [Some(false), None], "a response is no more than that");
    net.run(ROUND_TRIP);
    assert_eq!(heard(&net), [Some(false), Some(true)], "a keepalive has come");
    net.bob.send(b"one");
    net.run(seconds(1));
    assert_eq!(heard(&net), [Some(true), Some(true)]);
    // Each of her keepalives after two minutes renews the session, and is not answered.
    for (handshakes, alice_hears) in [(2, true), (3, false), (4, false)] {
        while net.sent(BOB, What::Response).len() < handshakes {
            net.run(seconds(1));
        }
        net.run(seconds(1));
        assert_eq!(heard(&net), [Some(alice_hears), Some(true)], "after {handshakes} handshakes");
    }
}

#[test]
fn a_response_is_consumed_exactly_once() {
    let mut net = Net::pair(Seed(5));
    net.alice.send(b"x");
    net.run(millis(10));
    let response = intercept(&mut net, What::Response);
    assert_eq!(net.deliver(&response), Ok(()));
    assert_eq!(net.deliver(&response), Err(Discard::UnknownIndex));
    assert_eq!(net.alice.sessions.len(), 1);
}

#[test]
fn a_forged_response_leaves_the_handshake_for_the_genuine_one() {
    let mut net = Net::pair(Seed(6));
    net.alice.send(b"x");
    net.run(millis(10));
    let response = intercept(&mut net, What::Response);
    for at in [0, 4, 8, 12, 44, 60] {
        let mut forged = response.clone();
        forged.bytes[at] ^= 1;
        forged.maker = None;
        assert!(net.deliver(&forged).is_err(), "byte {at}");
    }
    assert_eq!(net.deliver(&response), Ok(()));
}

#[test]
fn an_initiation_is_accepted_once_and_no_older_one_after_it() {
    let mut net = Net::pair(Seed(8));
    net.alice.send(b"x");
    let first = intercept(&mut net, What::Initiation);
    run_until_sent(&mut net, ALICE, What::Initiation, 2);
    let second = intercept(&mut net, What::Initiation);
    assert_eq!(net.deliver(&second), Ok(()));
    net.intercept();
    net.run(seconds(1));
    for old in [&first, &second] {
        assert_eq!(net.deliver(old), Err(Discard::OldTimestamp));
    }
    assert_eq!(net.sent(BOB, What::Response).len(), 1);
}

#[test]
fn a_peer_is_answered_at_most_fifty_times_a_second() {
    let mut net = Net::pair(Seed(9));
    net.alice.send(b"x");
    let first = intercept(&mut net, What::Initiation);
    run_until_sent(&mut net, ALICE, What::Initiation, 2);
    let second = intercept(&mut net, What::Initiation);
    assert_eq!(net.deliver(&first), Ok(()));
    assert_eq!(net.deliver(&second), Err(Discard::TooSoon));
    net.run(millis(19));
    assert_eq!(net.deliver(&second), Err(Discard::TooSoon));
    net.run(millis(1));
    assert_eq!(net.deliver(&second), Ok(()));
}

#[test]
fn an_answer_that_takes_four_seconds_is_accepted() {
    let mut net = Net::pair(Seed(10));
    net.weather.delay = seconds(2);
    net.alice.send(b"x");
    net.run(seconds(4));
    assert_eq!(net.sent(ALICE, What::Packet), [seconds(4)]);
    assert_eq!(net.sent(ALICE, What::Initiation).len(), 1);
}

#[test]
fn a_response_to_an_initiation_that_was_repeated_is_dropped() {
    let mut net = Net::pair(Seed(11));
    net.alice.send(b"x");
    net.run(millis(10));
    let response = intercept(&mut net, What::Response);
    net.run(seconds(6));
    assert_eq!(net.deliver(&response), Err(Discard::UnknownIndex));
}

#[test]
fn two_machines_that_begin_at_once_lose_both_handshakes_and_try_again() {
    let mut second_round = 0;
    for seed in 0..100 {
        let mut net = Net::pair(Seed(seed));
        net.alice.send(b"to bob");
        net.bob.send(b"to alice");
        net.run(millis(100));
        assert_eq!((net.alice.received().len(), net.bob.received().len()), (0, 0));
        net.run(millis(5_600));
        let arrived = (net.alice.received().len(), net.bob.received().len());
        second_round += u32::from(arrived == (1, 1));
        net.run(seconds(60));
        assert!(net.alice.sending(net.bob.key).is_some(), "seed {seed}");
    }
    // Only two jitters less than a one-way trip apart collide again.
    assert!(second_round > 80, "{second_round} of 100 in the second round");
}

/// Also with a way so long that the response to a lost handshake delays the own repetition.
#[test]
fn two_machines_far_apart_that_begin_at_once_agree_all_the_same() {
    for seed in 0..20 {
        let mut net = Net::pair(Seed(seed));
        net.weather.delay = millis(100);
        net.alice.send(b"to bob");
        net.bob.send(b"to alice");
        net.run(seconds(90));
        assert_eq!((net.alice.received().len(), net.bob.received().len()), (1, 1), "seed {seed}");
    }
}

#[test]
fn what_a_responder_staged_goes_out_even_if_the_confirmation_is_lost() {
    let mut net = Net::pair(Seed(12));
    net.exchange_handshake();
    assert_eq!(net.bob.send(b"waiting"), Fate::Staged);
    net.intercept();
    net.run(seconds(6));
    assert_jittered(net.sent(BOB, What::Initiation)[0], seconds(5) + ROUND_TRIP / 2);
    assert_eq!(net.alice.received(), [b"waiting"]);
}

#[test]
fn handshakes_carry_dscp_af41_and_data_carries_nothing() {
    let mut net = Net::pair(Seed(13));
    net.exchange_handshake();
    let tos: Vec<_> = net.log.iter().map(|sent| sent.parcel.tos).collect();
    assert_eq!(tos, [0x88, 0x88, 0]);
}

#[test]
fn a_machine_that_is_down_or_has_no_key_answers_nothing() {
    let mut net = Net::pair(Seed(14));
    net.alice.send(b"x");
    let initiation = intercept(&mut net, What::Initiation);
    net.edit(BOB, Node::down);
    assert_eq!(net.deliver(&initiation), Err(Discard::NotReady));
    net.edit(BOB, Node::up);
    let key = net.bob.device.state().private_key;
    net.edit(BOB, |bob| bob.set_private_key(None));
    assert_eq!(net.deliver(&initiation), Err(Discard::NotReady));
    net.edit(BOB, |bob| bob.set_private_key(key));
    assert_eq!(net.deliver(&initiation), Ok(()));
}

#[test]
fn a_stranger_is_not_answered() {
    let mut net = Net::strangers(Seed(15), 2);
    net.introduce(ALICE, BOB);
    net.alice.send(b"let me in");
    let initiation = intercept(&mut net, What::Initiation);
    assert_eq!(net.deliver(&initiation), Err(Discard::UnknownPeer));
    let key = net.alice.key;
    let is_told = |event: &Event| matches!(event, Event::Stranger(told, _) if *told == key);
    assert!(net.bob.events.iter().any(is_told), "whoever that is, its owner may add it");
}

#[test]
fn session_indices_are_random() {
    let mut net = Net::pair(Seed(16));
    net.weather = Weather::CUT;
    net.alice.send(b"x");
    net.run(seconds(100));
    let indices: Vec<_> = net.log.iter().map(|sent| sent.parcel.word(1)).collect();
    assert_eq!(indices.len(), 20);
    let steps: std::collections::BTreeSet<_> =
        indices.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert_eq!(steps.len(), 19);
    assert!(indices.iter().any(|index| index >> 24 > 0x7f));
    assert!(indices.iter().any(|index| index >> 24 <= 0x7f));
}

#[test]
fn a_peer_that_never_confirms_takes_no_more_room() {
    let mut net = Net::pair(Seed(17));
    for _ in 0..500 {
        net.edit(ALICE, |alice| {
            alice.down();
            alice.up();
        });
        net.alice.send(b"x");
        let initiation = intercept(&mut net, What::Initiation);
        assert_eq!(net.deliver(&initiation), Ok(()));
        net.intercept();
        net.run(millis(50));
        assert_eq!(net.bob.sessions.len(), 1);
    }
}

#[test]
fn a_machine_that_restarts_and_talks_is_back_within_a_round_trip() {
    let mut net = Net::connected(Seed(18));
    net.edit(BOB, |bob| bob.restart(Chance::new(Seed(99))));
    net.introduce(BOB, ALICE);
    net.bob.send(b"I am back");
    net.run(ROUND_TRIP * 2);
    assert_eq!(net.alice.received(), [b"I am back"]);
}

#[test]
fn a_machine_that_restarts_and_is_talked_to_is_back_after_fifteen_seconds() {
    let mut net = Net::connected(Seed(19));
    net.run(seconds(20));
    net.edit(BOB, |bob| bob.restart(Chance::new(Seed(99))));
    net.introduce(BOB, ALICE);
    let start = net.age();
    while net.bob.received().is_empty() {
        net.alice.send(b"are you there?");
        net.run(millis(100));
    }
    let pause = net.age() - start;
    assert!(pause > seconds(15) && pause < millis(15_500), "{pause:?}");
}

#[test]
fn an_initiator_whose_clock_went_back_is_refused_until_it_has_caught_up() {
    let mut net = Net::connected(Seed(20));
    net.edit(ALICE, |alice| {
        alice.now.wall -= seconds(3600);
        alice.down();
        alice.up();
    });
    net.alice.send(b"too early");
    net.run(seconds(30));
    let refused = |event: &Event| {
        matches!(event, Event::Handshake(_, Progress::Failed(_, Discard::OldTimestamp)))
    };
    assert!(net.bob.events.iter().any(refused));
    assert!(net.bob.received().is_empty());
    net.run(seconds(3600));
    net.alice.send(b"now");
    net.run(seconds(6));
    assert_eq!(net.bob.received(), [b"now"]);
}
