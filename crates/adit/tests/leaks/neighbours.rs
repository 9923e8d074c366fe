//! What neighbours on the LAN may learn of a tunnel or do to it, and what two tunnels do to each
//! other.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::machine::Machine;
use crate::probe::datagrams_and_connections;
use crate::stage::{ENDPOINT, OURS, Program, STRICT, Stage, join};
use crate::wire::Leaks;
use crate::{BOTH, assert_tight};

/// CVE-2019-14899, and ARP for an address that another link has.
#[test]
fn the_address_of_the_tunnel_does_not_answer_outside() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "#! ExcludeIPs = lan");
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    let inside = stage.client.within(|| UdpSocket::bind("[::]:7777")).unwrap();
    inside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for route in ["via 192.168.77.2 dev lan0", "dev lan0"] {
        stage.router.run(&format!("ip route replace 10.9.0.2/32 {route}"));
        stage.router.run("ip -6 route replace fd00:9::2/128 via 2001:db8:77::2 dev lan0");
        stage.forget();
        stage.router.attempt("ping -n -q -f -c 100 -l 10 -w 2 -W 0.1 10.9.0.2");
        stage.router.attempt("ping -n -q -f -c 100 -l 10 -w 2 -W 0.1 fd00:9::2");
        stage.router.within(|| {
            let outside = UdpSocket::bind("[::]:0").unwrap();
            for to in ["[::ffff:10.9.0.2]:7777", "[fd00:9::2]:7777", "[fd00:9::2]:9"] {
                let _ = outside.send_to(b"hello", to);
            }
            for to in ["10.9.0.2:22", "[fd00:9::2]:22"] {
                let patience = Duration::from_millis(100);
                let _ = std::net::TcpStream::connect_timeout(&to.parse().unwrap(), patience);
            }
        });
        assert!(inside.recv(&mut [0; 16]).is_err(), "it was heard");
        let leaks = stage.leaks();
        assert_eq!(leaks.count(), 0, "{route}:\n{leaks}");
    }
    assert!(stage.reaches_the_other_end());
}

#[test]
fn control_a_neighbour_of_wg_quick_learns_the_address_of_the_tunnel() {
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    stage.router.run("ip route replace 10.9.0.2/32 dev lan0");
    stage.forget();
    stage.router.attempt("ping -n -q -c 3 -i 0.1 -W 0.1 10.9.0.2");
    let leaks = stage.leaks();
    assert!(leaks.count() > 0, "the control is tight");
}

/// Somebody on the LAN knocks at every door of the address that it knows.
fn knock(stage: &mut Stage) -> Leaks {
    let closed: [SocketAddr; 2] =
        ["192.168.77.2:81", "[2001:db8:77::2]:81"].map(|to| to.parse().unwrap());
    let open: [SocketAddr; 2] =
        ["192.168.77.2:80", "[2001:db8:77::2]:80"].map(|to| to.parse().unwrap());
    let listeners = stage.client.within(|| open.map(|at| TcpListener::bind(at).unwrap()));
    stage.forget();
    for to in ["192.168.77.2", "2001:db8:77::2"] {
        stage.router.attempt(&format!("ping -n -q -f -c 20 -l 10 -w 1 -W 0.1 {to}"));
    }
    stage.router.within(|| {
        let datagrams = ["0.0.0.0:0", "[::]:0"].map(|at| UdpSocket::bind(at).unwrap());
        for to in closed.into_iter().chain(open) {
            let _ = TcpStream::connect_timeout(&to, Duration::from_millis(100));
            let _ = datagrams[usize::from(to.is_ipv6())].send_to(b"hello", to);
        }
    });
    drop(listeners);
    stage.leaks()
}

#[test]
fn a_neighbour_that_knocks_gets_no_answer() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    let leaks = knock(&mut stage);
    assert_eq!(leaks.count(), 0, "{leaks}");
}

#[test]
fn control_a_neighbour_of_wg_quick_gets_answers() {
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    let leaks = knock(&mut stage);
    assert!(leaks.to("192.168.77.1") > 0, "the control is tight:\n{leaks}");
}

/// What comes back to the tunnel comes on a link that nothing else would leave through.
#[test]
fn a_strict_reverse_path_filter_lets_the_tunnel_pass() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.client.run(STRICT);
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    assert!(stage.reaches_the_internet());
}

