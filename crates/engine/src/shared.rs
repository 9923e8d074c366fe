//! What the control thread publishes and the workers read.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use proto::limits::MAX_STAGED;
use proto::{
    AllowedIps, Endpoint, Keypair, Now, PeerId, PublicKey, Report, SessionIndex, Time, Traffic,
    Window,
};
use sys::poll::{Epoll, Event};
use sys::tun::Tun;
use sys::udp::{Family, Group};

use crate::backlog::Backlog;
use crate::mailbox::{Letter, Mailbox};
use crate::offload::Offloads;
use crate::packet::FlowKey;

/// Everything that more than one thread touches.
pub(crate) struct Shared {
    pub clock: Clock,
    pub offloads: Offloads,
    /// Replaced as a whole whenever prefixes change.
    pub routes: ArcSwap<Routes>,
    /// Open exactly while the interface is up.
    pub sockets: ArcSwap<Sockets>,
    pub sessions: Sessions,
    /// The interface's MTU, which bounds padding.
    pub mtu: AtomicUsize,
    pub control: Mailbox,
    /// A letter that says so waits, or is about to.
    pub paths_changed: AtomicBool,
    pub workers: Vec<Arc<Post>>,
    /// Where the first worker waits in the place of all, with everything that is in theirs, as long as
    /// it carries packets alone.
    pub alone: ArcSwapOption<Epoll>,
    /// Set once all workers carry packets.
    pub widened: OnceLock<()>,
    /// Signalled when the tunnel ends, for ever.
    pub ended: Event,
}

/// What one worker has, and where it waits.
pub(crate) struct Post {
    /// Which of the data sockets is its own.
    pub number: usize,
    pub tun: Tun,
    /// Of whoever reads from the TUN.
    pub backlog: Mutex<Backlog>,
    /// Where its worker waits, if not alone.
    pub epoll: Epoll,
}

/// What an event of epoll is about.
pub(crate) mod token {
    use sys::udp::Family;

    pub const V4: u64 = Family::V4 as u64;
    pub const V6: u64 = Family::V6 as u64;
    pub const TUN: u64 = 2;
    pub const END: u64 = 3;
    pub const MAILBOX: u64 = 4;
    pub const TIMER: u64 = 5;

    /// Added once for each number of the post.
    pub const POST: u64 = 8;
}

impl Shared {
    pub fn report(&self, peer: PeerId, report: Report) {
        self.control.post(Letter::Report(peer, report));
    }

    /// Has whoever carries the packets of `post` wait for `source`, too; closed, it leaves by itself.
    ///
    /// # Errors
    /// Those of [`Epoll::add`].
    pub fn watch(&self, post: &Post, source: impl AsFd, token: u64) -> io::Result<()> {
        let token = post.number as u64 * token::POST + token;
        if let Some(alone) = &*self.alone.load() {
            alone.add(&source, token)?;
        }
        post.epoll.add(source, token)
    }

    /// Where to write packets of one flow; to `own` if there is no other. The kernel answers into the
    /// queue that it got a flow's packets from: written by flows, not by sessions, what goes to a single
    /// peer is work for all.
    pub fn queue<'a, 'p>(
        &'a self,
        own: &'a Tun,
        mut packets: impl Iterator<Item = &'p [u8]>,
    ) -> &'a Tun {
        if self.workers.len() == 1 {
            return own;
        }
        let chosen = packets.next().and_then(FlowKey::of).and_then(|key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            self.workers.get(hasher.finish() as usize % self.workers.len())
        });
        chosen.map_or(own, |post| &post.tun)
    }

    /// Ends the tunnel: who asks it something is not answered any more, and every worker stops.
    pub fn end(&self) {
        self.control.close();
        self.ended.signal();
        let _ = self.widened.set(());
    }
}

/// The machine's clocks; sessions may be made to age `scale` times as fast, for tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub scale: u32,
}

impl Clock {
    pub fn time(self) -> Time {
        Time::from_start(sys::clock::boottime() * self.scale)
    }

    pub fn now(self) -> Now {
        Now { time: self.time(), wall: sys::clock::realtime() }
    }

    /// What the machine's own clock says at `time`, rounded up.
    pub fn machine(self, time: Time) -> Duration {
        time.since_start() / self.scale + Duration::from_nanos(1)
    }
}

/// Who has which addresses.
pub(crate) type Routes = AllowedIps<Arc<Peer>>;

/// A peer as the data plane knows it.
pub(crate) struct Peer {
    pub id: PeerId,
    pub key: PublicKey,
    pub traffic: Arc<Traffic>,
    /// The session to send on.
    pub sending: ArcSwapOption<Keypair>,
    pub endpoint: ArcSwapOption<Endpoint>,
    staged: Mutex<VecDeque<Box<[u8]>>>,
    /// The index of the session that trains are not to be used in, since one was refused; or no index.
    plain: AtomicU64,
    /// A letter about the endpoint is on its way to the control thread.
    roamed: AtomicBool,
}

