//! What the daemon says while it runs, and how often.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use config::{discard, key};
use engine::Notice;
use proto::{Discard, Progress, PublicKey};
use sys::clock;

use super::environment;
use crate::command::words;

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Silent,
    /// What somebody may have to mend.
    Error,
    /// Everything.
    Debug,
}

/// Writes to stderr, one line at a time: `LEVEL: (wg0) text`.
#[derive(Debug)]
pub struct Log {
    level: Level,
    interface: String,
    repeats: Mutex<Repeats>,
}

/// What a repeated line is about: a peer or strangers in general, and what went wrong, if it has a
/// name.
type Topic = (Option<PublicKey>, Option<Discard>);

impl Log {
    /// For the tunnel of this name.
    pub fn new(level: Level, interface: &str) -> Self {
        Self { level, interface: interface.to_owned(), repeats: Mutex::default() }
    }

    /// Says something once.
    pub fn say(&self, level: Level, text: &str) {
        let tag = match level {
            Level::Silent => return,
            Level::Error => "ERROR",
            Level::Debug => "DEBUG",
        };
        if level <= self.level {
            let line = format!("{tag}: ({}) {text}\n", self.interface);
            // There is nowhere else to say that this failed.
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    /// Says what the engine tells, and what repeats itself at most once a minute.
    pub fn notice(&self, notice: &Notice) {
        let (level, topic) = weigh(notice);
        if level > self.level {
            return;
        }
        let Some(topic) = topic else {
            return self.say(level, &word(notice));
        };
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        match repeats.admit(topic, clock::boottime()) {
            None => {}
            Some(0) => self.say(level, &word(notice)),
            Some(withheld) => {
                let text = word(notice);
                self.say(level, &format!("{text} ({withheld} more like this since the last)"));
            }
        }
    }
}

/// How much a notice matters, and what others repeat it.
fn weigh(notice: &Notice) -> (Level, Option<Topic>) {
    match notice {
        Notice::Up
        | Notice::Down
        | Notice::Handshake(_, Progress::Completed | Progress::CalledAgain)
        | Notice::OffloadLost(..) => (Level::Debug, None),
        Notice::PortRefused(..) => (Level::Error, None),
        Notice::Handshake(peer, Progress::GaveUp) => (Level::Error, Some((Some(*peer), None))),
        Notice::Handshake(peer, Progress::Failed(_, reason)) => {
            (Level::Error, Some((Some(*peer), Some(*reason))))
        }
        // Of what strangers send, only these look like a mistake in somebody's configuration.
        Notice::Stranger(..) => (Level::Error, Some((None, Some(Discard::UnknownPeer)))),
        Notice::Dropped(_, Discard::UnknownPeer)
        | Notice::Handshake(_, Progress::Answered)
        | Notice::Roamed(..) => (Level::Silent, None),
        Notice::Dropped(_, reason @ Discard::BadMac) => (Level::Error, Some((None, Some(*reason)))),
        Notice::Refused(peer, _) => (Level::Error, Some((Some(*peer), Some(Discard::NotAllowed)))),
        // What is no peer's fault and has no name: a packet filter's, or a network that is not there.
        Notice::NotSent(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
            (Level::Error, Some((None, None)))
        }
        Notice::NotSent(..) => (Level::Debug, Some((None, None))),
        Notice::Dropped(_, reason) => (Level::Debug, Some((None, Some(*reason)))),
    }
}

fn word(notice: &Notice) -> String {
    match notice {
        Notice::Up => "Interface is up".into(),
        Notice::Down => "Interface is down".into(),
        Notice::PortRefused(port, error) => format!(
            "Port {port} cannot be opened: {}; nothing is sent or received before the listen port \
             is changed or the interface set down and up again",
            words(error)
        ),
        Notice::Refused(key, source) => format!(
            "peer({}) - Dropped a packet from {source}: {}",
            key::abbreviated(key),
            discard::explain(Discard::NotAllowed)
        ),
        Notice::Roamed(key, to) => format!("peer({}) - Is at {to}", key::abbreviated(key)),
        Notice::Handshake(key, progress) => {
            format!("peer({}) - Handshake {}", key::abbreviated(key), outcome(*progress))
        }
        Notice::Dropped(from, reason) => {
            format!("Dropped a message from {from}: {}", discard::explain(*reason))
        }
        Notice::Stranger(key, from) => format!(
            "Dropped a message from {from}: {}; its key is {}",
            discard::explain(Discard::UnknownPeer),
            *key::to_base64(&key.0)
        ),
        Notice::NotSent(to, error) => {
            format!("Nothing leaves for {to}: {}; look at packet filters and routes", words(error))
        }
        Notice::OffloadLost(kind, error) => {
            format!("Doing without {}: {}", environment::name(*kind), words(error))
        }
    }
}

fn outcome(progress: Progress) -> Cow<'static, str> {
    match progress {
        Progress::Completed => "completed".into(),
        Progress::Answered => "answered".into(),
        Progress::Failed(_, reason) => format!("failed: {}", discard::explain(reason)).into(),
        Progress::CalledAgain => "did not complete after 5 seconds, retrying".into(),
        Progress::GaveUp => "did not complete after 20 attempts, giving up: the peer does not \
             answer; check its Endpoint and key, and the firewalls on the way"
            .into(),
    }
}

/// Remembers what was said lately.
#[derive(Debug, Default)]
struct Repeats {
    /// When it was said last, and how often it was withheld since.
    said: BTreeMap<Topic, (Duration, u32)>,
}

impl Repeats {
    const PAUSE: Duration = Duration::from_secs(60);
    /// Peers come and go; what there is to remember of them must not grow for ever.
    const MAX_TOPICS: usize = 4096;

