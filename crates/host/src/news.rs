//! Word that something about the network has changed, and of one interface how it is now.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, recv, send};
use serde::{Deserialize, Serialize};
use sys::option;
use sys::tun::Tun;

use crate::Network;
use crate::namespace::{Identity, current};
use crate::netlink::{Message, Protocol, bound_socket};

/// What a [`Bell`] rings for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A link has appeared, gone or changed: its name, its MTU, whether it is up.
    Links,
    /// An address or a route has come or gone, so a remembered path may be wrong.
    Paths,
}

impl News {
    /// As bits (rtnetlink(7)).
    fn groups(self) -> u32 {
        let groups = match self {
            Self::Links => libc::RTMGRP_LINK,
            Self::Paths => {
                libc::RTMGRP_IPV4_IFADDR
                    | libc::RTMGRP_IPV4_ROUTE
                    | libc::RTMGRP_IPV6_IFADDR
                    | libc::RTMGRP_IPV6_ROUTE
            }
        };
        groups as u32
    }
}

/// A descriptor that is readable when there is news of one network namespace. How things are now,
/// whoever hears it must ask: news is a reason to look, nothing more.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// Rings for news of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn open(news: News) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        bound_socket(Protocol::Route, news.groups(), flags).map(Self)
    }

    /// Whether it is readable.
    pub fn rings(&self) -> bool {
        let mut bell = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut bell, Some(&Timespec::default())).is_ok_and(|ringing| ringing > 0)
    }

    /// Makes the descriptor unreadable. Drain first, then look, so that news in between is not lost.
    pub fn drain(&self) {
        // That some was dropped because it came too fast (ENOBUFS) is news as well.
        while matches!(
            recv(&self.0, &mut [0; 1], RecvFlags::empty()),
            Ok(_) | Err(Errno::NOBUFS | Errno::INTR)
        ) {}
    }

    /// Rings for news of `network`, too, and of every other namespace that has a number here, without
    /// keeping any of them alive, as a socket in it would. If that is refused, it rings as before.
    fn hear_of(&self, network: BorrowedFd<'_>) {
        /// `RTM_NEWNSID` and its attributes (linux/net_namespace.h).
        const NEW_NUMBER: u16 = 88;
        const NUMBER: u16 = 1;
        const DESCRIPTOR: u16 = 3;
        const ANY: i32 = -1;
        /// `rtgenmsg`: a family.
        const HEADER: [u8; 1] = [libc::AF_UNSPEC as u8];
        let message = Message::new(NEW_NUMBER, 0, &HEADER)
            .with(NUMBER, &ANY.to_ne_bytes())
            .with(DESCRIPTOR, &network.as_raw_fd().to_ne_bytes());
        // A refusal, or that it has a number already, is answered, and thus one more piece of news.
        let _ = send(&self.0, &message.numbered(0), SendFlags::empty());
        let option = libc::NETLINK_LISTEN_ALL_NSID;
        let _ = option::set_number(self, libc::SOL_NETLINK, option, 1);
    }
}

/// Takes over a bell that was opened in another process.
impl From<OwnedFd> for Bell {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Follows the interface of a TUN into whatever network namespace it is moved to.
#[derive(Debug)]
pub struct Follower {
    /// In our own namespace: one in the TUN's would not let that one end, and the TUN with it.
    bell: Bell,
    /// Where the bell is.
    home: Identity,
    /// Where the TUN is.
    place: Identity,
}

/// How an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Whether it is up.
    pub up: bool,
    /// Its MTU, if that can be seen.
    pub mtu: Option<u32>,
    /// Whether it has come to another network namespace since the last look.
    pub moved: bool,
}

impl Follower {
    /// Begins with where the interface of `tun` is.
    ///
    /// # Errors
    ///
    /// Those of [`Bell::open`], or that the interface is gone.
    pub fn new(tun: &Tun) -> io::Result<Self> {
        let home = Identity::of(current()?)?;
        let mut follower = Self { bell: Bell::open(News::Links)?, home, place: home };
        follower.find(tun)?;
        Ok(follower)
    }

    /// Rings when there is a reason to look.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Looks at the interface of `tun`, after the bell was drained: how it is, and in which namespace.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn look(&mut self, tun: &Tun) -> io::Result<(Sight, OwnedFd)> {
        let (network, moved) = self.find(tun)?;
        let there = match self.place == self.home {
            true => Network::open(),
            // A socket there must not stay.
            false => Network::open_in(network.as_fd()),
        };
        let name = tun.name()?;
        let link = there.and_then(|mut there| there.link(&name.to_string_lossy()));
        Ok((Sight { up: tun.is_up()?, mtu: link.ok().map(|link| link.mtu), moved }, network))
    }

    /// The namespace of the interface, and whether it has come there since it was last found. Without
    /// the right to see it, ours is the best guess.
    fn find(&mut self, tun: &Tun) -> io::Result<(OwnedFd, bool)> {
        let mut has_moved = false;
        loop {
            let network = tun.network_namespace().or_else(|_| current())?;
            let place = Identity::of(&network)?;
            if place == self.place {
                return Ok((network, has_moved));
            }
            // Of ours it rings anyway. If it moves on before anybody listens there, nobody tells us: so
            // it is looked for again.
            if place != self.home {
                self.bell.hear_of(network.as_fd());
            }
            (self.place, has_moved) = (place, true);
        }
    }
}
