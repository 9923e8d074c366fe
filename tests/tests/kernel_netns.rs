//! The scenarios of the kernel's own test in namespaces, by their numbers in its order.
//!
//! Those of two machines are played by every pairing of implementations, those of one by adit
//! and, as a control, by wireguard-go.

use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use adit_tests::guest;
use adit_tests::lab::traffic::{tcp_without_copies, udp_flood};
use adit_tests::lab::{
    Daemon, Family, Implementation, KeyPair, Lab, Node, Pair, Pairing, await_that, skipped,
};
use adit_tests::{play_alone, play_in_every_pairing};

/// N1 to N3: floods of echo requests, one stream and fifty.
#[track_caller]
fn everything_passes(left: &Node, right: &Node) {
    // What plays with the kernel is emulated.
    let is_kernel = |node: &Node| node.daemon.implementation == Implementation::Kernel;
    let large = if is_kernel(left) || is_kernel(right) { 4 << 20 } else { 64 << 20 };
    for (from, to) in [(left, right), (right, left)] {
        for address in [to.v4, to.v6] {
            from.ns.ping(address, 10);
        }
    }
    for (address, back) in [(right.v4, left.v4), (right.v6, left.v6)] {
        tcp_without_copies(&left.ns, &right.ns, address, 1, large);
        tcp_without_copies(&right.ns, &left.ns, back, 1, large / 4);
        udp_flood(&left.ns, &right.ns, address, 1300);
    }
    for connections in [thread::available_parallelism().map_or(2, Into::into), 50] {
        tcp_without_copies(&left.ns, &right.ns, right.v4, connections, large / 64);
    }
}

fn n01_to_n03_over_v4(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::new(lab, pairing, Family::V4);
    everything_passes(&left, &right);
}

fn n04_bytes_are_counted_exactly(lab: &Lab, pairing: Pairing) {
    let pair = Pair::unacquainted(lab, pairing);
    let Pair { left, right, .. } = &pair;
    left.allow(right, "");
    right.allow(left, &format!("endpoint 127.0.0.1:{}", left.port));
    right.ns.ping(left.v4, 10);
    let response = 92 + 10 * 128;
    let initiation = 148 + 10 * 128;
    let (at_left, at_right) = (left.sees(right), right.sees(left));
    assert_eq!((at_right.received, at_left.sent), (response, response));
    // A keepalive may confirm the session, if the first echo request is not there yet.
    for sent in [at_right.sent, at_left.received] {
        assert!([initiation, initiation + 32].contains(&sent), "{sent}");
    }
    assert_ne!(left.sees(right).latest_handshake, 0);
}

fn n05_large_packets_over_v4(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    pair.set_mtu(34816 - 1500 + 1420);
    everything_passes(&pair.left, &pair.right);
}

fn n06_over_v6_with_usual_and_large_packets(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V6);
    everything_passes(&pair.left, &pair.right);
    pair.set_mtu(34816 - 1500 + 1420);
    everything_passes(&pair.left, &pair.right);
}

/// A daemon cannot see the MTU of a route; that of the interface must be respected.
fn n07_padding_respects_the_mtu(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    let Pair { left, right, .. } = &pair;
    pair.ping();
    let home = &left.daemon.home;
    home.run("nft add table ip lab");
    home.run("nft add chain ip lab in { type filter hook input priority 0 ; }");
    home.run("nft add rule ip lab in ip length 1360 drop");
    pair.set_mtu(1300);
    await_that("the new MTU is seen", || left.ns.hears_nothing(right.v4, 1269));
    pair.set_mtu(1299);
    await_that("the new MTU is seen", || left.ns.pings(right.v4, 1, 1269).is_ok());
    left.ns.ping_whole(right.v4, 5, 1269);
}

fn n08_a_new_address_and_port_are_followed(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    let Pair { left, right, .. } = &pair;
    pair.ping();
    left.daemon.home.address("lo", "127.212.121.99/8");
    left.daemon.home.ip("address delete 127.0.0.1/8 dev lo");
    left.set("listen-port 9999");
    left.greet(right);
    expect_endpoint(right, left, "127.212.121.99:9999");
}

