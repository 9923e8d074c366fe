//! Probes: whatever a program on the client may send, in bursts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sys::namespace;

use crate::machine::Machine;
use crate::wire::ELSEWHERE;

/// A name server of the Internet, and what a LAN claims to be.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

const TO: [IpAddr; 10] = [
    IpAddr::V4(PUBLIC),
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 99)),
    // The endpoint itself, and the router of the LAN.
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 77, 1)),
    IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)),
    IpAddr::V6(ELSEWHERE),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111)),
];
const UDP_PORTS: [u16; 5] = [53, 443, 853, 9999, 51820];
const TCP_PORTS: [u16; 3] = [53, 443, 853];

/// Probes that go on until they are stopped.
pub struct Storm {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Storm {
    /// Of UDP and TCP by one thread, of ICMP by another.
    pub fn begin(client: &Machine) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let spawn = |burst: fn() -> usize| {
            let network: OwnedFd = client.network().try_clone_to_owned().unwrap();
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            thread::spawn(move || {
                let bursts = || {
                    while !stop.load(Ordering::Relaxed) {
                        sent.fetch_add(burst(), Ordering::Relaxed);
                    }
                };
                namespace::within(network.as_fd(), bursts).unwrap();
            })
        };
        let threads = vec![spawn(datagrams_and_connections), spawn(echoes)];
        Self { stop, sent, threads }
    }

    /// Goes on until so many were sent since the beginning.
    pub fn wait_for(&self, count: usize) {
        while self.sent.load(Ordering::Relaxed) < count {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many there were.
    pub fn end(mut self) -> usize {
        for thread in self.stop() {
            thread.join().unwrap();
        }
        self.sent.load(Ordering::Relaxed)
    }

    fn stop(&mut self) -> Vec<JoinHandle<()>> {
        self.stop.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.threads)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Some of every kind; how many.
pub fn datagrams_and_connections() -> usize {
    let mut sent = 0;
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    // Also such that insist on the link outside.
    let own: [IpAddr; 2] =
        [Ipv4Addr::new(192, 168, 77, 2).into(), "2001:db8:77::2".parse().unwrap()];
    for from in any.into_iter().chain(own) {
        let Ok(socket) = UdpSocket::bind((from, 0)) else { continue };
        let _ = socket.set_broadcast(true);
        for to in TO.into_iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
            for port in UDP_PORTS {
                // That it is refused, or that there is no way, is not the question.
                let _ = socket.send_to(b"probe of datagrams", (to, port));
                sent += 1;
            }
        }
    }
    for to in TO {
        for port in TCP_PORTS {
            let _ =
                TcpStream::connect_timeout(&SocketAddr::new(to, port), Duration::from_millis(1));
            sent += 1;
        }
    }
    sent
}

/// Echo requests from anywhere, and from the link outside; how many.
pub fn echoes() -> usize {
    const COUNT: usize = 10;
    let mut sent = 0;
    for to in ["8.8.8.8", "203.0.113.5", "192.168.77.1", "2001:4860:4860::8844", "2001:db8:77::1"] {
        for insist in [&[][..], &["-I", "eth0"][..]] {
            let mut ping = Command::new("ping");
            ping.args(["-n", "-q", "-f", "-l", "10", "-W", "0.01", "-c"]);
            ping.arg(COUNT.to_string()).args(insist).arg(to);
            ping.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if ping.status().is_ok() {
                sent += COUNT;
            }
        }
    }
    sent
}
