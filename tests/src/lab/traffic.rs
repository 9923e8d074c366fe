//! Transfers whose every byte is checked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use sys::udp::{Family, Group, Outgoing, Udp};

use super::{Namespace, PATIENCE, await_some};

/// A stream of bytes in which every position looks different (xorshift64*), so that a lost,
/// doubled or misplaced piece shows.
#[derive(Clone)]
pub struct Stream(u64);

impl Stream {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next bytes of the stream; pieces are multiples of eight bytes except the last.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    /// The first `length` bytes of the stream of this seed.
    pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        Self::new(seed).fill(&mut bytes);
        bytes
    }
}

/// Sends `length` bytes by TCP from one namespace to an address of another one, and compares
/// every byte there.
#[track_caller]
pub fn tcp(from: &Namespace, to: &Namespace, address: IpAddr, length: usize) {
    let listener = to.within(|| TcpListener::bind((address, 0))).expect("a listener");
    let target = listener.local_addr().expect("a bound address");
    let sent = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive_stream(&listener, length));
        let sent = from.within(|| send_stream(target, length));
        sent.and_then(|()| receiver.join().expect("the receiver does not panic"))
    });
    if let Err(error) = sent {
        panic!("TCP of {length} bytes from {} to {target}: {error}", from.name());
    }
}

const PIECE: usize = 64 << 10;

fn send_stream(to: SocketAddr, length: usize) -> io::Result<()> {
    let mut connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let (mut stream, mut piece) = (Stream::new(1), vec![0; PIECE]);
    let mut left = length;
    while left > 0 {
        let now = left.min(PIECE);
        stream.fill(&mut piece[..now]);
        connection.write_all(&piece[..now])?;
        left -= now;
    }
    connection.shutdown(Shutdown::Write)
}

fn receive_stream(listener: &TcpListener, length: usize) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut connection = await_some("a TCP connection", || listener.accept().ok()).0;
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let (mut stream, mut expected, mut piece) = (Stream::new(1), vec![0; PIECE], vec![0; PIECE]);
    let mut position = 0;
    while position < length {
        let now = (length - position).min(PIECE);
        stream.fill(&mut expected[..now]);
        connection.read_exact(&mut piece[..now])?;
        if piece[..now] != expected[..now] {
            return Err(io::Error::other(format!("different bytes after position {position}")));
        }
        position += now;
    }
    match connection.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more bytes than were sent")),
    }
}

/// Sends datagrams of these lengths by UDP, one seed each, and expects every one of them, whole
/// and in order. At most `BURST` are under way at a time, so that no queue overflows.
#[track_caller]
pub fn udp(
    from: &Namespace,
    to: &Namespace,
    address: IpAddr,
    lengths: impl IntoIterator<Item = usize>,
) {
    const BURST: usize = 16;
    let receiver = to.within(|| UdpSocket::bind((address, 0))).expect("a receiver");
    receiver.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let target = receiver.local_addr().expect("a bound address");
    let sender = from.within(|| UdpSocket::bind(unspecified(address))).expect("a sender");
    let lengths: Vec<usize> = lengths.into_iter().collect();
    let mut place = vec![0; 1 << 16];
    for burst in lengths.chunks(BURST) {
        for &length in burst {
            let bytes = Stream::bytes(length as u64, length);
            sender
                .send_to(&bytes, target)
                .unwrap_or_else(|error| panic!("UDP of {length} bytes: {error}"));
        }
        for &length in burst {
            let (got, _) = receiver
                .recv_from(&mut place)
                .unwrap_or_else(|e| panic!("UDP of {length} bytes: {e}"));
            assert_eq!(got, length, "the length of a datagram from {}", from.name());
            assert!(
                place[..got] == Stream::bytes(length as u64, length),
                "the bytes of a datagram of {length}"
            );
        }
    }
}

/// The same for many connections at once, from pages that the kernel takes without copying.
#[track_caller]
pub fn tcp_without_copies(
    from: &Namespace,
    to: &Namespace,
    address: IpAddr,
    connections: usize,
    length: usize,
) {
    let mut file =
        File::from(memfd_create("pages", MemfdFlags::empty()).expect("a file in memory"));
    file.write_all(&Stream::bytes(1, length)).expect("memory");
    let listener = to.within(|| TcpListener::bind((address, 0))).expect("a listener");
    let target = listener.local_addr().expect("a bound address");
    let send = || -> io::Result<()> {
        // Each connection reads the file from its start; `copy` from file to socket is sendfile(2).
        let mut file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let mut connection = from.within(|| TcpStream::connect_timeout(&target, PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        io::copy(&mut file, &mut connection)?;
        connection.shutdown(Shutdown::Write)
    };
    thread::scope(|scope| {
        let receivers: Vec<_> =
            (0..connections).map(|_| scope.spawn(|| receive_stream(&listener, length))).collect();
        let senders: Vec<_> = (0..connections).map(|_| scope.spawn(send)).collect();
        for transfer in senders.into_iter().chain(receivers) {
            let result = transfer.join().expect("no transfer panics");
            result.unwrap_or_else(|error| panic!("{connections} times {length} bytes: {error}"));
        }
    });
}

/// Sends datagrams as fast as the kernel takes them. Some may be lost; what arrives is right, in
/// order, and comes once.
#[track_caller]
pub fn udp_flood(from: &Namespace, to: &Namespace, address: IpAddr, length: usize) {
    const COUNT: u64 = 20_000;
    let receiver = to.within(|| UdpSocket::bind((address, 0))).expect("a receiver");
    // A busy machine may let one side wait.
    receiver.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let target = receiver.local_addr().expect("a bound address");
    let sender = from.within(|| UdpSocket::bind(unspecified(address))).expect("a sender");
    let mut datagram = Stream::bytes(1, length);
    let mut expected = datagram.clone();
    let (mut last, mut count, mut place) = (0, 0, vec![0; 1 << 16]);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=COUNT {
                datagram[..8].copy_from_slice(&number.to_le_bytes());
                // A full queue may refuse one; that is loss like any other.
                let _ = sender.send_to(&datagram, target);
            }
        });
        while let Ok(got) = receiver.recv(&mut place) {
            let number = place.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            assert!(number > last, "{number} came after {last}");
            expected[..8].copy_from_slice(&number.to_le_bytes());
            assert!(place[..got] == expected, "the bytes of datagram {number}");
            (last, count) = (number, count + 1);
        }
    });
    assert!(count > COUNT / 1000, "only {count} of {COUNT} datagrams arrived");
}

