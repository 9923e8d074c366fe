//! The kernel judges what is joined and what is cut. As a router between two TUNs it gets what
//! [`engine::packet::coalesce`] joined, and either cuts it itself, or passes it on whole for
//! [`engine::packet::segment`] to cut. Either way exactly the packets must arrive that were joined,
//! one hop older.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../src/packet/samples.rs"]
#[allow(dead_code)] // It serves other tests, too.
mod samples;

use std::fs;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::process::Command;
use std::thread;
use std::time::Duration;

use engine::packet::coalesce::{Coalescer, MOST_PIECES};
use engine::packet::segment::Segments;
use samples::{Random, Sample, Transport};
use sys::namespaces::{UnshareFlags, leave};
use sys::poll::Epoll;
use sys::tun::{Offload, Tun, VnetHeader};

/// Two TUNs, up, and a kernel that forwards from the left to the right.
struct Router {
    left: Tun,
    right: Tun,
    epoll: Epoll,
}

/// What came out on the right.
#[derive(Default)]
struct Arrived {
    packets: Vec<Vec<u8>>,
    reads: usize,
}

impl Router {
    /// In the namespace of the calling thread. `offload` is what the reader on the right takes off
    /// the kernel's hands; none if the kernel does not know that yet.
    fn new(offload: Offload) -> Option<Self> {
        let [left, right] = ["left", "right"].map(|name| Tun::create(name, 1).unwrap().remove(0));
        right.set_offload(offload).ok()?;
        for name in ["left", "right"] {
            // So that the kernel has nothing to say of its own.
            ip(&format!("link set {name} addrgenmode none multicast off"));
            ip(&format!("link set {name} up"));
        }
        for (host, name) in [(1, "left"), (2, "right")] {
            ip(&format!("route add 10.0.0.{host} dev {name}"));
            ip(&format!("route add fd00::{host} dev {name}"));
        }
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(&right, 0).unwrap();
        Some(Self { left, right, epoll })
    }

    /// Joins `packets` as they would be if they had come through the tunnel in one batch, and
    /// writes them on the left; how many writes that took.
    fn write(&self, packets: &[Vec<u8>]) -> usize {
        let mut coalescer = Coalescer::default();
        coalescer.joins = Offload::ALL;
        let mut start = 0;
        for packet in packets {
            coalescer.push(start..start + packet.len(), packet);
            start += packet.len();
        }
        let bytes = packets.concat();
        let deliveries = coalescer.finish();
        for delivery in deliveries {
            let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
            self.left.write_vectored(delivery.gather(&bytes, &mut pieces)).unwrap();
        }
        deliveries.len()
    }

    /// Reads `count` packets on the right, cut where they arrive whole, and makes sure that there
    /// are no more.
    fn read(&self, count: usize) -> Arrived {
        let mut arrived = Arrived::default();
        let mut buffer = vec![0; VnetHeader::LEN + 65_535];
        loop {
            match self.right.read(&mut buffer) {
                Ok(length) => arrived.take(&buffer[..length]),
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                Err(_) if arrived.packets.len() >= count => return arrived,
                Err(_) => {
                    let events = self.epoll.wait(Some(Duration::from_secs(5))).unwrap();
                    assert_eq!(events.count(), 1, "a packet is missing");
                }
            }
        }
    }
}

impl Arrived {
    fn take(&mut self, read: &[u8]) {
        let (header, packet) = VnetHeader::decode(read).unwrap();
        let segments = Segments::new(header, packet).unwrap();
        self.packets.extend((0..segments.count()).map(|index| {
            let mut packet = vec![0; segments.length(index)];
            segments.write(index, &mut packet).unwrap();
            packet
        }));
        self.reads += 1;
    }
}

/// Sends trains of packets of every kind through a router, and asserts that they arrive as they
/// were: those that `offload` is about in one piece, the others cut by the kernel.
fn pass_trains(offload: Offload) {
    in_a_namespace(|| {
        let Some(router) = Router::new(offload) else {
            return skipped(&format!("the kernel has not all of {offload:?}"));
        };
        for (train, size) in trains() {
            let packets = train.split(size);
            let count = packets.len();
            let case = format!("{count} packets of {size} bytes, like {:02x?}", packets[0].build());
            let sent: Vec<_> = packets.iter().map(Sample::build).collect();
            assert_eq!(router.write(&sent), 1, "not joined: {case}");

            let expected = packets.into_iter().map(|packet| Sample { hops: 63, ..packet }.build());
            let arrived = router.read(count);
            assert!(arrived.packets.into_iter().eq(expected), "{case}");
            let is_tcp = matches!(train.transport, Transport::Tcp { .. });
            let is_whole = if is_tcp { offload.tcp } else { offload.udp };
            assert_eq!(arrived.reads, if is_whole { 1 } else { count }, "{case}");
        }
    });
}

/// Super-packets as they should be, each with the payload of its packets but the last.
fn trains() -> Vec<(Sample, usize)> {
    /// What one delivery holds: the kernel's limits of a UDP super-packet and of IP's length.
    const MOST: (usize, usize) = (64, 65_000);
    let mut random = Random(63);
    let mut trains = Vec::new();
    for size in [1, 7, 16, 100, 536, 1200, 1348] {
        for count in [1, 2, 3, 17, 45, MOST.0] {
            for length in [size * count, size * count - 1] {
                if (1..=MOST.1).contains(&length) {
                    let payload = random.bytes(length);
                    // The end of what was written at once (PSH).
                    let tcp = Sample::tcp(&payload).with(|_, _, flags, _| *flags |= 0x08);
                    let samples = [tcp, Sample::udp(&payload)];
                    let samples = samples.into_iter().flat_map(|s| [s.clone().v6(), s]);
                    trains.extend(samples.map(|sample| (sample, size)));
                }
            }
        }
    }
    trains
}

#[test]
fn the_kernel_cuts_what_was_joined_into_what_it_was_joined_of() {
    pass_trains(Offload::default());
}

#[test]
fn what_the_kernel_passes_on_whole_is_cut_into_what_it_was_joined_of() {
    pass_trains(Offload::ALL);
}

#[test]
fn a_kernel_that_passes_on_only_tcp_whole_cuts_the_rest_itself() {
    pass_trains(Offload { tcp: true, udp: false });
}

/// Runs `work` in a fresh network namespace, or says why it cannot.
fn in_a_namespace(work: impl FnOnce() + Send) {
    let work = || match leave(UnshareFlags::NEWNET) {
        Ok(()) => work(),
        Err(error) => skipped(&format!("no network namespace: {error}")),
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap());
}

/// Says that a test is skipped, past the harness, which would swallow it.
fn skipped(reason: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED: {test} ({reason})");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}