fn n09_v6_after_v4_is_followed(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    let Pair { left, right, .. } = &pair;
    pair.ping();
    let peer = format!("peer {} endpoint [::1]:{}", right.key.public, right.port);
    left.set(&format!("listen-port 9998 {peer}"));
    left.greet(right);
    expect_endpoint(right, left, "[::1]:9998");
}

fn n10_a_disallowed_source_moves_the_endpoint_but_is_not_delivered(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::unacquainted(lab, pairing);
    left.set_peer(&right, "allowed-ips 192.168.241.0/24");
    right.allow(&left, &format!("endpoint [::1]:{}", left.port));
    let receiver = left.ns.within(|| UdpSocket::bind((left.v4, 1111))).expect("a receiver");
    receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let sender = right.ns.within(|| UdpSocket::bind((right.v4, 0))).expect("a sender");
    let send = || sender.send_to(b"x", (left.v4, 1111)).expect("a datagram leaves");
    send();
    receiver.recv(&mut [0; 8]).expect("the allowed datagram");

    let specific = lab.key_pair().public;
    left.set(&format!("peer {specific} allowed-ips {}/32", right.v4));
    right.set("listen-port 9997");
    send();
    await_that("the endpoint moves", || {
        left.sees(&right).endpoint.is_some_and(|endpoint| endpoint.port() == 9997)
    });
    expect_endpoint(&left, &right, "[::1]:9997");
    receiver.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    assert!(receiver.recv(&mut [0; 8]).is_err(), "a disallowed datagram was delivered");

    left.set(&format!("peer {specific} remove"));
    left.set_peer(&right, "allowed-ips 192.168.241.0/24");
    send();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    receiver.recv(&mut [0; 8]).expect("allowed again");
}

fn n11_a_new_private_key_works_at_once(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    pair.ping();
    let Pair { left, right, preshared } = &pair;
    for node in [left, right] {
        node.set(&format!("private-key {}", node.key.file));
    }
    pair.ping();
    let third = lab.key_pair();
    left.set(&format!("private-key {}", third.file));
    let words = format!("preshared-key {} allowed-ips {}/32", preshared.file, left.v4);
    right.set(&format!("peer {} {words}", third.public));
    right.set_peer(left, "remove");
    left.greet(right);
}

fn n12_a_tunnel_in_a_tunnel(lab: &Lab, pairing: Pairing) {
    let outer = Pair::new(lab, pairing, Family::V4);
    let inner = |implementation, ns, number| {
        Node::start(lab, implementation, pairing.environment, ns, ns, number)
    };
    let left = inner(pairing.left, &outer.left.ns, 0x101);
    let right = inner(pairing.right, &outer.right.ns, 0x102);
    left.allow(&right, &format!("endpoint [{}]:{}", outer.right.v6, right.port));
    right.allow(&left, &format!("endpoint [{}]:{}", outer.left.v6, left.port));
    left.set_mtu(1340);
    right.set_mtu(1340);
    everything_passes(&left, &right);
}

/// Others need not see through the loop: they must only survive.
fn n13_a_routing_loop_is_survived(lab: &Lab, pairing: Pairing) {
    let pair = Pair::linked(lab, pairing, Family::V4);
    pair.ping();
    let Pair { mut left, mut right, .. } = pair;
    left.set_peer(&right, &format!("endpoint {}:2", right.v4));
    let sent = left.sees(&right).sent;
    let _ = left.ns.pings(right.v4, 10, 56);
    let more = left.sees(&right).sent - sent;
    assert!(pairing.left != Implementation::Adit || more < 70_000, "{more} bytes went round");
    left.set_peer(&right, "endpoint 10.0.0.2:2");
    for node in [&mut left, &mut right] {
        assert!(node.daemon.ended().is_none(), "it died of it");
        assert_eq!(node.daemon.show("peers").lines().count(), 1);
    }
}

