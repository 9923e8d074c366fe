//! The UAPI through its public door: text in, values out, and a real device behind it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod chance;

use std::io::{self, Read};
use std::time::Duration;

use config::uapi::{Errno, Request, Requests, write_result, write_state};
use proto::{
    AllowedIpsChange, Change, Device, DeviceState, Discard, Now, PeerChange, PeerState, Prefix,
    PresharedKey, PrivateKey, PublicKey, Time,
};

const A: [u8; 32] = [0xa1; 32];
const B: [u8; 32] = [0xb2; 32];

/// What [`Requests`] makes of a whole conversation.
fn requests(bytes: impl AsRef<[u8]>) -> Vec<Result<Request, Errno>> {
    Requests::new(bytes.as_ref(), zone).collect()
}

fn zone(name: &str) -> Option<u32> {
    (name == "eth0").then_some(7)
}

/// What one `set` with these lines, `{A}` and `{B}` standing for keys, comes to.
fn set(lines: &str) -> Result<Change, Errno> {
    let lines = lines.replace("{A}", &"a1".repeat(32)).replace("{B}", &"b2".repeat(32));
    let requests = requests(format!("set=1\n{lines}\n\n"));
    match <[_; 1]>::try_from(requests).unwrap() {
        [Ok(Request::Set(change))] => Ok(change),
        [Ok(Request::Get)] => panic!("a set became a get"),
        [Err(errno)] => Err(errno),
    }
}

/// What one line in the section of peer A comes to.
fn set_peer(line: &str) -> Result<PeerChange, Errno> {
    let change = set(&format!("public_key={{A}}\n{line}"))?;
    let [peer] = <[_; 1]>::try_from(change.peers).unwrap();
    Ok(peer)
}

fn peer(key: [u8; 32]) -> PeerChange {
    PeerChange::new(PublicKey(key))
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

#[test]
fn requests_are_framed_as_other_implementations_frame_them() {
    let mark = |fwmark| Ok(Request::Set(Change { fwmark: Some(fwmark), ..Change::default() }));
    let nothing = Ok(Request::Set(Change::default()));
    let get = Ok(Request::Get);
    let long = "x".repeat(100_000);
    for (bytes, expected) in [
        ("", vec![]),
        ("get=1\n\n", vec![get.clone()]),
        ("get=1\n\nset=1\nfwmark=3\n\nget=1\n\n", vec![get.clone(), mark(3), get.clone()]),
        // Anything else in the first line closes the connection without a reply.
        ("get=2\n\nget=1\n\n", vec![]),
        ("set=2\n\nget=1\n\n", vec![]),
        ("foo=1\n\nget=1\n\n", vec![]),
        ("\nget=1\n\n", vec![]),
        ("get=1\r\n\r\n", vec![]),
        (" get=1\n\n", vec![]),
        ("GET=1\n\n", vec![]),
        (&long, vec![]),
        // Half a request is none.
        ("get=1", vec![]),
        ("get=1\n", vec![]),
        ("set=1", vec![]),
        // Only the byte behind the line is judged; what follows is a request of its own.
        ("get=1\nx", vec![Err(Errno::INVALID)]),
        ("get=1\nxget=1\n\n", vec![Err(Errno::INVALID), get.clone()]),
        // The end of the stream ends a `set`, too.
        ("set=1\n", vec![nothing.clone()]),
        ("set=1\nfwmark=4", vec![mark(4)]),
        ("set=1\nfwmark=4\n", vec![mark(4)]),
        ("set=1\n\n", vec![nothing]),
        // An error is answered once, at the blank line, and the next request is understood.
        ("set=1\nfwmark=4\nfoo=1\nfwmark\n\nget=1\n\n", vec![Err(Errno::INVALID), get.clone()]),
        ("set=1\nfwmark\nfoo=1\nget=1\n\nset=1\nfwmark=5\n\n", vec![Err(Errno::PROTOCOL), mark(5)]),
        ("set=1\nfwmark", vec![Err(Errno::PROTOCOL)]),
        // Nor does a line without end do more harm.
        (
            &format!("set=1\nfwmark={long}\nfwmark=1\n\nget=1\n\n"),
            vec![Err(Errno::IO), get.clone()],
        ),
    ] {
        assert_eq!(requests(bytes), expected, "{bytes:.60}");
    }
}

/// Hands out one byte at a time, with an interruption before each, and fails at the end.
struct Trickle<'a>(&'a [u8], bool);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let byte = self.0.split_off_first().ok_or(io::ErrorKind::BrokenPipe)?;
        buffer[0] = *byte;
        Ok(1)
    }
}

