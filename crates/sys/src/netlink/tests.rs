//! Requests to the kernel that really runs, in network namespaces of their own where they change
//! it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::ErrorKind;

use super::*;

fn set_link(index: u32, up: bool, mtu: u32) -> Message {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8] = up.into();
    header[12] = libc::IFF_UP as u8;
    Message::new(libc::RTM_SETLINK, 0, &header).with(LINK_MTU, &mtu.to_ne_bytes())
}

/// A network namespace of the test's own, or a printed skip.
fn a_network() -> Option<OwnedFd> {
    match namespace::create() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!("skipped: making a network namespace needs CAP_SYS_ADMIN");
            None
        }
        network => Some(network.unwrap()),
    }
}

#[test]
fn a_nest_holds_its_attributes_and_their_padding() {
    let message = Message::new(1, 0, &[9; LINK_HEADER])
        .with(1, b"abcde")
        .nested(2, b"head", |nest| nest.with(3, b"x").with(4, &7u32.to_ne_bytes()))
        .with(5, b"");
    let attributes = Attributes::after(HEADER + LINK_HEADER, &message.0);
    let kinds: Vec<u16> = attributes.clone().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [1, 2, 5]);
    assert_eq!(attributes.get(1), Some(&b"abcde"[..]));
    let inner = Attributes::after(4, attributes.get(2).unwrap());
    assert_eq!((inner.get(3), inner.number(4), inner.number(3)), (Some(&b"x"[..]), Some(7), None));
}

#[test]
fn no_bytes_make_a_reader_panic_or_run_forever() {
    let mut state = 1u32;
    for length in (0..300).cycle().take(30_000) {
        let mut bytes = vec![0; length];
        for byte in &mut bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Mostly small numbers, so that lengths are often plausible.
            *byte = if state >> 31 == 0 { 0 } else { (state >> 16) as u8 & 0x1f };
        }
        assert!(Attributes::after(0, &bytes).count() <= length / 4);
        assert!(Messages(&bytes).count() <= length / HEADER);
        let _ = LinkEvent::read(libc::RTM_NEWLINK, &bytes);
    }
}

#[test]
fn a_refusal_is_the_kernels_errno() {
    let refused = Socket::open(Protocol::Route)
        .unwrap()
        .request(&set_link(0x7fff_ffff, true, 1500))
        .unwrap_err();
    assert!(matches!(refused.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{refused}");
}

#[test]
fn a_dump_names_the_loopback_link() {
    let mut socket = Socket::open(Protocol::Route).unwrap();
    let replies =
        socket.request(&Message::new(libc::RTM_GETLINK, DUMP, &[0; LINK_HEADER])).unwrap();
    let links: Vec<_> =
        replies.iter().filter_map(|reply| LinkEvent::read(reply.kind, &reply.payload)).collect();
    assert!(
        links.iter().any(|link| link.name == "lo" && link.index == 1 && !link.deleted),
        "{links:?}"
    );
}

#[test]
fn a_monitor_first_tells_every_link_and_then_each_change() {
    let Some(network) = a_network() else { return };
    let mut monitor = Monitor::open(Some(network.as_fd())).unwrap();
    let lo = |up, mtu| LinkEvent { index: 1, name: "lo".into(), up, mtu, deleted: false };
    assert_eq!(monitor.receive().unwrap(), Changes { links: vec![lo(false, 65536)], paths: false });
    assert_eq!(monitor.receive().unwrap(), Changes::default());

    namespace::within(network.as_fd(), || {
        Socket::open(Protocol::Route)?.request(&set_link(1, true, 9000))
    })
    .unwrap()
    .unwrap();
    let changes = monitor.receive().unwrap();
    assert_eq!(changes.links.last(), Some(&lo(true, 9000)));
    assert!(changes.paths, "127.0.0.1 appeared");
}

#[test]
fn a_monitor_that_lost_word_tells_every_link_again() {
    let Some(network) = a_network() else { return };
    let mut monitor = Monitor::open(Some(network.as_fd())).unwrap();
    monitor.receive().unwrap();
    let mut socket =
        namespace::within(network.as_fd(), || Socket::open(Protocol::Route)).unwrap().unwrap();
    for mtu in 1000..2000 {
        socket.request(&set_link(1, false, mtu)).unwrap();
    }
    let changes = monitor.receive().unwrap();
    assert!(
        changes.links.len() < 1000 && changes.paths,
        "nothing was lost: {}",
        changes.links.len()
    );
    assert_eq!(changes.links.last().map(|link| link.mtu), Some(1999));
}
