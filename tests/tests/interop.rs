//! What two daemons do together, in every pairing of implementations and in both roles.

use std::env;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::guest;
use adit_tests::lab::traffic::Stream;
use adit_tests::lab::{Family, Implementation, Lab, Node, Pair, Pairing, await_that, skipped};
use adit_tests::play_in_every_pairing;
use adit_tests::scenarios::*;

// Strangers.

fn datagrams_of_every_size_are_survived(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::new(lab, pairing, Family::V4);
    left.greet(&right);
    let noise = Stream::bytes(1, 65_507);
    for (node, kind) in [(&left, 1), (&right, 2), (&left, 3), (&right, 4)] {
        let to = SocketAddr::new(Family::V4.loopback(), node.port);
        let stranger =
            node.daemon.home.within(|| UdpSocket::bind("127.0.0.1:0")).expect("a socket");
        let step = if kind == 4 { 1 } else { 97 };
        for length in (0..=65_507).step_by(step) {
            let mut datagram = noise[..length].to_vec();
            datagram.iter_mut().zip([kind, 0, 0, 0]).for_each(|(byte, value)| *byte = value);
            stranger.send_to(&datagram, to).expect("a datagram leaves");
        }
        stranger.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        assert!(stranger.recv_from(&mut [0; 64]).is_err(), "a stranger got an answer");
    }
    left.greet(&right);
    right.ns.ping(left.v6, 10);
}

// Keys.

fn a_wrong_preshared_key_makes_no_session(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::unacquainted(lab, pairing);
    let (one, other) = (lab.preshared_key(), lab.preshared_key());
    let endpoint = format!("endpoint 127.0.0.1:{}", right.port);
    left.allow(&right, &format!("preshared-key {} {endpoint}", one.file));
    right.allow(&left, &format!("preshared-key {}", other.file));
    left.ns.no_ping(right.v4);
    assert_eq!(left.sees(&right).latest_handshake, 0);
    assert_eq!(right.sees(&left).latest_handshake, 0);
}

fn a_preshared_key_changed_under_way_holds_from_the_next_handshake(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    pair.ping();
    let Pair { left, right, .. } = &pair;
    let new = lab.preshared_key();
    left.set_peer(right, &format!("preshared-key {}", new.file));
    pair.ping(); // The session goes on.
    left.forget_sessions(lab);
    left.ns.no_ping(right.v4);
    right.set_peer(left, &format!("preshared-key {}", new.file));
    left.forget_sessions(lab);
    pair.ping();
}

fn a_private_key_changed_under_way_makes_a_new_session_at_once(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    pair.ping();
    let Pair { left, right, preshared } = &pair;
    let new = lab.key_pair();
    right.set_peer(left, "remove");
    let Node { v4, v6, .. } = left;
    let words = format!("preshared-key {} allowed-ips {v4}/32,{v6}/128", preshared.file);
    right.set(&format!("peer {} {words}", new.public));
    left.set(&format!("private-key {}", new.file));
    left.greet(right);
    right.ns.ping(left.v6, 1);
}

// Peers and what they may send.

fn only_allowed_sources_are_delivered(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::new(lab, pairing, Family::V4);
    left.greet(&right);
    for (foreign, prefix, to) in [("192.168.241.77", 32, right.v4), ("fd00::77", 128, right.v6)] {
        left.ns.address(&left.daemon.interface, &format!("{foreign}/{prefix}"));
        let receiver = right.ns.within(|| UdpSocket::bind((to, 0))).expect("a receiver");
        receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let target = receiver.local_addr().expect("an address");
        let send = |from: IpAddr, what: &[u8]| {
            let sender = left.ns.within(|| UdpSocket::bind((from, 0))).expect("a sender");
            sender.send_to(what, target).expect("a datagram leaves");
        };
        send(foreign.parse().expect("an address"), b"from an address of nobody");
        send(left.address_like(to), b"from an allowed address");
        let mut place = [0; 64];
        let (length, from) = receiver.recv_from(&mut place).expect("the allowed datagram");
        assert_eq!(&place[..length], b"from an allowed address");
        assert_eq!(from.ip(), left.address_like(to));
    }
    if pairing.right == Implementation::Adit {
        let told = right.daemon.uapi("get=1\n\n");
        assert!(told.contains("\nlast_discard=not_allowed\n"), "{told}");
    }
}

