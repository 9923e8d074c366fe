//! The client's side of the UAPI (spec §2.2–2.6): a `set` request, and the answers.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use proto::{DeviceState, PeerState, Prefix, PresharedKey, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::address::{Text, endpoint};
use super::value::{split_endpoint, text};
use super::{PeerSettings, Settings, ZoneName};
use crate::trouble::{Failed, Obstacle, Refused, Trouble, Troubles, Turns, Unheard, Unreachable};
use crate::{discard, key, number};

/// Finds the number of the interface with a name.
pub type ZoneIndex = fn(&str) -> Option<u32>;

/// EPROTO: the answer is no answer.
const PROTOCOL: i32 = 71;

/// Writes a `set` request.
///
/// # Errors
///
/// Those of `out`.
pub fn write_settings(out: &mut impl Write, settings: &Settings, zone: ZoneName) -> io::Result<()> {
    out.write_all(b"set=1\n")?;
    if let Some(private_key) = &settings.private_key {
        writeln!(out, "private_key={}", *key::to_hex(&private_key.0))?;
    }
    if let Some(port) = settings.listen_port {
        writeln!(out, "listen_port={port}")?;
    }
    if let Some(fwmark) = settings.fwmark {
        writeln!(out, "fwmark={fwmark}")?;
    }
    if settings.replace_peers {
        out.write_all(b"replace_peers=true\n")?;
    }
    for peer in &settings.peers {
        write_peer(out, peer, zone)?;
    }
    out.write_all(b"\n")
}

fn write_peer(out: &mut impl Write, peer: &PeerSettings, zone: ZoneName) -> io::Result<()> {
    writeln!(out, "public_key={}", *key::to_hex(&peer.public_key.0))?;
    if peer.remove {
        return out.write_all(b"remove=true\n");
    }
    if let Some(preshared_key) = &peer.preshared_key {
        writeln!(out, "preshared_key={}", *key::to_hex(&preshared_key.0))?;
    }
    if let Some(address) = peer.endpoint {
        writeln!(out, "endpoint={}", endpoint(address, zone))?;
    }
    if let Some(seconds) = peer.persistent_keepalive {
        writeln!(out, "persistent_keepalive_interval={seconds}")?;
    }
    if peer.replace_allowed_ips {
        out.write_all(b"replace_allowed_ips=true\n")?;
    }
    for entry in &peer.allowed_ips {
        let sign = if entry.remove { "-" } else { "" };
        writeln!(out, "allowed_ip={sign}{}/{}", Text(entry.address), entry.length)?;
    }
    Ok(())
}

/// Reads the answer to `set`.
///
/// # Errors
///
/// The error number that the other side sent, its sign turned: it is negative where the other side
/// sent a positive one. EPROTO for what is no answer.
pub fn read_result(answer: impl BufRead) -> Result<(), i32> {
    let mut errno = Err(PROTOCOL);
    for_each_line(answer, |name, value| {
        if name == "errno" {
            errno = Ok(-signed(value)?);
        }
        Some(())
    })?;
    errno.and_then(success)
}

/// Reads the answer to `get`. `zone` is asked for what stands behind the `%` of an endpoint and is
/// no number.
///
/// # Errors
///
/// The error number that the other side sent, or EPROTO for what is no answer.
pub fn read_state(answer: impl BufRead, zone: ZoneIndex) -> Result<DeviceState, i32> {
    read_told(answer, zone).map(|(state, _)| state)
}

