//! Telling a service manager how it is (sd_notify(3)).

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Whoever started this process, if he wants to know how it is.
pub struct Manager(Option<UnixDatagram>);

impl Manager {
    /// As the environment tells of him.
    pub fn find() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&path),
        };
        let connect = |to| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&to).map(|()| socket)
        };
        // One that does not listen loses nothing but this.
        Self(address.and_then(connect).ok())
    }

    /// Says `state`, as `READY=1`.
    pub fn tell(&self, state: &str) {
        let _ = self.0.as_ref().map(|socket| socket.send(state.as_bytes()));
    }
}

/// Says `state` to whoever started this process and wants to know; else nothing.
pub fn notify(state: &str) {
    Manager::find().tell(state);
}
