//! What a change of keys, peers and addresses does to sessions (spec §1.16, §2.6).

use adit_tests::net::{ALICE, BOB, Chance, Fate, Net, Node, Seed, Weather, What, inner_addresses};
use proto::{
    AllowedIpsChange, Discard, Event, PeerChange, Prefix, PresharedKey, PrivateKey, Progress,
};

use super::{ROUND_TRIP, change, intercept, millis, seconds};

fn psk(byte: u8) -> Option<PresharedKey> {
    Some(PresharedKey::new([byte; 32]))
}

/// A new private key for machine `number`.
fn rekey(net: &mut Net, number: usize) {
    let bytes = Chance::new(Seed(1000)).bytes(32).try_into().unwrap();
    net.edit(number, |node| node.set_private_key(PrivateKey::new(bytes)));
}

#[test]
fn a_preshared_key_counts_from_the_next_handshake_on() {
    let mut net = Net::connected(Seed(1));
    change(&mut net, ALICE, BOB, |peer| peer.preshared_key = psk(1));
    change(&mut net, BOB, ALICE, |peer| peer.preshared_key = psk(1));
    assert_eq!(net.alice.send(b"on the running session"), Fate::Sent);
    net.run(seconds(130));
    net.alice.send(b"renews it");
    net.settle();
    assert_eq!(net.sent(ALICE, What::Initiation).len(), 1);
    assert_eq!(net.bob.received().len(), 2);
    assert_eq!(net.bob.sessions.len(), 2);
}

#[test]
fn a_preshared_key_that_only_one_side_has_ends_with_the_running_session() {
    let mut net = Net::connected(Seed(2));
    change(&mut net, BOB, ALICE, |peer| peer.preshared_key = psk(1));
    while net.age() < seconds(200) {
        net.alice.send(b"x");
        net.run(seconds(1));
    }
    assert_eq!(net.bob.received().len(), 180);
    let bad = |event: &Event| {
        matches!(event, Event::Handshake(_, Progress::Failed(_, Discard::BadResponse)))
    };
    assert!(net.alice.events.iter().any(bad));
    assert_eq!(net.alice.shown(net.bob.key).unwrap().last_discard, Some(Discard::BadResponse));
    assert!(
        !net.bob
            .events
            .iter()
            .any(|event| matches!(event, Event::Handshake(_, Progress::Failed(..))))
    );
}

#[test]
fn a_preshared_key_changed_between_initiation_and_response_counts() {
    let mut net = Net::pair(Seed(3));
    change(&mut net, BOB, ALICE, |peer| peer.preshared_key = psk(1));
    net.alice.send(b"x");
    net.run(millis(10));
    change(&mut net, ALICE, BOB, |peer| peer.preshared_key = psk(1));
    net.settle();
    assert_eq!(net.bob.received(), [b"x"]);
}

#[test]
fn after_a_new_private_key_the_next_packet_arrives_at_once() {
    let mut net = Net::connected(Seed(4));
    let old = net.alice.key;
    rekey(&mut net, ALICE);
    net.introduce(BOB, ALICE);
    net.edit(BOB, |bob| bob.configure_peer(PeerChange { remove: true, ..PeerChange::new(old) }));
    assert_eq!(net.alice.send(b"as someone else"), Fate::Staged);
    net.run(ROUND_TRIP * 2);
    assert_eq!(net.bob.received(), [b"as someone else"]);
}

#[test]
fn after_a_new_private_key_the_old_sessions_still_receive() {
    let mut net = Net::connected(Seed(5));
    rekey(&mut net, BOB);
    net.alice.send(b"to who you were");
    net.settle();
    assert_eq!(net.bob.received(), [b"to who you were"]);
    assert_eq!(net.bob.send(b"y"), Fate::Staged);
}

#[test]
fn the_same_private_key_again_changes_nothing() {
    let mut net = Net::connected(Seed(6));
    let key = net.alice.device.state().private_key;
    net.edit(ALICE, |alice| alice.set_private_key(key));
    assert_eq!(net.alice.send(b"x"), Fate::Sent);
}

