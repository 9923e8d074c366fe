//! What cannot be seen from outside: that no index and no deadline is left behind.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use core::net::SocketAddr;

use super::*;
use crate::change::{Change, PeerChange};
use crate::keys::PublicKey;

/// Numbers that look random (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

impl Random for Numbers {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| (self.next() >> 32) as u8);
    }
}

fn place(number: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number as u8 + 1], 51820))
}

fn introduce(now: Now, device: &mut Device, other: PublicKey, number: usize, remove: bool) {
    let peer = PeerChange { remove, endpoint: Some(place(number)), ..PeerChange::new(other) };
    device.configure(now, &Change { peers: alloc::vec![peer], ..Change::default() }).unwrap();
}

/// Every index in use is that of a handshake under way or of a session, and every deadline is filed.
fn assert_nothing_is_left_behind(device: &Device) {
    let mut indices = BTreeSet::new();
    let mut deadlines = BTreeSet::new();
    for peer in device.peers.iter() {
        let id = device.peers.find(&peer.public_key).unwrap();
        let keypairs = [&peer.keypairs.previous, &peer.keypairs.current, &peer.keypairs.next];
        indices.extend(keypairs.into_iter().flatten().map(|keypair| keypair.local_index()));
        indices.extend(peer.handshake.as_ref().map(|handshake| handshake.index));
        deadlines.extend(peer.timers.next().map(|(deadline, _)| (deadline, id)));
    }
    assert_eq!(device.out.indices.keys().copied().collect::<BTreeSet<_>>(), indices);
    assert_eq!(device.deadlines, deadlines);
}

#[test]
fn no_index_or_deadline_outlives_its_peer_handshake_or_session() {
    let mut numbers = Numbers(7);
    let keys = [1, 2].map(|byte| PrivateKey::new([byte; 32]).unwrap());
    let public = keys.each_ref().map(PrivateKey::public_key);
    let mut now = Now { time: Time::default(), wall: Duration::from_secs(1_700_000_000) };
    let mut devices = keys.map(|key| {
        let mut device = Device::new(Box::new(Numbers(numbers.next())));
        let change = Change { private_key: Some(Some(key)), ..Change::default() };
        device.configure(now, &change).unwrap();
        device.up(now);
        device
    });
    let mut made = 0;
    for _ in 0..3_000 {
        let pause = Duration::from_millis([5, 200, 5_400, 70_000][numbers.next() as usize % 4]);
        (now.time, now.wall) = (now.time + pause, now.wall + pause);
        let number = numbers.next() as usize % 2;
        let other = public[1 - number];
        let device = &mut devices[number];
        device.handle_timeout(now);
        match (numbers.next() % 16, device.peers.find(&other)) {
            (0, _) => introduce(now, device, other, 1 - number, true),
            (1, _) => device.down(),
            (2, _) => device.up(now),
            (3..8, None) => introduce(now, device, other, 1 - number, false),
            (3..8, Some(id)) => device.report(now, id, Report::WantsSession),
            (8..10, Some(id)) => {
                // The first message of a session has arrived.
                let next = device.peers.get(id).unwrap().keypairs.next.clone();
                let index = next.map_or(SessionIndex(0), |next| next.local_index());
                device.report(now, id, Report::Confirmed(index));
            }
            (10, _) => while device.poll_transmit().is_some() {},
            _ => {
                while let Some(message) = devices[number].poll_transmit() {
                    let from = Endpoint::new(place(number));
                    let taken = devices[1 - number].handle_handshake(now, from, message.bytes());
                    made += u32::from(taken.is_ok());
                }
            }
        }
        devices.iter().for_each(assert_nothing_is_left_behind);
    }
    assert!(made > 100, "{made} handshake messages were accepted");
}
