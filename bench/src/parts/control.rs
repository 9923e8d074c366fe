//! What the control thread does: the steps of a handshake, and changes of a large configuration.

use std::hint::black_box;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use proto::{
    AllowedIpsChange, Change, Device, Discard, Endpoint, Event, Now, PeerChange, PeerId,
    PrivateKey, PublicKey, Report, Time,
};

use super::catalogue::Entry;
use super::harness::Part;
use super::routes::{host, scattered, v4};
use crate::Outcome;

/// Peers of the device that is configured.
const PEERS: u32 = 100_000;

/// All of them.
pub fn entries() -> Vec<Entry> {
    let step = |name, step| Entry::new(name, (1, "message"), move || Ok(Handshakes::new(step)));
    vec![
        step("handshake-create", Step::Create),
        step("handshake-verify", Step::Verify),
        step("handshake-respond", Step::Respond),
        step("handshake-complete", Step::Complete),
        Entry::new("configure-endpoint", (1, "change"), || {
            configure(|number| PeerChange {
                endpoint: Some(at(number as u16)),
                ..PeerChange::new(public_key(0))
            })
        }),
        Entry::new("configure-prefix", (1, "change"), || {
            configure(|number| PeerChange {
                allowed_ips: host(v4(PEERS)).map(AllowedIpsChange::Insert).into_iter().collect(),
                ..PeerChange::new(public_key(number % 2))
            })
        }),
    ]
}

/// The moment `seconds` after the first.
pub fn now(seconds: u64) -> Now {
    let (since_start, epoch) =
        (Duration::from_secs(1 + seconds), Duration::from_secs(1_700_000_000));
    Now { time: Time::from_start(since_start), wall: epoch + since_start }
}

/// A key that nobody has the private half of, for each number.
pub fn public_key(number: u32) -> PublicKey {
    let mut key = [7; 32];
    key.iter_mut().zip(scattered(number).to_be_bytes()).for_each(|(to, from)| *to = from);
    PublicKey(key)
}

/// One without key or peers.
pub fn device() -> Device {
    // The same "random" bytes in each run.
    let mut state: u64 = 0;
    Device::new(Box::new(move |bytes| {
        bytes.fill_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
    }))
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, 1), port).into()
}

/// What the control thread does about a change of one peer, short of telling the workers.
fn configure(change: fn(u32) -> PeerChange) -> Outcome<impl FnMut()> {
    let peers = (0..PEERS).map(|number| PeerChange {
        allowed_ips: host(v4(number)).map(AllowedIpsChange::Insert).into_iter().collect(),
        ..PeerChange::new(public_key(number))
    });
    let mut device = device();
    let everybody = Change { peers: peers.collect(), ..Change::default() };
    device.configure(now(0), &everybody).map_err(|_| "too many peers")?;
    while device.poll_event().is_some() {}
    // The workers hold on to the table that was there before.
    let mut routes = device.routes(Some);
    let mut number = 0;
    Ok(move || {
        number += 1;
        let change = Change { peers: vec![change(number)], ..Change::default() };
        device.configure(now(0), &change).expect("it is a peer already");
        while let Some(event) = device.poll_event() {
            if let Event::RoutesChanged = event {
                drop(mem::replace(&mut routes, device.routes(Some)));
            }
            black_box(event);
        }
    })
}

/// What is done with one message of a handshake.
#[derive(Clone, Copy)]
enum Step {
    /// The initiator makes its initiation.
    Create,
    /// The responder finds out that it has had this initiation already, by when it has verified it.
    Verify,
    /// The responder verifies an initiation and makes its response.
    Respond,
    /// The initiator takes in the response.
    Complete,
}

/// A step, in the middle of a handshake of its own for each time that it is to be done.
struct Handshakes {
    step: Step,
    ready: Vec<Two>,
}

impl Handshakes {
    fn new(step: Step) -> Self {
        Self { step, ready: Vec::new() }
    }
}

impl Part for Handshakes {
    fn prepare(&mut self, times: usize) {
        let ready = (0..times).map(|_| {
            let mut two = Two::with_a_session()?;
            match self.step {
                Step::Create => {}
                Step::Verify => {
                    two.create()?;
                    let initiation = two.message.clone();
                    two.respond()?;
                    two.message = initiation;
                }
                Step::Respond => two.create()?,
                Step::Complete => {
                    two.create()?;
                    two.respond()?;
                }
            }
            Some(two)
        });
        self.ready = ready.collect::<Option<_>>().expect("handshakes between the two succeed");
    }

    fn run(&mut self, _times: usize) {
        for two in &mut self.ready {
            let done = match self.step {
                Step::Create => two.create(),
                Step::Verify => two.verify_again(),
                Step::Respond => two.respond(),
                Step::Complete => two.complete(),
            };
            done.expect("as it went while it was prepared");
        }
    }
}

/// An initiator and a responder that know each other, and the latest message between them.
struct Two {
    initiator: Device,
    responder: Device,
    /// The initiator's name for the responder.
    peer: PeerId,
    now: Now,
    message: Vec<u8>,
}

impl Two {
    /// They have had a handshake before, so that what is computed once is there, and may have another.
    fn with_a_session() -> Option<Self> {
        let (own, other) = (PrivateKey::new([1; 32])?, PrivateKey::new([2; 32])?);
        let (own_name, other_name) = (own.public_key(), other.public_key());
        let (mut initiator, peer) = with_peer(own, other_name)?;
        let (responder, _) = with_peer(other, own_name)?;
        initiator.up(now(0));
        let mut two = Self { initiator, responder, peer, now: now(0), message: Vec::new() };
        two.responder.up(now(0));
        two.create()?;
        two.respond()?;
        two.complete()?;
        two.now = now(130);
        Some(two)
    }

    fn create(&mut self) -> Option<()> {
        self.initiator.report(self.now, self.peer, Report::WantsSession);
        self.message = take_message(&mut self.initiator)?;
        Some(())
    }

    fn respond(&mut self) -> Option<()> {
        self.responder.handle_handshake(self.now, from(), &self.message).ok()?;
        self.message = take_message(&mut self.responder)?;
        Some(())
    }

    fn verify_again(&mut self) -> Option<()> {
        let outcome = self.responder.handle_handshake(self.now, from(), &self.message);
        (outcome == Err(Discard::OldTimestamp)).then_some(())
    }

    fn complete(&mut self) -> Option<()> {
        self.initiator.handle_handshake(self.now, from(), &self.message).ok()?;
        while self.initiator.poll_event().is_some() {}
        Some(())
    }
}

fn from() -> Endpoint {
    Endpoint::new(at(1))
}

fn with_peer(own: PrivateKey, other: PublicKey) -> Option<(Device, PeerId)> {
    let mut device = device();
    let peer = PeerChange { endpoint: Some(at(1)), ..PeerChange::new(other) };
    let change = Change { private_key: Some(Some(own)), peers: vec![peer], ..Change::default() };
    device.configure(now(0), &change).ok()?;
    match device.poll_event()? {
        Event::PeerAdded(id, ..) => Some((device, id)),
        _ => None,
    }
}

/// What a device has to send.
fn take_message(device: &mut Device) -> Option<Vec<u8>> {
    let mut message = None;
    while let Some(event) = device.poll_event() {
        if let Event::Transmit(transmit) = event {
            message = Some(transmit.bytes);
        }
    }
    message
}
