//! Where datagrams go, and where they leave from (spec §1.11, §7.5).

use std::net::SocketAddr;

use adit_tests::net::{ALICE, BOB, Net, Node, Seed, Weather, What, inner_addresses, packet};
use proto::{Change, Discard};

use super::{change, intercept, run_until_sent, seconds};

fn place(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], port))
}

/// Where Bob would send to Alice.
fn known_to_bob(net: &Net) -> Option<SocketAddr> {
    net.bob.shown(net.alice.key).unwrap().endpoint
}

#[test]
fn every_authentic_message_moves_the_endpoint() {
    let mut net = Net::pair(Seed(1));
    net.alice.send(b"x");
    for (port, what) in [(1, What::Initiation), (2, What::Packet)] {
        run_until_sent(&mut net, ALICE, what, 1);
        let mut parcel = intercept(&mut net, what);
        parcel.from = place(port);
        net.deliver(&parcel).unwrap();
        assert_eq!(known_to_bob(&net), Some(place(port)), "{what:?}");
        // What Bob answers goes there, where Alice is as well.
        net.edit(ALICE, |alice| alice.addresses[0] = place(port));
    }
    net.bob.send(b"y");
    run_until_sent(&mut net, ALICE, What::Keepalive, 1);
    let mut parcel = intercept(&mut net, What::Keepalive);
    parcel.from = place(3);
    net.deliver(&parcel).unwrap();
    assert_eq!(known_to_bob(&net), Some(place(3)));
}

#[test]
fn a_response_moves_the_endpoint_too_and_goes_where_the_initiation_came_from() {
    let mut net = Net::pair(Seed(2));
    net.bob.send(b"x");
    let mut initiation = intercept(&mut net, What::Initiation);
    initiation.from = place(1);
    net.deliver(&initiation).unwrap();
    let mut response = intercept(&mut net, What::Response);
    assert_eq!(response.to, place(1));
    (response.from, response.to) = (place(2), net.bob.addresses[0]);
    net.deliver(&response).unwrap();
    assert_eq!(known_to_bob(&net), Some(place(2)));
}

#[test]
fn what_is_repeated_or_forged_moves_nothing() {
    let mut net = Net::connected(Seed(3));
    let before = known_to_bob(&net);
    net.alice.send(b"x");
    let mut parcel = intercept(&mut net, What::Packet);
    net.deliver(&parcel).unwrap();
    parcel.from = place(1);
    assert_eq!(net.deliver(&parcel), Err(Discard::Replay));
    parcel.bytes[20] ^= 1;
    parcel.maker = None;
    assert_eq!(net.deliver(&parcel), Err(Discard::NotAuthentic));
    assert_eq!(known_to_bob(&net), before);
}

#[test]
fn a_packet_from_an_address_that_is_not_the_peers_moves_the_endpoint_all_the_same() {
    let mut net = Net::connected(Seed(4));
    net.edit(ALICE, |alice| alice.addresses[0] = place(9997));
    let [bob, _] = inner_addresses(BOB);
    net.alice.send_packet(packet([10, 9, 9, 9].into(), bob, b"x"));
    net.settle();
    assert!(net.bob.received().is_empty());
    assert_eq!(known_to_bob(&net), Some(place(9997)));
}

#[test]
fn traffic_follows_a_machine_that_moves() {
    let mut net = Net::connected(Seed(5));
    for port in 1..20 {
        net.edit(ALICE, |alice| alice.addresses[0] = place(port));
        net.alice.send(b"I am here");
        net.settle();
        net.bob.send(b"found");
        net.settle();
        assert_eq!(net.alice.received(), [b"found"]);
    }
    assert_eq!(net.sent(ALICE, What::Initiation), []);
}

#[test]
fn answers_leave_from_the_address_that_was_addressed() {
    let mut net = Net::pair(Seed(6));
    let second = place(51820);
    net.edit(BOB, |bob| bob.addresses.push(second));
    change(&mut net, ALICE, BOB, |peer| peer.endpoint = Some(second));
    net.alice.send(b"x");
    net.settle();
    net.bob.send(b"y");
    net.settle();
    assert!(net.log.iter().all(|sent| sent.by == ALICE || sent.parcel.from == second));
    assert_eq!(net.alice.shown(net.bob.key).unwrap().endpoint, Some(second));
}

/// Bob, who has two addresses and was addressed at the second.
fn sticky(seed: u64) -> Net {
    let mut net = Net::pair(Seed(seed));
    net.edit(BOB, |bob| bob.addresses.push(place(51820)));
    change(&mut net, ALICE, BOB, |peer| peer.endpoint = Some(place(51820)));
    net.alice.send(b"x");
    net.settle();
    net.run(seconds(11));
    net.forget();
    net
}

#[test]
fn the_own_address_is_chosen_again_when_nobody_answers() {
    let mut net = sticky(7);
    net.weather = Weather::CUT;
    net.bob.send(b"y");
    net.run(seconds(16));
    let from: Vec<_> = net.log.iter().map(|sent| (sent.parcel.what(), sent.parcel.from)).collect();
    let first = net.bob.addresses[0];
    assert_eq!(from, [(Some(What::Packet), place(51820)), (Some(What::Initiation), first)]);
}

#[test]
fn the_own_address_is_chosen_again_after_a_change_of_port_mark_or_endpoint() {
    type Edit = fn(&mut Node);
    let port: Edit = |bob| bob.configure(&Change { listen_port: Some(7), ..Change::default() });
    let mark: Edit = |bob| bob.configure(&Change { fwmark: Some(7), ..Change::default() });
    let routes: Edit = Node::forget_sources;
    for (name, edit) in [("port", port), ("mark", mark), ("routes", routes)] {
        let mut net = sticky(8);
        net.edit(BOB, edit);
        net.bob.send(b"y");
        assert_eq!(intercept(&mut net, What::Packet).from, net.bob.addresses[0], "{name}");
    }
    let mut net = sticky(8);
    let alice = net.alice.addresses[0];
    change(&mut net, BOB, ALICE, |peer| peer.endpoint = Some(alice));
    net.bob.send(b"y");
    assert_eq!(intercept(&mut net, What::Packet).from, net.bob.addresses[0]);
}

#[test]
fn an_endpoint_outlives_sessions_and_the_interface() {
    let mut net = Net::connected(Seed(9));
    net.edit(ALICE, |alice| alice.addresses[0] = place(1));
    net.alice.send(b"x");
    net.run(seconds(1000));
    assert!(net.bob.sessions.is_empty());
    assert_eq!(known_to_bob(&net), Some(place(1)));
    net.edit(BOB, Node::down);
    net.edit(BOB, Node::up);
    assert_eq!(known_to_bob(&net), Some(place(1)));
}

#[test]
fn a_configured_endpoint_holds_until_the_peer_is_heard_elsewhere() {
    let mut net = Net::connected(Seed(10));
    change(&mut net, BOB, ALICE, |peer| peer.endpoint = Some(place(1)));
    net.bob.send(b"lost");
    net.settle();
    assert!(net.alice.received().is_empty());
    net.alice.send(b"here");
    net.settle();
    net.bob.send(b"found");
    net.settle();
    assert_eq!(net.alice.received(), [b"found"]);
}
