//! What a QUIC stack does to the network: trains of datagrams cut by the kernel (`UDP_SEGMENT`),
//! trains received whole (`UDP_GRO`), acknowledgements, and a window of bytes in flight.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use sys::poll::Epoll;
use sys::udp::{Family, Group, Outgoing, ReceiveBatch, Udp};

use super::{Load, PATIENCE, Shared};
use crate::Outcome;
use crate::lab::Machine;

/// Of one datagram, in bytes: what fits a path of 1420 bytes and what browsers use.
const PAYLOAD: u16 = 1350;
/// Datagrams handed to the kernel at once.
const TRAIN: u64 = 16;
/// Datagrams that may be under way: what the queue of a TUN, 500 packets, takes.
const WINDOW: u64 = 256;
/// Without an acknowledgement for this long, whatever is under way counts as lost.
const LOSS_TIMEOUT: Duration = Duration::from_millis(20);
/// The first byte makes the sockets of [`Group`] give every datagram to the first of them.
const FIRST_BYTE: u8 = 4;
/// Where in a datagram or acknowledgement its number is, big-endian.
const NUMBER: std::ops::Range<usize> = 8..16;

impl Load {
    /// Adds a sender and a receiver that acknowledges.
    pub fn add_quic(&mut self, from: &Machine, to: &Machine) -> Outcome<()> {
        let bind = || Group::bind(Family::V4, 0, 1, 0);
        let receiver = to.within(bind)??;
        let sender = from.within(bind)??;
        let target = SocketAddr::V4(SocketAddrV4::new(to.inside, receiver.port()?));
        self.spawn("quic sender", move |shared| {
            // Whatever stops it shows as missing throughput.
            let _ = data_socket(&sender).and_then(|socket| send(socket, target, shared));
        })?;
        self.spawn("quic receiver", move |shared| {
            let _ = data_socket(&receiver).and_then(|socket| receive(socket, shared));
        })?;
        Ok(())
    }
}

fn data_socket(group: &Group) -> io::Result<&Udp> {
    group.data.first().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Keeps the window full until it is to stop.
fn send(socket: &Udp, to: SocketAddr, shared: &Shared) -> io::Result<()> {
    let mut inbox = Inbox::new(socket)?;
    let mut train = vec![0; usize::from(PAYLOAD) * TRAIN as usize];
    let (mut next, mut acknowledged) = (0, 0);
    while !shared.stopped() {
        if next + TRAIN > acknowledged + WINDOW {
            let highest = inbox.await_highest(socket, LOSS_TIMEOUT)?;
            acknowledged = highest.map_or(next, |highest| acknowledged.max(highest + 1));
            continue;
        }
        for (number, datagram) in (next..).zip(train.chunks_exact_mut(PAYLOAD.into())) {
            write_number(datagram, number);
        }
        let stride = PAYLOAD.into();
        let outgoing = Outgoing { to, source: None, tos: 0, bytes: &train, stride, is_train: true };
        match socket.send(&outgoing) {
            Ok(_) => {
                next += TRAIN;
                shared.add_sent(TRAIN);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
                poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&patience))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Counts and acknowledges until it is to stop.
fn receive(socket: &Udp, shared: &Shared) -> io::Result<()> {
    let mut inbox = Inbox::new(socket)?;
    let mut acknowledgement = [0; NUMBER.end];
    while !shared.stopped() {
        let Some(highest) = inbox.await_highest(socket, PATIENCE)? else {
            continue;
        };
        shared.add_received(inbox.datagrams, inbox.bytes);
        write_number(&mut acknowledgement, highest);
        let Some(to) = inbox.from else { continue };
        let (bytes, stride) = (&acknowledgement, acknowledgement.len());
        let outgoing = Outgoing { to, source: None, tos: 0, bytes, stride, is_train: false };
        // A lost acknowledgement is made good by the next.
        let _ = socket.send(&outgoing);
    }
    Ok(())
}

/// What a socket receives.
struct Inbox {
    epoll: Epoll,
    batch: ReceiveBatch,
    /// Of the last receipt.
    from: Option<SocketAddr>,
    datagrams: u64,
    bytes: usize,
}

impl Inbox {
    fn new(socket: &Udp) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(socket, 0)?;
        Ok(Self { epoll, batch: ReceiveBatch::new(8, 1 << 16), from: None, datagrams: 0, bytes: 0 })
    }

    /// Receives what is there, waiting for it if need be; the highest number in it, or none if
    /// nothing came in time.
    fn await_highest(&mut self, socket: &Udp, patience: Duration) -> io::Result<Option<u64>> {
        let _ = self.epoll.wait(Some(patience))?;
        match socket.receive(&mut self.batch) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        (self.from, self.datagrams, self.bytes) = (None, 0, 0);
        let mut highest = None;
        for train in self.batch.datagrams() {
            self.from = Some(train.from);
            self.bytes += train.bytes.len();
            for datagram in train.bytes.chunks(train.segment_size) {
                self.datagrams += 1;
                highest = highest.max(read_number(datagram));
            }
        }
        Ok(highest)
    }
}

fn write_number(datagram: &mut [u8], number: u64) {
    if let Some(first) = datagram.first_mut() {
        *first = FIRST_BYTE;
    }
    if let Some(place) = datagram.get_mut(NUMBER) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

fn read_number(datagram: &[u8]) -> Option<u64> {
    let bytes = datagram.get(NUMBER)?.first_chunk()?;
    Some(u64::from_be_bytes(*bytes))
}