/// A router that has forgotten where the client is asks, and the client knows well where that is, so
/// that it does not ask first and thereby tells.
#[test]
fn a_strict_reverse_path_filter_lets_the_router_find_us() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    one_more(&mut stage, 1);
    stage.client.run(STRICT);
    let router = stage.router.run("ip -brief link show lan0 | awk '{ print $3 }'");
    stage
        .client
        .run(&format!("ip neighbour replace 192.168.77.1 dev eth0 nud permanent lladdr {router}"));
    for (up, end) in
        [("up wg0", "10.9.0.1"), ("up wg1", "10.8.0.1"), ("up --no-guard wg0", "10.9.0.1")]
    {
        stage.client.run(&format!("{OURS} {up}"));
        stage.client.run(&format!("ping -n -q -c 1 -w 20 {end}"));
        for _ in 0..3 {
            stage.router.run("ip neighbour flush dev lan0");
            let answered = stage.client.attempt(&format!("ping -n -q -c 1 -W 2 {end}"));
            assert_eq!(answered.code, 0, "{up}: {}", answered.out);
        }
        if up == "up wg1" {
            stage.client.run(&format!("{OURS} down wg0; {OURS} down wg1"));
        }
    }
}

/// The server that gave the address renews it, and says so to that address.
#[test]
fn a_strict_reverse_path_filter_lets_an_address_be_renewed() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.client.run(STRICT);
    stage.tunnel("up");
    let server = stage.router.within(|| UdpSocket::bind("192.168.77.1:67")).unwrap();
    let client = stage.client.within(|| UdpSocket::bind("192.168.77.2:68")).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    server.send_to(b"it is yours", "192.168.77.2:68").unwrap();
    assert!(client.recv(&mut [0; 16]).is_ok(), "the answer is lost");
}

/// A guest behind the client, whose packets get the client's address.
fn a_guest(stage: &mut Stage) -> Machine {
    let mut guest = Machine::start().unwrap();
    join(&stage.client, "guest0", &guest, "eth0");
    stage.client.run(
        "sysctl -q net.ipv4.ip_forward=1
         ip address add 172.20.0.1/24 dev guest0
         ip link set guest0 up
         nft add table ip nat
         nft 'add chain ip nat out { type nat hook postrouting priority srcnat; }'
         nft add rule ip nat out oifname eth0 masquerade
         nft add rule ip nat out oifname wg0 masquerade",
    );
    guest.run(
        "ip address add 172.20.0.2/24 dev eth0
         ip link set eth0 up
         ip route add default via 172.20.0.1",
    );
    guest
}

#[test]
fn whoever_is_behind_this_machine_is_behind_the_tunnel() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    let mut guest = a_guest(&mut stage);
    stage.configure(BOTH, "DNS = 10.9.0.1");
    stage.tunnel("up");
    stage.forget();
    let sent = guest.within(|| datagrams_and_connections(false));
    guest.attempt("ping -n -q -f -c 100 -l 10 -w 1 -W 0.1 192.0.2.99");
    assert!(sent.count() > 50);
    stage.probes += sent;
    let leaks = stage.leaks();
    assert_eq!(leaks.count(), 0, "{leaks}");
    // It is of the LAN, and must be reached for answers.
    stage.configure(BOTH, "DNS = 10.9.0.1\n#! ExcludeIPs = lan");
    stage.tunnel("reload");
    guest.run("ping -n -q -c 3 -i 0.1 -w 20 10.9.0.1");
    stage.forget();
    guest.within(|| datagrams_and_connections(false));
    let leaks = stage.leaks();
    assert_eq!(leaks.count(), leaks.to("192.168.77.1"), "{leaks}");
    assert_eq!(leaks.to_port(53) + leaks.to_port(853), 0, "{leaks}");
}

/// A container on a bridge, as Docker makes it: translated where it leaves, with a published port.
fn a_container(stage: &mut Stage) -> Machine {
    let mut container = Machine::start().unwrap();
    join(&stage.client, "veth7", &container, "eth0");
    stage.client.run(
        "sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
         ip link add docker0 type bridge
         ip link set veth7 master docker0
         ip link set veth7 up
         ip address add 172.17.0.1/16 dev docker0
         ip address add fd17::1/64 dev docker0 nodad
         ip link set docker0 up
         nft add table inet nat
         nft 'add chain inet nat out { type nat hook postrouting priority srcnat; }'
         nft 'add rule inet nat out ip saddr 172.17.0.0/16 oifname != docker0 masquerade'
         nft 'add rule inet nat out ip6 saddr fd17::/64 oifname != docker0 masquerade'
         nft 'add chain inet nat in { type nat hook prerouting priority dstnat; }'
         nft 'add rule inet nat in iifname eth0 tcp dport 8080 dnat ip to 172.17.0.2:80'",
    );
    container.run(
        "ip address add 172.17.0.2/16 dev eth0
         ip address add fd17::2/64 dev eth0 nodad
         ip link set eth0 up
         ip route add default via 172.17.0.1
         ip -6 route add default via fd17::1",
    );
    container
}

