//! Packets through the tunnel (spec §1.7–1.9, §1.15, §7.4).

use adit_tests::net::{
    ALICE, BOB, Chance, Fate, Net, Node, Parcel, Seed, Weather, What, inner_addresses, packet,
};
use proto::{
    AllowedIpsChange, Discard, Event, Keypair, PeerChange, Prefix, Progress, SessionIndex, Time,
    limits,
};

use super::{ROUND_TRIP, change, intercept, millis, seconds};

#[test]
fn a_packet_is_padded_to_sixteen_bytes_but_never_beyond_the_mtu() {
    for (mtu, packet, datagram) in [
        (1420, 20, 32 + 32),
        (1420, 32, 32 + 32),
        (1420, 33, 32 + 48),
        (1420, 1408, 32 + 1408),
        (1420, 1409, 32 + 1420),
        (1420, 1420, 32 + 1420),
        (1299, 1297, 32 + 1299),
        (1299, 1299, 32 + 1299),
        (0, 33, 32 + 48),
    ] {
        let mut net = Net::connected(Seed(1));
        net.alice.mtu = mtu;
        net.alice.send(&vec![7; packet - 20]);
        let length = intercept(&mut net, What::Packet).bytes.len();
        assert_eq!(length, datagram, "{packet} bytes at MTU {mtu}");
    }
}

#[test]
fn padding_never_reaches_the_application() {
    let mut net = Net::connected(Seed(2));
    for length in 0..40 {
        net.alice.send(&vec![7; length]);
        net.settle();
        assert_eq!(net.bob.received(), [vec![7; length]]);
    }
}

#[test]
fn ipv6_travels_as_ipv4_does() {
    let mut net = Net::connected(Seed(3));
    let ([_, alice], [_, bob]) = (inner_addresses(ALICE), inner_addresses(BOB));
    assert_eq!(net.alice.send_packet(packet(alice, bob, b"six")), Fate::Sent);
    net.settle();
    assert_eq!(net.bob.received(), [b"six"]);
}

#[test]
fn a_packet_for_nobody_or_without_an_endpoint_is_not_staged() {
    let mut net = Net::strangers(Seed(4), 3);
    let [_, carol] = [BOB, 2].map(|number| net.node(number).key);
    net.introduce(ALICE, BOB);
    net.edit(ALICE, |alice| {
        alice.configure_peer(PeerChange {
            allowed_ips: adit_tests::net::inner_prefixes(2),
            ..PeerChange::new(carol)
        });
    });
    assert_eq!(net.alice.send_to(7, b"nobody"), Fate::NoRoute);
    assert_eq!(net.alice.send_packet(b"not even IP".to_vec()), Fate::NoRoute);
    assert_eq!(net.alice.send_packet(Vec::new()), Fate::NoRoute);
    assert_eq!(net.alice.send_to(2, b"where?"), Fate::NoEndpoint);
    assert!(net.alice.peers.values().all(|peer| peer.staged.is_empty()));
    assert_eq!(net.alice.device.poll_timeout(), None);
}

#[test]
fn of_two_hundred_staged_packets_the_newest_128_arrive_in_order() {
    let mut net = Net::pair(Seed(5));
    net.weather = Weather::CUT;
    for number in 0..200_u8 {
        assert_eq!(net.alice.send(&[number]), Fate::Staged);
    }
    net.weather = Weather::FAIR;
    net.run(seconds(6));
    let expected: Vec<_> = (72..200).map(|number| vec![number]).collect();
    assert_eq!(net.bob.received(), expected);
}

#[test]
fn what_is_staged_is_dropped_when_the_peer_is_given_up() {
    let mut net = Net::pair(Seed(6));
    net.weather = Weather::CUT;
    net.alice.send(b"x");
    net.run(seconds(110));
    assert!(
        net.alice.events.iter().any(|event| matches!(event, Event::Handshake(_, Progress::GaveUp)))
    );
    net.weather = Weather::FAIR;
    net.alice.send(b"y");
    net.settle();
    assert_eq!(net.bob.received(), [b"y"]);
}

#[test]
fn a_message_is_accepted_once() {
    let mut net = Net::connected(Seed(7));
    net.alice.send(b"x");
    let parcel = intercept(&mut net, What::Packet);
    assert_eq!(net.deliver(&parcel), Ok(()));
    assert_eq!(net.deliver(&parcel), Err(Discard::Replay));
    assert_eq!(net.bob.received(), [b"x"]);
}

