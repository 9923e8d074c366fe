//! Known answers through the public door of `proto`.
//!
//! `tests/vectors.json` is made by a script that shares nothing with this project: it knows the
//! specification only. What needs private functions is checked inside `crates/proto`.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::{
    AllowedIpsChange, Change, Device, Discard, Endpoint, Event, Keypair, Kind, Now, PeerChange,
    PeerId, Prefix, PresharedKey, PrivateKey, Progress, PublicKey, Report, Time, Window,
    inner_packet, kind, limits, padding,
};
use serde_json::Value;

/// The part of the known answers that is called `name`.
fn load(name: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../vectors.json")).unwrap();
    all[name].clone()
}

/// The entries of a list, which must not be empty.
fn entries(list: &Value) -> &[Value] {
    let entries = list.as_array().unwrap();
    assert!(!entries.is_empty());
    entries
}

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes();
    let pair = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks_exact(2).map(pair).collect()
}

fn array<const N: usize>(hex: &Value) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

/// Chance that was decided beforehand.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<VecDeque<u8>>>);

impl Script {
    fn push(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend(bytes);
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut script = self.0.lock().unwrap();
        assert!(script.len() >= bytes.len(), "more chance than was foreseen");
        bytes.fill_with(|| script.pop_front().unwrap());
    }
}

/// The peers that a fresh device has announced.
fn added(device: &mut Device) -> Vec<PeerId> {
    let events = std::iter::from_fn(|| device.poll_event());
    let peers = events.filter_map(|event| match event {
        Event::PeerAdded(peer, ..) => Some(peer),
        _ => None,
    });
    peers.collect()
}

fn sent(event: Event) -> Option<Vec<u8>> {
    match event {
        Event::Transmit(transmit) => Some(transmit.bytes),
        _ => None,
    }
}

/// One end of a transcript.
struct End {
    device: Device,
    script: Script,
    address: SocketAddr,
    peer: PeerId,
    /// The newest session, and what it has seen.
    session: Option<(Arc<Keypair>, Window)>,
    outbox: VecDeque<Vec<u8>>,
}

impl End {
    fn new(now: Now, transcript: &Value, role: &str, other: &str) -> Self {
        let script = Script::default();
        let drawn = script.clone();
        let mut device = Device::new(Box::new(move |bytes| drawn.fill(bytes)));
        let address = |role| match (role, transcript.get("cookie")) {
            ("initiator", Some(cookie)) => SocketAddr::new(
                cookie["initiator_address"].as_str().unwrap().parse().unwrap(),
                cookie["initiator_port"].as_u64().unwrap() as u16,
            ),
            ("initiator", None) => SocketAddr::from(([192, 0, 2, 10], 40000)),
            _ => SocketAddr::from(([192, 0, 2, 20], 51820)),
        };
        let mut peer =
            PeerChange::new(PublicKey(array(&transcript[format!("{other}_static_public")])));
        peer.preshared_key = Some(PresharedKey::new(array(&transcript["preshared_key"])));
        peer.endpoint = Some(address(other));
        let key = PrivateKey::new(array(&transcript[format!("{role}_static_private")]));
        let change = Change { private_key: Some(key), peers: vec![peer], ..Change::default() };
        device.configure(now, &change).unwrap();
        device.up(now);
        let peer = added(&mut device)[0];
        Self {
            device,
            script,
            address: address(role),
            peer,
            session: None,
            outbox: VecDeque::new(),
        }
    }

    /// Foresees the draws of a handshake message: index, ephemeral key, and no jitter at all.
    fn foresee(&self, index: &Value, ephemeral: &Value) {
        self.script.push(&(index.as_u64().unwrap() as u32).to_le_bytes());
        self.script.push(&bytes(ephemeral));
    }

    fn foresee_initiation(&self, from: &Value) {
        self.foresee(&from["initiator_index"], &from["initiator_ephemeral_private"]);
        self.script.push(&[0; 8]);
    }

