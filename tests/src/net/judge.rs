//! What must hold after every step, checked from outside.
//!
//! The judge sees the datagrams, who truly made them, and what a machine shows. It keeps its own
//! account of sessions, debts and endpoints, and stops the run at the first contradiction. The
//! invariants are those of the security goals (I1–I14); their names stand beside the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::limits::{KEEPALIVE_TIMEOUT, MAX_STAGED, REJECT_AFTER_TIME, REKEY_TIMEOUT};
use proto::{DeviceState, Discard, PeerId, Prefix, PublicKey, Time, Timer};

use super::node::{Delivery, Lives, Node};
use super::packet::{claimed_length, source};
use super::{Parcel, What};

/// The most that chance adds to T1 and T3.
const JITTER: Duration = Duration::from_millis(333);
/// Until an initiation that comes too soon is sent: chance adds more with every attempt.
const LONGEST_WAIT: Duration = REKEY_TIMEOUT.saturating_add(JITTER.saturating_mul(20));
/// A series of initiations, and the session before it that may have led to it.
const SERIES: Duration = Duration::from_secs(20 * 5 + 7 + 25);
const ERASE_KEYS: Duration = Duration::from_secs(540);
/// How far back a counter may lie behind the greatest.
const WINDOW: u64 = 8128;
/// The device stays under load this long after it was.
const LOAD_LINGERS: Duration = Duration::from_secs(1);
const HANDSHAKE_TOS: u8 = 0x88;

/// The judge's account of one network.
pub struct Judge {
    machines: Vec<Machine>,
    ephemerals: BTreeSet<[u8; 32]>,
    /// Machine and number of every packet that was sealed.
    sealed: BTreeSet<(usize, u64)>,
}

/// What is known of one machine.
#[derive(Default)]
struct Machine {
    lives: Lives,
    sessions: Vec<Session>,
    by_local: BTreeMap<u32, usize>,
    by_remote: BTreeMap<u32, usize>,
    indices: BTreeSet<u32>,
    /// Serial numbers of the responses, cookies and data messages that were accepted.
    accepted: BTreeSet<u64>,
    peers: BTreeMap<PublicKey, Account>,
}

/// One end of a session.
struct Session {
    local: u32,
    own: PublicKey,
    peer: PublicKey,
    born: Time,
    /// The other side has proved that it has the keys, too.
    confirmed: bool,
    /// It was taken back.
    over: bool,
    next_counter: u64,
    seen: BTreeSet<u64>,
}

/// What a machine and one of its peers owe each other.
struct Account {
    id: PeerId,
    endpoint: Option<SocketAddr>,
    /// Initiations that were accepted.
    initiations: BTreeSet<u64>,
    unanswered: Option<Time>,
    owed: Option<Time>,
    more: bool,
    /// When a keepalive may be sent, but need not be.
    may_send: Option<Time>,
    /// Anything authentic, either way.
    last_activity: Time,
    /// What limits the next initiation.
    last_handshake: Option<Time>,
    /// The same, but a new key or an interface that went down does not make it forgotten.
    last_try: Option<Time>,
    last_response: Option<Time>,
    /// What can be the reason for an initiation.
    last_cause: Time,
    last_session: Option<Time>,
}

/// What a machine shows of itself, apart from notes about what was dropped.
#[derive(PartialEq)]
pub struct Look {
    state: DeviceState,
    deadline: Option<(Time, Timer)>,
    sessions: Vec<u32>,
    data_plane: Vec<(PeerId, Option<proto::Endpoint>, usize, Option<u32>)>,
}

/// What `node` shows now.
pub fn look(node: &Node) -> Look {
    let mut state = node.device.state();
    for peer in &mut state.peers {
        peer.last_discard = None;
    }
    let data_plane = node.peers.iter().map(|(id, peer)| {
        let sending = peer.sending.as_ref().map(|keypair| keypair.local_index.0);
        (*id, peer.endpoint, peer.staged.len(), sending)
    });
    Look {
        state,
        deadline: node.device.poll_timeout(),
        sessions: node.sessions.keys().map(|index| index.0).collect(),
        data_plane: data_plane.collect(),
    }
}

impl Account {
    fn new(id: PeerId, now: Time) -> Self {
        Self {
            id,
            endpoint: None,
            initiations: BTreeSet::new(),
            unanswered: None,
            owed: None,
            more: false,
            may_send: None,
            last_activity: now,
            last_handshake: None,
            last_try: None,
            last_response: None,
            last_cause: now,
            last_session: None,
        }
    }

