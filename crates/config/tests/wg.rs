//! The words of `wg` through their public door, on a machine that knows one name. That they are
//! `wg`'s words to the byte is tested beside `wg`, with the program.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::net::SocketAddr;
use std::time::Duration;

use config::trouble::{Failed, Obstacle, Refused, Trouble, Troubles, Turns, Unheard, Unreachable};
use config::uapi::{Request, Requests, write_state, write_told};
use config::wg::{
    Look, Machine, Mode, Names, Refusal, Secret, Settings, View, from_arguments, from_file,
    keep_sessions, read_result, read_state, read_told, write_settings,
};
use proto::{DeviceState, Discard, PeerState, Prefix, PresharedKey, PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// Knows `gate.example` and numbers, has one key in every file, and remembers what it was told.
#[derive(Default)]
struct Still {
    warnings: Vec<String>,
}

impl Machine for Still {
    fn port(&mut self, service: &[u8]) -> Result<u16, Refusal> {
        let port = String::from_utf8_lossy(service).parse();
        port.map_err(|_| Refusal::of("No such service", service))
    }

    fn resolve(
        &mut self,
        host: &[u8],
        service: &[u8],
        whole: &[u8],
    ) -> Result<SocketAddr, Refusal> {
        let host = String::from_utf8_lossy(host).replace("gate.example", "192.0.2.1");
        let address = host.parse().map_err(|_| Refusal::of("No such host", whole))?;
        Ok(SocketAddr::new(address, self.port(service)?))
    }

    fn can_resolve(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn key_file(&mut self, _: &[u8]) -> Result<Secret, Refusal> {
        Ok(Secret(Zeroizing::new([7; 32])))
    }

    fn warn(&mut self, text: &[u8]) {
        self.warnings.push(String::from_utf8_lossy(text).into());
    }
}

fn file(text: impl AsRef<[u8]>, mode: Mode) -> Result<Settings, String> {
    let settings = from_file(text.as_ref(), mode, &mut Still::default());
    settings.map_err(|text| String::from_utf8(text).unwrap())
}

fn arguments(line: &str) -> Result<Settings, String> {
    let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
    let settings = from_arguments(&words, &mut Still::default());
    settings.map_err(|refusal| String::from_utf8(refusal.into_text()).unwrap())
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

fn state() -> DeviceState {
    let quiet = PeerState {
        public_key: PublicKey([0xb2; 32]),
        preshared_key: PresharedKey::default(),
        endpoint: None,
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
        persistent_keepalive: 0,
        allowed_ips: vec![],
        receives: None,
        last_discard: None,
    };
    let lively = PeerState {
        public_key: PublicKey([0xa1; 32]),
        preshared_key: PresharedKey::new([0xc3; 32]),
        endpoint: Some("[fe80::1%7]:51820".parse().unwrap()),
        last_handshake: Some(Duration::new(1_000_000, 5)),
        rx_bytes: 1536,
        tx_bytes: 1,
        persistent_keepalive: 25,
        allowed_ips: vec![prefix("10.0.0.0/8"), prefix("::/0")],
        receives: Some(true),
        last_discard: Some(Discard::BadMac),
    };
    DeviceState {
        private_key: PrivateKey::new([0x44; 32]),
        listen_port: 51820,
        fwmark: 0xca6c,
        last_discard: Some(Discard::Flood),
        peers: vec![quiet, lively],
    }
}

fn view(state: &DeviceState) -> View<'_> {
    static NAMES: Names = Names::new();
    View { name: "wg0", state, names: &NAMES, zone: |index| (index == 7).then(|| "eth0".into()) }
}

#[test]
fn a_state_survives_the_socket() {
    let mut answer = Vec::new();
    write_state(&mut answer, &state()).unwrap();
    assert_eq!(read_state(&answer[..], |_| None), Ok(state()));
    let none = Troubles::default();
    assert_eq!(read_told(&answer[..], |_| None), Ok((state(), none)));
}

/// Of both peers and of strangers.
fn troubles() -> Troubles {
    let refused = |reason, from: &str, key| Refused {
        reason,
        from: from.parse().unwrap(),
        key,
        count: 3,
        last: Duration::from_secs(5),
    };
    let unreachable = |obstacle, by| {
        let last = Duration::from_secs(8);
        Some(Unreachable { obstacle, by, last })
    };
    let failed = Failed {
        from: "192.0.2.1:1".parse().unwrap(),
        count: u64::MAX,
        last: Duration::from_secs(7),
    };
    let both = Trouble {
        failed: Some(failed),
        source: Some("fd00::9".parse().unwrap()),
        unreachable: unreachable(Obstacle::Port, Some("::1".parse().unwrap())),
        unheard: Some(Unheard { count: 2, last: Duration::from_secs(6) }),
        turns: Some(Turns {
            other: "[::1]:2".parse().unwrap(),
            count: 4,
            last: Duration::from_secs(9),
        }),
    };
    let unreachable = unreachable(Obstacle::Prohibited, None);
    let one = Trouble { unreachable, ..Trouble::default() };
    Troubles {
        refused: vec![
            refused(Discard::UnknownPeer, "[fe80::9%7]:9", Some(PublicKey([0xd4; 32]))),
            refused(Discard::BadMac, "203.0.113.9:9", None),
        ],
        peers: [(PublicKey([0xa1; 32]), both), (PublicKey([0xb2; 32]), one)].into(),
    }
}

#[test]
fn troubles_survive_the_socket_and_older_readers_pass_them_over() {
    let mut answer = Vec::new();
    write_told(&mut answer, &state(), &troubles()).unwrap();
    assert_eq!(read_told(&answer[..], |_| None), Ok((state(), troubles())));
    assert_eq!(read_state(&answer[..], |_| None), Ok(state()));
    // Others split a line at its only sign.
    let text = String::from_utf8(answer).unwrap();
    assert!(text.lines().all(|line| line.is_empty() || line.matches('=').count() == 1), "{text}");
    // What a newer daemon may say is left out, and nothing else.
    let newer = text.replace("=unknown_peer", "=moon").replace("=prohibited", "=moon");
    let (_, told) = read_told(newer.as_bytes(), |_| None).unwrap();
    assert_eq!(told.refused, troubles().refused[1..]);
    assert_eq!(told.peers.get(&PublicKey([0xb2; 32])), None);
    assert_eq!(told.peers[&PublicKey([0xa1; 32])], troubles().peers[&PublicKey([0xa1; 32])]);
}

#[test]
fn settings_say_the_same_to_the_other_side() {
    let line = format!(
        "listen-port 1 fwmark 0x2 private-key f peer {0} preshared-key f endpoint gate.example:3 \
         persistent-keepalive 4 allowed-ips 10.0.0.1/8,::/0 peer {0} remove",
        "A".repeat(43) + "="
    );
    let settings = arguments(&line).unwrap();
    let mut request = Vec::new();
    write_settings(&mut request, &settings, |_| None).unwrap();
    let mut requests = Requests::new(&request[..], |_| None);
    let Some(Ok(Request::Set(change))) = requests.next() else {
        panic!("{}", request.escape_ascii());
    };
    assert_eq!((change.listen_port, change.fwmark), (Some(1), Some(2)));
    assert_eq!(change.private_key, Some(PrivateKey::new([7; 32])));
    let [peer, removed] = &change.peers[..] else { panic!("{change:?}") };
    assert_eq!(peer.endpoint, Some("192.0.2.1:3".parse().unwrap()));
    assert_eq!(peer.preshared_key, Some(PresharedKey::new([7; 32])));
    assert_eq!((peer.persistent_keepalive, peer.allowed_ips.len()), (Some(4), 3));
    assert!(removed.remove);
}

#[test]
fn what_showconf_writes_can_be_read_and_makes_the_same() {
    let mut state = state();
    state.peers[1].endpoint = Some("[2001:db8::1]:2".parse().unwrap());
    let text = view(&state).configuration();
    let settings = file(&text, Mode::Append).unwrap();
    assert_eq!(settings.private_key.unwrap().0[..], state.private_key.unwrap().as_bytes()[..]);
    assert_eq!((settings.listen_port, settings.fwmark), (Some(51820), Some(0xca6c)));
    let [quiet, lively] = &settings.peers[..] else { panic!("{text}") };
    assert_eq!(quiet.public_key, state.peers[0].public_key);
    assert_eq!(lively.endpoint, state.peers[1].endpoint);
    assert_eq!(lively.preshared_key, Some(Secret(Zeroizing::new([0xc3; 32]))));
    assert_eq!((lively.persistent_keepalive, lively.allowed_ips.len()), (Some(25), 2));
}

#[test]
fn an_interface_is_shown_with_the_peer_first_that_was_heard_last() {
    let look = Look { colours: false, secrets: false, now: 1_000_061 };
    let text = view(&state()).pretty(look);
    let (head, peers) = text.split_once("\n\n").unwrap();
    assert!(head.starts_with("interface: wg0\n  public key: "), "{text}");
    assert!(head.ends_with("\n  private key: (hidden)\n  listening port: 51820\n  fwmark: 0xca6c"));
    assert_eq!(
        peers,
        "peer: oaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaE=\n\
         \x20 preshared key: (hidden)\n\
         \x20 endpoint: [fe80::1%eth0]:51820\n\
         \x20 allowed ips: 10.0.0.0/8, ::/0\n\
         \x20 latest handshake: 1 minute, 1 second ago\n\
         \x20 transfer: 1.50 KiB received, 1 B sent\n\
         \x20 persistent keepalive: every 25 seconds\n\
         \n\
         peer: srKysrKysrKysrKysrKysrKysrKysrKysrKysrKysrI=\n\
         \x20 allowed ips: (none)\n"
    );
    let secrets = view(&state()).pretty(Look { secrets: true, ..look });
    assert!(secrets.contains("preshared key: w8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8M=\n"));
}

#[test]
fn names_are_shown_where_they_are_known() {
    let state = state();
    let names = Names::from([(PublicKey([0xa1; 32]), "laptop".to_owned())]);
    let view = View { names: &names, ..view(&state) };
    let text = view.pretty(Look { colours: false, secrets: false, now: 0 });
    assert!(
        text.contains("\npeer: oaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaE=\n  name: laptop\n")
    );
    assert_eq!(text.matches("name:").count(), 1);
    let json = view.json();
    let peers = json["peers"].as_object().unwrap();
    assert_eq!(json["lastDiscard"], "flood");
    let lively = &peers["oaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaE="];
    assert_eq!((&lively["name"], &lively["lastDiscard"]), (&"laptop".into(), &"bad_mac".into()));
    assert_eq!(peers["srKysrKysrKysrKysrKysrKysrKysrKysrKysrKysrI="].as_object().unwrap().len(), 1);
}

#[test]
fn an_allowed_ip_with_host_bits_is_warned_of_and_kept() {
    let mut machine = Still::default();
    let line =
        b"[Peer]\nPublicKey=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nAllowedIPs=10.1.1.1/8";
    let settings = from_file(line, Mode::Append, &mut machine).unwrap();
    assert_eq!(machine.warnings, ["Warning: AllowedIP has nonzero host part: 10.1.1.1/8"]);
    assert_eq!(settings.peers[0].allowed_ips[0].address.to_string(), "10.1.1.1");
}

#[test]
fn what_is_wrong_is_named() {
    let key = "A".repeat(43) + "=";
    for (text, expected) in [
        ("x", "Line unrecognized: `x'\nConfiguration parsing error"),
        (
            "[Interface]\nFwMark = x",
            "Fwmark is neither 0/off nor 0-0xffffffff: `x'\nConfiguration parsing error",
        ),
        ("[Peer]", "A peer is missing a public key\nInvalid configuration"),
    ] {
        assert_eq!(file(text, Mode::Replace).unwrap_err(), expected);
    }
    for (line, expected) in [
        ("remove", "Invalid argument: remove"),
        (&format!("peer {key} listen-port 1"), "Invalid argument: listen-port"),
        (&format!("peer {key} endpoint nowhere:1"), "No such host: `nowhere:1'"),
    ] {
        assert_eq!(arguments(line).unwrap_err(), expected);
    }
}

#[test]
fn sessions_outlive_a_change_of_other_peers() {
    let [gone, stays] = [[0xb2; 32], [0xa1; 32]].map(PublicKey);
    let text = "[Peer]\nPublicKey=oaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaE=\n";
    let mut settings = file(text, Mode::Replace).unwrap();
    keep_sessions(&mut settings, &state());
    assert!(!settings.replace_peers);
    let [first, second] = &settings.peers[..] else { panic!("{settings:?}") };
    assert_eq!((first.public_key, first.remove), (gone, true));
    assert_eq!((second.public_key, second.remove), (stays, false));
    // What the file does not have goes.
    assert_eq!(second.preshared_key, Some(Secret::default()));
    assert_eq!(second.persistent_keepalive, Some(0));
    // Without peers on one side there is nothing to keep.
    let mut settings = file(text, Mode::Replace).unwrap();
    keep_sessions(&mut settings, &DeviceState::default());
    assert!(settings.replace_peers);
}

/// Bytes that are cut from good text and spoilt: no reader panics, whatever it makes of them.
#[test]
fn nothing_that_is_read_can_break_a_reader() {
    let mut answer = Vec::new();
    write_told(&mut answer, &state(), &troubles()).unwrap();
    let conf = view(&state()).configuration().into_bytes();
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for _ in 0..20_000 {
        for text in [&answer, &conf] {
            let mut spoilt = text[..random(text.len())].to_vec();
            for _ in 0..random(4) {
                let at = random(spoilt.len() + 1);
                spoilt.insert(at, b"\0\n=:/[]%,#-+09af\xff"[random(17)]);
            }
            let words: Vec<_> = spoilt.split(|&byte| byte == b'\n' || byte == b' ').collect();
            let _ = read_told(&spoilt[..], |_| None);
            let _ = read_result(&spoilt[..]);
            let _ = file(String::from_utf8_lossy(&spoilt).as_bytes(), Mode::Append);
            let _ = from_arguments(&words, &mut Still::default());
        }
    }
}