#[test]
fn a_stream_may_come_in_any_pieces_and_fail_at_any_byte() {
    let text = b"get=1\n\nset=1\nfwmark=4\n\n";
    for end in 0..=text.len() {
        let requests: Vec<_> = Requests::new(Trickle(&text[..end], false), zone).collect();
        let expected: &[Result<(), Errno>] = match end {
            0..7 => &[],
            7..13 => &[Ok(())],
            13..23 => &[Ok(()), Err(Errno::IO)],
            _ => &[Ok(()), Ok(())],
        };
        let outcomes: Vec<_> = requests.into_iter().map(|it| it.map(drop)).collect();
        assert_eq!(outcomes, expected, "after {end} bytes");
    }
}

#[test]
fn the_device_keys_mean_what_they_say() {
    let with = |edit: fn(&mut Change)| {
        let mut change = Change::default();
        edit(&mut change);
        Ok(change)
    };
    let hex = "a1".repeat(32);
    for (lines, expected) in [
        (&*format!("private_key={hex}"), with(|it| it.private_key = Some(PrivateKey::new(A)))),
        (
            &format!("private_key={}", hex.to_uppercase()),
            with(|it| it.private_key = Some(PrivateKey::new(A))),
        ),
        (&format!("private_key={}", "0".repeat(64)), with(|it| it.private_key = Some(None))),
        ("listen_port=0", with(|it| it.listen_port = Some(0))),
        ("listen_port=65535", with(|it| it.listen_port = Some(65535))),
        ("listen_port=00080", with(|it| it.listen_port = Some(80))),
        ("fwmark=0", with(|it| it.fwmark = Some(0))),
        ("fwmark=4294967295", with(|it| it.fwmark = Some(u32::MAX))),
        ("fwmark=1\nfwmark=2", with(|it| it.fwmark = Some(2))),
        ("replace_peers=true", with(|it| it.replace_peers = true)),
    ] {
        assert_eq!(set(lines), expected, "{lines}");
    }
}

#[test]
fn a_bad_device_line_is_refused_with_its_own_number() {
    for line in [
        "private_key=",
        "private_key=00",
        &format!("private_key={}", "g".repeat(64)),
        &format!("private_key={}", "0".repeat(65)),
        "listen_port=",
        "listen_port=65536",
        "listen_port=-1",
        "listen_port=+5",
        "listen_port=0x10",
        "listen_port=80\r",
        "listen_port=http",
        "fwmark=",
        "fwmark=0x10",
        "fwmark=off",
        "fwmark=4294967296",
        " fwmark=1",
        "fwmark =1",
        "fwmark= 1",
        "fwmark=1 ",
        "FWMARK=1",
        "replace_peers=false",
        "replace_peers=",
        "replace_peers=1",
        "replace_peers=TRUE",
        "public_key=",
        "public_key=12",
        "protocol_version=1",
        "endpoint=192.0.2.1:5",
        "remove=true",
        "allowed_ip=10.0.0.0/8",
        "last_discard=replay",
        "foo=bar",
        "=",
    ] {
        assert_eq!(set(line), Err(Errno::INVALID), "{line:?}");
    }
    for line in ["foo", "public_key", "private_key", " "] {
        assert_eq!(set(line), Err(Errno::PROTOCOL), "{line:?}");
    }
    let not_utf8 = requests(b"set=1\nfwmark=\xff\n\n");
    assert_eq!(not_utf8, [Err(Errno::INVALID)]);
}