    /// The account of a keepalive that is due: paid now, and perhaps another one owed from now on.
    fn settle_debt(&mut self, now: Time) {
        self.owed = std::mem::take(&mut self.more).then_some(now);
    }

    fn is_due(&self, now: Time) -> bool {
        self.owed.is_some_and(|since| now.since(since) >= KEEPALIVE_TIMEOUT)
    }

    /// A machine sends `what` only for a reason, and not too often.
    fn check_reason(&self, node: &Node, peer: PublicKey, what: What) {
        let now = node.now.time;
        let persistent = || {
            let shown = node.shown(peer);
            shown.is_some_and(|peer| peer.persistent_keepalive != 0)
        };
        match what {
            What::Initiation => {
                let last = self.last_handshake;
                let pause = last.map(|last| now.since(last));
                assert!(
                    pause.is_none_or(|pause| pause >= REKEY_TIMEOUT),
                    "I6: two handshake messages within {pause:?}"
                );
                let wish = node.peer(peer).and_then(|peer| peer.last_wish);
                let cause = self.last_cause.max(wish.unwrap_or_default());
                let caused = now.since(cause) < SERIES || persistent();
                assert!(caused, "I6, I12: an initiation for nothing");
            }
            What::Keepalive => {
                let confirms = self.last_response == Some(now);
                let due = self.is_due(now) || self.may_send.is_some_and(|at| at <= now);
                let caused = confirms || due || persistent();
                assert!(caused, "I12: a keepalive for nothing");
            }
            What::Response | What::CookieReply | What::Packet => {}
        }
    }

    /// Something authentic was sent.
    fn sent(&mut self, now: Time, what: What) {
        self.last_activity = now;
        let pays = matches!(what, What::Keepalive | What::Initiation);
        let late = self.owed.is_some_and(|since| now.since(since) > KEEPALIVE_TIMEOUT);
        let maybe = self.may_send.take().is_some_and(|at| at <= now) && self.owed.is_some();
        if pays && (late || maybe) {
            // After a sleep several timers are due: whichever comes first pays, with or without T2.
            (self.owed, self.more) = (None, false);
            self.may_send = Some(now + KEEPALIVE_TIMEOUT);
        } else if pays && self.is_due(now) {
            self.settle_debt(now);
        } else {
            (self.owed, self.more) = (None, false);
        }
        match what {
            What::Initiation | What::Response => {
                (self.last_handshake, self.last_try) = (Some(now), Some(now));
            }
            What::Packet => {
                self.last_cause = now;
                self.unanswered.get_or_insert(now);
            }
            What::Keepalive | What::CookieReply => {}
        }
        if what == What::Response {
            self.last_session = Some(now);
        }
    }

    /// Something authentic was received.
    fn received(&mut self, now: Time, what: What) {
        self.last_activity = now;
        self.unanswered = None;
        if matches!(what, What::Packet | What::Keepalive) {
            // A keepalive, too: an initiator renews a session on which it receives anything late.
            self.last_cause = now;
        }
        if what == What::Packet {
            self.more = self.owed.is_some();
            self.owed.get_or_insert(now);
        }
    }
}

impl Judge {
    /// Judges a network of `count` machines.
    pub fn new(count: usize) -> Self {
        Self {
            machines: std::iter::repeat_with(Machine::default).take(count).collect(),
            ephemerals: BTreeSet::new(),
            sealed: BTreeSet::new(),
        }
    }

    /// `node` was configured, moved, restarted, or its clocks were set.
    pub fn begin_again(&mut self, node: &Node) {
        let machine = &mut self.machines[node.number];
        let lives = std::mem::replace(&mut machine.lives, node.lives());
        if lives.restarts != machine.lives.restarts {
            machine.peers.clear();
        }
        for account in machine.peers.values_mut() {
            if lives.downs != machine.lives.downs {
                (account.unanswered, account.owed, account.more) = (None, None, false);
            }
            if lives != machine.lives {
                account.last_handshake = None;
            }
        }
        machine.peers.retain(|key, account| {
            node.peers.get(&account.id).is_some_and(|peer| peer.key == *key)
        });
        for (id, peer) in &node.peers {
            let now = node.now.time;
            let account = machine.peers.entry(peer.key).or_insert_with(|| Account::new(*id, now));
            account.endpoint = peer.endpoint.map(|endpoint| endpoint.remote);
            account.last_activity = now;
            account.last_cause = now;
        }
        machine.forget_sessions(node);
    }

