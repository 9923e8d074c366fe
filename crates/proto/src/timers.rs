//! The five timers of a peer (paper §6): each a deadline, armed by an event.

use core::time::Duration;

/// An initiator makes a new session when it sends on one older than this.
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Nothing is sent or accepted on a session older than this.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// The least time between two initiations to one peer, and until one is repeated.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Data received is answered within this time, if only by a keepalive.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Initiations are repeated while fewer than this many repetitions have been made (90 s / 5 s).
pub(crate) const MAX_ATTEMPTS: u32 = 18;
/// Sent data that nobody answers calls for a new session after this time.
pub(crate) const NEW_HANDSHAKE: Duration = KEEPALIVE_TIMEOUT.saturating_add(REKEY_TIMEOUT);
/// Keys are wiped this long after the last session was made.
pub(crate) const ERASE_KEYS: Duration = Duration::from_secs(3 * REJECT_AFTER_TIME.as_secs());
/// On receipt, an initiator renews early enough that its next keepalive would still be accepted.
pub(crate) const REKEY_ON_RECEIVE: Duration = Duration::from_secs(
    REJECT_AFTER_TIME.as_secs() - KEEPALIVE_TIMEOUT.as_secs() - REKEY_TIMEOUT.as_secs(),
);
/// Random addition to T1 and T3, against two peers repeating in step.
pub(crate) const MAX_JITTER: Duration = Duration::from_millis(333);

const _: () = assert!(REKEY_ON_RECEIVE.as_secs() == 165 && ERASE_KEYS.as_secs() == 540);

/// Why a device wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// T1: repeat an initiation that nobody answered.
    Retransmit,
    /// T2: answer received data with a keepalive.
    Keepalive,
    /// T3: sent data was not answered; make a new session.
    NewHandshake,
    /// T4: wipe all keys.
    EraseKeys,
    /// T5: keep a mapping in some NAT alive.
    PersistentKeepalive,
}