    /// Whether this may be said `now`, and how often it was withheld before.
    fn admit(&mut self, topic: Topic, now: Duration) -> Option<u32> {
        if self.said.len() >= Self::MAX_TOPICS {
            self.said.clear();
        }
        match self.said.get_mut(&topic) {
            Some((last, withheld)) if now < *last + Self::PAUSE => {
                *withheld += 1;
                None
            }
            previous => {
                let withheld = previous.map_or(0, |(_, withheld)| *withheld);
                self.said.insert(topic, (now, 0));
                Some(withheld)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_counted_meanwhile() {
        let mut repeats = Repeats::default();
        let unknown = (None, Some(Discard::UnknownPeer));
        let other = (Some(PublicKey([1; 32])), Some(Discard::UnknownPeer));
        for (topic, second, expected) in [
            (unknown, 0, Some(0)),
            (unknown, 1, None),
            (other, 1, Some(0)),
            (unknown, 59, None),
            (unknown, 60, Some(2)),
            (unknown, 61, None),
            (other, 100, Some(0)),
            (unknown, 300, Some(1)),
            (unknown, 400, Some(0)),
        ] {
            let admitted = repeats.admit(topic, Duration::from_secs(second));
            assert_eq!(admitted, expected, "at {second} s");
        }
    }

    #[test]
    fn a_crowd_of_topics_does_not_fill_the_memory() {
        let mut repeats = Repeats::default();
        for n in 0..10_000_u16 {
            let [high, low] = n.to_be_bytes();
            let mut key = [high; 32];
            key[31] = low;
            repeats.admit((Some(PublicKey(key)), None), Duration::ZERO);
        }
        assert!(repeats.said.len() <= Repeats::MAX_TOPICS);
    }

    #[test]
    fn a_peer_is_named_by_the_ends_of_its_key() {
        let key = PublicKey([0; 32]);
        assert_eq!(
            word(&Notice::Handshake(key, Progress::Completed)),
            "peer(AAAA…AAAA) - Handshake completed"
        );
    }
}
