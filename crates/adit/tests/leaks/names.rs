//! Where the other end is, asked for by its name while nothing else may leave.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::probe::PUBLIC;
use crate::stage::{ENDPOINT, OURS, Program, STRICT, Stage};
use crate::wire::{Frame, Kind};
use crate::{BOTH, assert_tight};

const NAME: &str = "vpn.example";
/// As it stands in a question.
const ASKED: &[u8] = b"\x03vpn\x07example\0";

/// The name server of the LAN.
struct Server {
    /// Where the endpoint is, if anybody knows.
    endpoint: Arc<Mutex<Option<Ipv4Addr>>>,
}

impl Server {
    /// For as long as the test runs.
    fn start(stage: &Stage) -> Self {
        let socket = stage.router.within(|| UdpSocket::bind("192.168.77.1:53")).unwrap();
        let endpoint = Arc::new(Mutex::new(None));
        let known = Arc::clone(&endpoint);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let address = *known.lock().unwrap();
                if let Some(answer) = answer(&buffer[..length], address) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { endpoint }
    }

    fn tells(&self, address: Option<Ipv4Addr>) {
        *self.endpoint.lock().unwrap() = address;
    }
}

fn answer(question: &[u8], address: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let mut packet = Packet::parse(question).ok()?.into_reply();
    let asked = packet.questions.first()?.clone();
    match address.filter(|_| asked.qname.to_string() == NAME) {
        None => *packet.rcode_mut() = RCODE::NameError,
        Some(address) if asked.qtype == QTYPE::TYPE(TYPE::A) => {
            let data = RData::A(A { address: address.into() });
            packet.answers.push(ResourceRecord::new(Name::new(NAME).ok()?, CLASS::IN, 0, data));
        }
        Some(_) => {}
    }
    packet.build_bytes_vec().ok()
}

/// With an endpoint that is a name, on a machine that is as strict as can be.
fn a_named_endpoint() -> Option<(Stage, Server)> {
    let mut stage = Stage::new(Program::Ours)?;
    let server = Server::start(&stage);
    stage.configure(BOTH, "DNS = 10.9.0.1");
    stage.client.run(&format!("sed -i 's/203.0.113.5:/{NAME}:/' /etc/wireguard/wg0.conf"));
    stage.client.run(STRICT);
    Some((stage, server))
}

/// Whether the tunnel comes to know that the other end is there, while somebody speaks to it.
fn finds(stage: &mut Stage, address: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if stage.client.run("wg show wg0 endpoints").contains(&format!("{address}:")) {
            return true;
        }
        stage.client.attempt("ping -n -q -c 1 -W 1 10.9.0.1");
    }
    false
}

#[test]
fn a_name_that_is_known_only_when_the_guard_is_up_is_found() {
    let Some((mut stage, server)) = a_named_endpoint() else { return };
    stage.tunnel("up");
    // From now on; before, the machine asks as it likes.
    stage.allowed.name = ASKED;
    stage.forget();
    let leaks = stage.leaks_during(300, |stage| {
        stage.client.attempt(
            "export RES_OPTIONS=timeout:1; getent ahosts vpn.example; getent ahosts a.example",
        );
    });
    assert_eq!(leaks.count(), 0, "{leaks}");
    server.tells(Some(ENDPOINT));
    assert!(finds(&mut stage, "203.0.113.5"), "nobody has looked for it");
    let leaks = stage.leaks();
    assert_eq!(leaks.count(), 0, "{leaks}");
    assert!(stage.reaches_the_other_end());
    let told = stage.client.run(&format!("{OURS} status --json wg0"));
    assert!(told.contains("203.0.113.5:51820, which is vpn.example:51820"), "{told}");
    // Only who bears the tunnel's mark may ask, and only this server.
    let rules = stage.client.run("nft list chain inet adit-wg0 output");
    let questions: Vec<&str> = rules.lines().filter(|line| line.contains("dport 53")).collect();
    let expected = "\t\tmeta mark 0x0000ca6c ip daddr 192.168.77.1 udp dport 53 accept";
    assert_eq!(questions, [expected]);
    stage.tunnel("down");
    let left = stage.client.run("nft list ruleset; ip rule; cat /etc/resolv.conf");
    assert!(!left.contains("adit") && left.contains("192.168.77.1"), "{left}");
}

/// Whoever answers says that the other end is where the victim wants to go (CVE-2023-36673).
#[test]
fn to_a_false_endpoint_goes_only_what_is_ours() {
    let Some((mut stage, server)) = a_named_endpoint() else { return };
    server.tells(Some(PUBLIC));
    stage.allowed.endpoints.push((PUBLIC.into(), 51820));
    stage.tunnel("up");
    let frames = stage.wire.frames(&stage.client, stage.own);
    let of_tunnel = |frame: &Frame| frame.kind(&stage.allowed) == Kind::Tunnel;
    assert!(frames.iter().any(of_tunnel), "it was not believed");
    assert_tight(&mut stage, 1000, "a false endpoint");
}

#[test]
fn a_peer_that_has_moved_is_found_again() {
    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 6);
    let Some((mut stage, server)) = a_named_endpoint() else { return };
    server.tells(Some(ENDPOINT));
    // So that it does not take half a minute until the peer is missed.
    stage.client.run(&format!("ADIT_TIME_SCALE=5 {OURS} up wg0"));
    assert!(stage.reaches_the_other_end());
    stage.allowed.name = ASKED;
    stage.allowed.endpoints.push((ELSEWHERE.into(), 51820));
    stage.forget();
    stage.server.run(
        "sysctl -q net.ipv4.conf.eth0.promote_secondaries=1
         ip address add 203.0.113.6/24 dev eth0
         ip address del 203.0.113.5/24 dev eth0
         wg set wg0 peer $(wg show wg0 peers) persistent-keepalive 0",
    );
    // It cannot say so by itself: it has forgotten where the client is.
    // Its daemon ends a moment later.
    stage.server.run("ip link del wg0; while [ -e /run/wireguard/wg0.sock ]; do :; done");
    stage.start_server();
    server.tells(Some(ELSEWHERE));
    assert!(finds(&mut stage, "203.0.113.6"), "nobody has looked for it");
    // A session that the other end has forgotten is used for a while.
    assert!((0..3).any(|_| stage.reaches_the_other_end()));
    let leaks = stage.leaks();
    assert_eq!(leaks.count(), 0, "{leaks}");
}
