//! The text protocol of the control socket, byte by byte (spec §2).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use adit_tests::lab::{Daemon, Family, Implementation, Lab, PATIENCE, Pair, Pairing, await_that};
use adit_tests::play_alone;

const OK: &str = "errno=0\n\n";
const INVALID: &str = "errno=-22\n\n";
const PROTOCOL: &str = "errno=-71\n\n";

// Framing.

fn its_socket_is_for_root_alone(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let mode = daemon.socket().metadata().expect("its socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let folder = daemon.socket();
    let folder = folder.parent().expect("a folder").metadata().expect("its folder");
    assert_eq!(folder.permissions().mode() & 0o777, 0o755);
}

fn a_connection_serves_many_requests(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let mut client = Client::connect(&daemon);
    for mark in 1..100 {
        assert_eq!(client.ask(&format!("set=1\nfwmark={mark}\n\n")), OK);
        assert!(client.ask("get=1\n\n").contains(&format!("fwmark={mark}\n")));
    }
    // Two requests in one write get two answers.
    client.say("get=1\n\nget=1\n\n");
    assert_eq!(client.hear(), client.hear());
}

fn a_request_may_arrive_in_pieces(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let mut client = Client::connect(&daemon);
    for piece in ["s", "et", "=1\nfwma", "rk", "=", "7\n", "\n"] {
        client.say(piece);
        thread::sleep(Duration::from_millis(2)); // So that it arrives alone.
    }
    assert_eq!(client.hear(), OK);
    assert!(client.ask("get=1\n\n").contains("fwmark=7\n"));
}

fn what_is_no_request_closes_the_connection(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    for nonsense in ["get=2\n", "set=2\n", "foo=1\n", "\n", "GET / HTTP/1.1\n", "\0\n", "get\n"] {
        let mut client = Client::connect(&daemon);
        client.say(nonsense);
        assert_eq!(client.hear(), "", "{nonsense:?}");
    }
    assert_eq!(daemon.uapi("set=1\n\n"), OK);
}

fn a_get_ends_with_a_blank_line(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let mut client = Client::connect(&daemon);
    client.say("get=1\nx");
    assert_eq!(client.hear(), INVALID);
}

fn the_end_of_the_stream_ends_a_set(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let mut client = Client::connect(&daemon);
    client.say("set=1\nfwmark=9\n");
    client.0.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(client.hear(), OK);
    assert!(daemon.uapi("get=1\n\n").contains("fwmark=9\n"));
}

fn an_endless_line_is_not_kept(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let mut client = Client::connect(&daemon);
    client.say("set=1\n");
    let piece = "x".repeat(64 << 10);
    // The daemon may well close the connection before it has heard all of it.
    for _ in 0..64 {
        if client.0.write_all(piece.as_bytes()).is_err() {
            break;
        }
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let resident: usize = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(resident < 64 << 10, "it keeps {resident} KiB");
    assert_eq!(daemon.uapi("set=1\n\n"), OK);
}

// What is answered.

fn a_fresh_interface_says_almost_nothing(lab: &Lab, implementation: Implementation) {
    let home = lab.namespace("home");
    let daemon = Daemon::start(lab, implementation, &home, &[]);
    assert_eq!(daemon.uapi("get=1\n\n"), OK);
}

fn everything_set_is_given_back_in_order(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let private = format!("{}4{}", "08".repeat(31), "8"); // Clamped.
    let [first, second] = ["aa".repeat(32), "11".repeat(32)];
    let preshared = "5c".repeat(32);
    let request = format!(
        "set=1\nprivate_key={private}\nlisten_port=7\nfwmark=4294967295\nreplace_peers=true\n\
         public_key={first}\npreshared_key={preshared}\nendpoint=10.0.0.1:65535\n\
         persistent_keepalive_interval=65535\nreplace_allowed_ips=true\nallowed_ip=10.9.8.7/16\n\
         allowed_ip=fd00::1/64\nprotocol_version=1\n\
         public_key={second}\nendpoint=[fd00::9]:1\n\n"
    );
    assert_eq!(daemon.uapi(&request), OK);
    assert_eq!(
        daemon.uapi("get=1\n\n"),
        format!(
            "private_key={private}\nlisten_port=7\nfwmark=4294967295\n\
             public_key={first}\npreshared_key={preshared}\nprotocol_version=1\n\
             endpoint=10.0.0.1:65535\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n\
             tx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=65535\n\
             allowed_ip=10.9.0.0/16\nallowed_ip=fd00::/64\n\
             public_key={second}\npreshared_key={zero}\nprotocol_version=1\nendpoint=[fd00::9]:1\n\
             last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n\
             persistent_keepalive_interval=0\nerrno=0\n\n",
            zero = "00".repeat(32)
        )
    );
}

fn peers_are_listed_as_they_came(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let keys: Vec<_> = (1..=100_u8).rev().map(|n| format!("{n:02x}").repeat(32)).collect();
    let request: String = keys.iter().map(|key| format!("public_key={key}\n")).collect();
    assert_eq!(daemon.uapi(&format!("set=1\n{request}\n")), OK);
    for _ in 0..3 {
        let answer = daemon.uapi("get=1\n\n");
        let listed: Vec<_> =
            answer.lines().filter_map(|line| line.strip_prefix("public_key=")).collect();
        assert_eq!(listed, keys);
    }
}

// What is refused.

fn bad_lines_have_their_error_numbers(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let key = "aa".repeat(32);
    let peer = |line: &str| format!("public_key={key}\n{line}");
    for (lines, answer) in [
        ("nonsense=1".into(), INVALID),
        ("private_key=".into(), INVALID),
        (format!("private_key={}", "a".repeat(63)), INVALID),
        (format!("private_key={}", "a".repeat(65)), INVALID),
        (format!("private_key={}", "g".repeat(64)), INVALID),
        ("listen_port=65536".into(), INVALID),
        ("listen_port=-1".into(), INVALID),
        ("listen_port=".into(), INVALID),
        ("listen_port=0x10".into(), INVALID),
        ("fwmark=4294967296".into(), INVALID),
        ("fwmark=0x10".into(), INVALID),
        ("replace_peers=false".into(), INVALID),
        ("replace_peers=1".into(), INVALID),
        ("allowed_ip=10.0.0.0/8".into(), INVALID),
        ("public_key=aa".into(), INVALID),
        (peer("fwmark=1"), INVALID),
        (peer("listen_port=1"), INVALID),
        (peer("private_key=").to_string(), INVALID),
        (peer("remove=false"), INVALID),
        (peer("update_only=1"), INVALID),
        (peer("preshared_key=zz"), INVALID),
        (peer("endpoint=1.2.3.4"), INVALID),
        (peer("endpoint=1.2.3.4:65536"), INVALID),
        (peer("endpoint=::1:7"), INVALID),
        (peer("endpoint=localhost:7"), INVALID),
        (peer("persistent_keepalive_interval=65536"), INVALID),
        (peer("persistent_keepalive_interval=off"), INVALID),
        (peer("replace_allowed_ips=false"), INVALID),
        (peer("allowed_ip=10.0.0.0"), INVALID),
        (peer("allowed_ip=10.0.0.0/33"), INVALID),
        (peer("allowed_ip=fd00::/129"), INVALID),
        (peer("allowed_ip=host/8"), INVALID),
        (peer("protocol_version=2"), INVALID),
        (peer("nonsense=1"), INVALID),
        ("listen_port".into(), PROTOCOL),
        (peer("remove"), PROTOCOL),
    ] {
        assert_eq!(daemon.uapi(&format!("set=1\n{lines}\n\n")), answer, "{lines:?}");
    }
    for space in ["fwmark =1", "fwmark= 1", " fwmark=1"] {
        assert_eq!(daemon.uapi(&format!("set=1\n{space}\n\n")), INVALID, "{space:?}");
    }
}

fn upper_case_keys_are_understood(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    assert_eq!(daemon.uapi(&format!("set=1\npublic_key={}\n\n", "AB".repeat(32))), OK);
    assert!(daemon.uapi("get=1\n\n").contains(&format!("public_key={}\n", "ab".repeat(32))));
}

fn a_set_is_done_whole_or_not_at_all(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let [old, new] = ["aa".repeat(32), "bb".repeat(32)];
    assert_eq!(daemon.uapi(&format!("set=1\nfwmark=1\npublic_key={old}\n\n")), OK);
    let before = daemon.uapi("get=1\n\n");
    let taken = daemon.home.within(|| UdpSocket::bind("0.0.0.0:99")).expect("a port");
    for (bad, answer) in [
        (format!("fwmark=2\nreplace_peers=true\npublic_key={new}\nallowed_ip=1.2.3.4\n"), INVALID),
        (format!("public_key={old}\nremove=true\npublic_key={new}\nendpoint\n"), PROTOCOL),
        (format!("listen_port=99\npublic_key={new}\n"), "errno=-98\n\n"),
        (
            format!("fwmark=3\nlisten_port=99\nreplace_peers=true\npublic_key={new}\n"),
            "errno=-98\n\n",
        ),
    ] {
        let mut client = Client::connect(&daemon);
        assert_eq!(client.ask(&format!("set=1\n{bad}\n")), answer, "{bad:?}");
        // The connection is at the start of the next request.
        assert_eq!(client.ask("get=1\n\n"), before, "after {bad:?}");
    }
    drop(taken);
}

fn a_busy_port_leaves_the_old_one_working(lab: &Lab, implementation: Implementation) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let Pair { left, right, .. } = &pair;
    let home = &left.daemon.home;
    for busy in ["0.0.0.0:99", "[::]:98"] {
        let taken = home.within(|| UdpSocket::bind(busy)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let answer = left.daemon.uapi(&format!("set=1\nlisten_port={port}\n\n"));
        assert_eq!(answer, "errno=-98\n\n", "{busy}");
        assert_eq!(left.daemon.listen_port(), 1);
        pair.ping();
        let endpoint = right.sees(left).endpoint.expect("an endpoint");
        assert_eq!(endpoint.port(), 1);
    }
    let error = left.daemon.attempt_wg("set %i listen-port 2").expect_err("the other has it");
    assert!(error.contains("Unable to modify interface: Address already in use"), "{error}");
}

// What it means.

fn the_lines_of_a_peer_mean_what_they_say(lab: &Lab, implementation: Implementation) {
    let daemon = alone(lab, implementation);
    let [a, b, c] = ["aa", "bb", "cc"].map(|pair| pair.repeat(32));
    let step = |request: String, expected: &[(&str, &[&str])]| {
        assert_eq!(daemon.uapi(&format!("set=1\n{request}\n")), OK, "{request:?}");
        let answer = daemon.uapi("get=1\n\n");
        let mut peers: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in answer.lines() {
            match (line.split_once('='), peers.last_mut()) {
                (Some(("public_key", key)), _) => peers.push((key, Vec::new())),
                (Some(("allowed_ip", ip)), Some((_, ips))) => ips.push(ip),
                _ => (),
            }
        }
        let peers: Vec<_> = peers.iter().map(|(key, ips)| (*key, &ips[..])).collect();
        assert_eq!(peers, expected, "after {request:?}");
    };
    let (a, b, c) = (&*a, &*b, &*c);
    let ip = |ips: &[&str]| ips.iter().map(|ip| format!("allowed_ip={ip}\n")).collect::<String>();
    step(
        format!("public_key={a}\n{}", ip(&["10.0.0.0/8", "10.1.0.0/16", "::/0"])),
        &[(a, &["10.0.0.0/8", "10.1.0.0/16", "::/0"])],
    );
    // The same prefix again moves to the end; that of another peer is taken over.
    step(
        format!("public_key={a}\n{}", ip(&["10.0.0.0/8"])),
        &[(a, &["10.1.0.0/16", "::/0", "10.0.0.0/8"])],
    );
    step(
        format!("public_key={b}\n{}", ip(&["10.1.2.3/16"])),
        &[(a, &["::/0", "10.0.0.0/8"]), (b, &["10.1.0.0/16"])],
    );
    // Lines take effect in their order; a peer may occur twice.
    step(
        format!(
            "public_key={b}\n{}replace_allowed_ips=true\n{}public_key={a}\n{}public_key={b}\n{}",
            ip(&["10.3.0.0/16"]),
            ip(&["10.4.0.0/16"]),
            ip(&["10.4.0.0/16"]),
            ip(&["10.5.0.0/16"])
        ),
        &[(a, &["::/0", "10.0.0.0/8", "10.4.0.0/16"]), (b, &["10.5.0.0/16"])],
    );
    // Unknown peers are neither updated nor removed.
    step(
        format!("public_key={c}\nupdate_only=true\n{}", ip(&["10.9.0.0/16"])),
        &[(a, &["::/0", "10.0.0.0/8", "10.4.0.0/16"]), (b, &["10.5.0.0/16"])],
    );
    step(
        format!(
            "public_key={c}\nremove=true\npublic_key={a}\nremove=true\n{}",
            ip(&["10.9.0.0/16"])
        ),
        &[(b, &["10.5.0.0/16"])],
    );
    // Those listed after the replacement are new.
    step(format!("replace_peers=true\npublic_key={b}\n"), &[(b, &[])]);
    step("replace_peers=true\n".into(), &[]);
}

fn a_keepalive_starts_without_the_end_of_the_stream(lab: &Lab, implementation: Implementation) {
    let Pair { left, right, .. } =
        Pair::unacquainted(lab, Pairing::new(implementation, implementation));
    right.allow(&left, "");
    let mut client = Client::connect(&left.daemon);
    let key = hexadecimal(&right.key.public);
    let answer = client.ask(&format!(
        "set=1\npublic_key={key}\nendpoint=127.0.0.1:2\npersistent_keepalive_interval=60\n\n"
    ));
    assert_eq!(answer, OK);
    await_that("a session", || right.sees(&left).latest_handshake != 0);
}

/// A handshake before the line of the preshared key was read would use none.
fn a_peer_starts_when_its_section_is_complete(lab: &Lab, implementation: Implementation) {
    let Pair { left, right, preshared } =
        Pair::unacquainted(lab, Pairing::new(implementation, implementation));
    right.allow(&left, &format!("preshared-key {}", preshared.file));
    let mut client = Client::connect(&left.daemon);
    let key = hexadecimal(&right.key.public);
    client.say(&format!(
        "set=1\npublic_key={key}\nendpoint=127.0.0.1:2\npersistent_keepalive_interval=60\n"
    ));
    thread::sleep(Duration::from_millis(200)); // A premature handshake would have its time.
    client.say(&format!("preshared_key={}\n\n", hexadecimal(&preshared.secret)));
    assert_eq!(client.hear(), OK);
    await_that("a session", || right.sees(&left).latest_handshake != 0);
}

// Many at once.

fn stalled_clients_block_neither_traffic_nor_others(lab: &Lab, implementation: Implementation) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let daemon = &pair.left.daemon;
    let _stalled: Vec<_> =
        ["", "g", "get=1\n", "set=1\n", "set=1\nfwmark=1\nlisten", "set=1\nfwmark=3\n"]
            .map(|piece| {
                let mut client = Client::connect(daemon);
                client.say(piece);
                client
            })
            .into();
    // One that asks for much and reads nothing.
    let mut deaf = Client::connect(daemon);
    deaf.0.set_nonblocking(true).expect("a setting");
    for _ in 0..10_000 {
        if deaf.0.write_all(b"get=1\n\n").is_err() {
            break;
        }
    }
    pair.ping();
    assert_eq!(daemon.uapi("set=1\nfwmark=2\n\n"), OK);
    assert_eq!(daemon.show("fwmark"), "0x2");
}

fn traffic_goes_on_while_everything_is_asked_and_changed(
    lab: &Lab,
    implementation: Implementation,
) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let (left, right, daemon) = (&pair.left, &pair.right, &pair.left.daemon);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..4_u8 {
            let (done, key) = (&done, format!("{:02x}", client + 1).repeat(32));
            scope.spawn(move || {
                let requests = [
                    "get=1\n\n".to_owned(),
                    format!("set=1\npublic_key={key}\nallowed_ip=10.{client}.0.0/16\n\n"),
                    format!("set=1\npublic_key={key}\nremove=true\n\n"),
                ];
                let mut connection = Client::connect(daemon);
                while !done.load(Ordering::Relaxed) {
                    for request in &requests {
                        assert!(connection.ask(request).ends_with(OK));
                    }
                }
            });
        }
        let answered = left.ns.pings(right.v4, 2000, 56);
        done.store(true, Ordering::Relaxed);
        answered.expect("every echo request is answered");
    });
}

