//! Where peers are: names are looked up for a moment, and then later.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use host::dns::Outside;
use host::resolve;
use proto::{PeerState, PublicKey};
use sys::clock::realtime;

use super::sync::Found;
use super::wish::Endpoint;

/// How long a tunnel that comes up waits for names.
const PATIENCE: Duration = Duration::from_secs(3);
/// Each question takes a thread and a descriptor, of which a process has a thousand.
pub const AT_ONCE: usize = 64;

impl Endpoint {
    /// Whether nobody has to be asked for it.
    pub fn is_address(&self) -> bool {
        self.host.contains(':') || self.host.parse::<IpAddr>().is_ok()
    }

    /// Asks, for as long as that takes, if anybody has to be asked.
    pub fn look_up(&self) -> Result<SocketAddr, resolve::Failure> {
        if let Ok(address) = self.text.parse() {
            return Ok(plain(address));
        }
        resolve::host(&self.host, &self.service).map(plain)
    }

    /// Asks for all addresses, and first of all those beside a tunnel that it may be the endpoint of:
    /// through one that waits for the answer comes none, for as long as that takes.
    pub fn ask(&self, outside: Option<&Outside>) -> Answer {
        let asked = realtime();
        let addresses = outside.and_then(|outside| self.look_up_outside(outside));
        let addresses = addresses.or_else(|| resolve::addresses(&self.host, &self.service).ok());
        let addresses = addresses.into_iter().flatten().map(plain).collect();
        Answer { addresses, asked }
    }

    fn look_up_outside(&self, outside: &Outside) -> Option<Vec<SocketAddr>> {
        let port = resolve::port(&self.service).ok()?;
        let addresses = outside.look_up(&self.host).ok()?.into_iter();
        Some(addresses.map(|address| SocketAddr::new(address, port)).collect())
    }
}

/// As an interface tells it: an address of IPv4 in one of IPv6 is the former.
pub fn plain(endpoint: SocketAddr) -> SocketAddr {
    match endpoint.ip().to_canonical() {
        IpAddr::V4(address) => SocketAddr::new(address.into(), endpoint.port()),
        IpAddr::V6(_) => endpoint,
    }
}

/// Whether it is on a link that is not there any more: one that comes back has another number.
pub fn has_lost_its_link(endpoint: SocketAddr) -> bool {
    let scope = match endpoint {
        SocketAddr::V6(endpoint) => endpoint.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    scope != 0 && resolve::interface_name(scope).is_none()
}

/// What came of the question where a peer is.
pub struct Answer {
    /// The first is to be tried first. None if nobody knows any.
    pub addresses: Vec<SocketAddr>,
    /// In time since the Unix epoch.
    asked: Duration,
}

/// By the peers that they are about.
pub type Answers = BTreeMap<PublicKey, Answer>;

impl Answer {
    /// Where to call the peer: where it does not answer, the next address of its name is tried, as
    /// where IPv6 leads nowhere. One that has answered since the question stays where it is.
    pub fn choice(&self, peer: Option<&PeerState>) -> Option<SocketAddr> {
        let answered = peer.and_then(|peer| peer.last_handshake);
        if answered.is_some_and(|answered| answered >= self.asked) {
            return None;
        }
        let is_there = |address: &SocketAddr| peer.and_then(|peer| peer.endpoint) == Some(*address);
        let next = self.addresses.iter().position(is_there).map_or(0, |tried| tried + 1);
        self.addresses.get(next).or(self.addresses.first()).copied()
    }
}

/// Looks all of them up, many at once, and tells what was found in time.
pub fn find<'a>(endpoints: impl IntoIterator<Item = (&'a PublicKey, &'a Endpoint)>) -> Found {
    let (addresses, names): (Vec<_>, Vec<_>) =
        endpoints.into_iter().partition(|(_, endpoint)| endpoint.is_address());
    let addresses = addresses.into_iter();
    let mut result: Found =
        addresses.filter_map(|(peer, it)| Some((*peer, it.look_up().ok()?))).collect();
    let names: Vec<_> = names.into_iter().map(|(peer, it)| (*peer, it.clone())).collect();
    let mut waiting = names.len();
    let (found, answers) = mpsc::channel();
    let askers = waiting.min(AT_ONCE);
    let names = Arc::new(Mutex::new(names.into_iter()));
    for _ in 0..askers {
        let (names, found) = (Arc::clone(&names), found.clone());
        let next = move || names.lock().unwrap_or_else(PoisonError::into_inner).next();
        // Where there is no thread left, those that there are ask for all.
        let _ = thread::Builder::new().name("resolve".into()).spawn(move || {
            while let Some((peer, endpoint)) = next() {
                if found.send((peer, endpoint.look_up())).is_err() {
                    break; // nobody waits any more
                }
            }
        });
    }
    drop(found);
    let start = Instant::now();
    while waiting > 0 {
        match answers.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
            Ok((peer, answer)) => result.extend(answer.ok().map(|address| (peer, address))),
            Err(_) => break,
        }
        waiting -= 1;
    }
    result
}
