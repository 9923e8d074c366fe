//! The steps of the demo, in the order in which they are shown.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime};
use std::{panic, thread};

use config::discard;
use config::key::abbreviated;
use host::ping::Ping;
use host::{Change, Origin, Prefix, Route};
use proto::PublicKey;
use serde_json::json;

use super::machine::{CABLE, Machine, PATIENCE, State};
use super::report::Report;
use super::{Outcome, words};

// Inside the tunnel.
const ALICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const BOB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
// On the cable: two of the networks that are kept for documentation (RFC 5737). Alice is in both;
// Bob moves.
const ALICE_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const BOB_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ALICE_ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const BOB_ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Plays all of it; ends at the first step that fails.
pub fn play(report: &mut Report, seconds: u32, backend: &str) -> Outcome<()> {
    let mut alice = Machine::start("alice", ALICE)?;
    let mut bob = Machine::start("bob", BOB)?;
    alice.join(&mut bob)?;
    for (machine, addresses) in
        [(&mut alice, &[ALICE_OUTSIDE, ALICE_ELSEWHERE][..]), (&mut bob, &[BOB_OUTSIDE])]
    {
        for address in addresses {
            machine.network.apply(Change::AddAddress(CABLE, Prefix::v4(*address, 24)))?;
        }
        machine.network.apply(Change::SetUp(CABLE))?;
        machine.open_tunnel()?;
    }
    await_cable(&alice)?;
    report.line(&format!("alice {ALICE} ⇄ bob {BOB}        backend: {backend}"));
    let [alice_key, bob_key] = [&alice, &bob].map(|machine| abbreviated(&machine.public_key()));
    report.step("keys made", &format!("alice={alice_key}  bob={bob_key}"));

    handshake(report, &mut alice, &mut bob)?;
    ping(report, &alice)?;
    throughput(report, &alice, &bob, Duration::from_secs(seconds.into()))?;
    roaming(report, &mut alice, &mut bob)?;
    wrong_key(report, &mut alice, &mut bob)
}

/// A cable carries a moment after both ends are up, and the two must have found each other's
/// hardware address: what is measured from here on is the tunnel.
fn await_cable(alice: &Machine) -> Outcome<()> {
    let ping = alice.within(|| Ping::open(BOB_OUTSIDE))??;
    for _ in 0..PATIENCE.as_secs() {
        let one = ping.series(1, Duration::ZERO, |_| Ok::<_, io::Error>(()))?;
        if one.lost == 0 {
            return Ok(());
        }
    }
    Err("the two machines do not reach each other without a tunnel".into())
}

fn handshake(report: &mut Report, alice: &mut Machine, bob: &mut Machine) -> Outcome<()> {
    /// What the initiator counts for one response (its size; paper §5.4.3).
    const RESPONSE: i64 = 92;
    bob.set_peer(alice.public_key(), ALICE, None)?;
    alice.set_peer(bob.public_key(), BOB, Some(bob.endpoint(BOB_OUTSIDE)))?;
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    alice.call(bob.public_key())?;
    let state = await_session(alice, PATIENCE)?.ok_or("no handshake within 5 s")?;
    let end = state.last_handshake().unwrap_or(start);
    let round_trips = state.number("rx_bytes").unwrap_or(0) / RESPONSE;
    let milliseconds = milliseconds(end.saturating_sub(start));
    let plural = if round_trips == 1 { "" } else { "s" };
    report.step("handshake", &format!("{round_trips} round trip{plural}, {milliseconds} ms"));
    report.measured("handshake_ms", json!(milliseconds));
    report.measured("handshake_round_trips", json!(round_trips));
    Ok(())
}

/// The machine's state once it has a session; none if it gets none in time.
fn await_session(machine: &mut Machine, patience: Duration) -> Outcome<Option<State>> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let state = machine.state()?;
        if state.last_handshake().is_some() {
            return Ok(Some(state));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(None)
}

fn ping(report: &mut Report, alice: &Machine) -> Outcome<()> {
    let ping = alice.within(|| Ping::open(BOB))??;
    let series = ping.series(50, Duration::from_millis(20), |_| Ok::<_, io::Error>(()))?;
    let median = milliseconds(series.median.ok_or("bob answers no ping through the tunnel")?);
    report.step("ping", &format!("{} sent, {} lost, median {median} ms", series.sent, series.lost));
    report.measured("ping", json!({"sent": series.sent, "lost": series.lost, "median_ms": median}));
    Ok(())
}