    /// Takes in any datagram, as a data plane would.
    fn handle(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> Result<(), Discard> {
        let kind = kind(datagram)?;
        if !matches!(kind, Kind::Data(_)) {
            let outcome = self.device.handle_handshake(now, Endpoint::new(from), datagram);
            while let Some(event) = self.device.poll_event() {
                match event {
                    Event::SessionAdded(_, keypair) => {
                        self.session = Some((keypair, Window::default()));
                    }
                    Event::Transmit(transmit) => self.outbox.push_back(transmit.bytes),
                    event if outcome.is_err() => {
                        let tells = matches!(
                            event,
                            Event::Handshake(_, Progress::Failed(..)) | Event::Stranger(..)
                        );
                        assert!(tells, "{event:?}");
                    }
                    _ => {}
                }
            }
            return outcome;
        }
        let (keypair, window) = self.session.as_mut().ok_or(Discard::UnknownIndex)?;
        if kind != Kind::Data(keypair.local_index) {
            return Err(Discard::UnknownIndex);
        }
        let mut datagram = datagram.to_vec();
        let length = datagram.len();
        let opened = keypair.open(now.time, window, &mut datagram, length).next();
        opened.unwrap().map(|_| ())
    }

    fn transmit(&mut self) -> Option<Vec<u8>> {
        let next = std::iter::from_fn(|| self.device.poll_event()).find_map(sent);
        self.outbox.pop_front().or(next)
    }

    fn keypair(&self) -> &Keypair {
        &self.session.as_ref().unwrap().0
    }
}

/// Plays a transcript up to the second message, which has not been received yet.
fn begin(transcript: &Value) -> (Now, End, End) {
    let [seconds, nanoseconds] =
        ["unix_sec", "unix_nsec"].map(|name| transcript[name].as_u64().unwrap());
    let mut now = Now {
        time: Time::from_start(Duration::from_secs(1000)),
        wall: Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds),
    };
    let mut initiator = End::new(now, transcript, "initiator", "responder");
    let mut responder = End::new(now, transcript, "responder", "initiator");

    initiator.foresee_initiation(transcript);
    initiator.device.report(now, initiator.peer, Report::WantsSession);
    let mut message = initiator.transmit().unwrap();
    assert_eq!(message, bytes(&transcript["message1"]));

    if let (Some(cookie), Some(retry)) = (transcript.get("cookie"), transcript.get("retry")) {
        responder.device.under_load(now.time);
        refuse_with_cookie(now, &mut responder, &mut initiator, &message, cookie);
        let repeat = now.time + limits::REKEY_TIMEOUT;
        assert_eq!(initiator.device.poll_timeout().unwrap().0, repeat);
        now.time = repeat;
        now.wall += limits::REKEY_TIMEOUT;
        initiator.foresee_initiation(retry);
        initiator.device.handle_timeout(now);
        let called_again = initiator.device.poll_event();
        assert!(matches!(called_again, Some(Event::Handshake(_, Progress::CalledAgain))));
        message = initiator.transmit().unwrap();
        assert_eq!(message, bytes(&retry["message1"]));
        responder.device.under_load(now.time);
    }

    responder.foresee(&transcript["responder_index"], &transcript["responder_ephemeral_private"]);
    responder.handle(now, initiator.address, &message).unwrap();
    assert_eq!(responder.transmit().unwrap(), bytes(&transcript["message2"]));
    (now, initiator, responder)
}

/// `busy` answers a message of `other` with the expected cookie, which `other` takes silently.
fn refuse_with_cookie(now: Now, busy: &mut End, other: &mut End, message: &[u8], cookie: &Value) {
    busy.script.push(&bytes(&cookie["secret"]));
    busy.script.push(&bytes(&cookie["nonce"]));
    assert_eq!(busy.handle(now, other.address, message), Err(Discard::CookieRequired));
    let reply = busy.transmit().unwrap();
    assert_eq!(reply, bytes(&cookie["cookie_reply"]));
    assert_eq!(other.handle(now, busy.address, &reply), Ok(()));
    assert_eq!(other.transmit(), None);
    // Every sent mac1 is answered at most once.
    assert_eq!(other.handle(now, busy.address, &reply), Err(Discard::BadCookie));
}

