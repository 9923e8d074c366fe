//! What the daemon remembers of failures, for whoever asks: whom it refused, and what came back instead
//! of an answer.
//!
//! Nobody is woken for it, and it has room for so much and no more, whatever strangers send.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::trouble::{Failed, Obstacle, Refused, Trouble, Troubles, Turns, Unheard, Unreachable};
use engine::Notice;
use host::unreachable::{Reason, Report, Reports};
use proto::limits::{DATA_OVERHEAD, REKEY_TIMEOUT};
use proto::{DeviceState, Discard, PeerState, Progress, PublicKey};
use sys::clock;

use super::broker::Broker;

/// Senders that are told apart for each reason.
const MAX_SENDERS: usize = 4;
/// Peers and places come and go; what there is to remember of them must not grow for ever.
const MAX_PEERS: usize = 4096;
const MAX_PLACES: usize = 1024;
/// What was said of a call counts until two more have passed without.
const HOLDS: Duration = REKEY_TIMEOUT.saturating_mul(3);
/// Whoever goes back to where it was this often, and this soon each time, is in both places.
const RETURNS: u64 = 4;
const SOON: Duration = Duration::from_secs(180);

/// Hears of notices, and is asked for what they come to.
pub struct Ledger {
    book: Mutex<Book>,
    broker: Arc<Broker>,
}

#[derive(Debug, Default)]
struct Book {
    /// Why the latest handshake message was dropped that was.
    last_discard: Option<Discard>,
    /// Messages of nobody that is known.
    refused: Vec<Entry>,
    /// Of peers, since a handshake with them has succeeded.
    failed: BTreeMap<PublicKey, Entry>,
    /// From where peers have sent what is not theirs, since a handshake with them has succeeded.
    sources: BTreeMap<PublicKey, IpAddr>,
    /// Answers to peers, and when the last was given, since a handshake with them has succeeded.
    answered: BTreeMap<PublicKey, (u64, Duration)>,
    /// Where peers have been.
    ways: BTreeMap<PublicKey, Way>,
    /// Peers that were called again, since a handshake with them has succeeded.
    calls: BTreeMap<PublicKey, Call>,
    /// What was said of where peers are.
    places: BTreeMap<Spot, Place>,
    /// There while somebody is called in vain.
    reports: Option<Reports>,
    /// When they were last fetched: what is there now came later.
    fetched: Duration,
}

/// Times are of [`clock::boottime`], which nobody sets.
#[derive(Debug)]
struct Entry {
    reason: Discard,
    from: SocketAddr,
    key: Option<PublicKey>,
    count: u64,
    last: Duration,
}

#[derive(Debug)]
struct Call {
    last: Duration,
    goes_on: bool,
}

/// Of a peer that changes its place.
#[derive(Debug)]
struct Way {
    at: SocketAddr,
    before: Option<SocketAddr>,
    /// How often in a row it has gone back to where it was before.
    returns: u64,
    last: Duration,
}

#[derive(Debug)]
struct Place {
    obstacle: Obstacle,
    by: Option<IpAddr>,
    last: Duration,
}

/// An address and a port, and our own port, if it was told: other programs send there, too.
type Spot = (IpAddr, u16, Option<u16>);