fn n14_a_keepalive_holds_the_way_through_nat_open(lab: &Lab, pairing: Pairing) {
    let (client, router, server) =
        (lab.namespace("client"), lab.namespace("router"), lab.namespace("server"));
    client.link("eth0", &router, "inner");
    router.link("outer", &server, "eth0");
    client.address("eth0", "192.168.1.100/24");
    router.address("inner", "192.168.1.1/24");
    router.address("outer", "10.0.0.1/24");
    server.address("eth0", "10.0.0.100/24");
    client.ip("route add default via 192.168.1.1");
    router.sysctl("ipv4/ip_forward", "1");
    router.run("nft add table ip lab");
    router.run("nft add chain ip lab out { type nat hook postrouting priority 100 ; }");
    router.run("nft add rule ip lab out oifname outer snat to 10.0.0.1");
    router.sysctl("netfilter/nf_conntrack_udp_timeout", "2");
    router.sysctl("netfilter/nf_conntrack_udp_timeout_stream", "2");
    let node = |implementation, ns, number| {
        Node::start(lab, implementation, pairing.environment, ns, ns, number)
    };
    let (left, right) = (node(pairing.left, &client, 1), node(pairing.right, &server, 2));
    right.allow(&left, "");
    left.allow(&right, "endpoint 10.0.0.100:2 persistent-keepalive 1");
    left.greet(&right);
    server.ping(left.v4, 1);
    expect_endpoint(&right, &left, "10.0.0.1:1");
    thread::sleep(Duration::from_secs(3)); // Longer than the router remembers silence.
    server.ping(left.v4, 1);
}

fn n15_bound_and_marked_senders_are_served(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::linked(lab, pairing, Family::V4);
    left.ns.run(&format!("ping -c 1 -w 5 -I {} {}", left.daemon.interface, right.v4));
    left.ns.run("nft add table inet lab");
    left.ns.run("nft add chain inet lab out { type route hook output priority mangle ; }");
    left.ns.run("nft add rule inet lab out meta mark set 1");
    left.ns.run(&format!("ping -c 1 -w 5 -I {} {}", left.daemon.interface, right.v4));
    left.ns.ping(right.v6, 1);
}

fn n16_an_endpoint_inside_the_tunnel(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::linked(lab, pairing, Family::V4);
    left.greet(&right);
    let (ns, environment) = (&right.ns, pairing.environment);
    let third = Node::start(lab, pairing.right, environment, ns, ns, 0x105);
    left.ns.address(&left.daemon.interface, "192.168.242.1/24");
    third.set_peer(&left, "allowed-ips 192.168.242.1/32");
    let endpoint = format!("endpoint {}:{}", right.v4, third.port);
    left.set_peer(&third, &format!("{endpoint} allowed-ips {}/32", third.v4));
    left.greet(&third);
    // Now the way to the third one leads through the third one.
    left.set_peer(&third, &format!("endpoint {}:5", third.v4));
    // Nothing must come of it but silence; unless the third one itself says where it is.
    let _ = left.ns.hears_nothing(third.v4, 56);
    left.greet(&right);
}

fn n17_policy_routing_sends_everything_through_the_tunnel(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::linked_unacquainted(lab, pairing);
    right.ns.address("lo", "172.16.9.1/32");
    right.ns.address("lo", "fd99::1/128");
    right.allow(&left, "");
    left.set(&format!(
        "fwmark 51820 peer {} endpoint 10.0.0.2:2 allowed-ips 0.0.0.0/0,::/0",
        right.key.public
    ));
    left.ns.ip("-6 route add default via fd00:aa::2 dev eth0");
    for (family, everything) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        left.ns.ip(&format!("{family} rule add not fwmark 51820 table 51820"));
        left.ns.ip(&format!("{family} rule add table main suppress_prefixlength 0"));
        let device = &left.daemon.interface;
        left.ns.ip(&format!("{family} route add {everything} dev {device} table 51820"));
    }
    left.ns.sysctl("ipv4/conf/all/rp_filter", "0");
    for address in ["172.16.9.1", "fd99::1"] {
        left.ns.ping(address.parse().expect("an address"), 100);
    }
}

