//! Handshake messages: genuine ones, changed in any way, and others. Only the genuine has an effect,
//! and has it also after whatever came before.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use adit_tests::net::{Chance, Seed};
use arbitrary::{Result, Unstructured};
use blake2s_simd::Params;
use proto::{
    Change, Device, DeviceState, Discard, Endpoint, Kind, Now, PeerChange, PrivateKey, PublicKey,
    Time, kind,
};

/// mac1 and mac2 at the end of an initiation and a response.
const MACS: usize = 16 + 16;
const COOKIE_REPLY: usize = 64;

/// Alice, who has sent an initiation, and Bob, who has not seen it: always the same two.
struct Scene {
    alice: Device,
    bob: Device,
    initiation: Vec<u8>,
}

fn now() -> Now {
    Now {
        time: Time::from_start(Duration::from_secs(1_000)),
        wall: Duration::from_secs(1_700_000_000),
    }
}

fn endpoint(number: u8) -> Endpoint {
    Endpoint::new(SocketAddr::from(([192, 0, 2, number], 51_820)))
}

fn private(number: u8) -> PrivateKey {
    PrivateKey::new([number; 32]).expect("it is not all zeros")
}

fn device(number: u8, peer: u8) -> Device {
    let mut chance = Chance::new(Seed(number.into()));
    let mut device = Device::new(Box::new(move |bytes| chance.fill(bytes)));
    let key = private(number);
    let peer = PeerChange {
        endpoint: Some(endpoint(peer).remote),
        ..PeerChange::new(private(peer).public_key())
    };
    let change = Change { private_key: Some(Some(key)), peers: vec![peer], ..Change::default() };
    device.configure(now(), &change).expect("one peer is not too many");
    device.up(now());
    device
}

fn sent(device: &mut Device) -> Vec<Vec<u8>> {
    let events = std::iter::from_fn(|| device.poll_event());
    events
        .filter_map(|event| match event {
            proto::Event::Transmit(transmit) => Some(transmit.bytes),
            _ => None,
        })
        .collect()
}

impl Scene {
    fn new() -> Self {
        let (mut alice, bob) = (device(ALICE, BOB), device(BOB, ALICE));
        let bob_here = std::iter::from_fn(|| alice.poll_event()).find_map(|event| match event {
            proto::Event::PeerAdded(id, ..) => Some(id),
            _ => None,
        });
        alice.send_keepalive(now(), bob_here.expect("she knows Bob"));
        let initiation = sent(&mut alice).remove(0);
        Self { alice, bob, initiation }
    }
}

const ALICE: u8 = 1;
const BOB: u8 = 2;

/// What they say when nobody disturbs them: initiation, response, and the cookie reply that a Bob under
/// load sends instead.
fn genuine() -> &'static [Vec<u8>; 3] {
    static GENUINE: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    GENUINE.get_or_init(|| {
        let mut scene = Scene::new();
        let from = endpoint(ALICE);
        scene.bob.handle_handshake(now(), from, &scene.initiation).expect("genuine");
        let response = sent(&mut scene.bob).remove(0);
        let mut busy = device(BOB, ALICE);
        busy.under_load(now().time);
        let refused = busy.handle_handshake(now(), from, &scene.initiation);
        assert_eq!(refused, Err(Discard::CookieRequired));
        let reply = sent(&mut busy).remove(0);
        [scene.initiation, response, reply]
    })
}

/// Makes mac1 what it has to be for `receiver`, who does not look at a message without.
fn authenticate(message: &mut [u8], receiver: PublicKey) {
    let Some(covered) = message.len().checked_sub(MACS) else { return };
    let key = Params::new().to_state().update(b"mac1----").update(&receiver.0).finalize();
    let (covered, macs) = message.split_at_mut(covered);
    let mac1 = Params::new().key(key.as_bytes()).hash_length(16).hash(covered);
    macs[..16].copy_from_slice(mac1.as_bytes());
}

