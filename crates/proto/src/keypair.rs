//! A session: two keys, their counters, and how long they may be used (paper §5.4.5, §5.4.6).

use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::discard::Discard;
use crate::message::{DATA, DATA_HEADER, DATA_OVERHEAD, SessionIndex, TAG};
use crate::primitives::Aead;
use crate::time::Time;
use crate::timers::{REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_ON_RECEIVE};
use crate::window::{Counter, Window};

/// Sending more messages than this on one key calls for a new one.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// No counter reaches this (paper §6.1): a margin of a whole window below 2^64.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

const _: () = assert!(REJECT_AFTER_MESSAGES == 18_446_744_073_709_543_423);

/// Both directions of one session. All methods take `&self`; any thread may call them.
///
/// Data messages are handled in *runs*: messages of one session one behind the other, all `stride`
/// bytes long except the last, which may be shorter. That is the layout in which the kernel segments
/// and coalesces UDP.
#[derive(Debug)]
pub struct Keypair {
    sending: Aead,
    receiving: Aead,
    /// The index that messages to us carry.
    pub local_index: SessionIndex,
    /// The index that messages from us carry.
    pub remote_index: SessionIndex,
    created: Time,
    /// We were the initiator.
    pub is_initiator: bool,
    next_counter: AtomicU64,
    /// The early renewal on receipt has been asked for.
    renewed: AtomicBool,
    /// Something authentic has been received on it.
    pub(crate) heard: AtomicBool,
}

impl Keypair {
    /// As a handshake has made it; tests need none.
    #[doc(hidden)]
    pub fn new(
        [sending, receiving]: [&[u8; 32]; 2],
        is_initiator: bool,
        [local_index, remote_index]: [SessionIndex; 2],
        created: Time,
    ) -> Self {
        Self {
            sending: Aead::new(sending),
            receiving: Aead::new(receiving),
            local_index,
            remote_index,
            created,
            is_initiator,
            next_counter: AtomicU64::new(0),
            renewed: AtomicBool::new(false),
            heard: AtomicBool::new(false),
        }
    }

    /// Whether messages may be sent on it at `now`.
    pub fn can_send(&self, now: Time) -> bool {
        now.since(self.created) < REJECT_AFTER_TIME
            && self.next_counter.load(Ordering::Relaxed) < REJECT_AFTER_MESSAGES
    }

    /// Whether having sent on it at `now` calls for a new session.
    pub fn wants_rekey(&self, now: Time) -> bool {
        let spent = self.next_counter.load(Ordering::Relaxed) > REKEY_AFTER_MESSAGES;
        // Only the initiator minds the age, so that both sides do not start at once.
        spent || (self.is_initiator && now.since(self.created) > REKEY_AFTER_TIME)
    }

    /// Whether having received on it at `now` calls for a new session; true only once.
    #[must_use]
    pub fn wants_rekey_on_receive(&self, now: Time) -> bool {
        self.is_initiator
            && now.since(self.created) > REKEY_ON_RECEIVE
            && !self.renewed.swap(true, Ordering::Relaxed)
    }

    /// Notes that something authentic arrived; true the first time on a responder's session, which
    /// confirms it ([`crate::Report::Confirmed`]).
    #[must_use]
    pub fn confirm(&self, _: &Authentic<'_>) -> bool {
        let heard = self.heard.load(Ordering::Relaxed) || self.heard.swap(true, Ordering::Relaxed);
        // The response that an initiator has consumed was the confirmation.
        !heard && !self.is_initiator
    }

    /// Makes `counter` the next one, unless that is past already. At [`REJECT_AFTER_MESSAGES`] there is none
    /// left to send with; tests want other limits that no run could reach.
    #[doc(hidden)]
    pub fn skip_to(&self, counter: u64) {
        self.next_counter.fetch_max(counter, Ordering::Relaxed);
    }