fn n18_an_icmp_error_finds_its_way_back_through_nat(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::linked(lab, pairing, Family::V4);
    let origin = lab.namespace("origin");
    origin.link("eth0", &right.ns, "eth1");
    origin.address("eth0", "10.9.0.1/24");
    right.ns.address("eth1", "10.9.0.100/24");
    origin.ip("route add default via 10.9.0.100");
    right.ns.sysctl("ipv4/ip_forward", "1");
    right.ns.run("nft add table ip lab");
    right.ns.run("nft add chain ip lab out { type nat hook postrouting priority 100 ; }");
    right.ns.run(&format!("nft add rule ip lab out ip saddr 10.9.0.0/24 snat to {}", right.v4));
    left.greet(&right);
    origin.ping(left.v4, 1);
    right.set_peer(&left, "remove");
    let report = origin.attempt(&format!("ping -n -W 1 -c 1 {}", left.v4)).expect_err("no answer");
    assert!(report.contains("icmp_seq=1 Destination Host Unreachable"), "{report}");
}

fn n19_a_source_address_that_goes_away_is_replaced(lab: &Lab, pairing: Pairing) {
    for (family, old, new) in [
        (Family::V4, "10.0.0.1/24", "10.0.0.10/24"),
        (Family::V6, "fd00:aa::1/96", "fd00:aa::10/96"),
    ] {
        let Pair { left, right, .. } = Pair::linked(lab, pairing, family);
        left.greet(&right);
        left.ns.address("eth0", new);
        left.ns.ip(&format!("address delete {old} dev eth0"));
        left.greet(&right);
    }
}

fn n20_replies_leave_from_the_address_addressed(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::linked(lab, pairing, Family::V4);
    right.ns.address("eth0", "10.0.0.3/24");
    right.ns.address("eth0", "fd00:aa::3/96");
    for endpoint in ["10.0.0.2:2", "10.0.0.3:2", "[fd00:aa::2]:2", "[fd00:aa::3]:2"] {
        left.set_peer(&right, &format!("endpoint {endpoint}"));
        left.greet(&right);
        expect_endpoint(&left, &right, endpoint);
    }
}

fn n21_an_address_of_another_interface_serves_too(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::linked_unacquainted(lab, pairing);
    let nowhere = lab.namespace("nowhere");
    right.ns.link("dummy0", &nowhere, "dummy0");
    right.ns.address("dummy0", "10.50.0.1/24");
    left.ns.ip("route add 10.50.0.0/24 via 10.0.0.2");
    right.allow(&left, "");
    left.allow(&right, "endpoint 10.50.0.1:2");
    left.greet(&right);
    expect_endpoint(&left, &right, "10.50.0.1:2");
}

fn n22_a_better_route_changes_the_source(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::linked(lab, pairing, Family::V4);
    left.ns.link("eth1", &right.ns, "eth1");
    left.ns.address("eth1", "10.0.0.3/24");
    for (ns, interfaces) in
        [(&left.ns, ["all", "eth0", "eth1"]), (&right.ns, ["all", "eth0", "eth1"])]
    {
        for interface in interfaces {
            ns.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0");
        }
    }
    left.ns.ip("-4 route flush dev eth0");
    left.ns.ip("-4 route flush dev eth1");
    left.ns.ip("route add 10.0.0.0/24 dev eth0 src 10.0.0.1 metric 2");
    left.greet(&right);
    expect_endpoint(&right, &left, "10.0.0.1:1");
    let route =
        |verb| left.ns.ip(&format!("route {verb} 10.0.0.0/24 dev eth1 src 10.0.0.3 metric 1"));
    route("add");
    await_that("the better route is taken", || {
        left.greet(&right);
        let endpoint = right.sees(&left).endpoint;
        let is_taken = endpoint.is_some_and(|endpoint| endpoint.to_string() == "10.0.0.3:1");
        // What is on its way to the old address brings it back there, until a route changes again.
        if !is_taken && pairing.left == Implementation::WireguardGo {
            route("del");
            route("add");
        }
        is_taken
    });
}