#[test]
fn a_container_gets_its_answers_through_the_tunnel_and_nothing_of_it_leaves_beside() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.client.run(STRICT);
    stage.configure(BOTH, "DNS = 10.9.0.1");
    stage.tunnel("up");
    // It comes when the tunnel is up, which is noticed.
    let mut container = a_container(&mut stage);
    stage.forget();
    let echoes = |stage: &mut Stage, container: &mut Machine| {
        for to in ["8.8.8.8", "2001:4860:4860::8844"] {
            container.run(&format!("ping -n -q -c 3 -i 0.2 -w 20 {to}"));
        }
        stage.client.run("ping -n -q -c 1 -w 20 172.17.0.2");
        stage.client.run("ping -n -q -c 1 -w 20 fd17::2");
    };
    echoes(&mut stage, &mut container);
    stage.probes += container.within(|| datagrams_and_connections(false));
    let leaks = stage.leaks();
    assert_eq!(leaks.count(), 0, "{leaks}");

    // A published port does not answer the LAN, nor does the other end reach it by itself.
    let listener = container.within(|| TcpListener::bind("172.17.0.2:80")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let patience = Duration::from_millis(500);
    let call = |machine: &Machine, to: &str| {
        let to = to.parse().unwrap();
        machine.within(|| TcpStream::connect_timeout(&to, patience).is_ok())
    };
    assert!(call(&stage.client, "172.17.0.2:80"), "not even the machine itself reaches it");
    assert!(listener.accept().is_ok());
    stage.server.run(
        "ip route add 172.17.0.0/16 dev wg0 && wg set wg0 peer $(wg show wg0 peers) \
                      allowed-ips 10.9.0.2/32,fd00:9::2/128,172.17.0.0/16",
    );
    for (caller, to) in [(&stage.router, "192.168.77.2:8080"), (&stage.server, "172.17.0.2:80")] {
        assert!(!call(caller, to), "{to}");
        assert!(listener.accept().is_err(), "{to}");
    }
    let leaks = stage.leaks();
    assert_eq!(leaks.count(), 0, "{leaks}");

    // Whoever answers DHCP calls the container a neighbour, or the network its own.
    for forged in [
        "ip route add 172.17.0.2/32 via 192.168.77.1",
        "ip address add 172.17.5.5/16 dev eth0 && ip link set docker0 down",
    ] {
        stage.client.run(forged);
        container.attempt("ping -n -q -c 5 -i 0.1 -W 0.1 8.8.8.8");
        stage.client.attempt("ping -n -q -c 5 -i 0.1 -W 0.1 172.17.0.2");
        let leaks = stage.leaks();
        assert_eq!(leaks.count(), 0, "{forged}:\n{leaks}");
    }
}

/// Somebody behind the client whose connection gets its port would get its datagrams (CVE-2021-3773);
/// whether that comes true at one of these ports of the other end.
fn steals(stage: &Stage, guest: &Machine, ports: std::ops::Range<u16>) -> bool {
    let patience = Some(Duration::from_millis(20));
    let thief = guest.within(|| UdpSocket::bind("172.20.0.2:51820")).unwrap();
    thief.set_read_timeout(patience).unwrap();
    ports.into_iter().any(|port| {
        let peer = stage.server.within(|| UdpSocket::bind((ENDPOINT, port))).unwrap();
        thief.send_to(b"mine", (ENDPOINT, port)).unwrap();
        peer.set_read_timeout(patience).unwrap();
        let _ = peer.recv(&mut [0; 16]);
        peer.send_to(b"yours", ("192.168.77.2", 51820)).unwrap();
        thief.recv(&mut [0; 16]).is_ok()
    })
}

#[test]
fn nobody_behind_this_machine_gets_the_port_of_the_tunnel() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    let guest = a_guest(&mut stage);
    // Also where the guest may speak with the endpoint beside the tunnel.
    stage.configure(BOTH, "ListenPort = 51820\n#! ExcludeIPs = 203.0.113.0/24");
    stage.tunnel("up");
    assert!(!steals(&stage, &guest, 2000..2100));
    assert!(stage.reaches_the_other_end());
}

