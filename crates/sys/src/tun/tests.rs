//! A TUN as the kernel really runs it: each test in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::{self, File, Metadata};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::*;
use crate::namespaces::{UnshareFlags, leave};
use crate::poll::Epoll;
use crate::udp::{Family, Group, Outgoing, ReceiveBatch};

/// Runs `work` on a thread that may be alone in a network namespace.
fn elsewhere<T: Send>(work: impl FnOnce(rustix::io::Result<()>) -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(|| work(leave(UnshareFlags::NEWNET))).join().unwrap())
}

/// Runs `work` in a fresh network namespace, or says why it cannot.
fn in_a_namespace(work: impl FnOnce() + Send) {
    elsewhere(|outcome| match outcome {
        Ok(()) => work(),
        Err(error) => eprintln!("skipped: no network namespace: {error}"),
    });
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// One queue, up, with an address; beyond it is the rest of 10.9.0.0/24.
fn tun_with_an_address() -> Tun {
    let [tun] = <[Tun; 1]>::try_from(Tun::create("tun0", 1).unwrap()).unwrap();
    // No other traffic than what a test causes.
    ip("link set tun0 addrgenmode none");
    ip("link set tun0 up");
    ip("address add 10.9.0.1/24 dev tun0");
    tun
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn wait_for(tun: &Tun) {
    let epoll = Epoll::new().unwrap();
    epoll.add(tun, 0).unwrap();
    let events = epoll.wait(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(events.count(), 1, "no packet came");
}

/// An IPv4 header without options, and UDP ports; checksums left to be completed.
fn udp_packet(from: Ipv4Addr, to: Ipv4Addr, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let length = |header: usize| u16::try_from(header + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(28));
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let checksum = !ones_sum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    // The pseudo-header's sum stands in the checksum field, as NEEDS_CSUM wants it.
    let pseudo = [&packet[12..20], &[0, 17], &length(8)].concat();
    packet.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    packet.extend(length(8));
    packet.extend(ones_sum(&pseudo).to_be_bytes());
    packet.extend(payload);
    packet
}

fn ones_sum(bytes: &[u8]) -> u16 {
    let sum = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: VnetHeader::GSO_TCPV6 | VnetHeader::GSO_ECN,
        hdr_len: 0x1234,
        gso_size: 1380,
        csum_start: 40,
        csum_offset: 16,
    };
    let bytes = [&header.encode()[..], b"packet"].concat();
    assert_eq!(VnetHeader::decode(&bytes), Some((header, &b"packet"[..])));
    assert_eq!(VnetHeader::decode(&bytes[..10]), Some((header, &b""[..])));
    assert_eq!(VnetHeader::decode(&bytes[..9]), None);
    assert_eq!(VnetHeader::default().encode(), [0; 10]);
}

#[test]
fn a_name_that_is_taken_is_busy() {
    in_a_namespace(|| {
        let _one = Tun::create("one", 1).unwrap();
        let many = Tun::create("many", 3).unwrap();
        assert_eq!(many.len(), 3);
        ip("link add left type veth peer name right");
        // Neither is a multi-queue interface joined, nor a persistent one adopted.
        ip("tuntap add kept mode tun");
        for name in ["one", "many", "left", "kept", "lo"] {
            for queues in [1, 2] {
                assert_eq!(errno(Tun::create(name, queues)), Some(libc::EBUSY), "{name}");
            }
        }
        assert_eq!(Tun::create("none", 0).unwrap().len(), 1);
    });
}

#[test]
fn names_that_no_interface_can_have_are_invalid() {
    for name in ["", "a b", "a/b", ".", "..", "nul\0", "sixteen-letters-"] {
        assert_eq!(errno(Tun::create(name, 1)), Some(libc::EINVAL), "{name:?}");
    }
}

#[test]
fn the_name_follows_the_interface() {
    in_a_namespace(|| {
        let tuns = Tun::create("wg%d", 2).unwrap();
        assert!(tuns.iter().all(|tun| tun.name().unwrap() == "wg0"));
        ip("link set wg0 name elsewhere");
        assert!(tuns.iter().all(|tun| tun.name().unwrap() == "elsewhere"));
    });
}

#[test]
fn a_queue_knows_whether_its_interface_is_up_there_or_gone() {
    in_a_namespace(|| {
        let tuns = Tun::create("tun0", 2).unwrap();
        ip("link set tun0 addrgenmode none");
        let mut buffer = [0; 100];
        let mut packet = [0; VnetHeader::LEN + 20];
        packet[VnetHeader::LEN] = 0x45;
        for _ in 0..2 {
            for tun in &tuns {
                assert!(!tun.is_up().unwrap());
                assert_eq!(errno(tun.read(&mut buffer)), Some(libc::EAGAIN));
                assert_eq!(errno(tun.write_vectored(&[IoSlice::new(&packet)])), Some(libc::EIO));
            }
            ip("link set tun0 up");
            assert!(tuns.iter().all(|tun| tun.is_up().unwrap()));
            ip("link set tun0 down");
        }
        ip("link del tun0");
        for tun in &tuns {
            assert_eq!(errno(tun.is_up()), Some(libc::EBADFD));
            assert_eq!(errno(tun.read(&mut buffer)), Some(libc::EBADFD));
            assert_eq!(errno(tun.name()), Some(libc::EBADFD));
            let epoll = Epoll::new().unwrap();
            epoll.add(tun, 0).unwrap();
            assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap().count(), 1);
        }
    });
}

#[test]
fn a_moved_interface_is_found_and_works_from_afar() {
    in_a_namespace(|| {
        let tuns = Tun::create("tun0", 1).unwrap();
        let inode = |metadata: Metadata| std::os::unix::fs::MetadataExt::ino(&metadata);
        let own = || inode(fs::metadata("/proc/thread-self/ns/net").unwrap());
        let present =
            || inode(File::from(tuns[0].network_namespace().unwrap()).metadata().unwrap());
        assert_eq!(present(), own());
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            // `ip` takes a process, and this thread is one that lives in another namespace.
            scope.spawn(move || {
                leave(UnshareFlags::NEWNET).unwrap();
                tell.send((rustix::thread::gettid().as_raw_nonzero(), own())).unwrap();
                asked.recv().unwrap_err();
                ip("link set tun0 up");
            });
            let (thread, there) = told.recv().unwrap();
            ip(&format!("link set tun0 netns {thread}"));
            assert_eq!(present(), there);
            assert!(!tuns[0].is_up().unwrap());
            drop(ask);
        });
        assert!(tuns[0].is_up().unwrap());
    });
}

