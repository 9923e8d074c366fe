//! UDP as the kernel really does it, over the loopback link.
//!
//! No test of this file may start a process: until it is executed, a child holds copies of every
//! socket, and a port that was closed here would still be taken.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use support::*;
use sys::udp::{Family, Group, Outgoing, ReceiveBatch, bind_pair};

const WILDCARDS: [(Family, IpAddr); 2] = [
    (Family::V4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    (Family::V6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
];

/// Runs `work` where nobody else takes ports, if that is allowed.
fn alone(work: impl FnOnce() + Send) {
    elsewhere(|_| work());
}

#[test]
fn a_datagram_tells_where_it_was_addressed_to_and_how_it_was_marked() {
    for (family, ip) in LOOPBACKS {
        let (alice, bob) = (group(family), group(family));
        let (from, to) = (address(ip, &alice), address(ip, &bob));
        let datagram = Outgoing { tos: 0b1010_1011, ..plain(to, b"hello") };
        assert_eq!(alice.handshake.send(&datagram).unwrap(), 5);
        receive_all(&bob.handshake, 5, |received| {
            assert_eq!(received.from, from);
            // That of the interface would change where a peer has two ways to us.
            assert_eq!(received.local, Some((ip, 0)));
            assert_eq!(received.tos, 0b1010_1011);
            assert_eq!(received.segment_size, 5);
            assert_eq!(received.bytes, b"hello");
        });
    }
}

#[test]
fn an_unmarked_datagram_is_received_as_such_after_a_marked_one() {
    for (family, ip) in LOOPBACKS {
        let (alice, bob) = (group(family), group(family));
        let to = address(ip, &bob);
        let mut batch = ReceiveBatch::new(1, 100);
        for tos in [3, 0, 2, 0] {
            alice.handshake.send(&Outgoing { tos, ..plain(to, b"hello") }).unwrap();
            assert_eq!(bob.handshake.receive(&mut batch).unwrap(), 1);
            assert_eq!(batch.datagrams().next().unwrap().tos, tos);
        }
    }
}

#[test]
fn a_datagram_bears_the_source_address_that_was_asked_for() {
    let (alice, bob) = (group(Family::V4), group(Family::V4));
    let to = address(Ipv4Addr::LOCALHOST.into(), &bob);
    let ours = IpAddr::from([127, 1, 2, 3]);
    // The interface is not this address's, which must not matter.
    let source = Some((ours, 12_345));
    alice.handshake.send(&Outgoing { source, ..plain(to, b"hello") }).unwrap();
    receive_all(&bob.handshake, 5, |received| {
        assert_eq!(received.from, address(ours, &alice));
    });
}

#[test]
fn an_address_that_is_not_ours_is_refused_as_a_source() {
    let strangers = [IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap()];
    let errors = [libc::ENETUNREACH, libc::EINVAL];
    for (((family, ip), stranger), errno) in LOOPBACKS.into_iter().zip(strangers).zip(errors) {
        let (alice, bob) = (group(family), group(family));
        let source = Some((stranger, 0));
        let datagram = Outgoing { source, ..plain(address(ip, &bob), b"hello") };
        let error = alice.handshake.send(&datagram).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{error}");
    }
}

#[test]
fn a_source_of_the_other_family_is_ignored() {
    for ((family, ip), (_, other)) in LOOPBACKS.into_iter().zip(LOOPBACKS.into_iter().rev()) {
        let (alice, bob) = (group(family), group(family));
        let source = Some((other, 1));
        alice.handshake.send(&Outgoing { source, ..plain(address(ip, &bob), b"a") }).unwrap();
        receive_all(&bob.handshake, 1, |received| {
            assert_eq!(received.from.ip(), ip);
        });
    }
}

#[test]
fn every_size_arrives() {
    for (family, ip) in LOOPBACKS {
        let (alice, bob) = (group(family), group(family));
        let to = address(ip, &bob);
        let largest = match family {
            Family::V4 => 65_535 - 20 - 8,
            Family::V6 => 65_535 - 8,
        };
        let mut bytes: Vec<u8> = (0..=largest).map(|at| (at % 251) as u8).collect();
        bytes[0] = 1;
        for length in [1, 31, 32, 148, 1452, 9000, largest - 1, largest] {
            alice.handshake.send(&plain(to, &bytes[..length])).unwrap();
            let mut arrived = 0;
            receive_all(&bob.handshake, length, |received| {
                assert_eq!(received.bytes, &bytes[..length]);
                arrived += 1;
            });
            assert_eq!(arrived, 1, "{length} bytes");
        }
        let error = alice.handshake.send(&plain(to, &bytes)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    }
}

#[test]
fn a_train_arrives_whole_and_says_where_to_cut() {
    for (family, ip) in LOOPBACKS {
        let (alice, bob) = (group(family), group(family));
        let train: Vec<u8> = (0..40 * 1000 + 10).map(|at| (at / 1000) as u8).collect();
        let datagram =
            Outgoing { stride: 1000, is_train: true, tos: 2, ..plain(address(ip, &bob), &train) };
        alice.handshake.send(&datagram).unwrap();
        let mut trains = 0;
        receive_all(&bob.handshake, train.len(), |received| {
            trains += 1;
            assert_eq!(received.segment_size, 1000);
            assert_eq!(received.tos, 2);
            assert_eq!(received.bytes, train);
        });
        assert_eq!(trains, 1);
    }
}

#[test]
fn a_train_arrives_in_pieces_where_nobody_asked_for_trains() {
    for (family, ip) in LOOPBACKS {
        let (alice, bob) = (group(family), group(family));
        bob.sockets().try_for_each(|socket| socket.set_gro(false)).unwrap();
        let train = [1; 5 * 1000 + 10];
        let datagram =
            Outgoing { stride: 1000, is_train: true, ..plain(address(ip, &bob), &train) };
        alice.handshake.send(&datagram).unwrap();
        let mut lengths = Vec::new();
        receive_all(&bob.handshake, train.len(), |received| {
            assert_eq!(received.segment_size, received.bytes.len());
            lengths.push(received.bytes.len());
        });
        assert_eq!(lengths, [1000, 1000, 1000, 1000, 1000, 10]);
    }
}

#[test]
fn a_train_of_one_is_a_datagram() {
    let (alice, bob) = (group(Family::V4), group(Family::V4));
    let to = address(Ipv4Addr::LOCALHOST.into(), &bob);
    for stride in [5, 6, 65_535, 65_536] {
        let datagram = Outgoing { stride, is_train: true, ..plain(to, b"hello") };
        alice.handshake.send(&datagram).unwrap();
        receive_all(&bob.handshake, 5, |received| {
            assert_eq!(received.segment_size, 5);
        });
    }
}

#[test]
fn a_datagram_larger_than_its_slot_is_left_out() {
    let (alice, bob) = (group(Family::V4), group(Family::V4));
    let to = address(Ipv4Addr::LOCALHOST.into(), &bob);
    for bytes in [&[1; 10][..], &[1; 11], &[1; 9]] {
        alice.handshake.send(&plain(to, bytes)).unwrap();
    }
    let mut batch = ReceiveBatch::new(8, 10);
    assert_eq!(bob.handshake.receive(&mut batch).unwrap(), 3);
    let lengths: Vec<_> = batch.datagrams().map(|received| received.bytes.len()).collect();
    assert_eq!(lengths, [10, 9]);
}

#[test]
fn nothing_there_is_would_block_and_empties_the_batch() {
    let (alice, bob) = (group(Family::V4), group(Family::V4));
    let to = address(Ipv4Addr::LOCALHOST.into(), &bob);
    alice.handshake.send(&plain(to, b"hello")).unwrap();
    let mut batch = ReceiveBatch::new(8, 100);
    assert_eq!(bob.handshake.receive(&mut batch).unwrap(), 1);
    assert_eq!(batch.datagrams().count(), 1);
    assert_eq!(batch.datagrams().count(), 1, "what was received can be looked at twice");
    let error = bob.handshake.receive(&mut batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(batch.datagrams().count(), 0);
}

#[test]
fn datagrams_can_be_changed_in_place_and_held_together() {
    let (alice, bob) = (group(Family::V4), group(Family::V4));
    let to = address(Ipv4Addr::LOCALHOST.into(), &bob);
    alice.handshake.send(&Outgoing { stride: 3, ..plain(to, b"onetwo") }).unwrap();
    let mut batch = ReceiveBatch::new(2, 100);
    bob.handshake.receive(&mut batch).unwrap();
    let held: Vec<_> = batch.datagrams().collect();
    for received in held {
        received.bytes.make_ascii_uppercase();
    }
    let texts: Vec<_> = batch.datagrams().map(|received| received.bytes.to_vec()).collect();
    assert_eq!(texts, [b"ONE", b"TWO"]);
}

#[test]
fn a_send_that_fails_sends_nothing_and_what_follows_can_be_sent() {
    let (alice, bob) = (group(Family::V4), group(Family::V4));
    let to = address(Ipv4Addr::LOCALHOST.into(), &bob);
    let bytes = vec![1; 65_508 + 7];
    let datagrams = Outgoing { stride: 65_508, ..plain(to, &bytes) };
    let error = alice.handshake.send(&datagrams).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    let rest = Outgoing { bytes: &bytes[65_508..], ..datagrams };
    assert_eq!(alice.handshake.send(&rest).unwrap(), 7);
    receive_all(&bob.handshake, 7, |received| assert_eq!(received.bytes, [1; 7]));
}

#[test]
fn a_send_takes_64_datagrams_and_tells_how_many_bytes_they_were() {
    for (family, ip) in LOOPBACKS {
        let (alice, bob) = (group(family), group(family));
        // Each begins with its number, which chooses no socket for data.
        let bytes: Vec<u8> = (100..170).flat_map(|number| [number; 10]).collect();
        let all = Outgoing { stride: 10, tos: 1, ..plain(address(ip, &bob), &bytes) };
        assert_eq!(alice.handshake.send(&all).unwrap(), 640);
        let rest = &bytes[640..699];
        assert_eq!(alice.handshake.send(&Outgoing { bytes: rest, ..all }).unwrap(), 59);
        assert_eq!(alice.handshake.send(&Outgoing { bytes: &[], ..all }).unwrap(), 0);
        let mut arrived = Vec::new();
        receive_all(&bob.handshake, 699, |received| {
            assert_eq!((received.segment_size, received.tos), (received.bytes.len(), 1));
            arrived.extend_from_slice(received.bytes);
        });
        assert_eq!(arrived, bytes[..699]);
        assert!(!is_readable(&bob.handshake));
    }
}

#[test]
fn the_first_bytes_choose_the_socket() {
    for (family, ip) in LOOPBACKS {
        for data_sockets in [1, 2, 3, 4, 7, 128] {
            let group = Group::bind(family, 0, data_sockets, 0).unwrap();
            assert_eq!(group.data.len(), data_sockets);
            let to = address(ip, &group);
            let data = |worker: u8| (&group.data[usize::from(worker) % data_sockets], worker);
            let other = (&group.handshake, 9);
            // Several senders, so that a choice by addresses and ports would not pass for ours.
            for _ in 0..8 {
                let sender = UdpSocket::bind((ip, 0)).unwrap();
                for (kind, (expected, byte)) in [
                    (4, data(0)),
                    (4, data(1)),
                    (4, data(6)),
                    (4, data(255)),
                    (1, other),
                    (2, other),
                    (3, other),
                    (0, other),
                    (5, other),
                    (255, other),
                ] {
                    sender.send_to(&[kind, 0, 0, 0, byte, 7, 7], to).unwrap();
                    receive_all(expected, 7, |received| {
                        assert_eq!(received.bytes, [kind, 0, 0, 0, byte, 7, 7]);
                    });
                }
                // Too short to say which worker, or anything.
                for bytes in [&[4][..], &[4, 0, 0, 0], &[]] {
                    sender.send_to(bytes, to).unwrap();
                    receive_all(&group.data[0], bytes.len(), |received| {
                        assert_eq!(received.bytes, bytes);
                        assert_eq!(received.segment_size, bytes.len().max(1));
                    });
                }
            }
        }
    }
}

#[test]
fn nobody_else_gets_the_port() {
    alone(|| {
        for (family, wildcard) in WILDCARDS {
            let group = Group::bind(family, 0, 2, 0).unwrap();
            let port = group.port().unwrap();
            let error = UdpSocket::bind((wildcard, port)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            let error = Group::bind(family, port, 2, 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            drop(group);
            Group::bind(family, port, 2, 0).unwrap();
        }
    });
}

#[test]
fn a_port_that_somebody_has_is_not_joined() {
    for (family, ip) in LOOPBACKS {
        let holder = UdpSocket::bind((ip, 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = Group::bind(family, port, 1, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}

#[test]
fn a_pair_has_one_port_for_both_families() {
    let [v4, v6] = bind_pair(0, 2, 0).unwrap();
    let (v4, v6) = (v4.unwrap(), v6.unwrap());
    assert_ne!(v4.port().unwrap(), 0);
    assert_eq!(v4.port().unwrap(), v6.port().unwrap());
    for (group, (_, ip)) in [v4, v6].iter().zip(LOOPBACKS) {
        let sender = UdpSocket::bind((ip, 0)).unwrap();
        sender.send_to(b"hello", address(ip, group)).unwrap();
        assert!(group.sockets().any(is_readable));
    }
}

#[test]
fn a_pair_draws_again_until_a_port_is_free_for_both() {
    elsewhere(|outcome| {
        if let Err(error) = outcome {
            return eprintln!("skipped: no network namespace: {error}");
        }
        // Two ports to draw from, of which IPv6 has lost one.
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        std::fs::write(range, "40000 40001").unwrap();
        let _holder = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 40_000)).unwrap();
        for _ in 0..20 {
            let [v4, v6] = bind_pair(0, 1, 0).unwrap();
            assert_eq!(v4.unwrap().port().unwrap(), 40_001);
            assert_eq!(v6.unwrap().port().unwrap(), 40_001);
        }
        let _other = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 40_001)).unwrap();
        let error = bind_pair(0, 1, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn a_family_that_the_kernel_does_not_speak_is_left_out() {
    on_a_thread_without(&[libc::AF_INET6], || {
        let [v4, v6] = bind_pair(0, 1, 0).unwrap();
        assert!(v4.is_some() && v6.is_none());
    });
    on_a_thread_without(&[libc::AF_INET], || {
        let [v4, v6] = bind_pair(0, 1, 0).unwrap();
        assert!(v4.is_none() && v6.is_some());
    });
    on_a_thread_without(&[libc::AF_INET, libc::AF_INET6], || {
        let error = bind_pair(0, 1, 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
    });
}

/// Runs `work` where the kernel says that it does not know some address families (seccomp(2)).
fn on_a_thread_without(families: &[libc::c_int], work: impl FnOnce() + Send) {
    let instruction =
        |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let jump = |k, jt, jf| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, jt, jf);
    let answer = |k| instruction(libc::BPF_RET | libc::BPF_K, k, 0, 0);
    // In struct seccomp_data the number comes first, and the first argument at 16.
    let mut filter = vec![load(0), jump(libc::SYS_socket as u32, 1, 0)];
    filter.extend([answer(libc::SECCOMP_RET_ALLOW), load(16)]);
    for &family in families {
        filter.push(jump(family as u32, 0, 1));
        filter.push(answer(libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32));
    }
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    let limit = || {
        let program =
            libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: this option takes no pointers.
        let denied = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(denied, 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        // SAFETY: `program` describes `filter`, which the kernel copies.
        let denied = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
        assert_eq!(denied, 0);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            limit();
            work();
        });
    });
}

#[test]
fn ipv4_never_arrives_in_the_disguise_of_ipv6() {
    let v6 = group(Family::V6);
    let port = v6.port().unwrap();
    // The port is free for IPv4, as it would not be if the group accepted both.
    let v4 = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mapped =
        SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), v4.local_addr().unwrap().port());
    assert!(v6.handshake.send(&plain(mapped, b"hello")).is_err());
}

#[test]
fn a_pair_that_cannot_have_its_port_leaves_nothing_open() {
    alone(|| {
        let holder = Group::bind(Family::V6, 0, 1, 0).unwrap();
        let port = holder.port().unwrap();
        let error = bind_pair(port, 1, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(holder);
        bind_pair(port, 1, 0).unwrap();
    });
}

#[test]
fn an_unreachable_port_does_not_disturb_the_socket() {
    for (family, ip) in LOOPBACKS {
        let (alice, bob) = (group(family), group(family));
        let nobody = {
            let gone = UdpSocket::bind((ip, 0)).unwrap();
            gone.local_addr().unwrap()
        };
        for _ in 0..3 {
            alice.handshake.send(&plain(nobody, b"hello")).unwrap();
        }
        let error = alice.handshake.receive(&mut ReceiveBatch::new(1, 10)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        alice.handshake.send(&plain(address(ip, &bob), b"hello")).unwrap();
    }
}