fn nothing_leaves_for_an_address_of_nobody(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::new(lab, pairing, Family::V4);
    left.greet(&right);
    let sent = left.sees(&right).sent;
    left.ns.no_ping("192.168.241.200".parse().expect("an address"));
    left.ns.no_ping("fd00::200".parse().expect("an address"));
    assert!(left.sees(&right).sent <= sent + 32, "more than a keepalive left");
}

fn allowed_ips_change_under_way(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::new(lab, pairing, Family::V4);
    left.greet(&right);
    left.set_peer(&right, &format!("allowed-ips {}/128", right.v6));
    left.ns.no_ping(right.v4);
    left.ns.ping(right.v6, 1);
    left.set_peer(&right, "allowed-ips 0.0.0.0/0,::/0");
    left.greet(&right);
    left.ns.ping(right.v6, 1);
}

fn a_removed_peer_is_gone_and_may_come_back(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    pair.ping();
    let Pair { left, right, preshared } = &pair;
    left.set_peer(right, "remove");
    assert_eq!(left.daemon.show("peers"), "");
    left.ns.no_ping(right.v4);
    right.ns.no_ping(left.v4);
    let preshared = format!("preshared-key {}", preshared.file);
    left.allow(right, &format!("{preshared} endpoint 127.0.0.1:{}", right.port));
    left.greet(right);
    pair.ping();
}

// Where they are.

fn a_changed_port_is_followed(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    pair.ping();
    for (mover, other, port) in [(&pair.left, &pair.right, 9999), (&pair.right, &pair.left, 9998)] {
        mover.set(&format!("listen-port {port}"));
        assert_eq!(mover.daemon.listen_port(), port);
        mover.ns.ping(other.v4, 1);
        let endpoint = other.sees(mover).endpoint.expect("an endpoint");
        assert_eq!(endpoint, SocketAddr::new(Family::V4.loopback(), port));
        pair.ping();
    }
}

fn a_changed_address_is_followed(lab: &Lab, pairing: Pairing) {
    for family in [Family::V4, Family::V6] {
        let pair = Pair::linked(lab, pairing, family);
        pair.ping();
        let Pair { left, right, .. } = &pair;
        let (old, new) = match family {
            Family::V4 => ("10.0.0.1/24", "10.0.0.17/24"),
            Family::V6 => ("fd00:aa::1/96", "fd00:aa::17/96"),
        };
        left.ns.address("eth0", new);
        left.ns.ip(&format!("address delete {old} dev eth0"));
        left.greet(right);
        let seen = right.sees(left).endpoint.expect("an endpoint").ip();
        assert_eq!(Some(seen.to_string().as_str()), new.split('/').next());
        pair.ping();
    }
}

fn an_endpoint_may_change_its_family(lab: &Lab, pairing: Pairing) {
    let pair = Pair::linked(lab, pairing, Family::V4);
    pair.ping();
    let Pair { left, right, .. } = &pair;
    left.set_peer(right, "endpoint [fd00:aa::2]:2");
    left.greet(right);
    let seen = right.sees(left).endpoint.map(|endpoint| endpoint.to_string());
    assert_eq!(seen.as_deref(), Some("[fd00:aa::1]:1"));
    pair.ping();
}

fn a_link_local_endpoint_has_a_zone(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::linked_unacquainted(lab, pairing);
    for (node, address) in [(&left, "fe80::a/64"), (&right, "fe80::b/64")] {
        node.ns.address("eth0", address);
    }
    right.allow(&left, "");
    // Here, and not elsewhere, `wg` knows what eth0 is.
    left.ns.run(&format!(
        "wg set {} peer {} endpoint [fe80::b%eth0]:2 allowed-ips {}/32",
        left.daemon.interface, right.key.public, right.v4
    ));
    left.greet(&right);
    right.ns.ping(left.v4, 3);
}