#[test]
fn packets_go_both_ways() {
    in_a_namespace(|| {
        let tun = tun_with_an_address();
        let socket = UdpSocket::bind("10.9.0.1:1000").unwrap();
        socket.send_to(b"there", "10.9.0.2:2000").unwrap();
        wait_for(&tun);
        let mut buffer = [0; 100];
        let length = tun.read(&mut buffer).unwrap();
        let (header, packet) = VnetHeader::decode(&buffer[..length]).unwrap();
        assert_eq!(header.gso_type, VnetHeader::GSO_NONE);
        assert_eq!(&packet[28..], b"there");
        assert_eq!(errno(tun.read(&mut buffer)), Some(libc::EAGAIN));

        let [here, there] = [[10, 9, 0, 1], [10, 9, 0, 2]].map(Ipv4Addr::from);
        let packet = udp_packet(there, here, [2000, 1000], b"and back");
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            csum_start: 20,
            csum_offset: 6,
            ..VnetHeader::default()
        };
        let header = header.encode();
        let (front, back) = packet.split_at(30);
        let pieces = [&header[..], front, back].map(IoSlice::new);
        assert_eq!(tun.write_vectored(&pieces).unwrap(), header.len() + packet.len());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"and back"[..], "10.9.0.2:2000".parse().unwrap()));
    });
}

#[test]
fn what_is_offloaded_is_left_to_us() {
    in_a_namespace(|| {
        let tun = tun_with_an_address();
        let group = Group::bind(Family::V4, 0, 1, 0).unwrap();
        let mut buffer = vec![0; 65_536];
        for (offload, packets) in
            [(Offload::default(), 5), (Offload::ALL, 1), (Offload::default(), 5)]
        {
            tun.set_offload(offload).unwrap();
            let train = Outgoing {
                to: "10.9.0.2:2000".parse().unwrap(),
                source: None,
                tos: 0,
                bytes: &[7; 4500],
                stride: 1000,
                is_train: true,
            };
            group.handshake.send(&train).unwrap();
            wait_for(&tun);
            for _ in 0..packets {
                let length = tun.read(&mut buffer).unwrap();
                let (header, packet) = VnetHeader::decode(&buffer[..length]).unwrap();
                if offload.udp {
                    assert_eq!(header.flags, VnetHeader::NEEDS_CSUM);
                    assert_eq!(header.gso_type, VnetHeader::GSO_UDP_L4);
                    assert_eq!(
                        (header.gso_size, header.csum_start, header.csum_offset),
                        (1000, 20, 6)
                    );
                    assert_eq!(packet.len(), 28 + 4500);
                } else {
                    assert_eq!((header.flags, header.gso_type), (0, VnetHeader::GSO_NONE));
                    assert!(packet.len() <= 28 + 1000);
                }
            }
            assert_eq!(errno(tun.read(&mut buffer)), Some(libc::EAGAIN));
        }
    });
}

