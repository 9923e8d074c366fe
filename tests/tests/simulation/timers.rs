//! Who speaks when (spec §1.10, §7.2).

use adit_tests::net::{ALICE, BOB, Fate, Net, Node, Seed, Weather, What};
use proto::{Discard, Event, Progress, limits};

use super::{JITTER, ROUND_TRIP, assert_jittered, change, millis, seconds};

#[test]
fn twenty_initiations_in_98_seconds_and_then_silence() {
    let mut net = Net::pair(Seed(1));
    net.weather = Weather::CUT;
    for n in 0..10_u8 {
        assert_eq!(net.alice.send(&[n]), Fate::Staged);
    }
    net.run(seconds(700));
    let sent = net.sent(ALICE, What::Initiation);
    assert_eq!(sent.len(), 20);
    for pair in sent.windows(2) {
        assert_jittered(pair[1] - pair[0], seconds(5));
    }
    let all = *sent.last().unwrap() - sent[0];
    assert!(all > seconds(95) && all < seconds(102), "{all:?}");
    let events = net.alice.events.iter();
    assert_eq!(
        events
            .clone()
            .filter(|event| matches!(event, Event::Handshake(_, Progress::CalledAgain)))
            .count(),
        19
    );
    assert!(events.clone().any(|event| matches!(event, Event::Handshake(_, Progress::GaveUp))));
    assert!(net.alice.peers.values().all(|peer| peer.staged.is_empty()));
    assert_eq!(net.alice.device.poll_timeout(), None);
}

#[test]
fn the_pauses_between_initiations_differ() {
    let mut net = Net::mesh(Seed(2), 3);
    net.weather = Weather::CUT;
    net.alice.send_to(2, b"x");
    net.bob.send_to(2, b"x");
    net.run(seconds(100));
    let pauses = |by| {
        let sent = net.sent(by, What::Initiation);
        sent.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
    };
    let (alice, bob) = (pauses(ALICE), pauses(BOB));
    assert_eq!((alice.len(), bob.len()), (19, 19));
    assert!(alice.iter().zip(&bob).all(|(alice, bob)| alice != bob));
    let spread = *alice.iter().max().unwrap() - *alice.iter().min().unwrap();
    assert!(spread > JITTER / 2, "all within {spread:?}");
}

#[test]
fn who_keeps_talking_keeps_trying() {
    let mut net = Net::pair(Seed(3));
    net.weather = Weather::CUT;
    for _ in 0..200 {
        net.alice.send(b"anybody?");
        net.run(seconds(1));
    }
    let sent = net.sent(ALICE, What::Initiation).len();
    assert!((37..=40).contains(&sent), "{sent} initiations in 200 s");
    let again = net
        .alice
        .events
        .iter()
        .filter(|event| matches!(event, Event::Handshake(_, Progress::CalledAgain)));
    assert_eq!(again.count(), sent - 1);
    assert!(
        !net.alice
            .events
            .iter()
            .any(|event| matches!(event, Event::Handshake(_, Progress::GaveUp)))
    );
}

#[test]
fn data_without_an_answer_is_acknowledged_by_a_keepalive_after_ten_seconds() {
    let mut net = Net::connected(Seed(4));
    let start = net.age();
    net.alice.send(b"x");
    net.run(seconds(60));
    assert_eq!(net.sent(BOB, What::Keepalive), [start + ROUND_TRIP / 2 + seconds(10)]);
    assert_eq!(net.sent(ALICE, What::Keepalive), []);
}

#[test]
fn the_ten_seconds_are_counted_from_the_data_and_not_from_what_was_sent_before() {
    let mut net = Net::connected(Seed(5));
    net.bob.send(b"long ago");
    net.run(seconds(60));
    net.forget();
    let start = net.age();
    net.alice.send(b"x");
    net.run(seconds(60));
    assert_eq!(net.sent(BOB, What::Keepalive), [start + ROUND_TRIP / 2 + seconds(10)]);
}

#[test]
fn data_that_goes_on_while_a_keepalive_is_owed_calls_for_a_second_one() {
    let mut net = Net::connected(Seed(6));
    let start = net.age();
    net.alice.send(b"one");
    net.run(seconds(1));
    net.alice.send(b"two");
    net.run(seconds(60));
    let first = start + ROUND_TRIP / 2 + seconds(10);
    assert_eq!(net.sent(BOB, What::Keepalive), [first, first + seconds(10)]);
}

#[test]
fn a_reply_spares_the_keepalive() {
    let mut net = Net::connected(Seed(7));
    net.alice.send(b"question");
    net.run(seconds(9));
    net.bob.send(b"answer");
    net.run(seconds(9));
    assert_eq!(net.sent(BOB, What::Keepalive), []);
}