play_in_every_pairing!(
    n01_to_n03_over_v4,
    n04_bytes_are_counted_exactly,
    n05_large_packets_over_v4,
    n06_over_v6_with_usual_and_large_packets,
    n07_padding_respects_the_mtu,
    n08_a_new_address_and_port_are_followed,
    n09_v6_after_v4_is_followed,
    n10_a_disallowed_source_moves_the_endpoint_but_is_not_delivered,
    n11_a_new_private_key_works_at_once,
    n12_a_tunnel_in_a_tunnel,
    n13_a_routing_loop_is_survived,
    n14_a_keepalive_holds_the_way_through_nat_open,
    n15_bound_and_marked_senders_are_served,
    n16_an_endpoint_inside_the_tunnel,
    n17_policy_routing_sends_everything_through_the_tunnel,
    n18_an_icmp_error_finds_its_way_back_through_nat,
    n19_a_source_address_that_goes_away_is_replaced,
    n20_replies_leave_from_the_address_addressed,
    n21_an_address_of_another_interface_serves_too,
    n22_a_better_route_changes_the_source,
);

fn n23_many_allowed_ips_of_one_peer(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let peer = lab.key_pair();
    let ips = (0..255).flat_map(|a: u32| (0..256).map(move |b: u32| (a, b)));
    let lines: String =
        ips.map(|(a, b)| format!("AllowedIPs={a}.{b}.0.0/16,{a:x}:{b:x}::/128\n")).collect();
    set_configuration(lab, &daemon, &format!("[Peer]\nPublicKey={}\n{lines}", peer.public));
    assert_eq!(daemon.show("allowed-ips").split_whitespace().count(), 255 * 256 * 2 + 1);
}

fn n24_many_peers_with_many_allowed_ips(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let mut configuration = String::new();
    for a in 1..=40 {
        configuration += &format!("[Peer]\nPublicKey={}\n", public_key(a));
        for b in 1..=52 {
            configuration += &format!("AllowedIPs={a}.{b}.0.0/16\n");
        }
    }
    set_configuration(lab, &daemon, &configuration);
    let shown = daemon.show("allowed-ips");
    assert_eq!(shown.lines().count(), 40);
    assert!(shown.lines().all(|line| line.split_whitespace().count() == 53), "{shown}");
}

fn n25_peers_without_allowed_ips(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let peers =
        (1..=29).map(|n| format!("[Peer]\nPublicKey={}\n", public_key(n))).collect::<String>();
    let last =
        format!("[Peer]\nPublicKey={}\nAllowedIPs=255.2.3.4/32,abcd::255/128\n", public_key(30));
    set_configuration(lab, &daemon, &(peers + &last));
    daemon.wg("showconf %i");
    assert_eq!(daemon.show("peers").lines().count(), 30);
}

fn n26_peers_keep_their_order(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let ips = (1..=197).map(|n| format!("abcd::{n:x}")).collect::<Vec<_>>().join(",");
    let [first, second] = [public_key(1), public_key(2)];
    set_configuration(
        lab,
        &daemon,
        &format!("[Peer]\nPublicKey={first}\n[Peer]\nPublicKey={second}\nAllowedIPs={ips}\n"),
    );
    let shown = daemon.show("allowed-ips");
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], format!("{first}\t(none)"));
    assert_eq!(lines[1].split_whitespace().count(), 198);
}

/// Debian's `wg` is too old to spell a removal, so this speaks to the socket.
fn n27_single_allowed_ips_are_removed(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let keys = ["11".repeat(32), "22".repeat(32)];
    let ips =
        |net: &str| (0..197).map(|n| format!("allowed_ip={net}:{n:x}::/64\n")).collect::<String>();
    let request = format!(
        "set=1\npublic_key={}\n{}public_key={}\n{}\n",
        keys[0],
        ips("a"),
        keys[1],
        ips("b")
    );
    assert_eq!(daemon.uapi(&request), "errno=0\n\n");
    let request = format!(
        "set=1\npublic_key={}\nallowed_ip=-a:1::/64\nallowed_ip=-a:2:0:0::/64\nallowed_ip=-a:3::9/64\n\
         allowed_ip=-b:4::/64\nallowed_ip=-a:5::/63\nallowed_ip=-a:6::/64\n\
         public_key={}\nallowed_ip=-b:1::/64\nallowed_ip=-b:2::/64\n\n",
        keys[0], keys[1]
    );
    assert_eq!(daemon.uapi(&request), "errno=0\n\n");
    // Of the eight, one belongs to the other peer and one has another length.
    let shown = daemon.show("allowed-ips");
    assert_eq!(shown.split_whitespace().count(), 2 * 197 - 6 + 2);
    assert!(shown.contains("b:4::/64") && shown.contains("a:4::/64"), "{shown}");
}

