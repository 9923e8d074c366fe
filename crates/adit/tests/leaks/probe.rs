//! Probes: whatever a program on the client may send, in bursts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::AddAssign;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use host::namespace;

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

/// How many probes there were, of each kind and version of IP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    udp: [usize; 2],
    dns: [usize; 2],
    tcp: [usize; 2],
    icmp: [usize; 2],
}

impl Sent {
    pub fn count(&self) -> usize {
        self.kinds().into_iter().sum()
    }

    fn kinds(&self) -> [usize; 8] {
        let Self { udp, dns, tcp, icmp } = self;
        let mut kinds = [0; 8];
        let all = [udp, dns, tcp, icmp].into_iter().flatten();
        kinds.iter_mut().zip(all).for_each(|(kind, count)| *kind = *count);
        kinds
    }
}

impl AddAssign for Sent {
    fn add_assign(&mut self, more: Self) {
        for (kind, more) in [
            (&mut self.udp, more.udp),
            (&mut self.dns, more.dns),
            (&mut self.tcp, more.tcp),
            (&mut self.icmp, more.icmp),
        ] {
            kind.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
    }
}

/// Probes that go on until they are stopped.
pub struct Storm {
    stop: Arc<AtomicBool>,
    sent: Arc<(Mutex<Sent>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl Storm {
    /// Of UDP and TCP by one thread, of ICMP by another; also such that insist on the link outside,
    /// if they are wanted.
    pub fn begin(client: &Machine, insist: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new((Mutex::default(), Condvar::new()));
        let spawn = |burst: fn(bool) -> Sent| {
            let network: OwnedFd = client.network().try_clone_to_owned().unwrap();
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            thread::spawn(move || {
                let bursts = || {
                    while !stop.load(Ordering::Relaxed) {
                        let more = burst(insist);
                        *sent.0.lock().unwrap() += more;
                        sent.1.notify_all();
                    }
                };
                namespace::within(network.as_fd(), bursts).unwrap();
            })
        };
        let threads = vec![spawn(datagrams_and_connections), spawn(echoes)];
        Self { stop, sent, threads }
    }

    /// Goes on until so many were sent from now on, and some of every kind.
    pub fn wait_for(&self, count: usize) {
        let sent = self.sent.0.lock().unwrap();
        let begin = *sent;
        let goes_on = |sent: &mut Sent| {
            let mut kinds = sent.kinds().into_iter().zip(begin.kinds());
            sent.count() < begin.count() + count || kinds.any(|(now, then)| now == then)
        };
        drop(self.sent.1.wait_while(sent, goes_on).unwrap());
    }

    /// How many there were.
    pub fn end(mut self) -> Sent {
        for thread in self.stop() {
            thread.join().unwrap();
        }
        *self.sent.0.lock().unwrap()
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

/// Some of every kind, also from the address outside; how many.
pub fn datagrams_and_connections(insist: bool) -> Sent {
    let mut sent = Sent::default();
    let version = |to: IpAddr| usize::from(to.is_ipv6());
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let own: [IpAddr; 2] =
        [Ipv4Addr::new(192, 168, 77, 2).into(), "2001:db8:77::2".parse().unwrap()];
    for from in any.into_iter().chain(own.into_iter().filter(|_| insist)) {
        let Ok(socket) = UdpSocket::bind((from, 0)) else { continue };
        let _ = socket.set_broadcast(true);
        for to in TO.into_iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
            for port in UDP_PORTS {
                // That it is refused, or that there is no way, is not the question.
                let _ = socket.send_to(b"probe of datagrams", (to, port));
                let kind = if [53, 853].contains(&port) { &mut sent.dns } else { &mut sent.udp };
                kind[version(to)] += 1;
            }
        }
    }
    for to in TO {
        for port in TCP_PORTS {
            let _ =
                TcpStream::connect_timeout(&SocketAddr::new(to, port), Duration::from_millis(1));
            sent.tcp[version(to)] += 1;
        }
    }
    sent
}

/// Echo requests from anywhere, and from the link outside; how many.
pub fn echoes(insist: bool) -> Sent {
    const COUNT: usize = 10;
    let mut sent = Sent::default();
    for to in ["8.8.8.8", "203.0.113.5", "192.168.77.1", "2001:4860:4860::8844", "2001:db8:77::1"] {
        for link in [None, Some("-Ieth0")].into_iter().filter(|link| insist || link.is_none()) {
            let mut ping = Command::new("ping");
            ping.args(["-n", "-q", "-f", "-l", "10", "-W", "0.01", "-c"]);
            ping.arg(COUNT.to_string()).args(link).arg(to);
            ping.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if ping.status().is_ok() {
                sent.icmp[usize::from(to.contains(':'))] += COUNT;
            }
        }
    }
    sent
}
