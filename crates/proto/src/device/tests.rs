//! What cannot be seen from outside: that no index and no deadline is left behind.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::*;
use crate::change::{Change, PeerChange};
use crate::discard::Discard;
use crate::keys::PublicKey;
use crate::primitives::{hash, mac};
use crate::timers::KEEPALIVE_TIMEOUT;

/// Numbers that look random (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| (self.next() >> 32) as u8);
    }
}

fn place(number: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number as u8 + 1], 51820))
}

pub(super) fn introduce(
    now: Now,
    device: &mut Device,
    other: PublicKey,
    number: usize,
    remove: bool,
) {
    let peer = PeerChange { remove, endpoint: Some(place(number)), ..PeerChange::new(other) };
    device.configure(now, &Change { peers: alloc::vec![peer], ..Change::default() }).unwrap();
}

/// Every index in use is that of a handshake under way or of a session, and every deadline is known.
fn assert_nothing_is_left_behind(device: &Device) {
    let mut indices = BTreeSet::new();
    let mut deadlines = BTreeSet::new();
    for (&id, peer) in &device.peers {
        assert_eq!(device.find(&peer.public_key), Some(id));
        let keypairs = [&peer.keypairs.previous, &peer.keypairs.current, &peer.keypairs.next];
        indices.extend(keypairs.into_iter().flatten().map(|keypair| keypair.local_index));
        indices.extend(peer.handshake.as_ref().map(|handshake| handshake.index));
        deadlines.extend(peer.timers.iter().map(|(&timer, &deadline)| (deadline, id, timer)));
    }
    assert_eq!(device.out.indices.keys().copied().collect::<BTreeSet<_>>(), indices);
    assert_eq!(device.deadlines, deadlines);
}

/// Two devices that know nobody yet, and who they are.
pub(super) fn strangers(now: Now) -> ([Device; 2], [PublicKey; 2]) {
    let keys = [1, 2].map(|byte| PrivateKey::new([byte; 32]).unwrap());
    let public = keys.each_ref().map(PrivateKey::public_key);
    let mut numbers = Numbers(11);
    let devices = keys.map(|key| {
        let mut own = Numbers(numbers.next());
        let mut device = Device::new(Box::new(move |bytes| own.fill(bytes)));
        let change = Change { private_key: Some(Some(key)), ..Change::default() };
        device.configure(now, &change).unwrap();
        device.up(now);
        device
    });
    (devices, public)
}

pub(super) fn beginning() -> Now {
    Now { time: Time::default(), wall: Duration::from_secs(1_700_000_000) }
}

/// The next datagram that `device` sends.
pub(super) fn transmit(device: &mut Device) -> Option<Transmit> {
    core::iter::from_fn(|| device.poll_event()).find_map(|event| match event {
        Event::Transmit(transmit) => Some(transmit),
        _ => None,
    })
}

/// The next initiation of `device` to its peer `id`, six seconds later.
fn initiation(now: &mut Now, device: &mut Device, id: PeerId) -> Transmit {
    let pause = Duration::from_secs(6);
    (now.time, now.wall) = (now.time + pause, now.wall + pause);
    device.report(*now, id, Report::WantsSession);
    device.handle_timeout(*now);
    transmit(device).unwrap()
}

/// Only who knows our public key can make mac1, but that is no secret.
#[test]
fn a_response_under_the_index_of_another_session_is_not_for_the_handshake() {
    let mut now = beginning();
    let ([mut alice, mut bob], [alices, bobs]) = strangers(now);
    introduce(now, &mut alice, bobs, 1, false);
    introduce(now, &mut bob, alices, 0, false);
    let id = alice.find(&bobs).unwrap();
    let [a, b] = [0, 1].map(|number| Endpoint::new(place(number)));
    let first = initiation(&mut now, &mut alice, id);
    bob.handle_handshake(now, a, &first.bytes).unwrap();
    alice.handle_handshake(now, b, &transmit(&mut bob).unwrap().bytes).unwrap();
    let current = alice.peers.get(&id).unwrap().keypairs.current.clone().unwrap();

    now.time = now.time + Duration::from_secs(130);
    let second = initiation(&mut now, &mut alice, id);
    bob.handle_handshake(now, a, &second.bytes).unwrap();
    let genuine = transmit(&mut bob).unwrap();
    let mut moved = genuine.bytes.clone();
    moved[8..12].copy_from_slice(&current.local_index.0.to_le_bytes());
    let mac1 = mac(&hash(&[b"mac1----", &alices.0]), &[&moved[..60]]);
    moved[60..76].copy_from_slice(&mac1);
    assert_eq!(alice.handle_handshake(now, b, &moved), Err(Discard::UnknownIndex));
    assert_eq!(alice.handle_handshake(now, b, &genuine.bytes), Ok(()));
}

/// Workers tell what they have seen a little later.
#[test]
fn a_session_is_not_confirmed_by_what_arrived_on_another() {
    let mut now = beginning();
    let ([mut alice, mut bob], [alices, bobs]) = strangers(now);
    introduce(now, &mut alice, bobs, 1, false);
    introduce(now, &mut bob, alices, 0, false);
    let [id, other] = [alice.find(&bobs).unwrap(), bob.find(&alices).unwrap()];
    let mut next = Vec::new();
    for _ in 0..2 {
        let message = initiation(&mut now, &mut alice, id);
        bob.handle_handshake(now, Endpoint::new(place(0)), &message.bytes).unwrap();
        next.push(bob.peers.get(&other).unwrap().keypairs.next.clone().unwrap().local_index);
    }
    bob.report(now, other, Report::Confirmed(next[0]));
    assert!(bob.peers.get(&other).unwrap().keypairs.current.is_none());
    bob.report(now, other, Report::Confirmed(next[1]));
    assert!(bob.peers.get(&other).unwrap().keypairs.current.is_some());
}