impl Peer {
    pub fn new(id: PeerId, key: PublicKey, traffic: Arc<Traffic>) -> Self {
        Self {
            id,
            key,
            traffic,
            sending: ArcSwapOption::empty(),
            endpoint: ArcSwapOption::empty(),
            staged: Mutex::default(),
            plain: AtomicU64::new(u64::MAX),
            roamed: AtomicBool::new(false),
        }
    }

    /// The session to send on at `now`.
    pub fn session(&self, now: Time) -> Option<Arc<Keypair>> {
        self.sending.load_full().filter(|keypair| keypair.can_send(now))
    }

    /// Packets that wait for a session; whoever publishes the session empties it first.
    pub fn staged(&self) -> MutexGuard<'_, VecDeque<Box<[u8]>>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a packet until there is a session; the oldest has to go when there are too many. Returns
    /// the session instead if there is one by now.
    pub fn stage(&self, now: Time, packet: impl FnOnce() -> Box<[u8]>) -> Option<Arc<Keypair>> {
        let mut staged = self.staged();
        let session = self.session(now);
        if session.is_none() {
            if staged.len() >= MAX_STAGED {
                staged.pop_front();
            }
            staged.push_back(packet());
        }
        session
    }

    /// Lets workers send on `keypair`, unless packets wait: the control thread sends these first, so
    /// that nothing overtakes. True if none did.
    pub fn send_on_unless_staged(&self, keypair: &Arc<Keypair>) -> bool {
        let staged = self.staged();
        if staged.is_empty() {
            self.sending.store(Some(Arc::clone(keypair)));
        }
        staged.is_empty()
    }

    pub fn takes_trains(&self, session: &Keypair) -> bool {
        self.plain.load(Ordering::Relaxed) != session.remote_index.0.into()
    }

    /// Does without trains until there is another session.
    pub fn refuse_trains(&self, session: &Keypair) {
        self.plain.store(session.remote_index.0.into(), Ordering::Relaxed);
    }

    /// Makes `endpoint` the place to send to.
    pub fn set_endpoint(&self, endpoint: Endpoint) {
        self.endpoint.store(Some(Arc::new(endpoint)));
    }

    /// Follows the peer to where an authentic message came from, and has the device told.
    pub fn roam(&self, shared: &Shared, to: Endpoint) {
        if self.endpoint.load().as_deref() != Some(&to) {
            self.set_endpoint(to);
            self.tell_roamed(shared);
        }
    }

    /// Lets the routing table choose where messages to `stale` leave from, unless the peer is
    /// elsewhere by now.
    pub fn forget_source(&self, shared: &Shared, stale: &Endpoint) {
        let endpoint = self.endpoint.load();
        if endpoint.as_deref() == Some(stale) {
            let fresh = Some(Arc::new(Endpoint::new(stale.remote)));
            self.endpoint.compare_and_swap(&endpoint, fresh);
            self.tell_roamed(shared);
        }
    }

    /// One letter serves until it is read: its reader looks at the endpoint itself.
    fn tell_roamed(&self, shared: &Shared) {
        if !self.roamed.swap(true, Ordering::AcqRel) {
            shared.control.post(Letter::Roamed(self.id));
        }
    }

    /// Where the peer has roamed to. If it roams again, that will be told.
    pub fn roamed(&self) -> Option<Endpoint> {
        // Not only written: the endpoint of whoever had set it is to be seen.
        self.roamed.swap(false, Ordering::AcqRel);
        self.endpoint.load().as_deref().copied()
    }
}

/// A session as a receiver knows it.
pub(crate) struct Session {
    pub keypair: Arc<Keypair>,
    pub peer: Arc<Peer>,
    pub window: Mutex<Window>,
}

/// Sessions by the index that their messages carry.
#[derive(Default)]
pub(crate) struct Sessions(RwLock<HashMap<SessionIndex, Arc<Session>>>);

impl Sessions {
    pub fn find(&self, index: SessionIndex) -> Option<Arc<Session>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()
    }

    pub fn add(&self, peer: Arc<Peer>, keypair: Arc<Keypair>) {
        let session = Arc::new(Session { peer, window: Mutex::default(), keypair });
        let mut sessions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session.keypair.local_index, session);
    }

    pub fn remove(&self, index: SessionIndex) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&index);
    }
}

/// The sockets of both families, IPv4 first, on one port; none while they are closed.
#[derive(Default)]
pub(crate) struct Sockets(pub [Option<Group>; 2]);

impl Sockets {
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.0.iter().flatten()
    }

    /// The port that all of them have.
    pub fn port(&self) -> Option<u16> {
        self.groups().next()?.port().ok()
    }

    pub fn group(&self, family: Family) -> Option<&Group> {
        self.0.get(family as usize)?.as_ref()
    }
}