#[test]
fn the_peer_keys_mean_what_they_say() {
    use AllowedIpsChange::{Clear, Insert, Remove};
    let with = |edit: &dyn Fn(&mut PeerChange)| {
        let mut peer = peer(A);
        edit(&mut peer);
        Ok(peer)
    };
    let list = |list: &[_]| with(&|it| it.allowed_ips = list.to_vec());
    let endpoint = |text: &str| with(&|it| it.endpoint = Some(text.parse().unwrap()));
    let psk = &*format!("preshared_key={}", "B2".repeat(32));
    let no_psk = &*format!("preshared_key={}", "0".repeat(64));
    for (line, expected) in [
        ("protocol_version=1", with(&|_| {})),
        ("remove=true", with(&|it| it.remove = true)),
        ("update_only=true", with(&|it| it.update_only = true)),
        (psk, with(&|it| it.preshared_key = Some(PresharedKey::new(B)))),
        (no_psk, with(&|it| it.preshared_key = Some(PresharedKey::default()))),
        ("endpoint=192.0.2.1:5", endpoint("192.0.2.1:5")),
        ("endpoint=192.0.2.1:00005", endpoint("192.0.2.1:5")),
        ("endpoint=[2001:db8::1]:5", endpoint("[2001:db8::1]:5")),
        ("endpoint=[fe80::1%3]:5", endpoint("[fe80::1%3]:5")),
        ("endpoint=[fe80::1%eth0]:5", endpoint("[fe80::1%7]:5")),
        ("endpoint=[::ffff:192.0.2.1]:5", endpoint("192.0.2.1:5")),
        ("persistent_keepalive_interval=0", with(&|it| it.persistent_keepalive = Some(0))),
        ("persistent_keepalive_interval=65535", with(&|it| it.persistent_keepalive = Some(65535))),
        ("replace_allowed_ips=true", list(&[Clear])),
        ("allowed_ip=10.1.2.3/8", list(&[Insert(prefix("10.0.0.0/8"))])),
        ("allowed_ip=0.0.0.0/0", list(&[Insert(prefix("0.0.0.0/0"))])),
        ("allowed_ip=10.1.2.3/32", list(&[Insert(prefix("10.1.2.3/32"))])),
        ("allowed_ip=2001:db8::1/64", list(&[Insert(prefix("2001:db8::/64"))])),
        ("allowed_ip=::/0", list(&[Insert(prefix("::/0"))])),
        ("allowed_ip=-10.1.2.3/8", list(&[Remove(prefix("10.0.0.0/8"))])),
        ("allowed_ip=-2001:db8::1/128", list(&[Remove(prefix("2001:db8::1/128"))])),
    ] {
        assert_eq!(set_peer(line), expected, "{line}");
    }
}