#[test]
fn packets_that_wait_for_a_private_key_go_when_it_comes() {
    let mut net = Net::pair(Seed(7));
    let key = net.alice.device.state().private_key;
    net.edit(ALICE, |alice| alice.set_private_key(None));
    assert_eq!(net.alice.send(b"x"), Fate::Staged);
    net.run(seconds(1));
    net.edit(ALICE, |alice| alice.set_private_key(key));
    net.settle();
    assert_eq!(net.bob.received(), [b"x"]);
}

#[test]
fn a_session_that_is_confirmed_after_a_new_key_does_not_end_the_search() {
    let mut net = Net::pair(Seed(8));
    net.exchange_handshake();
    let confirmation = intercept(&mut net, What::Keepalive);
    rekey(&mut net, BOB);
    net.introduce(ALICE, BOB);
    net.bob.send(b"as someone else");
    net.intercept();
    net.run(millis(100));
    assert_eq!(net.deliver(&confirmation), Ok(()));
    net.run(seconds(6));
    assert_eq!(net.alice.received(), [b"as someone else"]);
}

#[test]
fn nobody_is_his_own_peer() {
    let mut net = Net::connected(Seed(9));
    let own = net.alice.key;
    net.edit(ALICE, |alice| alice.configure_peer(PeerChange::new(own)));
    assert!(net.alice.shown(own).is_none());
    let bobs = net.bob.device.state().private_key;
    net.edit(ALICE, |alice| alice.set_private_key(bobs));
    assert!(net.alice.device.state().peers.is_empty());
    net.edit(ALICE, |alice| alice.configure_peer(PeerChange::new(own)));
    assert!(net.alice.shown(own).is_some());
}

#[test]
fn the_latest_timestamp_is_remembered_as_long_as_the_peer() {
    let mut net = Net::pair(Seed(10));
    net.alice.send(b"x");
    let initiation = intercept(&mut net, What::Initiation);
    assert_eq!(net.deliver(&initiation), Ok(()));
    net.intercept();
    net.run(seconds(1));
    net.edit(BOB, Node::down);
    net.edit(BOB, Node::up);
    assert_eq!(net.deliver(&initiation), Err(Discard::OldTimestamp));
    change(&mut net, BOB, ALICE, |peer| peer.preshared_key = psk(1));
    assert_eq!(net.deliver(&initiation), Err(Discard::OldTimestamp));
    let key = net.bob.device.state().private_key;
    net.edit(BOB, |bob| bob.set_private_key(None));
    net.edit(BOB, |bob| bob.set_private_key(key));
    assert_eq!(net.deliver(&initiation), Err(Discard::OldTimestamp));
    change(&mut net, BOB, ALICE, |peer| peer.remove = true);
    net.introduce(BOB, ALICE);
    assert_eq!(net.deliver(&initiation), Ok(()));
}

#[test]
fn an_allowed_address_has_one_owner() {
    let mut net = Net::mesh(Seed(11), 3);
    let [bob, _] = inner_addresses(BOB);
    let prefix = Prefix::new(bob, 32).unwrap();
    change(&mut net, ALICE, 2, |peer| peer.allowed_ips.push(AllowedIpsChange::Insert(prefix)));
    assert!(!net.alice.shown(net.bob.key).unwrap().allowed_ips.contains(&prefix));
    net.alice.send_to(BOB, b"goes to carol");
    net.settle();
    assert_eq!(net.node_mut(2).received(), [b"goes to carol"]);
    change(&mut net, ALICE, 2, |peer| peer.allowed_ips.push(AllowedIpsChange::Remove(prefix)));
    assert_eq!(net.alice.send_to(BOB, b"goes nowhere"), Fate::NoRoute);
}

#[test]
fn a_peer_that_is_removed_is_forgotten_with_all_that_was_staged() {
    let mut net = Net::pair(Seed(12));
    net.weather = Weather::CUT;
    net.alice.send(b"x");
    change(&mut net, ALICE, BOB, |peer| peer.remove = true);
    net.introduce(ALICE, BOB);
    net.weather = Weather::FAIR;
    net.alice.send(b"y");
    net.settle();
    assert_eq!(net.bob.received(), [b"y"]);
}

#[test]
fn a_section_that_only_updates_creates_no_peer() {
    let mut net = Net::strangers(Seed(13), 2);
    change(&mut net, ALICE, BOB, |peer| peer.persistent_keepalive = Some(1));
    assert!(net.alice.device.state().peers.is_empty());
    net.run(seconds(10));
    assert!(net.log.is_empty());
}
