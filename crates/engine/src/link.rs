//! The interface as the rest of the machine sees and changes it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use sys::namespace::{is_same, within};
use sys::netlink::{Listener, News};
use sys::tun::Tun;

/// Hears of the TUN's link in whatever network namespace it is.
pub(crate) struct Link {
    pub listener: Listener,
    /// Where it listens, if it may know.
    namespace: Option<OwnedFd>,
}

/// How the interface is now.
pub(crate) struct State {
    pub up: bool,
    /// If it can be seen from where we listen.
    pub mtu: Option<u32>,
}

impl Link {
    /// # Errors
    /// Those of netlink.
    pub fn open(tun: &Tun) -> io::Result<Self> {
        loop {
            // Without the right to see the TUN's namespace, ours is the best guess.
            let namespace = tun.network_namespace().ok();
            let entered = namespace.as_ref().and_then(|namespace| {
                within(namespace.as_fd(), || Listener::open(News::Links))
                    .and_then(|opened| opened)
                    .ok()
            });
            let listener = entered.map_or_else(|| Listener::open(News::Links), Ok)?;
            let link = Self { listener, namespace };
            // If it has moved on before anybody listened there, nobody has told us.
            if !link.has_moved(tun) {
                return Ok(link);
            }
        }
    }

    /// Whether the interface is in another namespace than when this was opened.
    pub fn has_moved(&self, tun: &Tun) -> bool {
        let present = tun.network_namespace();
        self.namespace.as_ref().is_some_and(|before| present.is_ok_and(|now| !is_same(before, now)))
    }

    /// Looks at the interface, after news of it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn look(&self, tun: &Tun) -> io::Result<State> {
        self.listener.drain();
        Ok(State { up: tun.is_up()?, mtu: tun.mtu(&self.listener).ok() })
    }
}