fn a_firewall_mark_is_on_every_outer_packet(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::linked(lab, pairing, Family::V4);
    left.ns.run("nft add table inet lab");
    left.ns.run("nft add chain inet lab out { type filter hook output priority 0 ; }");
    left.ns.run("nft add rule inet lab out udp dport 2 meta mark != 0x1234 counter drop");
    left.set("fwmark 0x1234");
    assert_eq!(left.daemon.show("fwmark"), "0x1234");
    left.ns.ping(right.v4, 5);
    left.set("fwmark off");
    left.ns.no_ping(right.v4);
    left.set("fwmark 0x1234");
    left.ns.ping(right.v4, 5);
}

/// What stands outside of a packet: a handshake is urgent (AF41); data shows nothing of what is inside
/// but congestion, and what the way says of that reaches the packet inside (RFC 6040). Whatever is
/// marked in another way is dropped.
#[test]
fn marks_are_on_the_wire_and_come_back_from_it() {
    let pairing = Pairing::new(Implementation::Adit, Implementation::Adit);
    pairing.play("marks_are_on_the_wire_and_come_back_from_it", |lab, pairing| {
        for family in [Family::V4, Family::V6] {
            let Pair { left, right, .. } = Pair::linked(lab, pairing, family);
            let ip = word(family);
            let chain = |node: &Node, name: &str, hook: &str| {
                node.ns.run("nft add table inet lab");
                let hook = format!("type filter hook {hook} priority mangle");
                node.ns.run(&format!("nft add chain inet lab {name} {{ {hook} ; }}"));
            };
            let drop = |node: &Node, rule: &str| {
                node.ns.run(&format!("nft add rule inet lab {rule} counter drop"));
            };
            chain(&left, "out", "output");
            chain(&right, "out", "output");
            chain(&right, "way", "prerouting");
            chain(&right, "in", "input");
            // The kind of message stands behind the header of UDP.
            for (node, to, kind) in [(&left, 2, 1), (&right, 1, 2)] {
                for wrong in ["dscp != af41", "ecn != not-ect"] {
                    drop(node, &format!("out udp dport {to} @th,64,8 {kind} {ip} {wrong}"));
                }
            }
            left.greet(&right);
            const URGENT: u8 = 0xb8; // EF (RFC 3246)
            for (inside, outside, way, delivered) in [
                ("not-ect", "not-ect", "ce", "not-ect"),
                ("ect0", "ect0", "ect0", "ect0"),
                ("ect0", "ect0", "ect1", "ect1"),
                ("ect0", "ect0", "ce", "ce"),
                ("ect1", "ect1", "ce", "ce"),
                ("ce", "ect0", "ect0", "ce"),
            ] {
                for inner in [Family::V4, Family::V6] {
                    for (node, chains) in [(&left, &["out"][..]), (&right, &["way", "in"])] {
                        for chain in chains {
                            node.ns.run(&format!("nft flush chain inet lab {chain}"));
                        }
                    }
                    for wrong in ["dscp != cs0".into(), format!("ecn != {outside}")] {
                        drop(&left, &format!("out udp dport 2 @th,64,8 4 {ip} {wrong}"));
                    }
                    let set = format!("udp dport 2 @th,64,8 4 {ip} ecn set {way}");
                    right.ns.run(&format!("nft add rule inet lab way {set}"));
                    let of_tunnel = format!("in iifname {}", right.daemon.interface);
                    for wrong in ["dscp != ef".into(), format!("ecn != {delivered}")] {
                        drop(&right, &format!("{of_tunnel} {} {wrong}", word(inner)));
                    }
                    let number =
                        ["not-ect", "ect1", "ect0", "ce"].iter().position(|it| *it == inside);
                    let tos = usize::from(URGENT) | number.expect("one of these");
                    let to = right.address(inner);
                    let asked = left.ns.attempt(&format!("ping -n -c 1 -W 5 -Q {tos} {to}"));
                    let rules = || [&left, &right].map(|node| node.ns.run("nft list ruleset"));
                    assert!(asked.is_ok(), "{inside} in {family:?}: {asked:?} {:#?}", rules());
                }
            }
        }
    });
}

/// What a packet filter calls it.
fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

// Time.