fn a_prefix_moves_between_peers_without_a_gap(lab: &Lab, implementation: Implementation) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let (left, right, daemon) = (&pair.left, &pair.right, &pair.left.daemon);
    let [own, other] = [hexadecimal(&right.key.public), "11".repeat(32)];
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = Client::connect(daemon);
            // The prefix of all is given away and taken back; the more specific one stays.
            let give = format!("set=1\npublic_key={other}\nallowed_ip=192.168.0.0/16\n\n");
            let take = format!("set=1\npublic_key={own}\nallowed_ip=192.168.0.0/16\n\n");
            let again = format!("set=1\npublic_key={own}\nallowed_ip={}/32\n\n", right.v4);
            while !done.load(Ordering::Relaxed) {
                for request in [&give, &take, &again] {
                    assert_eq!(connection.ask(request), OK);
                }
            }
        });
        let answered = left.ns.pings(right.v4, 2000, 56);
        done.store(true, Ordering::Relaxed);
        answered.expect("every echo request is answered");
    });
}

fn many_peers_are_set_and_listed(lab: &Lab, implementation: Implementation) {
    const PEERS: usize = 10_000;
    let daemon = alone(lab, implementation);
    let mut request = "set=1\n".to_owned();
    for n in 1..=PEERS {
        let (key, [_, _, high, low]) = (format!("{n:064x}"), (n as u32).to_be_bytes());
        request += &format!("public_key={key}\nallowed_ip=10.{high}.{low}.0/24\n");
    }
    assert_eq!(daemon.uapi(&(request + "\n")), OK);
    let answer = daemon.uapi("get=1\n\n");
    assert_eq!(answer.matches("public_key=").count(), PEERS);
    assert_eq!(answer.matches("allowed_ip=").count(), PEERS);
    assert_eq!(daemon.uapi("set=1\nreplace_peers=true\n\n"), OK);
    assert_eq!(daemon.uapi("get=1\n\n").matches("public_key=").count(), 0);
}

