//! Traffic between two machines: generators on threads of this process, as cheap as can be, since
//! they share the processors with what is measured.

mod quic;
mod tcp;
mod udp;

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a generator may take to notice that it shall stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Traffic that flows until it is dropped.
#[derive(Default)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    streams: Vec<TcpStream>,
}

/// What the generators tell each other and the owner of the load.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    bytes: AtomicU64,
}

/// What has gone through so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Datagrams received.
    pub received: u64,
    /// Payload bytes received, of datagrams or streams.
    pub bytes: u64,
}

impl Load {
    pub fn count(&self) -> Count {
        Count {
            sent: self.shared.sent.load(Ordering::Relaxed),
            received: self.shared.received.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
        }
    }

    /// Runs a generator until [`Shared::stopped`]; how it ends otherwise shows in the counts.
    fn spawn(&mut self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned());
        self.threads.push(thread.spawn(move || work(&shared))?);
        Ok(())
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn add_sent(&self, datagrams: u64) {
        self.sent.fetch_add(datagrams, Ordering::Relaxed);
    }

    fn add_received(&self, datagrams: u64, bytes: usize) {
        self.received.fetch_add(datagrams, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for stream in &self.streams {
            // Wakes whoever waits on it; it may have failed and be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