#[test]
fn a_bad_peer_line_is_refused() {
    for line in [
        "remove=false",
        "remove=",
        "update_only=false",
        "preshared_key=",
        "preshared_key=00",
        "endpoint=",
        "endpoint=:5",
        "endpoint=192.0.2.1",
        "endpoint=192.0.2.1:",
        "endpoint=192.0.2.1:65536",
        "endpoint=192.0.2.1:+5",
        "endpoint=192.0.2.01:5",
        "endpoint=[192.0.2.1]:5",
        "endpoint=2001:db8::1:5",
        "endpoint=[2001:db8::1:5",
        "endpoint=[2001:db8::1]5",
        "endpoint=[fe80::1%]:5",
        "endpoint=[fe80::1%nope]:5",
        "endpoint=[fe80::1%99999999999]:5",
        "endpoint=localhost:5",
        "persistent_keepalive_interval=",
        "persistent_keepalive_interval=off",
        "persistent_keepalive_interval=65536",
        "replace_allowed_ips=false",
        "allowed_ip=",
        "allowed_ip=-",
        "allowed_ip=10.0.0.0",
        "allowed_ip=10.0.0.0/",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=10.0.0.0/+8",
        "allowed_ip=10.0.0.0/255.0.0.0",
        "allowed_ip=+10.0.0.0/8",
        "allowed_ip=--10.0.0.0/8",
        "allowed_ip=2001:db8::/129",
        "allowed_ip=fe80::1%eth0/64",
        "allowed_ip=10.0.0.0/8,11.0.0.0/8",
        "protocol_version=2",
        "protocol_version=01",
        "protocol_version=",
        "public_key=12",
        "tx_bytes=0",
        "last_handshake_time_sec=0",
        // A section that goes nowhere is read as strictly as any other.
        "remove=true\nfoo=bar",
        "update_only=true\npreshared_key=12",
        // The device's own keys come before the first peer.
        "private_key={A}",
        "listen_port=5",
        "fwmark=1",
        "replace_peers=true",
    ] {
        assert_eq!(set_peer(line), Err(Errno::INVALID), "{line}");
    }
    assert_eq!(set_peer("remove"), Err(Errno::PROTOCOL));
}

fn device() -> Device {
    // They need not be random here.
    let mut last: u8 = 0;
    Device::new(Box::new(move |bytes| {
        bytes.fill_with(|| {
            last = last.wrapping_add(1);
            last
        });
    }))
}

fn apply(device: &mut Device, lines: &str) -> Result<(), Errno> {
    let now = Now {
        time: Time::from_start(Duration::from_secs(1)),
        wall: Duration::from_secs(1_700_000_000),
    };
    let change = set(lines)?;
    device.configure(now, &change).unwrap();
    Ok(())
}

fn get(state: &DeviceState) -> String {
    let mut text = Vec::new();
    write_state(&mut text, state).unwrap();
    String::from_utf8(text).unwrap()
}

/// The peers, as `A` or `B`, each with its allowed addresses in order.
fn peers(device: &Device) -> Vec<String> {
    let name = |peer: &PeerState| if peer.public_key.0 == A { "A" } else { "B" };
    let peers = device.state().peers;
    let words = peers.iter().map(|peer| {
        let prefixes: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        format!("{}[{}]", name(peer), prefixes.join(", "))
    });
    words.collect()
}

#[test]
fn lines_take_effect_in_their_order() {
    for (lines, expected) in [
        ("public_key={A}\npublic_key={B}", &["A[]", "B[]"][..]),
        ("public_key={B}\npublic_key={A}", &["B[]", "A[]"]),
        (
            "public_key={A}\nallowed_ip=10.0.0.0/8\nallowed_ip=10.0.0.0/9\nallowed_ip=10.1.1.1/8",
            &["A[10.0.0.0/9, 10.0.0.0/8]"],
        ),
        (
            "public_key={A}\nallowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=::/0",
            &["A[::/0]"],
        ),
        ("public_key={A}\nallowed_ip=10.0.0.0/8\nallowed_ip=-10.0.0.0/8", &["A[]"]),
        ("public_key={A}\nallowed_ip=-10.0.0.0/8\nallowed_ip=10.0.0.0/8", &["A[10.0.0.0/8]"]),
        ("public_key={A}\nallowed_ip=10.0.0.0/8\nallowed_ip=-10.0.0.0/9", &["A[10.0.0.0/8]"]),
        // Another peer takes a prefix, but cannot remove it.
        (
            "public_key={A}\nallowed_ip=10.0.0.0/8\npublic_key={B}\nallowed_ip=10.0.0.0/8",
            &["A[]", "B[10.0.0.0/8]"],
        ),
        (
            "public_key={A}\nallowed_ip=10.0.0.0/8\npublic_key={B}\nallowed_ip=-10.0.0.0/8",
            &["A[10.0.0.0/8]", "B[]"],
        ),
        // A peer may come back.
        (
            "public_key={A}\nallowed_ip=10.0.0.0/8\npublic_key={B}\npublic_key={A}\n\
             allowed_ip=11.0.0.0/8",
            &["A[10.0.0.0/8, 11.0.0.0/8]", "B[]"],
        ),
        (
            "public_key={A}\nallowed_ip=10.0.0.0/8\npublic_key={A}\nremove=true\npublic_key={A}",
            &["A[]"],
        ),
        ("public_key={A}\nremove=true\nallowed_ip=10.0.0.0/8", &[]),
        ("public_key={A}\nupdate_only=true\nallowed_ip=10.0.0.0/8", &[]),
        (
            "public_key={A}\npublic_key={A}\nupdate_only=true\nallowed_ip=10.0.0.0/8",
            &["A[10.0.0.0/8]"],
        ),
    ] {
        let mut device = device();
        apply(&mut device, lines).unwrap();
        assert_eq!(peers(&device), expected, "{lines}");
    }
}