/// What `get` shows, without the reasons for failures.
fn visible(device: &Device) -> DeviceState {
    let mut state = device.state();
    state.peers.iter_mut().for_each(|peer| peer.last_discard = None);
    state
}

fn edit(u: &mut Unstructured<'_>, message: &mut Vec<u8>) -> Result<()> {
    for _ in 0..u.int_in_range(0..=4)? {
        let at = usize::from(u.arbitrary::<u8>()?);
        match (u.int_in_range(0..=4)?, message.get_mut(at)) {
            (0, _) => message.truncate(at),
            (1, _) => message.push(u.arbitrary()?),
            (_, Some(byte)) => *byte ^= u.arbitrary::<u8>()?,
            (_, None) => {}
        }
    }
    Ok(())
}

pub fn run(bytes: &[u8]) {
    let _ = attempt(&mut Unstructured::new(bytes));
}

fn attempt(u: &mut Unstructured<'_>) -> Result<()> {
    let mut scene = Scene::new();
    let (to_bob, under_load) = (u.arbitrary::<bool>()?, u.ratio(1, 4)?);
    let (receiver, key) = match to_bob {
        true => (&mut scene.bob, private(BOB).public_key()),
        false => (&mut scene.alice, private(ALICE).public_key()),
    };
    let [initiation, response, reply] = genuine();
    if under_load {
        receiver.under_load(now().time);
    }
    let from = endpoint(if to_bob { ALICE } else { BOB });
    for _ in 0..u.int_in_range(1..=3)? {
        let base = match u.int_in_range(0..=3)? {
            0 => Some(initiation),
            1 => Some(response),
            2 => Some(reply),
            _ => None,
        };
        let mut message = match base {
            Some(genuine) => genuine.clone(),
            None => u.arbitrary::<Vec<u8>>()?,
        };
        edit(u, &mut message)?;
        let authenticated = u.arbitrary()?;
        if authenticated {
            authenticate(&mut message, key);
        }
        if base.is_some_and(|genuine| is_vouched(genuine, &message, authenticated)) {
            continue;
        }
        let before = visible(receiver);
        let outcome = receiver.handle_handshake(now(), from, &message);
        let reason = outcome.expect_err("nobody vouches for this message");
        assert_eq!(visible(receiver), before, "{reason:?} has changed something");
        let answers = sent(receiver);
        let kind = kind(&message);
        match reason {
            Discard::CookieRequired => {
                assert!(under_load && matches!(kind, Ok(Kind::Initiation | Kind::Response(_))));
                assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [COOKIE_REPLY]);
            }
            _ => assert!(answers.is_empty(), "{reason:?} was answered"),
        }
    }
    // Whatever came before, the genuine message does what it would have done.
    let genuine = if to_bob { initiation } else { response };
    let expected = if under_load { Err(Discard::CookieRequired) } else { Ok(()) };
    assert_eq!(receiver.handle_handshake(now(), from, genuine), expected);
    let again = receiver.handle_handshake(now(), from, genuine);
    assert!(again.is_err(), "it was taken twice");
    Ok(())
}

/// Whether a changed message is still one that its maker vouches for: mac2 proves an address and matters
/// under load only. The sender's index is protected by nothing but mac1, which all can make who know
/// whom the message is for.
fn is_vouched(genuine: &[u8], message: &[u8], authenticated: bool) -> bool {
    const SENDER: std::ops::Range<usize> = 4..8;
    let protected = |message: &[u8]| {
        let mut message = message.to_vec();
        if message.len() > COOKIE_REPLY {
            message.truncate(message.len() - if authenticated { MACS } else { MACS / 2 });
            message.drain(if authenticated { SENDER } else { 0..0 });
        }
        message
    };
    genuine.len() == message.len() && protected(genuine) == protected(message)
}

pub fn seeds() -> Vec<Vec<u8>> {
    (0..=255).step_by(5).map(|byte| (0..64_u8).map(|at| at.wrapping_mul(byte)).collect()).collect()
}