play_alone!(
    its_socket_is_for_root_alone,
    a_connection_serves_many_requests,
    a_request_may_arrive_in_pieces,
    what_is_no_request_closes_the_connection,
    a_get_ends_with_a_blank_line,
    the_end_of_the_stream_ends_a_set,
    an_endless_line_is_not_kept,
    a_fresh_interface_says_almost_nothing,
    everything_set_is_given_back_in_order,
    peers_are_listed_as_they_came,
    bad_lines_have_their_error_numbers,
    upper_case_keys_are_understood,
    a_set_is_done_whole_or_not_at_all,
    a_busy_port_leaves_the_old_one_working,
    the_lines_of_a_peer_mean_what_they_say,
    a_keepalive_starts_without_the_end_of_the_stream,
    a_peer_starts_when_its_section_is_complete,
    stalled_clients_block_neither_traffic_nor_others,
    traffic_goes_on_while_everything_is_asked_and_changed,
    a_prefix_moves_between_peers_without_a_gap,
    many_peers_are_set_and_listed,
);

/// A daemon whose interface is up.
fn alone(lab: &Lab, implementation: Implementation) -> Daemon {
    let home = lab.namespace("home");
    let daemon = Daemon::start(lab, implementation, &home, &[]);
    home.ip(&format!("link set {} up", daemon.interface));
    await_that("the port is open", || daemon.listen_port() != 0);
    daemon
}

/// A connection to a control socket.
struct Client(UnixStream);

impl Client {
    fn connect(daemon: &Daemon) -> Self {
        let stream = UnixStream::connect(daemon.socket()).expect("the control socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(stream)
    }

    #[track_caller]
    fn say(&mut self, words: &str) {
        self.0.write_all(words.as_bytes()).expect("the daemon listens");
    }

    /// The next answer, up to its blank line; empty if the daemon closes the connection.
    #[track_caller]
    fn hear(&mut self) -> String {
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"\n\n") {
            match self.0.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => answer.extend(byte),
                // What the daemon had not read when it closed makes it a reset.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("no answer: {error}"),
            }
        }
        String::from_utf8(answer).expect("text")
    }

    #[track_caller]
    fn ask(&mut self, request: &str) -> String {
        self.say(request);
        self.hear()
    }
}

/// A key as this protocol spells it.
fn hexadecimal(base64: &str) -> String {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut text) = (0_u32, 0, String::new());
    for digit in base64.chars().filter_map(|c| alphabet.find(c)) {
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            text += &format!("{:02x}", bits >> count & 0xff);
        }
    }
    text
}