#[test]
fn a_response_spares_the_keepalive() {
    let mut net = Net::connected(Seed(8));
    net.alice.send(b"data");
    net.run(seconds(6));
    net.edit(ALICE, |alice| {
        alice.down();
        alice.up();
    });
    net.alice.send(b"more, on a new session");
    net.settle();
    net.bob.send(b"answer");
    net.run(seconds(60));
    assert_eq!(net.sent(BOB, What::Keepalive), []);
}

#[test]
fn two_idle_machines_leave_each_other_alone() {
    let mut net = Net::connected(Seed(9));
    net.alice.send(b"x");
    net.run(seconds(11));
    net.forget();
    net.run(seconds(3600));
    assert!(net.log.is_empty());
    assert_eq!(net.alice.device.poll_timeout(), None);
    assert_eq!(net.bob.device.poll_timeout(), None);
}

#[test]
fn data_that_nobody_answers_calls_for_a_new_session_after_fifteen_seconds() {
    let mut net = Net::connected(Seed(10));
    net.weather = Weather::CUT;
    let start = net.age();
    net.alice.send(b"x");
    net.run(seconds(5));
    net.alice.send(b"y");
    net.run(seconds(12));
    let sent = net.sent(ALICE, What::Initiation);
    assert_eq!(sent.len(), 1);
    assert_jittered(sent[0] - start, seconds(15));
}

#[test]
fn any_authentic_message_is_an_answer() {
    let mut net = Net::connected(Seed(11));
    net.alice.send(b"x");
    net.run(seconds(12));
    assert_eq!(net.sent(BOB, What::Keepalive).len(), 1);
    net.run(seconds(60));
    assert_eq!(net.sent(ALICE, What::Initiation), []);
}

#[test]
fn the_initiator_renews_a_session_when_it_sends_after_two_minutes() {
    for (age, renews) in [(millis(119_900), false), (millis(120_100), true)] {
        let mut net = Net::connected(Seed(12));
        let begun = ROUND_TRIP;
        net.run(begun + age - net.age());
        net.alice.send(b"x");
        let now = net.age();
        net.run(millis(100));
        let expected = if renews { vec![now] } else { vec![] };
        assert_eq!(net.sent(ALICE, What::Initiation), expected, "at the age of {age:?}");
    }
}

#[test]
fn a_responder_does_not_renew_a_session_because_of_its_age() {
    let mut net = Net::connected(Seed(13));
    while net.age() < seconds(179) {
        net.bob.send(b"x");
        net.run(seconds(1));
    }
    assert_eq!(net.sent(BOB, What::Initiation), []);
}

#[test]
fn an_initiator_that_only_receives_renews_after_165_seconds_and_only_once() {
    for (age, renewals) in [(millis(164_900), 0), (millis(165_100), 1)] {
        let mut net = Net::connected(Seed(14));
        net.run(ROUND_TRIP + age - net.age() - ROUND_TRIP / 2);
        for _ in 0..3 {
            net.bob.send(b"x");
        }
        net.run(ROUND_TRIP / 2);
        assert_eq!(net.alice.received().len(), 3);
        assert_eq!(net.sent(ALICE, What::Initiation).len(), renewals, "at the age of {age:?}");
    }
}

#[test]
fn the_early_renewal_of_a_session_is_asked_for_once() {
    let net = Net::connected(Seed(32));
    let [alice, bob] =
        [&net.alice, &net.bob].map(|node| &node.sessions.values().next().unwrap().keypair);
    let late = net.alice.now.time + seconds(166);
    assert!(!bob.wants_rekey_on_receive(late));
    assert!(alice.wants_rekey_on_receive(late));
    assert!(!alice.wants_rekey_on_receive(late));
}

#[test]
fn nothing_is_sent_or_accepted_on_a_session_of_three_minutes() {
    for (age, accepted) in [(178, true), (181, false)] {
        let mut net = Net::connected(Seed(15));
        net.run(seconds(177));
        net.bob.send(b"x");
        let parcel = super::intercept(&mut net, What::Packet);
        net.run(ROUND_TRIP + seconds(age) - net.age());
        let expected = if accepted { Ok(()) } else { Err(Discard::Expired) };
        assert_eq!(net.deliver(&parcel), expected, "at the age of {age} s");
        let expected = if accepted { Fate::Sent } else { Fate::Staged };
        assert_eq!(net.alice.send(b"y"), expected, "at the age of {age} s");
    }
}