/// As [`read_state`], and what our daemon knows of failures.
///
/// # Errors
///
/// As for [`read_state`].
pub fn read_told(answer: impl BufRead, zone: ZoneIndex) -> Result<(DeviceState, Troubles), i32> {
    let (mut state, mut troubles) = (DeviceState::default(), Troubles::default());
    let mut refused = Vec::new();
    let mut errno = Err(PROTOCOL);
    for_each_line(answer, |name, value| {
        match (name, state.peers.last_mut()) {
            ("errno", _) => errno = Ok(number(value)?),
            ("public_key", _) => state.peers.push(stranger(PublicKey(*key::from_hex(value)?))),
            (name, None) => {
                of_interface(&mut state, name, value)?;
                of_refused(&mut refused, name, value, zone)?;
            }
            (name, Some(peer)) => {
                of_peer(peer, name, value, zone)?;
                of_trouble(&mut troubles.peers, peer.public_key, name, value, zone)?;
            }
        }
        Some(())
    })?;
    troubles.peers.retain(|_, trouble| *trouble != Trouble::default());
    troubles.refused = refused.into_iter().flatten().collect();
    errno.and_then(success).map(|()| (state, troubles))
}

fn success(errno: i32) -> Result<(), i32> {
    if errno == 0 { Ok(()) } else { Err(errno) }
}

/// Calls `line` with each `name=value` up to the blank line. It returns `None` for what makes no
/// sense.
fn for_each_line(
    mut answer: impl BufRead,
    mut line: impl FnMut(&str, &str) -> Option<()>,
) -> Result<(), i32> {
    let mut buffer = Zeroizing::new(Vec::new());
    loop {
        buffer.clear();
        let length = answer.read_until(b'\n', &mut buffer);
        length.map_err(|error| error.raw_os_error().unwrap_or(PROTOCOL))?;
        match buffer.strip_suffix(b"\n") {
            Some(b"") => return Ok(()),
            Some(whole) => {
                let parts = text(whole).and_then(|whole| whole.split_once('='));
                parts.and_then(|(name, value)| line(name, value)).ok_or(PROTOCOL)?;
            }
            None => return Err(PROTOCOL),
        }
    }
}

/// A peer of which nothing is known but its key.
#[must_use]
pub fn stranger(public_key: PublicKey) -> PeerState {
    PeerState {
        public_key,
        preshared_key: PresharedKey::default(),
        endpoint: None,
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
        persistent_keepalive: 0,
        allowed_ips: Vec::new(),
        receives: None,
        last_discard: None,
    }
}

/// What nobody knows is passed over: other implementations may tell more.
fn of_interface(state: &mut DeviceState, name: &str, value: &str) -> Option<()> {
    match name {
        "private_key" => state.private_key = PrivateKey::new(*key::from_hex(value)?),
        "listen_port" => state.listen_port = number(value)?,
        "fwmark" => state.fwmark = number(value)?,
        "last_discard" => state.last_discard = discard::named(value),
        _ => {}
    }
    Some(())
}

fn of_peer(peer: &mut PeerState, name: &str, value: &str, zone: ZoneIndex) -> Option<()> {
    let handshake = peer.last_handshake.unwrap_or_default();
    match name {
        "preshared_key" => peer.preshared_key = PresharedKey::new(*key::from_hex(value)?),
        "endpoint" => peer.endpoint = Some(socket_address(value, zone)?),
        "last_discard" => peer.last_discard = discard::named(value),
        "rx_data" => peer.receives = Some(number::<u8>(value)? != 0),
        "last_handshake_time_sec" => {
            let nanoseconds = Duration::from_nanos(handshake.subsec_nanos().into());
            peer.last_handshake = some_time(Duration::from_secs(number(value)?), nanoseconds);
        }
        "last_handshake_time_nsec" => {
            let seconds = Duration::from_secs(handshake.as_secs());
            peer.last_handshake = some_time(seconds, Duration::from_nanos(number(value)?));
        }
        "rx_bytes" => peer.rx_bytes = number(value)?,
        "tx_bytes" => peer.tx_bytes = number(value)?,
        "persistent_keepalive_interval" => peer.persistent_keepalive = number(value)?,
        "allowed_ip" => {
            let (address, length) = value.split_once('/')?;
            peer.allowed_ips.push(Prefix::new(address.parse().ok()?, number(length)?)?);
        }
        _ => {}
    }
    Some(())
}