#[test]
fn a_super_packet_that_is_written_arrives_as_a_train() {
    in_a_namespace(|| {
        let tun = tun_with_an_address();
        let group = Group::bind(Family::V4, 0, 1, 0).unwrap();
        let [here, there] = [[10, 9, 0, 1], [10, 9, 0, 2]].map(Ipv4Addr::from);
        let ports = [2000, group.port().unwrap()];
        let packet = udp_packet(there, here, ports, &[1; 4500]);
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_UDP_L4,
            hdr_len: 28,
            gso_size: 1000,
            csum_start: 20,
            csum_offset: 6,
        };
        let header = header.encode();
        let pieces = [&header[..], &packet].map(IoSlice::new);
        tun.write_vectored(&pieces).unwrap();
        let mut batch = ReceiveBatch::new(8, 65_535);
        assert_eq!(group.handshake.receive(&mut batch).unwrap(), 1);
        let received = batch.datagrams().next().unwrap();
        assert_eq!((received.segment_size, received.bytes.len()), (1000, 4500));
    });
}

#[test]
fn an_inherited_queue_is_like_any_other() {
    in_a_namespace(|| {
        let open = |name, flags: libc::c_int| {
            // Blocking and inheritable, as somebody else might have opened it.
            let fd =
                OwnedFd::from(File::options().read(true).write(true).open("/dev/net/tun").unwrap());
            fcntl_setfd(&fd, FdFlags::empty()).unwrap();
            let mut request = InterfaceRequest::named(name).unwrap();
            request.flags = flags as u16;
            ioctl(fd.as_fd(), Request::SetInterface(&mut request)).unwrap();
            fd
        };
        let tun = libc::IFF_TUN | libc::IFF_NO_PI;
        for (name, flags, vnet_header) in
            [("bare", tun, false), ("full", tun | libc::IFF_VNET_HDR, true)]
        {
            let tun = Tun::from_fd(open(name, flags)).unwrap();
            let offload = Offload { tcp: true, udp: false };
            assert_eq!(tun.set_offload(offload).is_ok(), vnet_header);
            tun.set_offload(Offload::default()).unwrap();
            assert_eq!(tun.name().unwrap(), name);
            assert_eq!(rustix::io::fcntl_getfd(&tun).unwrap(), FdFlags::CLOEXEC);
            ip(&format!("link set {name} addrgenmode none"));
            ip(&format!("link set {name} up"));
            assert_eq!(errno(tun.read(&mut [0; 100])), Some(libc::EAGAIN), "it does not block");
            // Whoever reads and writes sees no difference.
            ip(&format!("address add 10.9.0.1/24 dev {name}"));
            let group = Group::bind(Family::V4, 0, 1, 0).unwrap();
            let [here, there] = [[10, 9, 0, 1], [10, 9, 0, 2]].map(Ipv4Addr::from);
            let socket = UdpSocket::bind((here, 0)).unwrap();
            socket.send_to(b"out", (there, 9)).unwrap();
            let mut buffer = [0xee; 100];
            let length = tun.read(&mut buffer).unwrap();
            let (header, packet) = VnetHeader::decode(&buffer[..length]).unwrap();
            assert_eq!((header, &packet[28..]), (VnetHeader::default(), &b"out"[..]));
            let ports = [2000, group.port().unwrap()];
            let mut packet = udp_packet(there, here, ports, b"in");
            packet[26..28].fill(0); // UDP's way to say that there is no checksum
            let header = header.encode();
            tun.write_vectored(&[&header[..], &packet].map(IoSlice::new)).unwrap();
            let mut batch = ReceiveBatch::new(1, 100);
            assert_eq!(group.handshake.receive(&mut batch).unwrap(), 1);
            ip(&format!("address del 10.9.0.1/24 dev {name}"));
        }
        let tap = open("tap", libc::IFF_TAP | libc::IFF_NO_PI);
        assert_eq!(errno(Tun::from_fd(tap)), Some(libc::EINVAL));
    });
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    assert_eq!(errno(Tun::from_fd(null)), Some(libc::ENOTTY));
    if let Ok(unattached) = File::open("/dev/net/tun") {
        assert_eq!(errno(Tun::from_fd(unattached.into())), Some(libc::EBADFD));
    }
}
