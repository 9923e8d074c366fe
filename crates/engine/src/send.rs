//! Handing datagrams to a socket, and what to do when it does not take them.

use std::io;

use proto::{Endpoint, Time};
use sys::udp::{Outgoing, SendBatch, Udp};

use crate::offload::Kind;
use crate::shared::{Peer, Shared, ToControl, local};

/// The numbers of Linux, for what [`io::ErrorKind`] does not tell apart.
mod errno {
    pub const EIO: i32 = 5;
    pub const EINVAL: i32 = 22;
    pub const EMSGSIZE: i32 = 90;
    pub const EADDRNOTAVAIL: i32 = 99;
    pub const ENETUNREACH: i32 = 101;
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

/// How far sending has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Bytes of messages that need not be sent any more; less than all only if the socket is full.
    pub passed: usize,
    /// Bytes of messages that were sent.
    pub sent: usize,
}

impl Dispatch<'_> {
    /// Sends the messages to where the peer is, as one train where that works, else one by one.
    pub fn run(&self, batch: &mut SendBatch) -> Progress {
        let nowhere = Progress { passed: self.messages.len(), sent: 0 };
        let Some(endpoint) = self.peer.endpoint.load_full() else { return nowhere };
        let offloads = &self.shared.offloads;
        let may_segment = offloads.has(Kind::UdpSegment) && self.peer.takes_trains(self.now);
        let size = u16::try_from(self.stride).ok().filter(|_| self.stride < self.messages.len());
        let refusal = match size.filter(|_| may_segment) {
            Some(size) => match self.pieces(batch, &endpoint, Some(size)) {
                Ok(progress) => return progress,
                Err(error) => Some(error),
            },
            None => None,
        };
        match self.pieces(batch, &endpoint, None) {
            // Its source was to blame, not the train.
            Err(_) => {
                let endpoint = self.peer.forget_source(self.shared, &endpoint);
                self.pieces(batch, &endpoint, None).unwrap_or(nowhere)
            }
            Ok(progress) => {
                if let Some(error) = refusal {
                    self.train_refused(error);
                }
                progress
            }
        }
    }

    /// Sends everything as one train of segments, or message by message.
    ///
    /// # Errors
    /// A refused train, or a stale source. Any other message that cannot be sent is lost, and the
    /// others may fare better.
    fn pieces(
        &self,
        batch: &mut SendBatch,
        endpoint: &Endpoint,
        segment: Option<u16>,
    ) -> io::Result<Progress> {
        if segment.is_some() {
            self.shared.offloads.make_up(Kind::UdpSegment)?;
        }
        let piece = if segment.is_some() { self.messages.len() } else { self.stride };
        let mut progress = Progress { passed: 0, sent: 0 };
        while let Some(rest) = self.messages.get(progress.passed..).filter(|rest| !rest.is_empty())
        {
            let datagrams = rest.chunks(piece).map(|bytes| Outgoing {
                to: endpoint.remote,
                source: local(endpoint),
                tos: self.tos,
                segment_size: segment,
                bytes,
            });
            match self.socket.send(batch, datagrams) {
                Ok(count) => {
                    let bytes = rest.len().min(count * piece);
                    progress.passed += bytes;
                    progress.sent += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if segment.is_some() => return Err(error),
                Err(error) if endpoint.source.is_some() && is_stale_source(&error) => {
                    return Err(error);
                }
                Err(_) => progress.passed += rest.len().min(piece),
            }
        }
        Ok(progress)
    }

    /// A train was refused: by a path too narrow for its segments, or by a device on it that cannot cut
    /// it. Another path may be better, and this one later.
    fn train_refused(&self, error: io::Error) {
        if let Some(errno::EIO | errno::EINVAL | errno::EMSGSIZE) = error.raw_os_error() {
            self.peer.refuse_trains(self.now);
            self.shared.control.post(ToControl::OffloadLost(Kind::UdpSegment, error));
        }
    }
}