#[test]
fn a_message_may_be_8128_behind_the_newest() {
    for (behind, accepted) in [(8000, true), (8128, true), (8129, false)] {
        let mut net = Net::connected(Seed(8));
        net.alice.send(b"old");
        let old = intercept(&mut net, What::Packet);
        let session = net.alice.sending(net.bob.key).unwrap().clone();
        session.skip_to(u64::from(old.word(2)) + behind);
        net.alice.send(b"new");
        net.settle();
        let expected = if accepted { Ok(()) } else { Err(Discard::Replay) };
        assert_eq!(net.deliver(&old), expected, "{behind} behind");
    }
}

#[test]
fn a_forged_counter_does_not_move_the_window() {
    let mut net = Net::connected(Seed(9));
    net.alice.send(b"x");
    let genuine = intercept(&mut net, What::Packet);
    for counter in [100_000, u64::MAX, limits::REJECT_AFTER_MESSAGES - 1] {
        let mut forged = genuine.clone();
        forged.bytes[8..16].copy_from_slice(&counter.to_le_bytes());
        forged.maker = None;
        assert_eq!(net.deliver(&forged), Err(Discard::NotAuthentic));
    }
    assert_eq!(net.deliver(&genuine), Ok(()));
}

#[test]
fn a_run_of_messages_does_not_cross_the_limit_of_counters() {
    let now = Time::default();
    let indices = [SessionIndex(1), SessionIndex(2)];
    let session = Keypair::new([&[1; 32], &[2; 32]], true, indices, now);
    session.skip_to(limits::REJECT_AFTER_MESSAGES - 2);
    let mut run = [0; 3 * limits::DATA_OVERHEAD];
    for (messages, sealed) in [(3, Err(Discard::Expired)), (2, Ok(())), (1, Err(Discard::Expired))]
    {
        let run = &mut run[..messages * limits::DATA_OVERHEAD];
        assert_eq!(session.seal(now, run, limits::DATA_OVERHEAD), sealed, "{messages} at once");
    }
}

#[test]
fn reordering_by_thousands_loses_nothing() {
    let mut net = Net::connected(Seed(10));
    net.weather.spread = seconds(1);
    for number in 0..2000_u16 {
        net.alice.send(&number.to_be_bytes());
    }
    net.settle();
    let mut received = net.bob.received();
    assert!(!received.is_sorted());
    received.sort_unstable();
    let expected: Vec<_> = (0..2000_u16).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(received, expected);
}