#[test]
fn keys_are_erased_nine_minutes_after_the_last_session() {
    let mut net = Net::connected(Seed(16));
    net.run(ROUND_TRIP + seconds(540) - net.age() - millis(11));
    assert_eq!((net.alice.sessions.len(), net.bob.sessions.len()), (1, 1));
    // The responder made the session a trip earlier.
    net.run(millis(1));
    assert_eq!((net.alice.sessions.len(), net.bob.sessions.len()), (1, 0));
    net.run(millis(10));
    assert_eq!((net.alice.sessions.len(), net.bob.sessions.len()), (0, 0));
}

#[test]
fn giving_up_erases_keys_nine_minutes_later() {
    let mut net = Net::connected(Seed(17));
    net.run(seconds(170));
    net.weather = Weather::CUT;
    net.run(seconds(20));
    net.alice.send(b"x");
    net.run(seconds(600));
    assert!(net.alice.sessions.is_empty());
    assert_eq!(net.alice.device.poll_timeout(), None);
}

#[test]
fn a_persistent_keepalive_begins_the_session_and_then_keeps_its_interval() {
    let mut net = Net::pair(Seed(18));
    change(&mut net, ALICE, BOB, |peer| peer.persistent_keepalive = Some(3));
    net.run(seconds(60));
    assert_eq!(net.sent(ALICE, What::Initiation), [seconds(0)]);
    let sent = net.sent(ALICE, What::Keepalive);
    assert_eq!(sent[0], ROUND_TRIP);
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] == seconds(3)), "{sent:?}");
    assert_eq!(sent.len(), 20);
}

#[test]
fn a_persistent_keepalive_is_sent_when_it_is_turned_on_and_not_when_it_is_changed() {
    let mut net = Net::connected(Seed(19));
    let start = net.age();
    change(&mut net, ALICE, BOB, |peer| peer.persistent_keepalive = Some(25));
    change(&mut net, ALICE, BOB, |peer| peer.persistent_keepalive = Some(10));
    net.run(seconds(25));
    let at = |after| start + seconds(after);
    assert_eq!(net.sent(ALICE, What::Keepalive), [at(0), at(10), at(20)]);
    change(&mut net, ALICE, BOB, |peer| peer.persistent_keepalive = Some(0));
    net.forget();
    net.run(seconds(60));
    assert!(net.log.is_empty());
}

#[test]
fn traffic_in_either_direction_spares_the_persistent_keepalive() {
    let mut net = Net::connected(Seed(20));
    change(&mut net, ALICE, BOB, |peer| peer.persistent_keepalive = Some(10));
    net.forget();
    for _ in 0..10 {
        net.run(seconds(4));
        net.alice.send(b"x");
        net.run(seconds(4));
        net.bob.send(b"y");
    }
    assert_eq!(net.sent(ALICE, What::Keepalive), []);
}

#[test]
fn a_persistent_keepalive_begins_when_the_interface_goes_up() {
    let mut net = Net::pair(Seed(21));
    net.edit(ALICE, Node::down);
    change(&mut net, ALICE, BOB, |peer| peer.persistent_keepalive = Some(25));
    net.run(seconds(60));
    assert!(net.log.is_empty());
    assert_eq!(net.alice.device.poll_timeout(), None);
    net.edit(ALICE, Node::up);
    assert_eq!(net.sent(ALICE, What::Initiation), [seconds(60)]);
}

#[test]
fn a_short_persistent_keepalive_goes_on_after_a_session_that_came_late() {
    let mut net = Net::pair(Seed(22));
    change(&mut net, BOB, ALICE, |peer| peer.persistent_keepalive = Some(1));
    net.intercept();
    net.run(seconds(4));
    net.alice.send(b"x");
    net.run(millis(10));
    // Bob's keepalive comes due again while he has no session to send it on, and may not begin one.
    let response = super::intercept(&mut net, What::Response);
    net.run(seconds(2));
    net.deliver(&response).unwrap();
    net.settle();
    net.forget();
    net.run(seconds(10));
    assert_eq!(net.sent(BOB, What::Keepalive).len(), 10);
}

#[test]
fn a_peer_that_is_never_there_is_sought_for_ever_with_a_persistent_keepalive() {
    let mut net = Net::pair(Seed(23));
    net.weather = Weather::CUT;
    change(&mut net, ALICE, BOB, |peer| peer.persistent_keepalive = Some(25));
    net.run(seconds(1000));
    // A series of 98 s, then the interval, then the next.
    let sent = net.sent(ALICE, What::Initiation);
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] < seconds(26)));
    assert!(sent.len() > 150 && *sent.last().unwrap() > seconds(970));
}

