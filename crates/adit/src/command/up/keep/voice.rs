//! What a keeper says: on stderr, where somebody stays to read it, else to the system's log; and to
//! a service manager that wants to know how it is (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::process;

use crate::command::notify::notify;

/// Where the system's log listens.
const LOG: &str = "/dev/log";
/// Of a daemon, to be noticed (syslog(3)): facility 3, severity 5.
const PRIORITY: u8 = 3 << 3 | 5;

/// Speaks for one tunnel.
pub struct Voice {
    name: String,
    is_heard: bool,
}

impl Voice {
    /// For a tunnel; `is_heard` if stderr leads to somebody.
    pub fn new(name: &str, is_heard: bool) -> Self {
        Self { name: name.to_owned(), is_heard }
    }

    /// One line for whoever looks after the machine.
    pub fn say(&self, text: &str) {
        if self.is_heard {
            return eprintln!("adit: {}: {text}", self.name);
        }
        let line = format!("<{PRIORITY}>adit[{}]: {}: {text}", process::id(), self.name);
        // A machine without a log has nobody who reads it.
        let _ = UnixDatagram::unbound().and_then(|it| it.send_to(line.as_bytes(), LOG));
    }

    /// Tells the service manager, if there is one.
    pub fn notify(&self, state: &str) {
        if self.is_heard {
            notify(state);
        }
    }
}