    /// `node` has sent `outgoing`.
    pub fn sent(&mut self, node: &Node, parcel: &Parcel) {
        let now = node.now.time;
        assert!(node.is_up(), "I12: sent while down");
        let what = parcel.what().expect("I8: sent something malformed");
        let machine = &mut self.machines[node.number];
        let handshake = matches!(what, What::Initiation | What::Response);
        if what != What::Packet {
            assert_eq!(parcel.tos, if handshake { HANDSHAKE_TOS } else { 0 });
        }
        let maker = parcel.maker.as_ref().expect("a machine made it");
        let Some(peer) = maker.peer else {
            assert_eq!(what, What::CookieReply, "only cookie replies are nobody's");
            return;
        };
        if handshake {
            let ephemeral =
                parcel.bytes[if what == What::Initiation { 8 } else { 12 }..].first_chunk();
            assert!(
                self.ephemerals.insert(*ephemeral.expect("32 bytes")),
                "I1: ephemeral used twice"
            );
            assert!(machine.indices.insert(parcel.word(1)), "an index used twice");
        }
        match what {
            What::Response => {
                let session = Session::new(parcel.word(1), node.key, peer, now, false);
                machine.add(session, parcel.word(2));
            }
            What::Keepalive | What::Packet => machine.seal(node, peer, parcel),
            What::Initiation | What::CookieReply => {}
        }
        if let Some((number, _)) = &maker.packet {
            let once = self.sealed.insert((node.number, *number));
            assert!(once, "I2: a packet sealed twice");
        }
        let account = machine.peers.get_mut(&peer).expect("sent to a peer that is gone");
        account.check_reason(node, peer, what);
        account.sent(now, what);
    }

    /// `node` was handed `parcel`; `before` is what it showed before that. Its answers have not been
    /// fetched yet.
    pub fn received(
        &mut self,
        node: &Node,
        parcel: &Parcel,
        outcome: Result<(), Discard>,
        before: &Look,
        delivered: &[Delivery],
    ) {
        let authentic = matches!(outcome, Ok(()) | Err(Discard::NotAllowed | Discard::BadPacket));
        let unchanged = !authentic || parcel.what() == Some(What::CookieReply);
        if unchanged {
            assert!(look(node) == *before, "I7, I13: {outcome:?} left a trace");
            assert!(delivered.is_empty(), "I2: {outcome:?} delivered something");
        }
        let machine = &mut self.machines[node.number];
        if !authentic {
            machine.refused(node, parcel, outcome);
            return;
        }
        let what = parcel.what().expect("accepted, so well-formed");
        let maker = parcel.maker.as_ref().expect("I8: a forgery was accepted");
        let fresh = match (what, machine.peers.get_mut(&maker.key)) {
            (What::Initiation, Some(account)) => account.initiations.insert(maker.serial),
            _ => machine.accepted.insert(maker.serial),
        };
        assert!(fresh, "I2, I13: {what:?} accepted twice");
        if what == What::CookieReply {
            assert!(node.outbox.is_empty(), "I8: a cookie reply was answered");
            return;
        }
        let now = node.now.time;
        match what {
            What::Response => machine
                .add(Session::new(parcel.word(2), node.key, maker.key, now, true), parcel.word(1)),
            What::Packet | What::Keepalive => machine.open(node, parcel),
            What::Initiation => {
                assert_eq!(maker.peer, Some(node.key), "an initiation to someone else");
                let answer = node.outbox.first().expect("an initiation is answered");
                assert_eq!(
                    answer.to, parcel.from,
                    "a response goes where the initiation came from"
                );
            }
            What::CookieReply => {}
        }
        let account = machine.peers.get_mut(&maker.key).expect("accepted from a peer that is gone");
        account.received(now, what);
        account.endpoint = Some(parcel.from);
        if what == What::Response {
            account.last_response = Some(now);
            account.last_session = Some(now);
        }
        judge_delivery(node, parcel, outcome, delivered);
    }

