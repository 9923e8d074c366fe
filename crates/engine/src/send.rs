//! Handing a train to a socket, and what to do when that does not take it.

use std::io::{self, ErrorKind};

use proto::Report;
use sys::udp::{Family, Outgoing, SendBatch};

use crate::Notice;
use crate::mailbox::Letter;
use crate::offload::Kind;
use crate::outbound::Train;
use crate::worker::Round;

/// The source address may no longer be ours, or no longer lead there (spec §1.11).
pub(crate) fn is_stale_source(error: &io::Error) -> bool {
    use ErrorKind::{AddrNotAvailable, InvalidInput, NetworkUnreachable};
    matches!(error.kind(), InvalidInput | AddrNotAvailable | NetworkUnreachable)
}

/// A path is too narrow for the segments of a train, or a device on it cannot cut it.
fn is_refused_train(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EMSGSIZE: i32 = 90;
    error.kind() == ErrorKind::InvalidInput || matches!(error.raw_os_error(), Some(EIO | EMSGSIZE))
}

impl Train {
    /// Sends `messages`, which are those of this train, to where the peer is: as one train where that
    /// works, else one by one. Returns how many bytes are done with: all of them, unless the socket is
    /// full. A message that cannot be sent is lost, and the others may fare better.
    pub fn send(&self, round: &Round<'_>, batch: &mut SendBatch, messages: &[u8]) -> usize {
        let (Self { peer, stride, .. }, &Round { shared, now, .. }) = (self, round);
        let may_segment = *stride < messages.len()
            && shared.offloads.has(Kind::UdpSegment)
            && peer.takes_trains(now);
        let mut segment_size = u16::try_from(*stride).ok().filter(|_| may_segment);
        let (mut passed, mut refusal, mut has_stale_source) = (0, None, false);
        while let Some(rest) = messages.get(passed..).filter(|rest| !rest.is_empty()) {
            let endpoint = peer.endpoint.load();
            let Some(endpoint) = endpoint.as_deref() else { return messages.len() };
            let socket = round.socket(Family::of(endpoint.remote));
            let Some(socket) = socket else { return messages.len() };
            let piece = if segment_size.is_some() { rest.len() } else { *stride };
            let datagrams = rest.chunks(piece).map(|bytes| Outgoing {
                to: endpoint.remote,
                source: endpoint.source.filter(|_| !has_stale_source),
                tos: self.tos,
                segment_size,
                bytes,
            });
            let fault = segment_size.map_or(Ok(()), |_| shared.offloads.make_up(Kind::UdpSegment));
            match fault.and_then(|()| socket.send(batch, datagrams)) {
                Ok(count) => {
                    let bytes = rest.len().min(count * piece);
                    passed += bytes;
                    peer.traffic.count_tx(bytes as u64);
                    if peer.traffic.sent(now, true) {
                        shared.report(peer.id, Report::Armed);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if segment_size.is_some() => {
                    (segment_size, refusal) = (None, Some(error));
                }
                // Once only: the peer may have roamed back meanwhile.
                Err(error)
                    if !has_stale_source
                        && endpoint.source.is_some()
                        && is_stale_source(&error) =>
                {
                    has_stale_source = true;
                    peer.forget_source(shared, endpoint);
                    // That was to blame, not the train.
                    refusal = None;
                }
                Err(_) => passed += rest.len().min(piece),
            }
        }
        // Another path may be better, and this one later.
        if let Some(error) = refusal.filter(is_refused_train) {
            peer.refuse_trains(now);
            shared.control.post(Letter::Tell(Notice::OffloadLost(Kind::UdpSegment, error)));
        }
        if self.keypair.wants_rekey(now) && peer.traffic.ask(now) {
            shared.report(peer.id, Report::WantsSession);
        }
        passed
    }
}