#[test]
fn control_somebody_behind_wg_quick_gets_the_port_of_the_tunnel() {
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    let guest = a_guest(&mut stage);
    stage.configure(BOTH, "ListenPort = 51820");
    stage.tunnel("up");
    // As whoever answers DHCP can have it.
    stage.client.run("ip route add 203.0.113.0/24 via 192.168.77.1");
    assert!(steals(&stage, &guest, 2000..2100), "the control is tight");
}

/// The contended step many times, on machines beside each other: most of it is waiting for the
/// kernel.
#[test]
fn two_tunnels_at_once_have_a_table_each() {
    const MACHINES: usize = 8;
    const TRIALS: usize = 200;
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, MEET);
    let file = stage.client.run("cat /etc/wireguard/wg0.conf");
    thread::scope(|scope| {
        for _ in 0..MACHINES {
            scope.spawn(|| two_at_once(&file, TRIALS / MACHINES));
        }
    });
}

/// Two tunnels with these settings are started and ended at once so often, by turns by
/// `adit wg-quick` and by `adit up`.
fn two_at_once(file: &str, trials: usize) {
    let mut machine = a_machine_for_two(file);
    for [up, down] in [["wg-quick up", "wg-quick down"], ["up --no-guard", "down"]]
        .into_iter()
        .cycle()
        .take(trials)
    {
        machine.run(&both(&format!("{OURS} {up}")));
        let marks = marks_of_both(&mut machine);
        assert_ne!(marks[0], marks[1], "{up}");
        for (name, mark) in ["wg0", "wg1"].iter().zip(marks) {
            let routes = machine.run(&format!("ip -4 route show table $(({mark}))"));
            assert!(routes.starts_with(&format!("default dev {name} ")), "{up}: {routes}");
        }
        machine.run(&both(&format!("{OURS} {down}")));
        let rules = machine.run("ip -4 rule; ip -6 rule");
        assert!(!rules.contains("fwmark") && !rules.contains("suppress"), "{down}: {rules}");
    }
}

/// Each waits for the other before it looks for a table.
const MEET: &str = "PreUp = timeout 10 bash -c \"[ %i = wg0 ] && : > /run/meet || : < /run/meet\"";

/// With two files that differ in their addresses only.
fn a_machine_for_two(file: &str) -> Machine {
    let mut machine = Machine::start().unwrap();
    machine.write("/etc/wireguard/wg0.conf", file);
    machine.run(
        "mkfifo /run/meet
         sed 's/10.9.0.2/10.8.0.2/; s/fd00:9/fd00:8/' /etc/wireguard/wg0.conf \
         > /etc/wireguard/wg1.conf",
    );
    machine
}

/// A command for each of the two at once, which must both succeed.
fn both(command: &str) -> String {
    let one = |name| format!("{command} {name} & {name}=$!");
    format!("{}; {}; wait $wg0 && wait $wg1", one("wg0"), one("wg1"))
}

fn marks_of_both(machine: &mut Machine) -> Vec<String> {
    let marks = machine.run("wg show wg0 fwmark; wg show wg1 fwmark");
    marks.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn control_two_tunnels_of_wg_quick_at_once_take_the_same_table() {
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    stage.configure(BOTH, MEET);
    let mut machine = a_machine_for_two(&stage.client.run("cat /etc/wireguard/wg0.conf"));
    let collided = (0..50).any(|_| {
        machine.attempt(&both("/usr/bin/wg-quick up"));
        let said = machine.attempt("wg show wg0 fwmark; wg show wg1 fwmark").out;
        let marks: Vec<&str> = said.split_whitespace().collect();
        machine.attempt(&both("/usr/bin/wg-quick down"));
        marks.len() < 2 || marks[0] == marks[1]
    });
    assert!(collided, "the control is right");
}

#[test]
fn of_two_guarded_tunnels_the_later_is_carried_in_the_earlier() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    // The same key twice, at another port and with other addresses.
    let other = "s/10\\.9\\./10.8./g; s/fd00:9/fd00:8/g; s/51820/51821/; s/5182[01]$/51821/";
    stage.server.run(&format!(
        "sed '{other}' /etc/wireguard/wg0.conf > /etc/wireguard/wg1.conf
         {OURS} daemon wg1 && wg setconf wg1 /etc/wireguard/wg1.conf
         ip address add 10.8.0.1/24 dev wg1 && ip address add fd00:8::1/64 dev wg1 nodad
         ip link set wg1 up"
    ));
    stage.client.run(&format!("sed '{other}' /etc/wireguard/wg0.conf > /etc/wireguard/wg1.conf"));
    let secret: [IpAddr; 2] = ["10.8.0.2", "fd00:8::2"].map(|it| it.parse().unwrap());
    stage.allowed.secret.extend(secret);
    stage.client.run(&format!("{OURS} up wg0 && {OURS} up wg1"));
    stage.forget();
    // Until the other keeper has looked, its guard refuses, which ends a ping.
    let answers = |stage: &mut Stage| {
        for to in ["10.8.0.1", "8.8.8.8", "fd00:8::1"] {
            let ping = format!("ping -n -q -c 2 -i 0.2 -w 2 {to}");
            let answered = (0..30).any(|_| stage.client.attempt(&ping).code == 0);
            assert!(answered, "{to} does not answer");
        }
    };
    answers(&mut stage);
    // Datagrams of the later one are not seen outside.
    assert_tight(&mut stage, 300, "one in the other");
    let inner = stage.server.run("wg show wg1 endpoints");
    assert!(inner.contains("10.9.0.2:"), "{inner}");
    stage.tunnel("down");
    stage.allowed.endpoints.push((ENDPOINT.into(), 51821));
    stage.forget();
    answers(&mut stage);
    assert_tight(&mut stage, 300, "the later one alone");
    stage.client.run(&format!("{OURS} down wg1"));
    let left = stage.client.run("nft list ruleset; ip rule; ip -6 rule");
    assert!(!left.contains("adit") && !left.contains("fwmark"), "{left}");
}

