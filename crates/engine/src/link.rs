//! The interface as the rest of the machine sees and changes it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use sys::namespace::{Identity, current, within};
use sys::netlink::{Listener, News};
use sys::tun::Tun;

/// Hears of the TUN's link in whatever network namespace it is.
pub(crate) struct Link {
    /// In our own namespace: one in the TUN's would not let that one end, and the TUN with it.
    pub listener: Listener,
    /// Where the TUN is.
    place: Identity,
}

impl Link {
    /// # Errors
    /// Those of netlink.
    pub fn open(tun: &Tun) -> io::Result<Self> {
        let here = Identity::of(current()?)?;
        let mut link = Self { listener: Listener::open(News::Links)?, place: here };
        loop {
            let (network, place) = whereabouts(tun)?;
            link.place = place;
            if place != here {
                link.listener.hear_of(network.as_fd());
            }
            // If it has moved on before anybody listened there, nobody has told us.
            if !link.has_moved(tun) {
                return Ok(link);
            }
        }
    }

    /// Whether the interface is in another namespace than when this was opened.
    pub fn has_moved(&self, tun: &Tun) -> bool {
        whereabouts(tun).is_ok_and(|(_, now)| now != self.place)
    }

    /// Looks at the interface, after news of it: whether it is up, and its MTU if that can be seen.
    ///
    /// # Errors
    /// When it is gone.
    pub fn look(&self, tun: &Tun) -> io::Result<(bool, Option<u32>)> {
        self.listener.drain();
        let (network, place) = whereabouts(tun)?;
        let mtu = match place == Identity::of(current()?)? {
            true => tun.mtu(&self.listener),
            // Any socket there will do, as long as it does not stay.
            false => within(network.as_fd(), || tun.mtu(Listener::open(News::Links)?)).flatten(),
        };
        Ok((tun.is_up()?, mtu.ok()))
    }
}

/// The namespace of the interface. Without the right to see it, ours is the best guess.
fn whereabouts(tun: &Tun) -> io::Result<(OwnedFd, Identity)> {
    let network = tun.network_namespace().or_else(|_| current())?;
    let place = Identity::of(&network)?;
    Ok((network, place))
}