/// Plays a transcript until both ends have the session.
fn complete(transcript: &Value) -> (Now, End, End) {
    let (now, mut initiator, mut responder) = begin(transcript);
    let mut message = bytes(&transcript["message2"]);
    if let Some(cookie) = transcript.get("cookie_for_message2") {
        initiator.device.under_load(now.time);
        refuse_with_cookie(now, &mut initiator, &mut responder, &message, cookie);
        message = bytes(&cookie["message2_with_mac2"]);
    }
    assert_eq!(initiator.handle(now, responder.address, &message), Ok(()));
    (now, initiator, responder)
}

#[test]
fn the_limits_match_the_known_answers() {
    let constants = load("constants");
    assert_eq!(constants["reject_after_messages"], limits::REJECT_AFTER_MESSAGES);
    assert_eq!(constants["rekey_after_messages"], limits::REKEY_AFTER_MESSAGES);
}

#[test]
fn padding_matches_the_known_answers() {
    for case in entries(&load("padding")) {
        let [length, mtu, pad] =
            ["len", "mtu", "pad"].map(|name| case[name].as_u64().unwrap() as usize);
        assert_eq!(padding(length, mtu), pad, "{length} bytes at MTU {mtu}");
    }
}

#[test]
fn private_keys_are_clamped_and_have_the_known_public_keys() {
    for key in entries(&load("keys")["good"]) {
        let private = PrivateKey::new(array(&key["raw"])).unwrap();
        assert_eq!(*private.as_bytes(), array(&key["clamped"]));
        assert_eq!(private.public_key().0, array(&key["public"]));
    }
    assert_eq!(PrivateKey::new([0; 32]), None);
}

#[test]
fn keys_read_from_text_are_the_known_ones_and_no_others() {
    let keys = load("keys");
    for key in entries(&keys["good"]) {
        for name in ["raw", "clamped", "public"] {
            let text = key[format!("{name}_b64")].as_str().unwrap();
            let read = config::key::from_base64(text).unwrap();
            assert_eq!(*read, array(&key[name]), "{text}");
            assert_eq!(*config::key::to_base64(&read), text);
        }
    }
    let low_order = entries(&keys["low_order_public"]).iter();
    for (point, text) in low_order.zip(entries(&keys["low_order_public_b64"])) {
        assert_eq!(*config::key::from_base64(text.as_str().unwrap()).unwrap(), array(point));
    }
    for case in entries(&keys["bad_b64"]) {
        let text = case[1].as_str().unwrap();
        assert_eq!(config::key::from_base64(text), None, "{}", case[0]);
    }
}

/// The ones' complement sum of a header; all ones if its checksum is right (RFC 1071).
fn header_sum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn congestion_marks_match_the_known_answers() {
    let tables = load("ecn");
    let numbers = |row: &Value| -> Vec<u8> {
        entries(row).iter().map(|number| number.as_u64().unwrap() as u8).collect()
    };
    for row in entries(&tables["encapsulate_inner_outer"]) {
        let [inner, outer] = numbers(row)[..] else { panic!("{row}") };
        // The DSCP of the inner packet is nobody's business.
        assert_eq!(engine::packet::ecn::outer(0xb8 | inner), outer, "inner {inner}");
    }
    for row in entries(&tables["decapsulate_outer_inner_result"]) {
        let [outer, inner, result] = numbers(row)[..] else { panic!("{row}") };
        let mut v4 = vec![0; 20];
        v4[..4].copy_from_slice(&[0x45, 0xb8 | inner, 0, 20]);
        let checksum = !header_sum(&v4);
        v4[10..12].copy_from_slice(&checksum.to_be_bytes());
        let mut v6 = vec![0; 40];
        v6[..2].copy_from_slice(&[0x6b, 0x80 | inner << 4]);
        for packet in [&mut v4, &mut v6] {
            engine::packet::ecn::decapsulate(0x88 | outer, packet);
        }
        assert_eq!(v4[1], 0xb8 | result, "outer {outer}, inner {inner}");
        assert_eq!(header_sum(&v4), 0xffff, "outer {outer}, inner {inner}");
        assert_eq!(v6[1], 0x80 | result << 4, "outer {outer}, inner {inner}");
    }
}

