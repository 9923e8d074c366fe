//! netlink(7), as far as it needs no message to be read: word that something has changed, and two
//! options.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use crate::option;

/// What a [`Listener`] is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum News {
    /// A link has appeared, gone or changed: its name, its MTU, whether it is up.
    Links = libc::RTMGRP_LINK as u32,
    /// An address or a route has come or gone, so a remembered path may be wrong.
    Paths = (libc::RTMGRP_IPV4_IFADDR
        | libc::RTMGRP_IPV4_ROUTE
        | libc::RTMGRP_IPV6_IFADDR
        | libc::RTMGRP_IPV6_ROUTE) as u32,
}

/// A descriptor that is readable when there is news of one network namespace (rtnetlink(7)). How
/// things are now, whoever hears it must ask: news is a reason to look, nothing more.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn open(news: News) -> io::Result<Listener> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, news as u32))?;
        Ok(Listener(socket))
    }

    /// Hears of `network`, too, and of every other namespace that has a number here, without keeping any
    /// of them alive, as a socket in it would. If that is refused, it hears of its own only, as before.
    pub fn hear_of(&self, network: BorrowedFd<'_>) {
        /// `RTM_NEWNSID` and its attributes (linux/net_namespace.h).
        const NEW_NUMBER: u16 = 88;
        const NUMBER: u16 = 1;
        const DESCRIPTOR: u16 = 3;
        const ANY: i32 = -1;
        // nlmsghdr (length; kind and flags; sequence; port), rtgenmsg, two attributes of four bytes.
        let message = [
            &36_u32.to_ne_bytes()[..],
            [NEW_NUMBER, libc::NLM_F_REQUEST as u16].map(u16::to_ne_bytes).as_flattened(),
            &[0; 4 + 4 + 4],
            [8, NUMBER].map(u16::to_ne_bytes).as_flattened(),
            &ANY.to_ne_bytes(),
            [8, DESCRIPTOR].map(u16::to_ne_bytes).as_flattened(),
            &network.as_raw_fd().to_ne_bytes(),
        ]
        .concat();
        // A refusal, or that it has a number already, is answered, and thus one more piece of news.
        let _ = send(&self.0, &message, SendFlags::empty());
        let _ = option::set(self, libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID, &1);
    }

    /// Makes the descriptor unreadable. Drain first, then look, so that news in between is not lost.
    pub fn drain(&self) {
        // That some was dropped because it came too fast (ENOBUFS) is news as well.
        while matches!(
            recv(&self.0, &mut [0; 1], RecvFlags::empty()),
            Ok(_) | Err(Errno::NOBUFS | Errno::INTR)
        ) {}
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets the kernel apply what a dump asks for, such as one table of routes
/// (`NETLINK_GET_STRICT_CHK`). A kernel before 4.20 cannot, and tells all.
pub fn filter_dumps(socket: impl AsFd) {
    let _ = option::set(socket, libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, &1);
}