/// Sends numbered datagrams of eight flows in trains, as fast as the kernel takes them, until `done`
/// says that it is enough and some of each has arrived that was sent later. Some may be lost; each flow
/// arrives in order.
#[track_caller]
pub fn flows_until(from: &Namespace, to: &Namespace, address: IpAddr, done: impl Fn() -> bool) {
    /// What is to happen may take its time where the processors have other work.
    const LONGEST: Duration = PATIENCE.saturating_mul(6);
    let receiver = to.within(|| UdpSocket::bind((address, 0))).expect("a receiver");
    receiver.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let target = receiver.local_addr().expect("a bound address");
    let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
    let sender = || from.within(|| Group::bind(family, 0, 1, 0)).expect("a sender").handshake;
    let senders: [Udp; 8] = std::array::from_fn(|_| sender());
    let enough = AtomicBool::new(false);
    let send = || {
        for (round, first) in (1_u64..).step_by(64).enumerate() {
            let train: Vec<u8> = (first..first + 64).flat_map(u64::to_le_bytes).collect();
            let (to, bytes) = (target, &train);
            let train = Outgoing { to, source: None, tos: 0, bytes, stride: 8, is_train: true };
            // Another begins each time, or a full queue would always lose the same.
            for sender in senders.iter().cycle().skip(round % senders.len()).take(senders.len()) {
                // A full queue may refuse it; that is loss like any other.
                let _ = sender.send(&train);
            }
            if enough.load(Ordering::Relaxed) {
                break;
            }
        }
    };
    let (mut last, mut place, start) = (HashMap::new(), [0; 8], Instant::now());
    let mut receive = || -> Result<(), String> {
        // What each flow has to get beyond, once it is enough.
        let mut end = u64::MAX;
        for count in 1_u64.. {
            let datagram = receiver.recv_from(&mut place);
            let (_, flow) =
                datagram.map_err(|error| format!("after {count} datagrams: {error}"))?;
            let number = u64::from_le_bytes(place);
            let before = last.insert(flow, number).unwrap_or(0);
            if number <= before {
                return Err(format!("{number} of {flow} came after {before}"));
            }
            if count % 1000 == 0 {
                if end == u64::MAX && done() {
                    end = last.values().copied().max().unwrap_or(0);
                }
                if last.values().filter(|number| **number > end).count() == senders.len() {
                    break;
                }
                if start.elapsed() > LONGEST {
                    let done = end < u64::MAX;
                    return Err(format!("no end after {LONGEST:?}: done: {done}, flows: {last:?}"));
                }
            }
        }
        Ok(())
    };
    let outcome = thread::scope(|scope| {
        scope.spawn(send);
        let outcome = receive();
        enough.store(true, Ordering::Relaxed);
        outcome
    });
    assert_eq!(outcome, Ok(()), "{} flows from {} to {target}", senders.len(), from.name());
}

/// Sends trains of datagrams, as many of `segment` bytes as one send takes and a shorter one, and
/// expects every one of them, whole and in order.
#[track_caller]
pub fn trains(from: &Namespace, to: &Namespace, address: IpAddr, segment: usize) {
    const LONGEST: usize = 64;
    let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
    let sender = from.within(|| Group::bind(family, 0, 1, 0)).expect("a sender").handshake;
    let receiver = to.within(|| UdpSocket::bind((address, 0))).expect("a receiver");
    receiver.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let target = receiver.local_addr().expect("a bound address");
    let mut place = vec![0; 1 << 16];
    for count in [1, 2, 3, 17, LONGEST.min(65_000 / segment)] {
        let train = Stream::bytes(count as u64, segment * count - segment / 2);
        let (source, tos, stride, is_train) = (None, 0, segment, true);
        let outgoing = Outgoing { to: target, source, tos, bytes: &train, stride, is_train };
        assert_eq!(sender.send(&outgoing).expect("a train leaves"), train.len());
        for (number, datagram) in train.chunks(segment).enumerate() {
            let got = receiver.recv(&mut place).unwrap_or_else(|error| {
                panic!("datagram {number} of {count} with {segment} bytes: {error}")
            });
            assert!(place[..got] == *datagram, "datagram {number} of {count} with {segment} bytes");
        }
    }
}

/// The wildcard of the same family, any port.
pub fn unspecified(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
