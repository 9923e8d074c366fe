//! Handing a train to a socket, and what to do when that does not take it.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::time::Duration;

use proto::{Endpoint, Report};
use sys::udp::{Family, Outgoing, Udp};

use crate::Notice;
use crate::mailbox::Letter;
use crate::offload::Kind;
use crate::outbound::Train;
use crate::worker::Round;

/// Sends `datagrams` by `socket`. If their source address may no longer be ours, or no longer lead there
/// (spec §1.11), the routing table chooses; if that helps, it is `stale`. A train may be the mistake
/// itself where one message is none (spec §1.13), and another way would hide that.
pub(crate) fn send(
    socket: &Udp,
    datagrams: &Outgoing<'_>,
    stale: impl FnOnce(),
) -> io::Result<usize> {
    use ErrorKind::{AddrNotAvailable, InvalidInput, NetworkUnreachable};
    let may_be_stale = |error: &io::Error| match error.kind() {
        InvalidInput => !datagrams.is_train,
        kind => matches!(kind, AddrNotAvailable | NetworkUnreachable),
    };
    match socket.send(datagrams) {
        Err(error) if datagrams.source.is_some() && may_be_stale(&error) => {
            let sent = socket.send(&Outgoing { source: None, ..*datagrams });
            sent.inspect(|_| stale())
        }
        outcome => outcome,
    }
}

/// A path is too narrow for the segments of a train, or a device on it cannot cut it.
fn is_refused_train(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EMSGSIZE: i32 = 90;
    error.kind() == ErrorKind::InvalidInput || matches!(error.raw_os_error(), Some(EIO | EMSGSIZE))
}

/// How long a full socket is waited for, which spares the senders a loss. Half of 416 KiB, which the kernel
/// grants to everybody, leave in this time where the network takes 170 Mbit/s.
const PATIENCE: Duration = Duration::from_millis(10);

impl Train {
    /// Sends `messages`, which are those of this train, to where the peer is: as one train where that
    /// works, else one by one. A message that cannot be sent is lost, and the others may fare better,
    /// unless the socket is full.
    pub fn send(&self, round: &Round<'_>, messages: &[u8]) {
        let (Self { peer, stride, tos, .. }, &Round { shared, now, .. }) = (self, round);
        let mut is_train = *stride < messages.len()
            && shared.offloads.has(Kind::UdpSegment)
            && peer.takes_trains(&self.keypair);
        let (mut passed, refusal) = (0, Cell::new(None));
        while let Some(bytes) = messages.get(passed..).filter(|rest| !rest.is_empty()) {
            let endpoint = peer.endpoint.load();
            let Some(endpoint) = endpoint.as_deref() else { return };
            let &Endpoint { remote: to, source } = endpoint;
            let Some(socket) = round.socket(Family::of(to)) else { return };
            let datagrams = Outgoing { to, source, tos: *tos, bytes, stride: *stride, is_train };
            let fault = if is_train { shared.offloads.make_up(Kind::UdpSegment) } else { Ok(()) };
            let stale = || {
                peer.forget_source(shared, endpoint);
                // That was to blame, not the train.
                refusal.set(None);
            };
            match fault.and_then(|()| send(socket, &datagrams, stale)) {
                Ok(bytes) => {
                    passed += bytes;
                    peer.traffic.count_tx(bytes as u64);
                    if peer.traffic.sent(now, true) {
                        shared.report(peer.id, Report::Armed);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Once a round: the other direction waits, too.
                    if round.has_waited.replace(true) {
                        break;
                    }
                    socket.wait_for_room(PATIENCE);
                }
                Err(error) if is_train => {
                    is_train = false;
                    refusal.set(Some(error));
                }
                Err(_) => passed += bytes.len().min(*stride),
            }
        }
        // Another path may be better, and this one later: the next session tries again.
        if let Some(error) = refusal.into_inner().filter(is_refused_train) {
            peer.refuse_trains(&self.keypair);
            shared.control.post(Letter::Tell(Notice::OffloadLost(Kind::UdpSegment, error)));
        }
        if self.keypair.wants_rekey(now) && peer.traffic.ask(now) {
            shared.report(peer.id, Report::WantsSession);
        }
    }
}
