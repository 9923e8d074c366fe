//! Requests to the kernel that really runs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::*;

#[test]
fn a_nest_holds_its_attributes_and_their_padding() {
    let message = Message::new(1, 0, &[9; HEADER])
        .with(1, b"abcde")
        .nested(2, b"head", |nest| nest.with(3, b"x").with(4, &7u32.to_ne_bytes()))
        .with(5, b"");
    let attributes = Attributes::after(2 * HEADER, &message.0);
    let kinds: Vec<u16> = attributes.clone().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [1, 2, 5]);
    assert_eq!(attributes.get(1), Some(&b"abcde"[..]));
    let inner = Attributes::after(4, attributes.get(2).unwrap());
    assert_eq!((inner.get(3), inner.number(4), inner.number(3)), (Some(&b"x"[..]), Some(7), None));
}

#[test]
fn what_is_told_repeats_what_was_asked_for_whatever_else_it_tells() {
    let empty = || Message::new(1, 0, &[]);
    let part = |number: u8| move |nest: Message| nest.with(1, b"part").with(2, &[number]);
    let list = |nest: Message| nest.nested(1, &[], part(1)).nested(1, &[], part(2));
    let asked = empty().with(3, b"name").nested(4, &[], list);
    let repeats = |told: Message| {
        let [told, asked] = [&told, &asked].map(|it| Attributes::after(HEADER, &it.0));
        told.within(asked.clone()) == asked.clone().within(asked)
    };
    // Without the flag of nests, as older kernels say it.
    let plain = |list: &dyn Fn(Message) -> Message| list(empty()).0[HEADER..].to_vec();
    assert!(repeats(empty().with(9, b"more").nested(4, &[], list).with(3, b"name").with(7, b"")));
    assert!(repeats(empty().with(3, b"name").with(4, &plain(&list))));
    let with_more = |nest: Message| nest.nested(1, &[], |nest| part(1)(nest).with(3, b"more"));
    let with_more = |nest: Message| with_more(nest.with(2, b"")).nested(1, &[], part(2));
    assert!(repeats(empty().with(3, b"name").nested(4, &[], with_more)));
    for told in [
        empty().with(3, b"name"),
        empty().with(3, b"names").nested(4, &[], list),
        empty().with(3, b"name").with(3, b"name").nested(4, &[], list),
        empty().with(3, b"name").nested(4, &[], |nest| nest.nested(1, &[], part(1))),
        empty().with(3, b"name").nested(4, &[], |nest| list(nest).nested(1, &[], part(2))),
        empty()
            .with(3, b"name")
            .nested(4, &[], |nest| nest.nested(1, &[], part(2)).nested(1, &[], part(1))),
        empty()
            .with(3, b"name")
            .nested(4, &[], |nest| nest.nested(1, &[], part(1)).nested(1, &[], part(3))),
        empty().with(3, b"name").with(4, b""),
    ] {
        assert!(!repeats(told.clone()), "{:?}", told.0);
    }
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
    }
}

#[test]
fn a_refusal_is_the_kernels_errno() {
    let nobody: Vec<u8> =
        [0u32, 0x7fff_ffff, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let nobody = Message::new(libc::RTM_SETLINK, 0, &nobody);
    let refused = Socket::open(Protocol::Route).unwrap().request(&nobody).unwrap_err();
    assert!(matches!(refused.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{refused}");
}

#[test]
fn a_long_request_that_is_refused_is_not_waited_for_without_an_end() {
    const CONTROL: u16 = 0x10;
    const NOBODY: u16 = 99;
    // A command that there is not, and more than an answer may have.
    let request = Message::new(CONTROL, 0, &[0; 4]).with(NOBODY, &vec![0; BUFFER]);
    let mut socket = Socket::open(Protocol::Generic).unwrap();
    set_socket_timeout(&socket.socket, Timeout::Recv, Some(Duration::from_secs(5))).unwrap();
    let refused = socket.request(&request).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP), "{refused}");
    // As a kernel before 4.3, which repeats it.
    option::set_number(&socket.socket, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 0).unwrap();
    let cut_off = socket.request(&request).unwrap_err();
    assert_eq!(cut_off.raw_os_error(), Some(libc::EMSGSIZE), "{cut_off}");
}
