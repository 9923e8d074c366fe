//! Handing datagrams to a socket, and what to do when it does not take them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proto::{Endpoint, Report, Time};
use sys::udp::{Outgoing, SendBatch, Udp};

use crate::offload::Kind;
use crate::shared::{Peer, Shared, ToControl, local};

/// How long a full socket is waited for before datagrams are lost. A queue that drains slower than
/// this is no queue but a wall.
const PATIENCE: Duration = Duration::from_millis(100);

/// The numbers of Linux, for what [`io::ErrorKind`] does not tell apart.
mod errno {
    pub const EIO: i32 = 5;
    pub const EINVAL: i32 = 22;
    pub const EADDRNOTAVAIL: i32 = 99;
    pub const ENETUNREACH: i32 = 101;
}

/// Sends what it can of `datagrams`, waiting if the socket is full; returns how many that were.
///
/// # Errors
/// What stopped the first of them.
pub(crate) fn send<'a>(
    socket: &Udp,
    batch: &mut SendBatch,
    datagrams: impl Iterator<Item = Outgoing<'a>> + Clone,
) -> io::Result<usize> {
    loop {
        match socket.send(batch, datagrams.clone()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !sys::poll::wait_writable(socket, PATIENCE)? {
                    return Err(error);
                }
            }
            result => return result,
        }
    }
}

/// The source address may no longer be ours, or no longer lead there (spec §1.11).
pub(crate) fn is_stale_source(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(errno::EINVAL | errno::EADDRNOTAVAIL | errno::ENETUNREACH))
}

/// The messages of one train, on their way to one peer.
pub(crate) struct Dispatch<'a> {
    pub shared: &'a Shared,
    pub socket: &'a Udp,
    pub peer: &'a Peer,
    pub now: Time,
    pub tos: u8,
    /// Each message but the last has this length.
    pub stride: usize,
    pub messages: &'a [u8],
}

impl Dispatch<'_> {
    /// Sends the messages to `endpoint`, as one train where that works, else one by one. Returns how
    /// many bytes were sent.
    pub fn run(&self, batch: &mut SendBatch, mut endpoint: Endpoint) -> usize {
        let offloads = &self.shared.offloads;
        let may_segment = offloads.has(Kind::UdpSegment) && self.peer.takes_trains(self.now);
        let size = u16::try_from(self.stride).ok().filter(|_| self.stride < self.messages.len());
        if let Some(size) = size.filter(|_| may_segment) {
            match self.pieces(batch, &mut endpoint, Some(size)) {
                Ok(sent) => return sent,
                Err(error) => self.train_refused(error),
            }
        }
        self.pieces(batch, &mut endpoint, None).unwrap_or_default()
    }

    /// Sends everything as one train of segments, or message by message. Only a train can fail: a
    /// message that cannot be sent is lost, and the others may fare better.
    fn pieces(
        &self,
        batch: &mut SendBatch,
        endpoint: &mut Endpoint,
        segment: Option<u16>,
    ) -> io::Result<usize> {
        if let (Some(_), Some(made_up)) = (segment, self.shared.offloads.faults.udp_segment) {
            return Err(io::Error::from_raw_os_error(made_up));
        }
        let piece = if segment.is_some() { self.messages.len() } else { self.stride };
        let (mut rest, mut sent) = (self.messages, 0);
        while !rest.is_empty() {
            let datagrams = rest.chunks(piece).map(|bytes| Outgoing {
                to: endpoint.remote,
                source: local(endpoint),
                tos: self.tos,
                segment_size: segment,
                bytes,
            });
            let passed = match send(self.socket, batch, datagrams) {
                Ok(count) => {
                    sent += rest.len().min(count * piece);
                    count
                }
                Err(error) if endpoint.source.is_some() && is_stale_source(&error) => {
                    self.forget_source(endpoint);
                    0
                }
                Err(error) if segment.is_some() => return Err(error),
                Err(_) => 1,
            };
            rest = rest.get(passed * piece..).unwrap_or_default();
        }
        Ok(sent)
    }

    fn forget_source(&self, endpoint: &mut Endpoint) {
        endpoint.source = None;
        self.peer.endpoint.store(Some(Arc::new(*endpoint)));
        self.shared.report(self.peer.id, Report::Roamed(*endpoint));
    }

    /// A train was refused: by a path too narrow for its segments, or by a device that cannot cut it.
    fn train_refused(&self, error: io::Error) {
        if error.raw_os_error() != Some(errno::EIO) {
            self.peer.refuse_trains(self.now);
        } else if self.shared.offloads.lose(Kind::UdpSegment) {
            self.shared.control.post(ToControl::OffloadLost(Kind::UdpSegment, error));
        }
    }
}