fn throughput(
    report: &mut Report,
    alice: &Machine,
    bob: &Machine,
    duration: Duration,
) -> Outcome<()> {
    let listener = bob.within(|| TcpListener::bind((BOB, 0)))??;
    let address = listener.local_addr()?;
    let mut sender = alice.within(|| TcpStream::connect_timeout(&address, PATIENCE))??;
    let (mut receiver, _) = listener.accept()?;
    sender.set_write_timeout(Some(PATIENCE))?;
    receiver.set_read_timeout(Some(PATIENCE))?;

    let start = Instant::now();
    let bytes = thread::scope(|scope| {
        // Moved there, so that it is closed when it has sent enough, and the receiver sees the end.
        let sending = scope.spawn(move || send_until(start + duration, &mut sender));
        let received = count_until_end(&mut receiver);
        let sent = sending.join().unwrap_or_else(|cause| panic::resume_unwind(cause));
        sent.and(received)
    })
    .map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => "the TCP stream through the tunnel stands still".into(),
        _ => format!("the TCP stream through the tunnel broke: {}", words(&error)),
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = bytes as f64 * 8.0 / seconds / 1e9;
    let volume = bytes as f64 / 1e9;
    report.step(
        "throughput",
        &format!("{rate:.2} Gbit/s, one TCP stream: {volume:.2} GB in {seconds:.1} s"),
    );
    report.measured(
        "throughput",
        json!({"seconds": rounded(seconds), "bytes": bytes, "gbit_s": rounded(rate)}),
    );
    Ok(())
}

const CHUNK: usize = 256 * 1024;

fn send_until(deadline: Instant, sender: &mut TcpStream) -> io::Result<()> {
    let chunk = vec![0; CHUNK];
    while Instant::now() < deadline {
        sender.write_all(&chunk)?;
    }
    Ok(())
}

fn count_until_end(receiver: &mut TcpStream) -> io::Result<u64> {
    let (mut chunk, mut bytes) = (vec![0; CHUNK], 0);
    loop {
        match receiver.read(&mut chunk)? {
            0 => return Ok(bytes),
            length => bytes += length as u64,
        }
    }
}

/// Bob leaves one network for another while he talks: first the new one, then not the old one any
/// more.
fn roaming(report: &mut Report, alice: &mut Machine, bob: &mut Machine) -> Outcome<()> {
    const COUNT: u16 = 150;
    let ping = bob.within(|| Ping::open(ALICE))??;
    let gateway = Some(ALICE_ELSEWHERE.into());
    let route = Route {
        destination: Prefix::DEFAULT,
        gateway,
        link: CABLE.into(),
        table: host::MAIN_TABLE,
        origin: Origin::BOOT,
    };
    let series = ping.series(COUNT, Duration::from_millis(10), |request| -> Outcome<()> {
        if request == COUNT / 3 {
            bob.network.apply_all(&[
                Change::AddAddress(CABLE, Prefix::v4(BOB_ELSEWHERE, 24)),
                Change::AddRoute(&route),
                Change::RemoveAddress(CABLE, Prefix::v4(BOB_OUTSIDE, 24)),
            ])?;
        }
        Ok(())
    })?;
    let expected = bob.endpoint(BOB_ELSEWHERE).to_string();
    let found = alice.state()?.text("endpoint").unwrap_or("nowhere").to_owned();
    if found != expected {
        return Err(format!("bob moved to {expected}, but alice looks for him at {found}").into());
    }
    let (sent, lost) = (series.sent, series.lost);
    let text =
        format!("bob moved from {BOB_OUTSIDE} to {BOB_ELSEWHERE}: {sent} pings sent, {lost} lost");
    report.step("roaming", &text);
    report.measured("roaming", json!({"sent": sent, "lost": lost}));
    Ok(())
}

/// Bob expects somebody else's key where Alice's was, so Alice must get no session, and Bob must
/// say why.
fn wrong_key(report: &mut Report, alice: &mut Machine, bob: &mut Machine) -> Outcome<()> {
    const WAIT: Duration = Duration::from_millis(1500);
    let PublicKey(mut stranger) = alice.public_key();
    sys::random::fill(&mut stranger);
    bob.set_peer(PublicKey(stranger), ALICE, None)?;
    alice.set_peer(bob.public_key(), BOB, Some(bob.endpoint(BOB_ELSEWHERE)))?;
    alice.call(bob.public_key())?;
    if await_session(alice, WAIT)?.is_some() {
        return Err("a session came about with a wrong key".into());
    }
    let state = bob.state()?;
    let word = state.text("last_discard").ok_or("bob does not say why there is no session")?;
    let reason = discard::named(word).map(discard::explain);
    let reason = reason.ok_or_else(|| format!("bob's reason is no known one: {word}"))?;
    report.step("wrong key", &format!("no session; bob says why ({word}): {reason}"));
    report.measured("wrong_key", json!({"session": false, "reason": reason}));
    Ok(())
}

fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

/// To a thousandth; the rest is noise.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