#[test]
fn replaced_peers_are_gone_before_the_listed_ones_come() {
    let mut device = device();
    apply(&mut device, "public_key={A}\nallowed_ip=10.0.0.0/8\npublic_key={B}").unwrap();
    apply(&mut device, "replace_peers=true\npublic_key={A}\npublic_key={B}\nupdate_only=true")
        .unwrap();
    assert_eq!(peers(&device), ["A[]"]);
}

#[test]
fn our_own_key_is_accepted_as_a_peer_and_ignored() {
    let mut device = device();
    let own = config::key::to_hex(&PrivateKey::new(A).unwrap().public_key().0);
    let lines =
        format!("private_key={{A}}\npublic_key={}\nallowed_ip=::/0\npublic_key={{B}}", *own);
    apply(&mut device, &lines).unwrap();
    assert_eq!(peers(&device), ["B[]"]);
}

#[test]
fn a_request_with_one_bad_line_changes_nothing() {
    let mut device = device();
    apply(&mut device, "fwmark=1\npublic_key={A}\nallowed_ip=10.0.0.0/8").unwrap();
    let before = device.state();
    let change = ["fwmark=2", "replace_peers=true", "public_key={B}", "allowed_ip=10.0.0.0/8"];
    for place in 0..=change.len() {
        let mut lines = change.to_vec();
        lines.insert(place, "foo=bar");
        assert_eq!(apply(&mut device, &lines.join("\n")), Err(Errno::INVALID), "{lines:?}");
        assert_eq!(device.state(), before);
    }
}

#[test]
fn an_empty_device_says_only_that_it_is_well() {
    assert_eq!(get(&DeviceState::default()), "errno=0\n\n");
}

#[test]
fn get_tells_everything_in_the_order_that_all_implementations_use() {
    let state = DeviceState {
        private_key: PrivateKey::new(A),
        listen_port: 51820,
        fwmark: 0x1234,
        last_discard: Some(Discard::UnknownPeer),
        peers: vec![
            PeerState {
                public_key: PublicKey(A),
                preshared_key: PresharedKey::new(B),
                endpoint: Some("[fe80::1%3]:5".parse().unwrap()),
                last_handshake: Some(Duration::new(1_700_000_000, 5)),
                rx_bytes: u64::MAX,
                tx_bytes: 1 << 40,
                persistent_keepalive: 25,
                allowed_ips: vec![prefix("10.0.0.0/8"), prefix("::/0")],
                receives: Some(false),
                last_discard: Some(Discard::BadResponse),
            },
            PeerState {
                public_key: PublicKey(B),
                preshared_key: PresharedKey::default(),
                endpoint: None,
                last_handshake: None,
                rx_bytes: 0,
                tx_bytes: 0,
                persistent_keepalive: 0,
                allowed_ips: vec![],
                receives: None,
                last_discard: None,
            },
        ],
    };
    let (a, b, none) = ("a1".repeat(32), "b2".repeat(32), "0".repeat(64));
    let clamped = format!("a0{}61", "a1".repeat(30));
    let expected = format!(
        "private_key={clamped}\nlisten_port=51820\nfwmark=4660\nlast_discard=unknown_peer\n\
         public_key={a}\npreshared_key={b}\nprotocol_version=1\nendpoint=[fe80::1%3]:5\n\
         last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\n\
         tx_bytes=1099511627776\nrx_bytes=18446744073709551615\n\
         persistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=::/0\n\
         rx_data=0\nlast_discard=bad_response\n\
         public_key={b}\npreshared_key={none}\nprotocol_version=1\n\
         last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n\
         persistent_keepalive_interval=0\nerrno=0\n\n"
    );
    assert_eq!(get(&state), expected);
}