impl Ledger {
    /// An empty one, which hears what comes by ICMP with the help of `broker`.
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { book: Mutex::default(), broker }
    }

    /// Takes in what the engine tells.
    pub fn note(&self, notice: &Notice) {
        let mut book = self.book();
        book.note(notice, clock::boottime());
        if let (Notice::Handshake(_, Progress::CalledAgain), None) = (notice, &book.reports) {
            // Without the right to, nobody hears anything.
            book.reports = self.broker.reports().ok();
        }
    }

    /// All that is known of failures. `state` says which peers there are, and how they are.
    pub fn told(&self, state: &DeviceState) -> Troubles {
        let (boottime, realtime) = (clock::boottime(), clock::realtime());
        let mut book = self.book();
        book.fetch(boottime);
        book.rest(boottime);
        book.told(state, |time| realtime.saturating_sub(boottime.saturating_sub(time)))
    }

    /// Why the latest handshake message was dropped that was.
    pub fn last_discard(&self) -> Option<Discard> {
        self.book().last_discard
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn note(&mut self, notice: &Notice, now: Duration) {
        // What is malformed is no handshake message.
        if let Notice::Dropped(_, reason) = notice
            && *reason != Discard::Malformed
        {
            self.last_discard = Some(*reason);
        }
        match notice {
            Notice::Dropped(from, reason) if !is_told_otherwise(*reason) => {
                self.refuse(*reason, *from, None, now);
            }
            Notice::Stranger(key, from) => {
                self.refuse(Discard::UnknownPeer, *from, Some(*key), now);
            }
            Notice::Handshake(peer, Progress::Failed(from, reason)) => {
                make_room(&mut self.failed, peer, MAX_PEERS);
                let (reason, from) = (*reason, from.remote);
                let entry = self.failed.entry(*peer);
                let new = Entry { reason, from, key: None, count: 0, last: now };
                entry.or_insert(new).again(reason, from, now);
            }
            Notice::Handshake(peer, Progress::Completed) => {
                // What has waited until now is older than the handshake.
                self.fetch(now);
                self.failed.remove(peer);
                self.answered.remove(peer);
                self.sources.remove(peer);
                self.calls.remove(peer);
                self.rest(now);
            }
            Notice::Refused(peer, source) => {
                make_room(&mut self.sources, peer, MAX_PEERS);
                self.sources.insert(*peer, *source);
            }
            Notice::Handshake(peer, Progress::Answered) => {
                make_room(&mut self.answered, peer, MAX_PEERS);
                let (count, last) = self.answered.entry(*peer).or_default();
                (*count, *last) = (*count + 1, now);
            }
            Notice::Roamed(peer, to) => {
                make_room(&mut self.ways, peer, MAX_PEERS);
                let new = Way { at: *to, before: None, returns: 0, last: now };
                self.ways.entry(*peer).or_insert(new).roam(*to, now);
            }
            Notice::Handshake(peer, Progress::CalledAgain) => {
                self.fetch(now);
                make_room(&mut self.calls, peer, MAX_PEERS);
                self.calls.insert(*peer, Call { last: now, goes_on: true });
            }
            Notice::Handshake(peer, Progress::GaveUp) => {
                self.fetch(now);
                if let Some(call) = self.calls.get_mut(peer) {
                    call.goes_on = false;
                }
                self.rest(now);
            }
            Notice::Down => {
                self.calls.clear();
                self.places.clear();
                self.answered.clear();
                self.rest(now);
            }
            // EPERM, as of a packet filter that drops. Whether there is a way is seen at any time.
            Notice::NotSent(to, error) if error.kind() == ErrorKind::PermissionDenied => {
                let obstacle = Obstacle::Prohibited;
                let place = Place { obstacle, by: None, last: now };
                self.remember((to.ip(), to.port(), None), place);
            }
            _ => {}
        }
    }

    fn refuse(&mut self, reason: Discard, from: SocketAddr, key: Option<PublicKey>, now: Duration) {
        let is_same = |entry: &&mut Entry| {
            (entry.reason, entry.from.ip(), entry.key) == (reason, from.ip(), key)
        };
        if let Some(entry) = self.refused.iter_mut().find(is_same) {
            return entry.again(reason, from, now);
        }
        let others = self.refused.iter().enumerate().filter(|(_, entry)| entry.reason == reason);
        let others: Vec<_> = others.map(|(at, entry)| (entry.last, at)).collect();
        if let Some((_, oldest)) = others.iter().min().filter(|_| others.len() >= MAX_SENDERS) {
            self.refused.swap_remove(*oldest);
        }
        self.refused.push(Entry { reason, from, key, count: 1, last: now });
    }

    /// Listens no more if nobody is called in vain. Some who were may be no peers any more.
    fn rest(&mut self, now: Duration) {
        if !self.calls.values().any(|call| call.goes_on && now < call.last + HOLDS) {
            self.reports = None;
        }
    }

    fn fetch(&mut self, now: Duration) {
        let reports = self.reports.as_ref().map(Reports::fetch).unwrap_or_default();
        self.hear(reports, now);
    }

    /// Takes in what was fetched `now`. It does not say when it came, so it is given the earliest time
    /// that there is for it: a handshake between two times of fetching is not taken for an older one.
    fn hear(&mut self, reports: Vec<Report>, now: Duration) {
        let last = std::mem::replace(&mut self.fetched, now);
        for Report { by, port, to, length, reason } in reports {
            if is_ours(length) {
                let obstacle = match reason {
                    Reason::Port => Obstacle::Port,
                    Reason::Host => Obstacle::Host,
                    Reason::Network => Obstacle::Network,
                    Reason::Prohibited => Obstacle::Prohibited,
                };
                let place = Place { obstacle, by: Some(by), last };
                self.remember((to.0, to.1, Some(port)), place);
            }
        }
    }

    fn remember(&mut self, spot: Spot, place: Place) {
        make_room(&mut self.places, &spot, MAX_PLACES);
        self.places.insert(spot, place);
    }

    fn told(&self, state: &DeviceState, at: impl Fn(Duration) -> Duration) -> Troubles {
        // Whoever was a stranger may have become a peer.
        let is_peer = |key| state.peers.iter().any(|peer| Some(peer.public_key) == key);
        let refused =
            self.refused.iter().filter(|entry| entry.key.is_none() || !is_peer(entry.key));
        let mut refused: Vec<_> = refused
            .map(|&Entry { reason, from, key, count, last }| Refused {
                reason,
                from,
                key,
                count,
                last: at(last),
            })
            .collect();
        refused.sort_by_key(|refused| std::cmp::Reverse(refused.last));
        let peers = state.peers.iter().filter_map(|peer| {
            let failed = self.failed.get(&peer.public_key);
            let failed = failed.filter(|entry| peer.last_discard == Some(entry.reason));
            let failed = failed.map(|&Entry { from, count, last, .. }| {
                let last = at(last);
                Failed { from, count, last }
            });
            let mut places = self.places_of(peer, state.listen_port);
            let place = places.find(|it| peer.last_handshake.is_none_or(|last| last < at(it.last)));
            let unreachable = place.map(|&Place { obstacle, by, last, .. }| {
                let last = at(last);
                Unreachable { obstacle, by, last }
            });
            // One may be on its way, or be lost.
            let unheard = self.answered.get(&peer.public_key).filter(|(count, _)| *count > 1);
            let unheard = unheard.map(|&(count, last)| Unheard { count, last: at(last) });
            let way = self.ways.get(&peer.public_key).filter(|way| way.returns >= RETURNS);
            let turns = way.and_then(|way| {
                Some(Turns { other: way.before?, count: way.returns, last: at(way.last) })
            });
            let source = self.sources.get(&peer.public_key).copied();
            let source = source.filter(|_| peer.last_discard == Some(Discard::NotAllowed));
            let trouble = Trouble { source, failed, unreachable, unheard, turns };
            (trouble != Trouble::default()).then_some((peer.public_key, trouble))
        });
        Troubles { refused, peers: peers.collect() }
    }

    /// What is said of where a peer is, unless it has been called since, and nothing was said. Who says
    /// why nothing is let out comes before whoever does not let it out.
    fn places_of(&self, peer: &PeerState, port: u16) -> impl Iterator<Item = &Place> {
        let call = self.calls.get(&peer.public_key);
        let spots = peer.endpoint.map(|to| [Some(port), None].map(|it| (to.ip(), to.port(), it)));
        let places = spots.into_iter().flatten().filter_map(|spot| self.places.get(&spot));
        places.filter(move |it| call.is_none_or(|call| call.last < it.last + HOLDS))
    }
}

