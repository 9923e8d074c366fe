//! The answer to `get` (spec §2.4).

use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use proto::{DeviceState, Discard, PeerState};
use zeroize::Zeroizing;

use super::write_result;
use crate::trouble::{Failed, Refused, Trouble, Troubles, Turns, Unheard, Unreachable};
use crate::{discard, key};

/// Writes everything about a device, as the answer to [`super::Request::Get`].
///
/// To what every implementation tells, we add `last_discard`, with a word of [`discard::name`]: for
/// the device and for each peer the latest reason for which a handshake message was dropped, or else
/// a packet of that peer; and once a peer has completed a handshake `rx_data`, which is 1 if anything
/// else has come in its present session or the one before, and else 0. Clients ignore keys that they
/// do not know.
///
/// # Errors
///
/// Those of `out`.
pub fn write_state(out: &mut impl Write, state: &DeviceState) -> io::Result<()> {
    write_told(out, state, &Troubles::default())
}

/// As [`write_state`], and what else is known of failures (docs/up.md).
///
/// # Errors
///
/// Those of `out`.
pub fn write_told(
    out: &mut impl Write,
    state: &DeviceState,
    troubles: &Troubles,
) -> io::Result<()> {
    let mut text = Text::new(out);
    if let Some(private_key) = &state.private_key {
        text.line("private_key", &*key::to_hex(private_key.as_bytes()))?;
    }
    if state.listen_port != 0 {
        text.line("listen_port", state.listen_port)?;
    }
    if state.fwmark != 0 {
        text.line("fwmark", state.fwmark)?;
    }
    text.last_discard(state.last_discard)?;
    for refused in &troubles.refused {
        text.refused(refused)?;
    }
    for peer in &state.peers {
        text.peer(peer)?;
        if let Some(trouble) = troubles.peers.get(&peer.public_key) {
            text.trouble(trouble)?;
        }
    }
    text.flush()?;
    write_result(out, Ok(()))
}

/// Lines on their way out. Their buffer never grows, so that it leaves no copy of a key behind.
struct Text<'a, W: Write> {
    out: &'a mut W,
    buffer: Zeroizing<String>,
}

/// Room for any line: the longest is a key with its name.
const LONGEST: usize = 128;

impl<'a, W: Write> Text<'a, W> {
    fn new(out: &'a mut W) -> Self {
        let buffer = Zeroizing::new(String::with_capacity(128 * LONGEST));
        Self { out, buffer }
    }

    fn peer(&mut self, peer: &PeerState) -> io::Result<()> {
        let last_handshake = peer.last_handshake.unwrap_or_default();
        self.line("public_key", &*key::to_hex(&peer.public_key.0))?;
        self.line("preshared_key", &*key::to_hex(peer.preshared_key.as_bytes()))?;
        self.line("protocol_version", 1)?;
        if let Some(endpoint) = peer.endpoint {
            self.line("endpoint", endpoint)?;
        }
        self.line("last_handshake_time_sec", last_handshake.as_secs())?;
        self.line("last_handshake_time_nsec", last_handshake.subsec_nanos())?;
        self.line("tx_bytes", peer.tx_bytes)?;
        self.line("rx_bytes", peer.rx_bytes)?;
        self.line("persistent_keepalive_interval", peer.persistent_keepalive)?;
        for prefix in &peer.allowed_ips {
            self.line("allowed_ip", prefix)?;
        }
        if let Some(receives) = peer.receives {
            self.line("rx_data", u8::from(receives))?;
        }
        self.last_discard(peer.last_discard)
    }

    fn refused(&mut self, refused: &Refused) -> io::Result<()> {
        self.line("refused", discard::name(refused.reason))?;
        self.line("refused_from", refused.from)?;
        if let Some(key) = &refused.key {
            self.line("refused_key", &*key::to_hex(&key.0))?;
        }
        self.line("refused_count", refused.count)?;
        self.line("refused_time_sec", refused.last.as_secs())
    }

    fn trouble(&mut self, trouble: &Trouble) -> io::Result<()> {
        if let Some(Failed { from, count, last }) = &trouble.failed {
            self.line("last_discard_from", from)?;
            self.line("last_discard_count", count)?;
            self.line("last_discard_time_sec", last.as_secs())?;
        }
        if let Some(source) = &trouble.source {
            self.line("last_discard_source", source)?;
        }
        if let Some(Unheard { count, last }) = &trouble.unheard {
            self.line("unheard_count", count)?;
            self.line("unheard_time_sec", last.as_secs())?;
        }
        if let Some(Turns { other, count, last }) = &trouble.turns {
            self.line("turns_with", other)?;
            self.line("turns_count", count)?;
            self.line("turns_time_sec", last.as_secs())?;
        }
        let Some(Unreachable { obstacle, by, last }) = &trouble.unreachable else { return Ok(()) };
        self.line("unreachable", obstacle.name())?;
        if let Some(by) = by {
            self.line("unreachable_from", by)?;
        }
        self.line("unreachable_time_sec", last.as_secs())
    }

    fn last_discard(&mut self, reason: Option<Discard>) -> io::Result<()> {
        match reason {
            None => Ok(()),
            Some(reason) => self.line("last_discard", discard::name(reason)),
        }
    }

    fn line(&mut self, key: &str, value: impl Display) -> io::Result<()> {
        if self.buffer.len() + LONGEST > self.buffer.capacity() {
            self.flush()?;
        }
        writeln!(self.buffer, "{key}={value}").map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(self.buffer.as_bytes())?;
        self.buffer.clear();
        Ok(())
    }
}
