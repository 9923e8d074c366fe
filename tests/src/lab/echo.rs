//! Echo requests. The program `ping` gives up after two round trips, however long `-W` says; on a
//! busy machine that looks like loss.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::sockopt::{set_ip_mtu_discover, set_ipv6_mtu_discover};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use super::traffic::Stream;

/// How long an answer may take: less than the five seconds after which a handshake is repeated.
const ANSWER: Duration = Duration::from_secs(3);

/// So many requests are under way at a time.
const WINDOW: usize = 10;

/// Type, code, checksum, identifier and sequence number; the kernel fills in all but the last.
const HEADER: usize = 8;

/// Echo requests to one address, sent from the namespace of the thread that made this.
pub(super) struct Echo {
    socket: UdpSocket,
    to: SocketAddr,
    request: u8,
    reply: u8,
}

impl Echo {
    pub fn new(to: IpAddr) -> io::Result<Self> {
        let (family, protocol, request, reply) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
        };
        let socket = socket(family, SocketType::DGRAM, Some(protocol))?;
        match to {
            IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?,
            IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?,
        }
        Ok(Self { socket: socket.into(), to: (to, 0).into(), request, reply })
    }

    /// Sends `count` requests with `payload` bytes each, never fragmented, and gives those that
    /// stay without a right answer for as long as `patience`.
    pub fn unanswered(
        &self,
        count: u16,
        payload: usize,
        patience: Duration,
    ) -> io::Result<BTreeSet<u16>> {
        let mut waiting = BTreeSet::new();
        for sequence in 1..=count {
            self.socket.send_to(&message(self.request, sequence, payload), self.to)?;
            waiting.insert(sequence);
            if waiting.len() == WINDOW {
                self.receive(&mut waiting, WINDOW / 2, payload, patience)?;
            }
        }
        self.receive(&mut waiting, 0, payload, patience)?;
        Ok(waiting)
    }

    /// Takes answers until no more than `few` are missing.
    fn receive(
        &self,
        waiting: &mut BTreeSet<u16>,
        few: usize,
        payload: usize,
        patience: Duration,
    ) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        let mut answer = vec![0; HEADER + payload + 1];
        while waiting.len() > few {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.recv(&mut answer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let sequence = u16::from_be_bytes([answer[6], answer[7]]);
            let right = message(self.reply, sequence, payload);
            if answer[0] == self.reply && answer[HEADER..length] == right[HEADER..] {
                waiting.remove(&sequence);
            }
        }
        Ok(())
    }
}

fn message(kind: u8, sequence: u16, payload: usize) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0];
    message.extend(sequence.to_be_bytes());
    message.extend(Stream::bytes(sequence.into(), payload));
    message
}

/// As [`super::Namespace::pings`].
pub(super) fn pings(to: IpAddr, count: u16, payload: usize) -> Result<(), String> {
    let missing = Echo::new(to)
        .and_then(|echo| echo.unanswered(count, payload, ANSWER))
        .map_err(|error| error.to_string())?;
    if missing.is_empty() { Ok(()) } else { Err(format!("no answer to {missing:?} of {count}")) }
}