/// One more tunnel between the same two machines, with the same keys: its number is in its name, its
/// port and its addresses.
fn one_more(stage: &mut Stage, number: u8) {
    let net = 9 - number;
    let other = format!(
        "s/10\\.9\\./10.{net}./g; s/fd00:9/fd00:{net}/g; s/51820$/5182{number}/; s/^PersistentKeepalive.*//"
    );
    stage.server.run(&format!(
        "sed '{other}' /etc/wireguard/wg0.conf > /etc/wireguard/wg{number}.conf
         {OURS} daemon wg{number} && wg setconf wg{number} /etc/wireguard/wg{number}.conf
         ip address add 10.{net}.0.1/24 dev wg{number}
         ip address add fd00:{net}::1/64 dev wg{number} nodad
         ip link set wg{number} up"
    ));
    let file = format!("sed '{other}' /etc/wireguard/wg0.conf > /etc/wireguard/wg{number}.conf");
    stage.client.run(&file);
    let secret = [format!("10.{net}.0.2"), format!("fd00:{net}::2")];
    stage.allowed.secret.extend(secret.map(|it| it.parse::<IpAddr>().unwrap()));
}

#[test]
fn guarded_tunnels_are_carried_in_each_other_however_many_they_are() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    (1..=3_u8).for_each(|number| one_more(&mut stage, number));
    // The last one first, which is the outermost.
    stage.client.run(&format!("for it in 3 0 1 2; do {OURS} up wg$it; done"));
    stage.allowed.endpoints.push((ENDPOINT.into(), 51823));
    stage.forget();
    // Until the other keepers have looked, their guards refuse, which ends a ping.
    let answers = |stage: &mut Stage| {
        for to in ["10.7.0.1", "8.8.8.8", "fd00:7::1"] {
            let ping = format!("ping -n -q -c 2 -i 0.2 -w 2 {to}");
            let answered = (0..30).any(|_| stage.client.attempt(&ping).code == 0);
            assert!(answered, "{to} does not answer");
        }
    };
    let carried = |stage: &mut Stage, inner: u8, outer: &str| {
        let endpoints = stage.server.run(&format!("wg show wg{inner} endpoints"));
        assert!(endpoints.contains(&format!("{outer}:")), "wg{inner}: {endpoints}");
    };
    answers(&mut stage);
    carried(&mut stage, 0, "10.6.0.2");
    carried(&mut stage, 1, "10.9.0.2");
    carried(&mut stage, 2, "10.8.0.2");
    assert_tight(&mut stage, 300, "four");
    // One in the middle goes, and the outermost, which comes again as the innermost.
    stage.client.run(&format!("{OURS} down wg0"));
    answers(&mut stage);
    carried(&mut stage, 1, "10.6.0.2");
    assert_tight(&mut stage, 300, "three");
    stage.client.run(&format!("for it in 2 1 3; do {OURS} down wg$it; done"));
    let left = stage.client.run("nft list ruleset; ip rule; ip -6 rule");
    assert!(!left.contains("adit") && !left.contains("fwmark"), "{left}");
}