#[test]
fn peers_of_low_order_are_listed_but_never_spoken_to() {
    let keys = load("keys");
    let peers = entries(&keys["low_order_public"]).iter().map(|point| PeerChange {
        endpoint: Some(SocketAddr::from(([192, 0, 2, 20], 51820))),
        persistent_keepalive: Some(1),
        ..PeerChange::new(PublicKey(array(point)))
    });
    let change = Change {
        private_key: Some(PrivateKey::new(array(&keys["good"][0]["raw"]))),
        peers: peers.collect(),
        ..Change::default()
    };
    let at = |seconds| Now {
        time: Time::from_start(Duration::from_secs(seconds)),
        wall: Duration::from_secs(1_700_000_000 + seconds),
    };
    let mut device = Device::new(Box::new(|_| unreachable!("nothing is drawn")));
    device.configure(at(0), &change).unwrap();
    device.up(at(0));
    let peers = added(&mut device);
    for seconds in 1..10 {
        device.handle_timeout(at(seconds));
        for peer in &peers {
            device.report(at(seconds), *peer, Report::WantsSession);
        }
    }
    assert_eq!(device.state().peers.len(), 7);
    assert!(device.poll_event().is_none());
}

/// Seals the packet of `case` at `from`, opens it at `to`, and compares every byte of it.
fn pass_on(now: Now, from: &End, to: &mut End, case: &Value) {
    let note = &case["note"];
    let (counter, expected) = (case["counter"].as_u64().unwrap(), bytes(&case["message"]));
    let inner = bytes(&case["packet"]);
    let pad = padding(inner.len(), case["mtu"].as_u64().unwrap() as usize);
    assert_eq!(case["plaintext_len"], inner.len() + pad, "{note}");

    let text = [&inner[..], &vec![0; pad]].concat();
    let mut message = [&[0; limits::DATA_HEADER], &text[..], &[0; limits::TAG]].concat();
    let stride = message.len();
    from.keypair().skip_to(counter);
    let sealed = from.keypair().seal(now.time, &mut message, stride);
    let received = to.handle(now, from.address, &expected);
    if counter >= limits::REJECT_AFTER_MESSAGES {
        assert_eq!(sealed, Err(Discard::Expired), "{note}");
        assert_eq!(received, Err(Discard::NotAuthentic), "{note}");
        return;
    }
    assert_eq!((sealed, received), (Ok(()), Ok(())), "{note}");
    assert_eq!(message, expected, "{note}");
    let again = to.handle(now, from.address, &expected);
    assert_eq!(again, Err(Discard::Replay), "{note}");

    let mut window = Window::default();
    let opened = to.keypair().open(now.time, &mut window, &mut message, stride).next();
    let plaintext = opened.unwrap().unwrap().into_plaintext();
    assert_eq!(plaintext, text, "{note}");
    if !inner.is_empty() {
        assert_eq!(inner_packet(plaintext).unwrap().length, inner.len());
    }
}

#[test]
fn both_ends_play_every_transcript_byte_for_byte() {
    for transcript in entries(&load("transcripts")) {
        let (now, mut initiator, mut responder) = complete(transcript);
        for case in entries(&transcript["transport"]) {
            match case["from"].as_str() {
                Some("initiator") => pass_on(now, &initiator, &mut responder, case),
                _ => pass_on(now, &responder, &mut initiator, case),
            }
        }
    }
}

