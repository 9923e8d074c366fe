//! What the tests of UDP share.
#![allow(dead_code)] // no test file needs all of it

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use sys::namespaces::{UnshareFlags, leave};
use sys::poll::Epoll;
use sys::udp::{Family, Group, Outgoing, ReceiveBatch, Received, Udp};

pub const LOOPBACKS: [(Family, IpAddr); 2] =
    [(Family::V4, IpAddr::V4(Ipv4Addr::LOCALHOST)), (Family::V6, IpAddr::V6(Ipv6Addr::LOCALHOST))];
pub const LARGEST: usize = 65_535;

/// Runs `work` on a thread that may be alone in a network namespace.
pub fn elsewhere<T: Send>(work: impl FnOnce(rustix::io::Result<()>) -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(|| work(leave(UnshareFlags::NEWNET))).join().unwrap())
}

pub fn group(family: Family) -> Group {
    Group::bind(family, 0, 1, 0).unwrap()
}

pub fn address(ip: IpAddr, group: &Group) -> SocketAddr {
    SocketAddr::new(ip, group.port().unwrap())
}

pub fn plain(to: SocketAddr, bytes: &[u8]) -> Outgoing<'_> {
    Outgoing { to, source: None, tos: 0, bytes, stride: bytes.len(), is_train: false }
}

/// Whether there is something to read now. On the loopback link what was sent has arrived.
pub fn is_readable(socket: &Udp) -> bool {
    is_readable_within(socket, Duration::ZERO)
}

pub fn is_readable_within(socket: impl AsFd, time: Duration) -> bool {
    let epoll = Epoll::new().unwrap();
    epoll.add(socket, 0).unwrap();
    epoll.wait(Some(time)).unwrap().count() == 1
}

/// Receives all that comes until `bytes` of payload are there, and gives each datagram to `look`.
pub fn receive_all(socket: &Udp, bytes: usize, mut look: impl FnMut(Received<'_>)) {
    let mut batch = ReceiveBatch::new(4, LARGEST);
    let mut missing = bytes;
    loop {
        assert!(is_readable_within(socket, Duration::from_secs(5)), "{missing} bytes are missing");
        socket.receive(&mut batch).unwrap();
        for received in batch.datagrams() {
            missing -= received.bytes.len();
            look(received);
        }
        if missing == 0 {
            return;
        }
    }
}