    /// Checks `node` between two steps.
    pub fn inspect(&mut self, node: &Node) {
        let now = node.now.time;
        let machine = &mut self.machines[node.number];
        machine.forget_sessions(node);
        let deadline = node.device.poll_timeout().map(|(deadline, _)| deadline);
        if !node.is_up() {
            assert_eq!(deadline, None, "I12: a timer runs while down");
            assert!(node.sessions.is_empty(), "I4: a session outlives its interface");
            return;
        }
        if deadline.is_some_and(|deadline| deadline <= now) {
            return;
        }
        let state = node.device.state();
        for shown in &state.peers {
            let key = shown.public_key;
            let peer = node.peer(key).expect("I9: the data plane lacks a peer");
            let account = machine.peers.get_mut(&key).expect("announced before");
            let endpoint = peer.endpoint.map(|endpoint| endpoint.remote);
            assert_eq!(endpoint, shown.endpoint, "the data plane sends elsewhere");
            assert_eq!(endpoint, account.endpoint, "I7: an endpoint moved by itself");
            assert!(peer.staged.len() <= MAX_STAGED, "I9: too much is staged");
            let sessions = node.sessions.values();
            let sessions = sessions.filter(|session| session.peer == account.id).count();
            assert!(sessions <= 3, "I9: {sessions} sessions with one peer");
            let last = account.last_session.unwrap_or_default();
            assert!(sessions == 0 || now.since(last) < ERASE_KEYS, "I4: keys outlive 540 s");
            let able = endpoint.is_some() && state.private_key.is_some();
            let usable = node.sending(key).is_some();
            if peer.gave_up == Some(now) {
                (account.owed, account.more) = (None, false);
            }
            account.check_debts(node, usable, able);
            if !able {
                continue;
            }
            let soon = |deadline: Time| deadline.since(now) <= LONGEST_WAIT;
            if !peer.staged.is_empty() {
                assert!(!usable, "packets wait in spite of a session");
                assert!(
                    deadline.is_some_and(soon),
                    "I5: packets of {} to {key:?} wait, and nobody tries",
                    node.number
                );
            }
            let idle = now.since(account.last_activity);
            let interval = Duration::from_secs(shown.persistent_keepalive.into());
            assert!(
                interval.is_zero() || idle <= interval + LONGEST_WAIT,
                "machine {} sent nothing to {key:?} for {idle:?} of {interval:?}",
                node.number
            );
        }
    }
}

impl Account {
    /// What should have been sent by `now` has been.
    fn check_debts(&mut self, node: &Node, usable: bool, able: bool) {
        let now = node.now.time;
        if self.is_due(now) {
            assert!(!usable, "T2: {} owes since {:?}", node.number, self.owed);
            self.settle_debt(now);
        }
        let patience = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + JITTER;
        if let Some(since) = self.unanswered.filter(|since| now.since(*since) > patience) {
            let tried = self.last_try.is_some_and(|last| last >= since + KEEPALIVE_TIMEOUT);
            assert!(tried || !able, "T3: {} since {since:?}, and nobody minds", node.number);
            self.unanswered = None;
        }
    }
}

impl Session {
    fn new(local: u32, own: PublicKey, peer: PublicKey, born: Time, confirmed: bool) -> Self {
        Self {
            local,
            own,
            peer,
            born,
            confirmed,
            over: false,
            next_counter: 0,
            seen: BTreeSet::new(),
        }
    }
}

impl Machine {
    fn add(&mut self, session: Session, remote: u32) {
        self.by_local.insert(session.local, self.sessions.len());
        self.by_remote.insert(remote, self.sessions.len());
        self.sessions.push(session);
    }

    /// Sessions that the machine has taken back must not be used again.
    fn forget_sessions(&mut self, node: &Node) {
        for session in self.sessions.iter_mut().filter(|session| !session.over) {
            let index = proto::SessionIndex(session.local);
            session.over = !node.sessions.contains_key(&index);
        }
    }

    /// A data message has left.
    fn seal(&mut self, node: &Node, peer: PublicKey, parcel: &Parcel) {
        let at = *self.by_remote.get(&parcel.word(1)).expect("sealed for nobody's session");
        let session = &mut self.sessions[at];
        assert_eq!(session.peer, peer, "sealed for another peer");
        assert_eq!(session.own, node.key, "sealed with a key that was changed");
        assert!(!session.over, "I4: sealed on a session that was taken back");
        assert!(session.confirmed, "I10: a responder spoke first");
        let age = node.now.time.since(session.born);
        assert!(age < REJECT_AFTER_TIME, "I4: sealed at the age of {age:?}");
        let counter = counter(parcel);
        assert!(counter >= session.next_counter, "I1: counter {counter} sealed twice");
        session.next_counter = counter + 1;
    }