#[test]
fn a_bad_datagram_has_no_answer_and_changes_nothing() {
    use Discard::{BadInitiation, BadMac, BadResponse, Malformed, NotAuthentic, UnknownIndex};
    let reasons = [
        Malformed,
        Malformed,
        Malformed,
        BadMac,
        BadMac,
        BadInitiation,
        BadInitiation,
        BadInitiation,
        BadInitiation,
        BadMac,
        UnknownIndex,
        BadResponse,
        BadResponse,
        Malformed,
        Malformed,
        NotAuthentic,
        NotAuthentic,
        UnknownIndex,
        Malformed,
        Malformed,
        Malformed,
        Malformed,
        Malformed,
    ];
    let transcripts = load("transcripts");
    let negative = load("negative");
    assert_eq!(entries(&negative).len(), reasons.len());
    for (case, reason) in entries(&negative).iter().zip(reasons) {
        let why = case["why"].as_str().unwrap();
        // A stranger's first message meets a responder who knows nothing yet; the rest meet the end
        // that would take the genuine message next.
        let (now, mut initiator, mut responder) = match why.starts_with("transport") {
            true => complete(&transcripts[0]),
            false => begin(&transcripts[0]),
        };
        let (end, other, next) = match (case["to"].as_str(), why.starts_with("transport")) {
            (Some("initiator"), _) => (&mut initiator, &responder, &transcripts[0]["message2"]),
            (_, true) => (&mut responder, &initiator, &transcripts[0]["transport"][1]["message"]),
            (_, false) => {
                responder = End::new(now, &transcripts[0], "responder", "initiator");
                responder.foresee(
                    &transcripts[0]["responder_index"],
                    &transcripts[0]["responder_ephemeral_private"],
                );
                (&mut responder, &initiator, &transcripts[0]["message1"])
            }
        };
        let (state, deadline) = (quiet_state(end), end.device.poll_timeout());
        let datagram = bytes(&case["datagram"]);
        assert_eq!(end.handle(now, other.address, &datagram), Err(reason), "{why}");
        assert_eq!(end.transmit(), None, "{why}");
        assert_eq!((quiet_state(end), end.device.poll_timeout()), (state, deadline), "{why}");
        assert_eq!(end.handle(now, other.address, &bytes(next)), Ok(()), "after {why}");
    }
}

/// What `get` shows, without the notes about what was dropped last.
fn quiet_state(end: &End) -> proto::DeviceState {
    let mut state = end.device.state();
    for peer in &mut state.peers {
        peer.last_discard = None;
    }
    state
}

/// A device that is only a table, whose peers have small numbers.
struct Table {
    device: Device,
    numbers: BTreeMap<PeerId, u64>,
}

impl Table {
    fn key(number: &Value) -> PublicKey {
        PublicKey([number.as_u64().unwrap() as u8 + 1; 32])
    }

    fn change(&mut self, number: &Value, change: PeerChange) {
        let now = Now { time: Time::default(), wall: Duration::ZERO };
        let change = Change { peers: vec![change], ..Change::default() };
        self.device.configure(now, &change).unwrap();
        while let Some(event) = self.device.poll_event() {
            if let Event::PeerAdded(peer, ..) = event {
                self.numbers.insert(peer, number.as_u64().unwrap());
            }
        }
    }

    fn step(&mut self, number: &Value, step: AllowedIpsChange) {
        let mut change = PeerChange::new(Self::key(number));
        change.allowed_ips.push(step);
        self.change(number, change);
    }

    fn remove_peer(&mut self, number: &Value) {
        let mut change = PeerChange::new(Self::key(number));
        change.remove = true;
        self.change(number, change);
    }

    fn lookup(&self, address: &Value) -> Option<u64> {
        let address: IpAddr = address.as_str().unwrap().parse().unwrap();
        let peer = *self.device.routes(Some).lookup(address)?;
        Some(self.numbers[&peer])
    }

    fn list(&self, number: &Value) -> Vec<Prefix> {
        let peers = self.device.state().peers;
        let peer = peers.into_iter().find(|peer| peer.public_key == Self::key(number));
        peer.map(|peer| peer.allowed_ips).unwrap_or_default()
    }
}

#[test]
fn allowed_ips_match_the_known_operations() {
    let mut table = Table {
        device: Device::new(Box::new(|_| unreachable!("nothing is drawn"))),
        numbers: BTreeMap::new(),
    };
    let prefix = |text: &Value| {
        let (address, length) = text.as_str().unwrap().split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    };
    for (step, operation) in entries(&load("allowed_ips")["ops"]).iter().enumerate() {
        let [first, second] = [1, 2].map(|at| operation.get(at).unwrap_or(&Value::Null));
        match operation[0].as_str().unwrap() {
            "insert" => table.step(second, AllowedIpsChange::Insert(prefix(first))),
            "remove" => table.step(second, AllowedIpsChange::Remove(prefix(first))),
            "remove_peer" => table.remove_peer(first),
            "lookup" => assert_eq!(table.lookup(first), second.as_u64(), "step {step}"),
            "list" => {
                let expected: Vec<_> = second.as_array().unwrap().iter().map(prefix).collect();
                assert_eq!(table.list(first), expected, "step {step}");
            }
            unknown => panic!("{unknown}"),
        }
    }
}