#[test]
fn what_get_says_can_be_set_again() {
    let mut first = device();
    let mut lines = String::from("private_key={B}\nlisten_port=51820\nfwmark=51820\n");
    for n in 0..300_u32 {
        let key = format!("{n:08x}").repeat(8);
        let [_, _, high, low] = n.to_be_bytes();
        lines += &format!(
            "public_key={key}\npreshared_key={key}\nendpoint=[fe80::{n:x}%2]:{n}\n\
             persistent_keepalive_interval={n}\nallowed_ip=10.{high}.{low}.0/24\n\
             allowed_ip=2001:db8:{n:x}::/48\n"
        );
    }
    apply(&mut first, lines.trim_end()).unwrap();
    let told = get(&first.state());
    // What a client may not set: what has happened, and the closing `errno`.
    let again: Vec<_> = told
        .lines()
        .filter(|line| {
            let counted = ["tx_", "rx_", "last_", "errno"];
            !line.is_empty() && !counted.iter().any(|prefix| line.starts_with(prefix))
        })
        .collect();
    let mut second = device();
    apply(&mut second, &again.join("\n")).unwrap();
    assert_eq!(second.state(), first.state());
    assert_eq!(get(&second.state()), told);
}

#[test]
fn results_are_negative_numbers() {
    for (result, expected) in [
        (Ok(()), "errno=0\n\n"),
        (Err(Errno::INVALID), "errno=-22\n\n"),
        (Err(Errno::PROTOCOL), "errno=-71\n\n"),
        (Err(Errno::IO), "errno=-5\n\n"),
        (Err(Errno::from(&io::Error::from_raw_os_error(98))), "errno=-98\n\n"),
        (Err(Errno::from(&io::Error::other("unheard of"))), "errno=-55\n\n"),
    ] {
        let mut text = Vec::new();
        write_result(&mut text, result).unwrap();
        assert_eq!(text, expected.as_bytes());
    }
}

/// Bytes flipped, lost, doubled and moved in a conversation that uses every key.
#[test]
fn no_conversation_brings_the_reader_down() {
    let valid = format!(
        "set=1\nprivate_key={a}\nlisten_port=1\nfwmark=2\nreplace_peers=true\npublic_key={a}\n\
         remove=true\nupdate_only=true\npreshared_key={a}\nendpoint=[fe80::1%eth0]:5\n\
         persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/8\n\
         allowed_ip=-2001:db8::/32\nprotocol_version=1\nendpoint=192.0.2.1:9\n\nget=1\n\n",
        a = "a1".repeat(32)
    );
    let mut random = chance::numbers(1);
    let (mut granted, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let mut bytes = valid.clone().into_bytes();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"\n=%[]/-:.1a\0"[random(12)]),
                _ => bytes.rotate_left(at),
            }
        }
        for request in requests(bytes) {
            match request {
                Ok(_) => granted += 1,
                Err(_) => refused += 1,
            }
        }
    }
    // The mutations neither spare everything nor leave nothing to read.
    assert!(granted > 10_000 && refused > 10_000, "{granted} granted, {refused} refused");
}
