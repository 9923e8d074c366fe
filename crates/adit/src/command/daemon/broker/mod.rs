//! The broker: does for a tunnel what takes privileges, when it is asked to.
//!
//! The process that carries packets, and reads what strangers send, gives up every privilege when it
//! has started (`host::confine`). What it needs of the machine later it asks of a second process, in a
//! few typed requests, and gets answers and open descriptors. That one reads nothing else, keeps
//! nothing, holds no key, has no rights but those that its requests take, and ends when the first does.

mod client;
mod line;
mod server;

use std::net::IpAddr;
use std::{fmt, io};

use host::confine::Wall;
use serde::{Deserialize, Serialize};

use super::socket::File;
use crate::command::words;

pub use client::Broker;
pub use server::run;

/// What can be asked. A queue of the TUN comes with those that concern it: the broker keeps none, since
/// it would keep the interface.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// The first, and only then: begin to serve this tunnel, and keep this socket for it. A queue comes
    /// with it; the answer says which walls the broker lacks, and brings a descriptor that is readable
    /// when it is time to look.
    Begin(String, File),
    /// Open the sockets of a port. They come with the answer, which says for each family whether it is
    /// there.
    Bind { port: u16, data_sockets: usize, mark: u32 },
    /// Mark what the sockets that come with it send.
    Mark(u32),
    /// Open a socket of each family that sends with this mark. The answer says which are there.
    Probes(u32),
    /// Whether the address is one of this machine's.
    Has(IpAddr),
    /// How the interface is, a queue of which comes with it.
    Look,
    /// Hear what comes by ICMP instead of answers.
    Reports,
    /// The number of the interface of this name.
    Zone(String),
    /// Tell the tunnel's keeper that this peer does not answer.
    Silence([u8; 32]),
    /// Tell all keepers that the port or the mark may be others now.
    TellKeepers,
    /// Whether the socket's file is still where it was.
    HasFile,
    /// Remove the socket's file: the tunnel ends.
    RemoveFile,
}

/// A wall that could not be put up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gap {
    wall: String,
    why: String,
    /// Whether it is not to be had here, so that nobody has to mend anything.
    pub is_usual: bool,
}

impl Gap {
    /// Of this wall, for this reason.
    pub fn new((wall, why): (Wall, io::Error)) -> Self {
        // The kernel has none; or root of a container or of a service may be nobody else.
        let is_usual = why.kind() == io::ErrorKind::Unsupported || wall == Wall::User;
        Self { wall: wall.to_string(), why: words(&why), is_usual }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "without one of its walls, {}: {}", self.wall, self.why)
    }
}