impl Entry {
    /// Once more, and maybe by another name of the same sender, or for another reason.
    fn again(&mut self, reason: Discard, from: SocketAddr, now: Duration) {
        let before = if self.reason == reason { self.count } else { 0 };
        *self = Self { reason, from, key: self.key, count: before + 1, last: now };
    }
}

impl Way {
    fn roam(&mut self, to: SocketAddr, now: Duration) {
        if to == self.at {
            return;
        }
        let is_return = self.before == Some(to) && now < self.last + SOON;
        let returns = if is_return { self.returns + 1 } else { 0 };
        *self = Self { at: to, before: Some(self.at), returns, last: now };
    }
}

/// Whose peer is known, or whose key: another notice says it.
fn is_told_otherwise(reason: Discard) -> bool {
    use Discard::{BadResponse, OldTimestamp, TooSoon, UnknownPeer};
    matches!(reason, OldTimestamp | TooSoon | BadResponse | UnknownPeer)
}

/// Whether a datagram may be a call, or data of a session that the other side has lost: a machine that is
/// sent many says of few that they did not arrive.
fn is_ours(length: u16) -> bool {
    const CALL: u16 = 148;
    length == CALL || (length >= DATA_OVERHEAD as u16 && length.is_multiple_of(16))
}

/// For `key`, if it has none yet.
fn make_room<K: Ord, V>(map: &mut BTreeMap<K, V>, key: &K, most: usize) {
    if map.len() >= most && !map.contains_key(key) {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proto::Endpoint;

    use super::*;

    fn from(n: u32) -> SocketAddr {
        SocketAddr::new(n.to_be_bytes().into(), 51820)
    }

    fn failed(n: u32, reason: Discard) -> Progress {
        Progress::Failed(Endpoint::new(from(n)), reason)
    }

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn refused(book: &Book) -> Vec<Refused> {
        book.told(&DeviceState::default(), |time| time).refused
    }

    #[test]
    fn senders_are_counted_and_the_last_is_told_first() {
        let mut book = Book::default();
        let stranger = Notice::Stranger(PublicKey([7; 32]), from(1));
        for n in 1..4 {
            book.note(&stranger, second(n));
            // The same message is told twice.
            book.note(&Notice::Dropped(from(1), Discard::UnknownPeer), second(n));
        }
        book.note(&Notice::Dropped(from(2), Discard::BadMac), second(5));
        let told = refused(&book);
        let told: Vec<_> =
            told.iter().map(|it| (it.reason, it.from, it.key, it.count, it.last)).collect();
        let expected = [
            (Discard::BadMac, from(2), None, 1, second(5)),
            (Discard::UnknownPeer, from(1), Some(PublicKey([7; 32])), 3, second(3)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_last_failure_is_that_of_a_handshake_message() {
        let mut book = Book::default();
        for (reason, last) in [
            (Discard::Malformed, None),
            (Discard::NotReady, Some(Discard::NotReady)),
            (Discard::OldTimestamp, Some(Discard::OldTimestamp)),
            (Discard::Malformed, Some(Discard::OldTimestamp)),
        ] {
            book.note(&Notice::Dropped(from(1), reason), second(1));
            assert_eq!(book.last_discard, last);
        }
        book.note(&Notice::Handshake(PublicKey([7; 32]), Progress::Completed), second(2));
        assert_eq!(book.last_discard, Some(Discard::OldTimestamp));
    }

    #[test]
    fn strangers_fill_no_memory_and_hide_no_other_reason() {
        let mut book = Book::default();
        book.note(&Notice::Dropped(from(0), Discard::BadMac), second(0));
        for n in 0..10_000 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&u32::to_be_bytes(n));
            book.note(&Notice::Stranger(PublicKey(key), from(n)), second(n.into()));
            book.note(&Notice::NotSent(from(n), ErrorKind::PermissionDenied.into()), second(0));
            let failed = Notice::Handshake(PublicKey(key), failed(n, Discard::TooSoon));
            book.note(&failed, second(0));
            book.note(&Notice::Handshake(PublicKey(key), Progress::Answered), second(0));
            book.note(&Notice::Roamed(PublicKey(key), from(n)), second(0));
        }
        let told = refused(&book);
        assert_eq!(told.len(), MAX_SENDERS + 1);
        assert_eq!(told.first().unwrap().from, from(9999));
        assert!(told.iter().any(|it| it.reason == Discard::BadMac));
        assert!(book.places.len() <= MAX_PLACES && book.failed.len() <= MAX_PEERS);
        assert!(book.answered.len() <= MAX_PEERS && book.ways.len() <= MAX_PEERS);

        // Full as it is: whoever is in it already needs no room.
        let full = (10_000..).map(from).find(|it| {
            book.note(&Notice::NotSent(*it, ErrorKind::PermissionDenied.into()), second(0));
            book.places.len() == MAX_PLACES
        });
        book.note(&Notice::NotSent(full.unwrap(), ErrorKind::PermissionDenied.into()), second(1));
        assert_eq!(book.places.len(), MAX_PLACES);
    }

    #[test]
    fn a_stranger_that_became_a_peer_is_none_any_more() {
        let mut book = Book::default();
        book.note(&Notice::Stranger(PublicKey([7; 32]), from(1)), second(1));
        let peers = vec![config::wg::stranger(PublicKey([7; 32]))];
        let state = DeviceState { peers, ..DeviceState::default() };
        assert_eq!(book.told(&state, |time| time), Troubles::default());
        assert_eq!(refused(&book).len(), 1);
    }

    #[test]
    fn what_is_said_of_a_place_holds_until_calls_pass_without_it_or_one_is_answered() {
        let key = PublicKey([7; 32]);
        let mut peer = config::wg::stranger(key);
        peer.endpoint = Some(from(1));
        let mut state = DeviceState { peers: vec![peer], ..DeviceState::default() };
        state.listen_port = 9;
        let mut book = Book::default();
        let obstacle = |book: &Book, state: &DeviceState| {
            Some(book.told(state, |it| it).peers.get(&key)?.unreachable.as_ref()?.obstacle)
        };
        let say = |book: &mut Book, port, obstacle| {
            let place = Place { obstacle, by: Some(from(1).ip()), last: second(100) };
            book.remember((from(1).ip(), 51820, Some(port)), place);
        };
        say(&mut book, 8, Obstacle::Host);
        assert_eq!(obstacle(&book, &state), None, "of another program");
        say(&mut book, 9, Obstacle::Port);
        say(&mut book, 8, Obstacle::Host);
        assert_eq!(obstacle(&book, &state), Some(Obstacle::Port), "another program after ours");
        for (time, holds) in [(105, true), (114, true), (115, false)] {
            book.calls.insert(key, Call { last: second(time), goes_on: true });
            assert_eq!(obstacle(&book, &state).is_some(), holds, "at {time} s");
        }
        book.note(&Notice::Handshake(key, Progress::Completed), second(120));
        state.peers[0].last_handshake = Some(second(120));
        assert_eq!(obstacle(&book, &state), None);
        book.note(&Notice::NotSent(from(1), ErrorKind::PermissionDenied.into()), second(130));
        assert_eq!(obstacle(&book, &state), Some(Obstacle::Prohibited));
        let place = Place { obstacle: Obstacle::Port, by: Some(from(1).ip()), last: second(129) };
        book.remember((from(1).ip(), 51820, Some(9)), place);
        assert_eq!(obstacle(&book, &state), Some(Obstacle::Port), "of the call that was not sent");
    }

    #[test]
    fn what_is_fetched_at_a_handshake_was_said_before_it() {
        let key = PublicKey([7; 32]);
        let mut peer = config::wg::stranger(key);
        peer.endpoint = Some(from(1));
        // Told of a moment later than it was.
        peer.last_handshake = Some(second(104));
        let state = DeviceState { peers: vec![peer], listen_port: 9, ..DeviceState::default() };
        let (by, to) = (from(1).ip(), (from(1).ip(), 51820));
        let report = Report { by, port: 9, to, length: 148, reason: Reason::Port };
        let mut book = Book::default();
        book.calls.insert(key, Call { last: second(100), goes_on: true });
        for (fetched, said) in [(100, None), (105, None), (109, Some(second(105)))] {
            let reports = if fetched == 100 { vec![] } else { vec![report] };
            book.hear(reports, second(fetched));
            book.note(&Notice::Handshake(key, Progress::Completed), second(fetched));
            let told = book.told(&state, |it| it).peers.remove(&key);
            assert_eq!(told.and_then(|it| it.unreachable).map(|it| it.last), said, "{fetched} s");
        }
    }

    #[test]
    fn failures_of_a_peer_are_counted_for_the_latest_reason() {
        let key = PublicKey([7; 32]);
        let mut peer = config::wg::stranger(key);
        peer.last_discard = Some(Discard::OldTimestamp);
        let state = DeviceState { peers: vec![peer], ..DeviceState::default() };
        let mut book = Book::default();
        for (n, reason) in
            [Discard::TooSoon, Discard::OldTimestamp, Discard::OldTimestamp].into_iter().enumerate()
        {
            let n = n as u32;
            book.note(&Notice::Handshake(key, failed(n, reason)), second(n.into()));
        }
        let failed = Failed { from: from(2), count: 2, last: second(2) };
        assert_eq!(book.told(&state, |it| it).peers[&key].failed, Some(failed));
        book.note(&Notice::Handshake(key, Progress::Completed), second(9));
        assert_eq!(book.told(&state, |it| it), Troubles::default());
    }

    #[test]
    fn a_peer_is_in_two_places_if_it_goes_back_again_and_again() {
        let key = PublicKey([7; 32]);
        let peers = vec![config::wg::stranger(key)];
        let state = DeviceState { peers, ..DeviceState::default() };
        // Where it comes from, when, and how often it has gone back by then, if that is told.
        for (what, steps, told) in [
            ("at home", &[(1, 0), (1, 9), (1, 20)][..], None),
            ("travels", &[(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6)], None),
            ("there and back", &[(1, 0), (2, 1), (1, 2), (2, 3), (1, 4)], None),
            ("in both", &[(1, 0), (2, 1), (1, 2), (2, 3), (1, 4), (2, 5)], Some((from(1), 4))),
            ("each day", &[(1, 0), (2, 200), (1, 400), (2, 600), (1, 800), (2, 1000)], None),
            ("moved on", &[(1, 0), (2, 1), (1, 2), (2, 3), (1, 4), (2, 5), (3, 6)], None),
        ] {
            let mut book = Book::default();
            for (place, time) in steps {
                book.note(&Notice::Roamed(key, from(*place)), second(*time));
            }
            let turns = book.told(&state, |it| it).peers.remove(&key).and_then(|it| it.turns);
            assert_eq!(turns.map(|it| (it.other, it.count)), told, "{what}");
        }
    }
}