fn n28_an_unknown_interface_is_an_error(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    assert!(daemon.attempt_wg("show doesnotexist").is_err());
}

fn n29_keys_are_shown_and_removed(lab: &Lab, implementation: Implementation) {
    let daemon = Daemon::start(lab, implementation, &lab.namespace("home"), &[]);
    let (own, peer, preshared) = (lab.key_pair(), lab.key_pair(), lab.preshared_key());
    assert_eq!(daemon.show("private-key"), "(none)");
    daemon.set(&format!("private-key {}", own.file));
    daemon.set(&format!("peer {} preshared-key {}", peer.public, preshared.file));
    assert_eq!(daemon.show("private-key"), own.private);
    assert_eq!(daemon.show("preshared-keys"), format!("{}\t{}", peer.public, preshared.secret));
    daemon.set("private-key /dev/null");
    daemon.set(&format!("peer {} preshared-key /dev/null", peer.public));
    assert_eq!(daemon.show("private-key"), "(none)");
    assert_eq!(daemon.show("preshared-keys"), format!("{}\t(none)", peer.public));
}

fn n30_nobody_is_a_peer_of_himself(lab: &Lab, implementation: Implementation) {
    let daemon = Daemon::start(lab, implementation, &lab.namespace("home"), &[]);
    let (own, other) = (lab.key_pair(), lab.key_pair());
    let (private, peer) = (format!("private-key {}", own.file), format!("peer {}", own.public));
    let clear = || {
        daemon.set("private-key /dev/null");
        if !daemon.show("peers").is_empty() {
            daemon.set(&format!("{peer} remove"));
        }
    };
    for order in [&[&private, &peer][..], &[&peer, &private], &[&format!("{private} {peer}")]] {
        order.iter().for_each(|words| daemon.set(words));
        assert_eq!(daemon.show("peers"), "", "after {order:?}");
        clear();
    }
    daemon.set(&format!("private-key {}", other.file));
    daemon.set(&peer);
    assert_eq!(daemon.show("peers"), own.public);
}

fn n31_a_private_key_is_clamped(lab: &Lab, implementation: Implementation) {
    let daemon = Daemon::start(lab, implementation, &lab.namespace("home"), &[]);
    let KeyPair { private, .. } = lab.key_pair();
    let file = lab.file("unclamped", &format!("/{}", &private[1..]));
    daemon.set(&format!("private-key {}", file));
    assert_eq!(daemon.show("private-key"), format!("+{}", &private[1..]));
}

fn n32_allowed_ips_come_and_go(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let [a, b] = [public_key(1), public_key(2)];
    for (peer, ips) in [
        (&a, "0.0.0.0/0,10.0.0.0/8,100.0.0.0/10,172.16.0.0/12,192.168.0.0/16"),
        (&a, "0.0.0.0/0"),
        (&b, "::/0,1700::/111,5000::/4,e000::/37,9000::/75"),
        (&b, "::/0"),
        (&a, "0.0.0.0/0,10.0.0.0/8,100.0.0.0/10,172.16.0.0/12,192.168.0.0/16,::/0,1700::/111"),
    ] {
        daemon.set(&format!("peer {peer} allowed-ips {ips}"));
        let shown = daemon.peer(peer).expect("the peer").allowed_ips;
        assert_eq!(sorted(shown), sorted(ips.split(',').map(str::to_owned).collect()));
    }
    assert!(daemon.peer(&b).expect("the peer").allowed_ips.is_empty(), "its prefix was taken over");
    daemon.set(&format!("peer {a} remove"));
    daemon.set(&format!("peer {b} allowed-ips 192.168.0.0/16 peer {b} remove"));
    assert_eq!(daemon.show("peers"), "");
}