/// A `refused` begins the next one: none, with all that follows, if nobody here knows its reason.
fn of_refused(
    all: &mut Vec<Option<Refused>>,
    name: &str,
    value: &str,
    zone: ZoneIndex,
) -> Option<()> {
    if name == "refused" {
        let last = Duration::ZERO;
        let new = |reason| Refused { reason, from: NOWHERE, key: None, count: 0, last };
        all.push(discard::named(value).map(new));
    }
    let Some(Some(refused)) = all.last_mut() else { return Some(()) };
    match name {
        "refused_from" => refused.from = socket_address(value, zone)?,
        "refused_key" => refused.key = Some(PublicKey(*key::from_hex(value)?)),
        "refused_count" => refused.count = number(value)?,
        "refused_time_sec" => refused.last = seconds(value)?,
        _ => {}
    }
    Some(())
}

fn of_trouble(
    peers: &mut BTreeMap<PublicKey, Trouble>,
    peer: PublicKey,
    name: &str,
    value: &str,
    zone: ZoneIndex,
) -> Option<()> {
    let Trouble { failed, source, unreachable, unheard, turns } = peers.entry(peer).or_default();
    let new_failed = || Failed { from: NOWHERE, count: 0, last: Duration::ZERO };
    let new_turns = || Turns { other: NOWHERE, count: 0, last: Duration::ZERO };
    let new_unheard = || Unheard { count: 0, last: Duration::ZERO };
    let new_unreachable = |obstacle| Unreachable { obstacle, by: None, last: Duration::ZERO };
    match name {
        "last_discard_from" => {
            failed.get_or_insert_with(new_failed).from = socket_address(value, zone)?;
        }
        "last_discard_source" => *source = Some(value.parse().ok()?),
        "last_discard_count" => {
            failed.get_or_insert_with(new_failed).count = number(value)?;
        }
        "last_discard_time_sec" => {
            failed.get_or_insert_with(new_failed).last = seconds(value)?;
        }
        "turns_with" => turns.get_or_insert_with(new_turns).other = socket_address(value, zone)?,
        "turns_count" => turns.get_or_insert_with(new_turns).count = number(value)?,
        "turns_time_sec" => turns.get_or_insert_with(new_turns).last = seconds(value)?,
        "unheard_count" => {
            unheard.get_or_insert_with(new_unheard).count = number(value)?;
        }
        "unheard_time_sec" => {
            unheard.get_or_insert_with(new_unheard).last = seconds(value)?;
        }
        "unreachable" => *unreachable = Obstacle::named(value).map(new_unreachable),
        "unreachable_from" => {
            let by = value.parse().ok()?;
            if let Some(unreachable) = unreachable {
                unreachable.by = Some(by);
            }
        }
        "unreachable_time_sec" => {
            let last = seconds(value)?;
            if let Some(unreachable) = unreachable {
                unreachable.last = last;
            }
        }
        _ => {}
    }
    Some(())
}

fn seconds(value: &str) -> Option<Duration> {
    number(value).map(Duration::from_secs)
}

/// Until it is told where.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The beginning of time stands for "never".
fn some_time(seconds: Duration, nanoseconds: Duration) -> Option<Duration> {
    Some(seconds.saturating_add(nanoseconds)).filter(|time| !time.is_zero())
}

fn socket_address(value: &str, zone: ZoneIndex) -> Option<SocketAddr> {
    let (host, port) = split_endpoint(value.as_bytes()).ok()?;
    let (host, port) = (text(host)?, number(text(port)?)?);
    let (address, scope) = match host.split_once('%') {
        None => (host.parse().ok()?, 0),
        Some((address, name)) => {
            let address: Ipv6Addr = address.parse().ok()?;
            (IpAddr::V6(address), number(name).or_else(|| zone(name))?)
        }
    };
    Some(match address {
        IpAddr::V4(_) => SocketAddr::new(address, port),
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, scope).into(),
    })
}

/// A number that may be behind a minus.
fn signed(value: &str) -> Option<i32> {
    match value.strip_prefix('-') {
        None => number(value),
        Some(digits) => number::<i32>(digits).map(|number| -number),
    }
}