fn a_persistent_keepalive_keeps_its_interval(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::unacquainted(lab, pairing);
    right.allow(&left, "");
    let started = Instant::now();
    let endpoint = format!("endpoint 127.0.0.1:{}", right.port);
    left.allow(&right, &format!("{endpoint} persistent-keepalive 1"));
    // They do not count keepalives that they receive.
    let arrived = || match pairing.right {
        Implementation::Boringtun | Implementation::Gotatun => left.sees(&right).sent,
        _ => right.sees(&left).received,
    };
    await_that("keepalives arrive", || arrived() >= 148 + 4 * 32);
    assert!(started.elapsed() >= Duration::from_millis(2900), "too often");
    assert_ne!(right.sees(&left).latest_handshake, 0);
    // Whoever was silent so far can speak: the keepalives told where the other one is.
    right.ns.ping(left.v4, 3);
}

fn a_persistent_keepalive_speaks_at_once(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::unacquainted(lab, pairing);
    right.allow(&left, "");
    let endpoint = format!("endpoint 127.0.0.1:{}", right.port);
    left.allow(&right, &format!("{endpoint} persistent-keepalive 60"));
    await_that("a session", || right.sees(&left).latest_handshake != 0);
}

fn a_restarted_daemon_speaks_at_once(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    pair.ping();
    let Pair { left, right, preshared } = pair;
    let left = left.restart(lab, pairing.environment);
    let words = format!("preshared-key {} endpoint 127.0.0.1:{}", preshared.file, right.port);
    left.allow(&right, &words);
    Pair { left, right, preshared }.ping();
}

play_in_every_pairing!(
    pings_cross_in_both_families_over_both,
    transfers_arrive_whole,
    packets_of_every_size_up_to_the_mtu_pass_unfragmented,
    full_packets_cross_a_smaller_outer_path,
    a_path_that_shrinks_under_way_is_noticed,
    trains_of_datagrams_arrive_whole,
    datagrams_of_every_size_are_survived,
    a_wrong_preshared_key_makes_no_session,
    a_preshared_key_changed_under_way_holds_from_the_next_handshake,
    a_private_key_changed_under_way_makes_a_new_session_at_once,
    only_allowed_sources_are_delivered,
    nothing_leaves_for_an_address_of_nobody,
    allowed_ips_change_under_way,
    a_removed_peer_is_gone_and_may_come_back,
    a_changed_port_is_followed,
    a_changed_address_is_followed,
    an_endpoint_may_change_its_family,
    a_link_local_endpoint_has_a_zone,
    a_firewall_mark_is_on_every_outer_packet,
    a_persistent_keepalive_keeps_its_interval,
    a_persistent_keepalive_speaks_at_once,
    a_restarted_daemon_speaks_at_once,
);

/// With a second link between the two, and no route of the left one.
fn with_two_links(lab: &Lab, pairing: Pairing) -> Pair {
    let pair = Pair::linked(lab, pairing, Family::V4);
    let Pair { left, right, .. } = &pair;
    left.ns.link("eth1", &right.ns, "eth1");
    left.ns.address("eth1", "10.0.0.3/24");
    for (ns, interface) in [(&left.ns, "all"), (&left.ns, "eth1"), (&right.ns, "all")] {
        ns.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0");
    }
    pair
}

/// Takes the left one to the right one's link with the only route that there is.
fn take_the_first_link(left: &Node, right: &Node) {
    for interface in ["eth0", "eth1"] {
        left.ns.ip(&format!("-4 route flush dev {interface}"));
    }
    left.ns.ip("route add 10.0.0.0/24 dev eth0 src 10.0.0.1 metric 2");
    await_that("the only route is taken", || {
        left.greet(right);
        is_at(left, right, "10.0.0.1")
    });
}

const BETTER: &str = "route add 10.0.0.0/24 dev eth1 src 10.0.0.3 metric 1";

/// Whether the left one is there, as the right one sees it.
fn is_at(left: &Node, right: &Node, address: &str) -> bool {
    let endpoint = right.sees(left).endpoint;
    endpoint.is_some_and(|endpoint| endpoint.ip().to_string() == address)
}