#[test]
fn renewing_a_session_loses_nothing_and_keeps_the_order() {
    let mut net = Net::connected(Seed(11));
    for number in 0..3000_u32 {
        assert_eq!(net.alice.send(&number.to_be_bytes()), Fate::Sent);
        assert_eq!(net.bob.send(&number.to_be_bytes()), Fate::Sent);
        net.run(millis(200));
    }
    let expected: Vec<_> = (0..3000_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(net.bob.received(), expected);
    assert_eq!(net.alice.received(), expected);
    assert_eq!(net.sent(ALICE, What::Initiation).len() + net.sent(BOB, What::Initiation).len(), 4);
}

#[test]
fn the_previous_session_still_receives_and_the_one_before_does_not() {
    let mut net = Net::connected(Seed(12));
    let mut late = Vec::new();
    for _ in 0..2 {
        net.alice.send(b"late");
        late.push(intercept(&mut net, What::Packet));
        // Nobody answers what did not arrive, so Alice makes another session.
        net.run(seconds(16));
    }
    assert_eq!(net.sent(ALICE, What::Initiation).len(), 2);
    assert_eq!(net.deliver(&late[0]), Err(Discard::UnknownIndex));
    assert_eq!(net.deliver(&late[1]), Ok(()));
}

#[test]
fn a_source_that_is_not_the_peers_is_dropped_but_its_message_counts_as_an_answer() {
    let mut net = Net::mesh(Seed(13), 3);
    net.alice.send(b"x");
    net.settle();
    net.bob.send(b"question");
    net.settle();
    net.run(seconds(9));
    let ([carol, _], [bob, _]) = (inner_addresses(2), inner_addresses(BOB));
    net.alice.send_packet(packet(carol, bob, b"I am carol"));
    let lie = intercept(&mut net, What::Packet);
    net.bob.received();
    assert_eq!(net.deliver(&lie), Err(Discard::NotAllowed));
    assert!(net.bob.received().is_empty());
    net.run(seconds(60));
    assert_eq!(net.sent(BOB, What::Initiation), []);
    assert_eq!(net.sent(BOB, What::Keepalive).len(), 1);
}

#[test]
fn the_longest_prefix_of_any_peer_decides_whose_a_source_is() {
    let mut net = Net::mesh(Seed(14), 3);
    let prefix = |text: &str, length| {
        AllowedIpsChange::Insert(Prefix::new(text.parse().unwrap(), length).unwrap())
    };
    change(&mut net, BOB, ALICE, |peer| peer.allowed_ips.push(prefix("10.0.0.0", 8)));
    change(&mut net, BOB, 2, |peer| peer.allowed_ips.push(prefix("10.1.0.0", 16)));
    let [bob, _] = inner_addresses(BOB);
    for (source, delivered) in [("10.2.0.1", 1), ("10.1.0.1", 0), ("11.0.0.1", 0)] {
        net.alice.send_packet(packet(source.parse().unwrap(), bob, b"x"));
        net.settle();
        assert_eq!(net.bob.received().len(), delivered, "from {source}");
    }
}

#[test]
fn what_is_not_ip_or_longer_than_it_is_does_not_come_out() {
    let mut net = Net::connected(Seed(15));
    let ([alice, _], [bob, _]) = (inner_addresses(ALICE), inner_addresses(BOB));
    let good = packet(alice, bob, b"payload");
    for (at, value) in [(2, 1), (3, 19), (3, 33)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(net.alice.send_packet(bad), Fate::Sent);
        let parcel = intercept(&mut net, What::Packet);
        assert_eq!(net.deliver(&parcel), Err(Discard::BadPacket), "byte {at} is {value}");
    }
    assert!(net.bob.received().is_empty());
}

/// Ten pings, counted as the kernel counts them (spec §5.1, N4).
#[test]
fn bytes_are_counted_as_the_kernel_does() {
    let mut net = Net::pair(Seed(16));
    let [alice, bob] = [net.alice.key, net.bob.key];
    for _ in 0..10 {
        net.bob.send(&[0; 64]);
        net.run(ROUND_TRIP * 2);
        if net.alice.received().len() == 1 {
            net.alice.send(&[0; 64]);
        }
        net.settle();
    }
    let shown = |node: &Node, key| {
        let shown = node.shown(key).unwrap();
        (shown.rx_bytes, shown.tx_bytes)
    };
    assert_eq!(shown(&net.bob, alice), (1372, 1428));
    assert_eq!(shown(&net.alice, bob), (1428, 1372));
}

#[test]
fn rubbish_of_any_size_does_nothing() {
    let mut net = Net::connected(Seed(17));
    net.alice.send(b"x");
    let genuine = intercept(&mut net, What::Packet);
    let mut chance = Chance::new(Seed(18));
    for length in (0..300).chain([1500, 9000, 65507]) {
        for kind in 0..6 {
            let mut bytes = chance.bytes(length);
            for (to, from) in bytes.iter_mut().zip([kind, 0, 0, 0]) {
                *to = from;
            }
            let rubbish = Parcel { bytes, maker: None, ..genuine.clone() };
            assert!(net.deliver(&rubbish).is_err());
        }
    }
    assert_eq!(net.deliver(&genuine), Ok(()));
}

#[test]
fn a_peer_that_is_removed_under_traffic_leaves_nothing_behind() {
    let mut net = Net::connected(Seed(19));
    for _ in 0..100 {
        for _ in 0..5 {
            net.alice.send(b"x");
            net.bob.send(b"y");
        }
        net.run(millis(5));
        change(&mut net, BOB, ALICE, |peer| peer.remove = true);
        assert!(net.bob.sessions.is_empty() && net.bob.peers.is_empty());
        assert_eq!(net.bob.device.poll_timeout(), None);
        assert_eq!(net.bob.send(b"z"), Fate::NoRoute);
        net.introduce(BOB, ALICE);
        net.run(seconds(6));
    }
}
