//! Where peers are: names are looked up for a moment, and then later.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use host::dns::Outside;
use host::resolve;
use proto::PublicKey;

use super::sync::Found;
use super::wish::Endpoint;

/// How long a tunnel that comes up waits for names.
const PATIENCE: Duration = Duration::from_secs(3);

impl Endpoint {
    /// Whether nobody has to be asked for it.
    pub fn is_address(&self) -> bool {
        self.host.contains(':') || self.host.parse::<IpAddr>().is_ok()
    }

    /// Asks, for as long as that takes.
    pub fn look_up(&self) -> Result<SocketAddr, resolve::Failure> {
        resolve::host(&self.host, &self.service)
    }

    /// Asks beside a tunnel that it may be the endpoint of.
    pub fn look_up_outside(&self, outside: &Outside) -> Option<SocketAddr> {
        let port = resolve::port(&self.service).ok()?;
        let address = outside.look_up(&self.host).ok()?.into_iter().next()?;
        Some(SocketAddr::new(address, port))
    }
}

/// Looks all of them up at once, and tells what was found in time.
pub fn find<'a>(endpoints: impl IntoIterator<Item = (&'a PublicKey, &'a Endpoint)>) -> Found {
    let (found, answers) = mpsc::channel();
    let mut result = Found::new();
    let mut waiting = 0_usize;
    for (peer, endpoint) in endpoints {
        if endpoint.is_address() {
            result.extend(endpoint.look_up().ok().map(|address| (*peer, address)));
            continue;
        }
        let (peer, endpoint, found) = (*peer, endpoint.clone(), found.clone());
        let asking = thread::Builder::new().name("resolve".into()).spawn(move || {
            // Nobody may wait for it any more.
            let _ = found.send((peer, endpoint.look_up()));
        });
        waiting += usize::from(asking.is_ok());
    }
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