/// The kernel would answer from the address of the link that answers leave by, which a NAT before the
/// peer, or a filter there, does not let in.
#[test]
fn a_peer_is_answered_from_where_it_called_by_whichever_link() {
    let name = "a_peer_is_answered_from_where_it_called_by_whichever_link";
    Implementation::Adit.play(name, |lab, adit| {
        let Pair { left, right, preshared } = with_two_links(lab, Pairing::new(adit, adit));
        left.ns.ip("-4 route flush dev eth0");
        left.ns.ip("route replace 10.0.0.0/24 dev eth1 src 10.0.0.3");
        let words = format!("preshared-key {}", preshared.file);
        left.set_peer(&right, "remove");
        left.allow(&right, &words);
        right.allow(&left, &format!("{words} endpoint 10.0.0.1:{}", left.port));
        for (one, other) in [(&right, &left), (&left, &right)] {
            one.greet(other);
            assert!(is_at(&left, &right, "10.0.0.1"));
        }
    });
}

/// What the peer sends to the address that was right before is on its way for as long as it has not heard of
/// the new one, and asks for no answer from there.
#[test]
fn a_better_route_is_taken_while_the_peer_speaks() {
    let name = "a_better_route_is_taken_while_the_peer_speaks";
    Implementation::Adit.play(name, |lab, adit| {
        // Whoever only listens sends a keepalive after half a second.
        let environment = &[("ADIT_TIME_SCALE", "20")];
        let pairing = Pairing { environment, ..Pairing::new(adit, adit) };
        let Pair { left, right, .. } = with_two_links(lab, pairing);
        // It answers nothing.
        let listener = left.ns.within(|| UdpSocket::bind((left.v4, 9))).expect("a socket");
        let speaker = right.ns.within(|| UdpSocket::bind((right.v4, 0))).expect("a socket");
        speaker.connect((left.v4, 9)).expect("a way");
        for is_answered in [true, false] {
            take_the_first_link(&left, &right);
            let ping = format!("ping -q -i 0.002 {}", left.v4);
            let _ping = is_answered.then(|| right.ns.spawn(&ping));
            let talk = Arc::new(speaker.try_clone().expect("a descriptor"));
            let speaker = Arc::downgrade(&talk);
            let speaks = move || {
                // Until the last line of this round.
                while let Some(speaker) = speaker.upgrade().filter(|_| !is_answered) {
                    speaker.send(b"and so on").expect("a message");
                    thread::sleep(Duration::from_millis(1)); // Its pace.
                }
            };
            thread::spawn(speaks);
            left.ns.ip(BETTER);
            await_that("the better route is taken", || is_at(&left, &right, "10.0.0.3"));
            drop(talk);
        }
        drop(listener);
    });
}

/// The same where that is a handshake, and other routes come behind the better one.
#[test]
fn a_better_route_is_taken_while_the_peer_begins_anew() {
    let name = "a_better_route_is_taken_while_the_peer_begins_anew";
    Implementation::Adit.play(name, |lab, adit| {
        // An initiation is tried again every second, and one comes before a new source is certain.
        let environment = &[("ADIT_TIME_SCALE", "5")];
        let pairing = Pairing { environment, ..Pairing::new(adit, adit) };
        let Pair { left, right, preshared } = with_two_links(lab, pairing);
        take_the_first_link(&left, &right);
        let endpoint = right.sees(&left).endpoint.expect("it has greeted");
        right.ns.ip("route add unreachable 10.0.0.1");
        right.set_peer(&left, "remove");
        let words = format!("preshared-key {} endpoint {endpoint}", preshared.file);
        right.allow(&left, &format!("{words} persistent-keepalive 60"));
        left.ns.ip(BETTER);
        for number in 1..4 {
            left.ns.ip(&format!("route add 10.99.{number}.0/24 dev eth0"));
        }
        right.ns.ip("route del unreachable 10.0.0.1");
        await_that("it has begun", || right.sees(&left).latest_handshake != 0);
        await_that("the better route is taken", || {
            left.greet(&right);
            is_at(&left, &right, "10.0.0.3")
        });
    });
}

/// All of these with the kernel, in a guest; the test `kernel` has a short form of them.
#[test]
fn the_kernel_plays_along() {
    if env::var_os("ADIT_LONG").is_none() {
        return skipped("takes ten minutes under emulation; ADIT_LONG=1 runs it");
    }
    guest::play(&["kernel"], Duration::from_secs(1800));
}