#[test]
fn down_and_up_again_makes_a_new_session_at_once() {
    let mut net = Net::connected(Seed(24));
    net.edit(ALICE, Node::down);
    assert!(net.alice.sessions.is_empty());
    assert_eq!(net.alice.send(b"x"), Fate::Down);
    net.edit(ALICE, Node::up);
    net.alice.send(b"again");
    net.run(ROUND_TRIP * 2);
    assert_eq!(net.bob.received(), [b"again"]);
}

#[test]
fn all_timers_work_after_down_and_up_as_before() {
    let mut net = Net::connected(Seed(25));
    // Both of Alice's data timers run when the interface goes down.
    net.bob.send(b"owed");
    net.settle();
    net.alice.send(b"unanswered");
    net.bob.send(b"owed");
    net.settle();
    net.edit(ALICE, |alice| {
        alice.down();
        alice.up();
    });
    net.alice.send(b"new session");
    net.settle();
    net.forget();
    let start = net.age();
    net.bob.send(b"data");
    net.run(seconds(11));
    assert_eq!(net.sent(ALICE, What::Keepalive), [start + ROUND_TRIP / 2 + seconds(10)]);
    net.weather = Weather::CUT;
    let start = net.age();
    net.alice.send(b"into the void");
    net.run(seconds(16));
    assert_jittered(net.sent(ALICE, What::Initiation)[0] - start, seconds(15));
}

#[test]
fn fifty_times_up_and_down_ends_in_the_last_state() {
    let mut net = Net::connected(Seed(26));
    for _ in 0..50 {
        net.edit(ALICE, Node::down);
        net.edit(ALICE, Node::up);
        net.alice.send(b"x");
        net.run(millis(7));
    }
    net.run(seconds(6));
    net.bob.received();
    net.alice.send(b"after all");
    net.settle();
    assert_eq!(net.bob.received(), [b"after all"]);
}

#[test]
fn after_a_long_sleep_the_first_packet_makes_a_new_session_at_once() {
    let mut net = Net::connected(Seed(27));
    net.alice.send(b"good night");
    net.run(seconds(1));
    net.edit(ALICE, |alice| alice.jump(seconds(600)));
    net.run(millis(100));
    assert!(net.alice.sending(net.bob.key).is_none());
    net.bob.received();
    assert_ne!(net.alice.send(b"good morning"), Fate::NoRoute);
    net.run(seconds(6));
    assert_eq!(net.bob.received(), [b"good morning"]);
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut net = Net::connected(Seed(28));
    net.alice.send(b"x");
    net.run(seconds(100));
    net.edit(ALICE, |alice| {
        alice.now.time = proto::Time::default();
        alice.wake();
        alice.send(b"y");
        alice.device.under_load(alice.now.time);
    });
    net.settle();
    assert_eq!(net.bob.received(), [b"x", b"y"]);
}

#[test]
fn a_key_that_has_sealed_2_to_the_60_messages_is_renewed_by_either_side() {
    for (number, other) in [(ALICE, BOB), (BOB, ALICE)] {
        let mut net = Net::connected(Seed(29));
        net.run(seconds(6));
        let key = net.node(other).key;
        net.node(number).sending(key).unwrap().skip_to(limits::REKEY_AFTER_MESSAGES - 1);
        net.node_mut(number).send(b"x");
        net.node_mut(number).send(b"y");
        net.settle();
        assert_eq!(net.sent(number, What::Initiation).len(), 1);
        assert_eq!(net.node_mut(other).received(), [b"x", b"y"]);
        net.node_mut(number).send(b"z");
        let counter = net.intercept()[0].word(2);
        assert!(counter < 2, "the new session is used: {counter}");
    }
}

#[test]
fn no_counter_reaches_the_limit() {
    let mut net = Net::connected(Seed(30));
    net.run(seconds(6));
    let session = net.alice.sending(net.bob.key).unwrap().clone();
    session.skip_to(limits::REJECT_AFTER_MESSAGES - 1);
    assert_eq!(net.alice.send(b"last"), Fate::Sent);
    assert_eq!(net.alice.send(b"next"), Fate::Staged);
    net.settle();
    assert_eq!(net.bob.received(), [b"last", b"next"]);
    assert_eq!(net.bob.sessions.len(), 2);
}

#[test]
fn a_confirmed_session_stops_the_responders_own_search() {
    let mut net = Net::pair(Seed(31));
    net.bob.send(b"x");
    net.intercept();
    net.run(seconds(1));
    net.alice.send(b"y");
    net.run(seconds(30));
    assert_eq!(net.sent(BOB, What::Initiation).len(), 1);
    assert_eq!(net.alice.received(), [b"x"]);
}
