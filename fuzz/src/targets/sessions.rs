//! Data messages: sealed, changed, lost, repeated and in any order, against a model that remembers
//! every counter that it has seen.

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use proto::limits::{DATA_HEADER, DATA_OVERHEAD, REJECT_AFTER_TIME};
use proto::{Discard, Keypair, SessionIndex, Time, Window};

/// How far behind the greatest a counter may be (paper §5.4.6; spec §5.2, S2).
const SPAN: u64 = 8128;

/// A message on its way.
#[derive(Clone)]
struct Sealed {
    counter: u64,
    text: Vec<u8>,
    bytes: Vec<u8>,
}

pub fn run(bytes: &[u8]) {
    let _ = attempt(&mut Unstructured::new(bytes));
}

fn attempt(u: &mut Unstructured<'_>) -> Result<()> {
    let start = Time::from_start(Duration::from_secs(1));
    let [here, there] = [SessionIndex(u.arbitrary()?), SessionIndex(u.arbitrary()?)];
    let [to, back] = [&[1; 32], &[2; 32]];
    let sender = Keypair::new([to, back], true, [here, there], start);
    let receiver = Keypair::new([back, to], false, [there, here], start);
    let (mut window, mut seen, mut wire) = (Window::default(), BTreeSet::new(), Vec::new());
    let mut age = Duration::ZERO;
    while !u.is_empty() {
        let now = start + age;
        match u.int_in_range(0..=5)? {
            0 | 1 => seal(u, &sender, now, age, &mut wire)?,
            2 | 3 => {
                let run = gather(u, &wire)?;
                open(u, &receiver, now, age, &mut window, &mut seen, run)?;
            }
            4 => sender.skip_to(u.int_in_range(0..=u64::MAX)? >> u.int_in_range(0..=63)?),
            _ => age += Duration::from_millis(u.int_in_range(0..=60_000)?),
        }
    }
    Ok(())
}

/// Seals a run of messages; they join those on the wire.
fn seal(
    u: &mut Unstructured<'_>,
    sender: &Keypair,
    now: Time,
    age: Duration,
    wire: &mut Vec<Sealed>,
) -> Result<()> {
    let (count, length) = (u.int_in_range(1..=4)?, u.int_in_range(0..=40)?);
    let last = u.int_in_range(0..=length)?;
    let stride = DATA_OVERHEAD + length;
    let mut run = vec![0; stride * (count - 1) + DATA_OVERHEAD + last];
    let mut texts = Vec::new();
    for message in run.chunks_mut(stride) {
        let end = message.len() - (DATA_OVERHEAD - DATA_HEADER);
        u.fill_buffer(&mut message[DATA_HEADER..end])?;
        texts.push(message[DATA_HEADER..end].to_vec());
    }
    let before = run.clone();
    match sender.seal(now, &mut run, stride) {
        Ok(()) => {
            assert!(age < REJECT_AFTER_TIME, "sealed on a session that is too old");
            for (message, text) in run.chunks(stride).zip(texts) {
                let counter = message[8..DATA_HEADER].try_into().expect("eight bytes");
                let counter = u64::from_le_bytes(counter);
                let newest = wire.iter().map(|sealed: &Sealed| sealed.counter).max();
                assert!(newest.is_none_or(|newest| newest < counter), "a counter served twice");
                wire.push(Sealed { counter, text, bytes: message.to_vec() });
            }
        }
        Err(reason) => {
            assert_eq!((reason, run), (Discard::Expired, before), "a refusal changes nothing");
        }
    }
    Ok(())
}

/// Messages that arrive one behind the other, as the kernel hands them over: equally long, but for the
/// last.
fn gather(u: &mut Unstructured<'_>, wire: &[Sealed]) -> Result<Vec<(Sealed, bool)>> {
    let mut run: Vec<(Sealed, bool)> = Vec::new();
    for _ in 0..u.int_in_range(1..=4)? {
        if wire.is_empty() {
            break;
        }
        let mut sealed = u.choose(wire)?.clone();
        let first = run.first().map_or(sealed.bytes.len(), |(first, _)| first.bytes.len());
        let previous = run.last().map_or(first, |(last, _)| last.bytes.len());
        if previous < first || sealed.bytes.len() > first {
            break;
        }
        let at = usize::from(u.arbitrary::<u8>()?);
        let damage = if u.ratio(1, 3)? { u.arbitrary::<u8>()? } else { 0 };
        let damaged = match sealed.bytes.get_mut(at) {
            Some(byte) => {
                *byte ^= damage;
                damage != 0
            }
            None => false,
        };
        run.push((sealed, damaged));
    }
    Ok(run)
}

/// Opens a run, and holds the outcome against what was sealed and what was seen.
fn open(
    u: &mut Unstructured<'_>,
    receiver: &Keypair,
    now: Time,
    age: Duration,
    window: &mut Window,
    seen: &mut BTreeSet<u64>,
    run: Vec<(Sealed, bool)>,
) -> Result<()> {
    let Some((first, _)) = run.first() else {
        // Nothing genuine: whatever it is, it is none.
        let mut bytes: Vec<u8> = u.arbitrary()?;
        let stride = u.int_in_range(0..=100)?;
        assert!(receiver.open(now, window, &mut bytes, stride).all(|message| message.is_err()));
        return Ok(());
    };
    let stride = first.bytes.len();
    let mut bytes: Vec<u8> = run.iter().flat_map(|(sealed, _)| sealed.bytes.clone()).collect();
    let mut count = 0;
    for (message, (sealed, damaged)) in receiver.open(now, window, &mut bytes, stride).zip(&run) {
        count += 1;
        let greatest = seen.last().copied().unwrap_or(0);
        let in_window = greatest.saturating_sub(sealed.counter) <= SPAN;
        let is_new = in_window && !seen.contains(&sealed.counter);
        match message {
            Ok(message) => {
                assert!(!damaged && age < REJECT_AFTER_TIME, "it should not have been opened");
                assert!(is_new, "counter {} was accepted", sealed.counter);
                seen.insert(sealed.counter);
                assert_eq!(*message.into_plaintext(), sealed.text);
            }
            Err(Discard::Replay) => {
                assert!(!damaged && age < REJECT_AFTER_TIME, "it should not have been opened");
                assert!(!is_new, "counter {} was refused", sealed.counter);
            }
            Err(Discard::Expired) => assert!(age >= REJECT_AFTER_TIME),
            Err(reason) => assert!(*damaged, "{reason:?}: a genuine message was refused"),
        }
    }
    assert_eq!(count, run.len());
    Ok(())
}

pub fn seeds() -> Vec<Vec<u8>> {
    (1..=12).map(|step: u8| (0..200_u8).map(|at| at.wrapping_mul(step)).collect()).collect()
}