    /// Seals a run in place: each message is [`DATA_HEADER`] bytes of room, the padded plaintext, and
    /// [`TAG`] bytes of room. Takes the counters itself, so none is ever offered twice.
    ///
    /// # Errors
    /// [`Discard::Expired`] when the session may not be used any more; the run is unchanged and must
    /// not be sent. [`Discard::Malformed`] when a message has less than [`DATA_OVERHEAD`] bytes.
    pub fn seal(&self, now: Time, run: &mut [u8], stride: usize) -> Result<(), Discard> {
        let last = run.len().checked_rem(stride).ok_or(Discard::Malformed)?;
        if stride < DATA_OVERHEAD || run.is_empty() || (1..DATA_OVERHEAD).contains(&last) {
            return Err(Discard::Malformed);
        }
        if !self.can_send(now) {
            return Err(Discard::Expired);
        }
        let first = self.reserve(run.len().div_ceil(stride) as u64)?;
        for (counter, message) in (first..).zip(run.chunks_mut(stride)) {
            if let Some((header, rest)) = message.split_first_chunk_mut()
                && let Some((text, tag)) = rest.split_last_chunk_mut::<TAG>()
            {
                *header = data_header(self.remote_index, counter);
                *tag = self.sending.seal(counter, &[], text);
            }
        }
        Ok(())
    }

    /// Takes `count` counters in a row; all of them or none.
    fn reserve(&self, count: u64) -> Result<u64, Discard> {
        let take = |next: u64| next.checked_add(count).filter(|end| *end <= REJECT_AFTER_MESSAGES);
        self.next_counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map_err(|_| Discard::Expired)
    }

    /// A keepalive: a message without a packet.
    ///
    /// # Errors
    /// As [`Keypair::seal`].
    pub fn keepalive(&self, now: Time) -> Result<[u8; DATA_OVERHEAD], Discard> {
        let mut message = [0; DATA_OVERHEAD];
        self.seal(now, &mut message, DATA_OVERHEAD)?;
        Ok(message)
    }

    /// Opens a run in place, each message when it is asked for. All of them must carry our index, and
    /// `window` is the one that the session has.
    pub fn open<'a>(
        &self,
        now: Time,
        window: &mut Window,
        run: &'a mut [u8],
        stride: usize,
    ) -> impl Iterator<Item = Result<Authentic<'a>, Discard>> {
        let usable = now.since(self.created) < REJECT_AFTER_TIME;
        run.chunks_mut(stride.max(1)).map(move |message| {
            if !usable {
                return Err(Discard::Expired);
            }
            let (counter, plaintext) = self.open_one(message).ok_or(Discard::NotAuthentic)?;
            // Only what is authentic may move the window.
            window.accept(counter).then_some(Authentic(plaintext)).ok_or(Discard::Replay)
        })
    }

    fn open_one<'a>(&self, message: &'a mut [u8]) -> Option<(Counter, &'a mut [u8])> {
        let (header, sealed) = message.split_first_chunk_mut()?;
        let counter = data_counter(header);
        if *header != data_header(self.local_index, counter) || counter >= REJECT_AFTER_MESSAGES {
            return None;
        }
        let plaintext = self.receiving.open(counter, &[], sealed).ok()?;
        Some((Counter(counter), plaintext))
    }
}

fn data_header(receiver: SessionIndex, counter: u64) -> [u8; DATA_HEADER] {
    let [kind, receiver] = [u32::from_le_bytes(DATA), receiver.0].map(u128::from);
    (kind | receiver << 32 | u128::from(counter) << 64).to_le_bytes()
}

fn data_counter(header: &[u8; DATA_HEADER]) -> u64 {
    (u128::from_le_bytes(*header) >> 64) as u64
}

/// A decrypted message. Only [`Keypair::open`] makes one: to hold it is the proof that the peer sent it,
/// and that it has not come before.
#[derive(Debug)]
pub struct Authentic<'a>(&'a mut [u8]);

impl<'a> Authentic<'a> {
    /// The packet and its padding; empty for a keepalive.
    pub fn into_plaintext(self) -> &'a mut [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_does_not_print_its_keys() {
        let indices = [SessionIndex(1), SessionIndex(2)];
        let session = Keypair::new([&[0xab; 32], &[0xcd; 32]], true, indices, Time::default());
        let shown = alloc::format!("{session:?}").to_lowercase();
        assert!(shown.contains("sending"));
        for key in ["abab", "cdcd", "171, 171", "205, 205"] {
            assert!(!shown.contains(key), "{shown}");
        }
    }
}
