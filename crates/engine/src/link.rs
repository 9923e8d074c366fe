//! The interface as the rest of the machine sees and changes it.

use std::io;
use std::os::fd::AsFd;

use sys::namespace::is_same;
use sys::netlink::Monitor;
use sys::poll::{Epoll, Interest};
use sys::tun::Tun;

/// Watches the TUN's link in whatever network namespace it is, and the paths in the one of our sockets.
pub(crate) struct Link {
    link: Monitor,
    paths: Monitor,
}

/// How the interface is now.
pub(crate) struct News {
    pub up: bool,
    /// If it was heard of.
    pub mtu: Option<u32>,
    /// It is in another namespace than before; watch it anew.
    pub moved: bool,
}

impl Link {
    /// # Errors
    /// Those of netlink.
    pub fn open(tun: &Tun) -> io::Result<Self> {
        Ok(Self { link: monitor(tun)?, paths: Monitor::open(None)? })
    }

    /// Has `epoll` tell of both.
    ///
    /// # Errors
    /// Those of epoll.
    pub fn watch(&self, epoll: &Epoll, link: u64, paths: u64) -> io::Result<()> {
        epoll.add(&self.link, link, Interest::Readable)?;
        // It is watched already when only the link has moved.
        epoll.add(&self.paths, paths, Interest::Readable).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })
    }

    /// Reads what happened to the interface.
    ///
    /// # Errors
    /// When it is gone.
    pub fn follow(&mut self, tun: &Tun) -> io::Result<News> {
        // What netlink fails to tell, the TUN tells.
        let links = self.link.receive().map(|changes| changes.links).unwrap_or_default();
        let (up, name) = (tun.is_up()?, tun.name()?);
        let ours = || links.iter().filter(|link| name.to_str() == Some(&link.name));
        let mtu = ours().rfind(|link| !link.deleted).map(|link| link.mtu);
        let moved = ours().next_back().is_some_and(|link| link.deleted);
        if moved {
            self.link = monitor(tun)?;
        }
        Ok(News { up, mtu, moved })
    }

    /// Whether an address or a route has come or gone.
    pub fn paths_changed(&mut self) -> bool {
        self.paths.receive().is_ok_and(|changes| changes.paths)
    }
}

/// Without the right to see the TUN's namespace, ours is the best guess.
fn monitor(tun: &Tun) -> io::Result<Monitor> {
    loop {
        let Ok(namespace) = tun.network_namespace() else { return Monitor::open(None) };
        let monitor = Monitor::open(Some(namespace.as_fd())).or_else(|_| Monitor::open(None))?;
        // If it has moved on before anybody listened there, nobody has told us.
        match tun.network_namespace() {
            Ok(present) if !is_same(&present, &namespace) => {}
            _ => return Ok(monitor),
        }
    }
}