fn n33_nothing_is_sent_to_a_low_order_key(lab: &Lab, implementation: Implementation) {
    let home = lab.namespace("home");
    let node = Node::start(lab, implementation, &[], &home, &home, 1);
    let listener = home.within(|| UdpSocket::bind("127.0.0.1:0")).expect("a socket");
    let endpoint = listener.local_addr().expect("an address");
    let keys = low_order_keys();
    for key in &keys {
        node.set(&format!("peer {key} persistent-keepalive 1 endpoint {endpoint}"));
    }
    node.ns.ip(&format!("link set {} down", node.daemon.interface));
    node.ns.ip(&format!("link set {} up", node.daemon.interface));
    assert_eq!(node.daemon.show("peers").lines().count(), 7);
    listener.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    assert!(listener.recv(&mut [0; 256]).is_err(), "something was sent");
}

/// Nobody else holds a namespace that a tunnel was moved to, so it ends, and the tunnel and its daemon
/// with it: also when each is in that of the other, and the way out leads through both.
fn n34_a_daemon_ends_with_the_namespace_of_its_tunnel(lab: &Lab, implementation: Implementation) {
    let pairing = Pairing::new(implementation, implementation);
    let Pair { left, right, .. } = Pair::new(lab, pairing, Family::V6);
    let interfaces = [&left, &right].map(|node| node.daemon.interface.clone());
    for (node, other) in [(&left, &right), (&right, &left)] {
        node.set_peer(other, "allowed-ips ::/0");
        node.ns.ip(&format!("-6 route add default dev {}", node.daemon.interface));
    }
    left.ns.ping(right.v6, 1);
    for (interface, (from, to)) in interfaces.iter().zip([(&left, &right), (&right, &left)]) {
        from.ns.ip(&format!("link set {interface} netns {}", to.ns.name()));
        to.ns.ip(&format!("link set {interface} up"));
    }
    let (mut one, mut other) = (left.daemon, right.daemon);
    // The second tunnel is in the first of these.
    drop(left.ns);
    assert!(other.await_end().success());
    assert!(one.ended().is_none(), "its own namespace is still there");
    drop(right.ns);
    assert!(one.await_end().success());
}

play_alone!(
    n23_many_allowed_ips_of_one_peer,
    n24_many_peers_with_many_allowed_ips,
    n25_peers_without_allowed_ips,
    n26_peers_keep_their_order,
    n27_single_allowed_ips_are_removed,
    n28_an_unknown_interface_is_an_error,
    n29_keys_are_shown_and_removed,
    n30_nobody_is_a_peer_of_himself,
    n31_a_private_key_is_clamped,
    n32_allowed_ips_come_and_go,
    n33_nothing_is_sent_to_a_low_order_key,
    n34_a_daemon_ends_with_the_namespace_of_its_tunnel,
);

/// All that two machines play, with the kernel as one of them, in a guest.
#[test]
fn the_kernel_plays_its_own() {
    if env::var_os("ADIT_LONG").is_none() {
        return skipped("takes ten minutes under emulation; ADIT_LONG=1 runs it");
    }
    guest::play(&["kernel"], Duration::from_secs(1800));
}

/// A daemon with a private key.
fn alone(lab: &Lab, implementation: Implementation) -> Daemon {
    let daemon = Daemon::start(lab, implementation, &lab.namespace("home"), &[]);
    daemon.set(&format!("private-key {}", lab.key_pair().file));
    daemon
}

fn set_configuration(lab: &Lab, daemon: &Daemon, peers: &str) {
    let own = lab.key_pair().private;
    let file = lab.file("configuration", &format!("[Interface]\nPrivateKey={own}\n{peers}"));
    daemon.wg(&format!("setconf %i {}", file));
}

#[track_caller]
fn expect_endpoint(at: &Node, of: &Node, endpoint: &str) {
    let endpoint: SocketAddr = endpoint.parse().expect("an endpoint");
    assert_eq!(at.sees(of).endpoint, Some(endpoint));
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

/// Some public key that differs from those of other numbers: 32 bytes in base64.
fn public_key(number: u8) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = char::from(alphabet[usize::from(number)]);
    format!("{}A=", String::from(letter).repeat(42))
}

/// The seven points of low order, as the known answers have them.
fn low_order_keys() -> Vec<String> {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../vectors.json")).expect("JSON");
    let keys = vectors["keys"]["low_order_public_b64"].as_array().expect("a list");
    keys.iter().map(|key| key.as_str().expect("text").to_owned()).collect()
}