    /// A data message was accepted.
    fn open(&mut self, node: &Node, parcel: &Parcel) {
        let at = *self.by_local.get(&parcel.word(1)).expect("opened on nobody's session");
        let session = &mut self.sessions[at];
        let maker = parcel.maker.as_ref();
        assert!(
            maker.is_some_and(|maker| maker.peer == Some(session.own) && maker.key == session.peer),
            "opened what is someone else's"
        );
        assert!(!session.over, "I4: opened on a session that was taken back");
        let age = node.now.time.since(session.born);
        assert!(age < REJECT_AFTER_TIME, "I4: opened at the age of {age:?}");
        let counter = counter(parcel);
        let greatest = session.seen.last().copied().unwrap_or(0);
        assert!(greatest.saturating_sub(counter) <= WINDOW, "behind the window");
        assert!(session.seen.insert(counter), "I2: counter {counter} opened twice");
        session.confirmed = true;
    }

    /// Nothing came of a datagram: rightly, and in silence.
    fn refused(&self, node: &Node, parcel: &Parcel, outcome: Result<(), Discard>) {
        match (outcome, &node.outbox[..]) {
            (Err(Discard::CookieRequired), [reply]) => {
                let load = node.last_load.map(|last| node.now.time.since(last));
                assert!(load.is_some_and(|age| age < LOAD_LINGERS), "a cookie without need");
                assert_eq!(reply.to, parcel.from, "I8: a cookie for someone else");
                assert!(reply.bytes.len() < parcel.bytes.len(), "I8: a longer answer");
            }
            (_, answers) => assert!(answers.is_empty(), "I8: {outcome:?} was answered"),
        }
        let Some(maker) = &parcel.maker else { return };
        if !matches!(parcel.what(), Some(What::Packet | What::Keepalive)) || !node.is_up() {
            return;
        }
        let session = self.by_local.get(&parcel.word(1)).map(|at| &self.sessions[*at]);
        let good = session.is_some_and(|session| {
            let (counter, greatest) = (counter(parcel), session.seen.last().copied().unwrap_or(0));
            !session.over
                && session.peer == maker.key
                && node.now.time.since(session.born) < REJECT_AFTER_TIME
                && !session.seen.contains(&counter)
                && greatest.saturating_sub(counter) <= WINDOW
        });
        assert!(!good, "I14: {outcome:?} for a good message");
    }
}

fn counter(parcel: &Parcel) -> u64 {
    u64::from(parcel.word(2)) | u64::from(parcel.word(3)) << 32
}

/// What came out of the tunnel is what went in, and from whom it says.
fn judge_delivery(
    node: &Node,
    parcel: &Parcel,
    outcome: Result<(), Discard>,
    delivered: &[Delivery],
) {
    let sent = parcel.maker.as_ref().and_then(|maker| maker.packet.as_ref());
    let Some((maker, (_, packet))) = parcel.maker.as_ref().zip(sent) else {
        assert!(delivered.is_empty(), "I2: something came from nothing");
        return;
    };
    let owner = source(packet).and_then(|address| owner(&node.device.state(), address));
    let allowed = owner == Some(maker.key);
    match (outcome, delivered) {
        (Ok(()), [delivery]) => {
            assert!(allowed, "I3: a packet from an address of {owner:?}");
            assert_eq!(delivery.peer, maker.key, "I3: taken for another peer's");
            assert!(delivery.packet == *packet, "I2: delivered otherwise than sent");
        }
        (Err(Discard::BadPacket), []) => {
            let good = (20..=packet.len()).contains(&claimed_length(packet));
            assert!(!good, "a good packet was dropped");
        }
        (Err(Discard::NotAllowed), []) => assert!(!allowed, "a good packet was dropped"),
        (_, delivered) => panic!("{outcome:?} with {} packets", delivered.len()),
    }
}

/// Whose the longest prefix is that covers `address`, by the lists that a device shows.
fn owner(state: &DeviceState, address: IpAddr) -> Option<PublicKey> {
    let covers = |prefix: &Prefix| Prefix::new(address, prefix.length()) == Some(*prefix);
    let prefixes = state.peers.iter().flat_map(|peer| {
        let covering = peer.allowed_ips.iter().filter(move |prefix| covers(prefix));
        covering.map(|prefix| (prefix.length(), peer.public_key))
    });
    prefixes.max().map(|(_, key)| key)
}