/// The device hears of data a little later, when the answer has left already.
#[test]
fn a_peer_that_asks_again_and_again_is_reported_once_a_deadline() {
    let mut now = beginning();
    let ([mut alice, _], [_, bobs]) = strangers(now);
    introduce(now, &mut alice, bobs, 1, false);
    let id = alice.find(&bobs).unwrap();
    let traffic = Arc::clone(&alice.peers.get(&id).unwrap().traffic);
    let (mut reports, pause) = (0, Duration::from_millis(100));
    for _ in 0..250 {
        let armed = traffic.received(now.time, true);
        let answer_armed = traffic.sent(now.time, true);
        reports += u32::from(armed) + u32::from(answer_armed);
        if armed || answer_armed {
            alice.report(now, id, Report::Armed);
        }
        now.time = now.time + pause;
        alice.handle_timeout(now);
    }
    // In 25 s: the keepalive's deadline of 10 s begins three times, that of 15 s for an answer twice.
    assert!((2..=5).contains(&reports), "{reports} reports of 250 requests");

    // A keepalive that is owed now is remembered without another word, and sent in time: without a
    // session that means an initiation.
    while transmit(&mut alice).is_some() {}
    if traffic.received(now.time, true) {
        alice.report(now, id, Report::Armed);
    }
    let due = now.time + KEEPALIVE_TIMEOUT;
    while let Some((deadline, _)) = alice.poll_timeout().filter(|&(deadline, _)| deadline <= due) {
        alice.handle_timeout(Now { time: deadline, ..now });
    }
    assert!(transmit(&mut alice).is_some(), "the keepalive is forgotten");
}

#[test]
fn no_index_or_deadline_outlives_its_peer_handshake_or_session() {
    let mut numbers = Numbers(7);
    let mut now = beginning();
    let (mut devices, public) = strangers(now);
    let mut made = 0;
    for _ in 0..3_000 {
        let pause = Duration::from_millis([5, 200, 5_400, 70_000][numbers.next() as usize % 4]);
        (now.time, now.wall) = (now.time + pause, now.wall + pause);
        let number = numbers.next() as usize % 2;
        let other = public[1 - number];
        let device = &mut devices[number];
        device.handle_timeout(now);
        match (numbers.next() % 16, device.find(&other)) {
            (0, _) => introduce(now, device, other, 1 - number, true),
            (1, _) => device.down(now),
            (2, _) => device.up(now),
            (3..8, None) => introduce(now, device, other, 1 - number, false),
            (3..8, Some(id)) => device.report(now, id, Report::WantsSession),
            (8..10, Some(id)) => {
                // The first message of a session has arrived.
                let next = device.peers.get(&id).unwrap().keypairs.next.clone();
                let index = next.map_or(SessionIndex(0), |next| next.local_index);
                device.report(now, id, Report::Confirmed(index));
            }
            (10, _) => while transmit(device).is_some() {},
            _ => {
                while let Some(message) = transmit(&mut devices[number]) {
                    let from = Endpoint::new(place(number));
                    let taken = devices[1 - number].handle_handshake(now, from, &message.bytes);
                    made += u32::from(taken.is_ok());
                }
            }
        }
        devices.iter().for_each(assert_nothing_is_left_behind);
    }
    assert!(made > 100, "{made} handshake messages were accepted");
}

/// A device that knows one peer.
fn acquainted() -> (Now, Device, PeerId) {
    let now = beginning();
    let ([mut alice, _], [_, bob]) = strangers(now);
    introduce(now, &mut alice, bob, 1, false);
    let id = alice.find(&bob).unwrap();
    (now, alice, id)
}

#[test]
fn of_which_place_a_source_was_forgotten_is_said_since_the_peer_may_have_left_it() {
    let (now, mut alice, id) = acquainted();
    let here = Endpoint { remote: place(2), source: Some((place(3).ip(), 7)) };
    alice.report(now, id, Report::Roamed(here));
    let told = |alice: &mut Device| {
        alice.forget_sources(now, |_| true);
        core::iter::from_fn(|| alice.poll_event()).collect::<Vec<_>>()
    };
    let events = told(&mut alice);
    let stale = events.iter().find_map(|event| match event {
        Event::SourceForgotten(peer, stale) => Some((*peer, *stale)),
        _ => None,
    });
    assert_eq!(stale, Some((id, here)));
    let is_a_place = |event: &Event| matches!(event, Event::EndpointChanged(..));
    // That of the introduction.
    assert_eq!(events.iter().filter(|event| is_a_place(event)).count(), 1, "{events:?}");
    assert!(told(&mut alice).is_empty());
}

#[test]
fn without_a_key_a_deadline_that_is_watched_is_not_told_again() {
    let (now, mut alice, id) = acquainted();
    let traffic = Arc::clone(&alice.peers[&id].traffic);
    alice.configure(now, &Change { private_key: Some(None), ..Change::default() }).unwrap();
    assert!(traffic.received(now.time, true));
    alice.report(now, id, Report::Armed);
    assert!(!traffic.received(now.time, true));
}
