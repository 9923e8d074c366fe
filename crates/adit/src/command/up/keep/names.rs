//! Names of endpoints that nobody knew when the tunnel came up, which are looked up until somebody
//! does, and of those that have fallen silent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use host::dns::Outside;
use proto::PublicKey;
use sys::poll::Event;

use crate::command::up::converge::Tunnel;
use crate::command::up::endpoints::{AT_ONCE, Answer, Answers};
use crate::command::up::pauses::Pauses;
use crate::command::up::wish::{Endpoint, Wish};

/// A question is two small datagrams, and the tunnel is of no use without the answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A route comes soon after an address.
const SOON: Duration = Duration::from_secs(1);

type Told = (PublicKey, String, Answer);

/// Names that are waited for. Its descriptor is readable when one may have been found.
pub struct Names {
    /// Whom to ask first.
    outside: Option<Outside>,
    waiting: BTreeMap<PublicKey, Endpoint>,
    found: BTreeMap<PublicKey, (String, Answer)>,
    /// Whom a question is about that is out, or waits until fewer are.
    asked: BTreeSet<PublicKey>,
    late: VecDeque<(PublicKey, Endpoint)>,
    /// How many are out.
    out: usize,
    pauses: Pauses,
    next: Option<Instant>,
    /// Each with the peer that it is about, and its endpoint as it is written.
    answers: (Sender<Told>, Receiver<Told>),
    bell: Arc<Event>,
}

impl Names {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            outside: None,
            waiting: BTreeMap::new(),
            found: BTreeMap::new(),
            asked: BTreeSet::new(),
            late: VecDeque::new(),
            out: 0,
            pauses: Pauses::up_to(LONGEST_PAUSE),
            next: None,
            answers: mpsc::channel(),
            bell: Arc::new(Event::new()?),
        })
    }

    /// What a tunnel waits for now is waited for, and nothing else.
    pub fn follow(&mut self, tunnel: &Tunnel) {
        self.outside = tunnel.outside();
        let waiting = tunnel.waiting();
        if waiting != self.waiting {
            self.pauses.restart();
            self.next = Some(Instant::now());
        }
        if waiting.is_empty() {
            self.next = None;
        }
        self.waiting = waiting;
    }

    /// The network has changed: somebody may know now.
    pub fn hurry(&mut self) {
        let soon = Instant::now() + SOON;
        if self.next.is_some_and(|next| next > soon) {
            self.next = Some(soon);
            self.pauses.restart();
        }
    }

    /// As they are written.
    pub fn waiting(&self) -> Vec<String> {
        self.waiting.values().map(|endpoint| endpoint.text.clone()).collect()
    }

    /// When to ask again, unless questions are out.
    pub fn next(&self) -> Option<Instant> {
        self.next.filter(|_| self.asked.is_empty())
    }

    /// Whether it is time to ask again.
    pub fn are_due(&self) -> bool {
        self.next().is_some_and(|next| next <= Instant::now())
    }

    /// Asks for all that are waited for, if it is time.
    pub fn ask_again(&mut self) {
        if !self.are_due() {
            return;
        }
        for (peer, endpoint) in self.waiting.clone() {
            self.ask(peer, endpoint);
        }
        self.next = Some(Instant::now() + self.pauses.take());
    }

    /// Asks for one, unless that is done already.
    pub fn ask(&mut self, peer: PublicKey, endpoint: Endpoint) {
        if self.asked.insert(peer) {
            self.late.push_back((peer, endpoint));
            self.ask_more();
        }
    }

    /// As many at once as may be.
    fn ask_more(&mut self) {
        while self.out < AT_ONCE
            && let Some((peer, endpoint)) = self.late.pop_front()
        {
            let (answers, bell) = (self.answers.0.clone(), Arc::clone(&self.bell));
            let outside = self.outside.clone();
            let asking = thread::Builder::new().name("resolve".into()).spawn(move || {
                let answer = endpoint.ask(outside.as_ref());
                // Nobody may wait for it any more.
                let _ = answers.send((peer, endpoint.text, answer));
                bell.signal();
            });
            match asking {
                Ok(_) => self.out += 1,
                Err(_) => drop(self.asked.remove(&peer)),
            }
        }
    }

    /// Takes what was answered; whether something was found.
    pub fn take(&mut self) -> bool {
        self.bell.drain();
        while let Ok((peer, text, answer)) = self.answers.1.try_recv() {
            self.out = self.out.saturating_sub(1);
            self.asked.remove(&peer);
            if !answer.addresses.is_empty() {
                self.found.insert(peer, (text, answer));
            }
        }
        self.ask_more();
        !self.found.is_empty()
    }

    /// What was found of the endpoints in a file.
    pub fn found(&mut self, wish: &Wish) -> Answers {
        let found = std::mem::take(&mut self.found).into_iter();
        let is_meant = |peer: &PublicKey, text: &str| {
            wish.endpoints.get(peer).is_some_and(|endpoint| endpoint.text == text)
        };
        found
            .filter(|(peer, (text, _))| is_meant(peer, text))
            .map(|(peer, (_, answer))| (peer, answer))
            .collect()
    }
}

impl AsFd for Names {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
