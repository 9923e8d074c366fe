//! ICMP echo (RFC 792): whether an IPv4 address answers, and how soon.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// As many bytes as ping(8) sends behind the header.
const PAYLOAD: usize = 56;

/// A raw socket towards one address, bound to the network namespace that it was opened in.
#[derive(Debug)]
pub struct Ping {
    // The standard library's datagram calls serve any datagram socket; ports do not occur.
    socket: UdpSocket,
    identifier: u16,
}

impl Ping {
    /// Opens the socket in the calling thread's network namespace. Needs CAP_NET_RAW there.
    pub fn open(to: Ipv4Addr) -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(ipproto::ICMP),
        )?;
        let socket = UdpSocket::from(socket);
        socket.connect((to, 0))?;
        Ok(Self { socket, identifier: std::process::id() as u16 })
    }

    /// Sends one request every `interval`, `count` in all, and calls `before` with the number of
    /// each. Waits up to a second for the last replies.
    pub fn series<E: From<io::Error>>(
        &self,
        count: u16,
        interval: Duration,
        mut before: impl FnMut(u16) -> Result<(), E>,
    ) -> Result<Series, E> {
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut requests = vec![(Instant::now(), None); count.into()];
        let start = Instant::now();
        for sequence in 0..count {
            before(sequence)?;
            let now = Instant::now();
            if let Some(request) = requests.get_mut(usize::from(sequence)) {
                request.0 = now;
            }
            self.send(sequence);
            self.collect(&mut requests, start + interval * (u32::from(sequence) + 1), false)?;
        }
        self.collect(&mut requests, Instant::now() + PATIENCE, true)?;
        Ok(Series::new(&requests))
    }

    /// A request that the machine itself cannot send counts as lost, as one that the network loses
    /// does.
    fn send(&self, sequence: u16) {
        let [i0, i1] = self.identifier.to_be_bytes();
        let [s0, s1] = sequence.to_be_bytes();
        // The Internet checksum (RFC 1071) of the only three words that are not zero.
        let words = [u16::from(ECHO_REQUEST) << 8, self.identifier, sequence];
        let sum = words.into_iter().fold(0, |sum: u16, word| {
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        });
        let [c0, c1] = (!sum).to_be_bytes();
        let header = [ECHO_REQUEST, 0, c0, c1, i0, i1, s0, s1];
        let _ = self.socket.send(&[&header[..], &[0; PAYLOAD]].concat());
    }

    /// Notes the replies that arrive before `deadline`, or until all have if that is wanted.
    fn collect(
        &self,
        requests: &mut [Request],
        deadline: Instant,
        until_all: bool,
    ) -> io::Result<()> {
        let mut packet = [0; 256];
        while !(until_all && requests.iter().all(|(_, reply)| reply.is_some())) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.socket.set_read_timeout(Some(left))?;
            let sequence = match self.socket.recv(&mut packet) {
                Ok(length) => packet.get(..length).and_then(|packet| self.reply(packet)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // What routers report about an earlier request arrives as an error of this call.
                Err(_) => None,
            };
            if let Some((sent, reply)) =
                sequence.and_then(|sequence| requests.get_mut(usize::from(sequence)))
            {
                reply.get_or_insert_with(|| sent.elapsed());
            }
        }
        Ok(())
    }

    /// The number of the request that a packet, IPv4 header included, answers.
    fn reply(&self, packet: &[u8]) -> Option<u16> {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        match packet.get(header..)?.first_chunk()? {
            [ECHO_REPLY, 0, _, _, i0, i1, s0, s1]
                if [*i0, *i1] == self.identifier.to_be_bytes() =>
            {
                Some(u16::from_be_bytes([*s0, *s1]))
            }
            _ => None,
        }
    }
}

/// When it was sent, and how long its reply took.
type Request = (Instant, Option<Duration>);

/// How a series of requests fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Requests sent.
    pub sent: usize,
    /// Requests never answered.
    pub lost: usize,
    /// The middle one of the round-trip times, if there is one.
    pub median: Option<Duration>,
}

impl Series {
    fn new(requests: &[Request]) -> Self {
        let mut times: Vec<Duration> = requests.iter().filter_map(|(_, reply)| *reply).collect();
        times.sort_unstable();
        Self {
            sent: requests.len(),
            lost: requests.len() - times.len(),
            median: times.get(times.len() / 2).copied(),
        }
    }
}
