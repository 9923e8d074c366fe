//! From the peers to the TUN: open, accept once, check the source, coalesce, write.

use std::io::{self, IoSlice};
use std::sync::{Arc, PoisonError};

use proto::limits::{DATA_HEADER, DATA_OVERHEAD};
use proto::{Discard, Endpoint, Kind, Report, inner_packet, kind};
use sys::tun::VnetHeader;
use sys::udp::{ReceiveBatch, Received, Udp};

use crate::Notice;
use crate::mailbox::Letter;
use crate::offload;
use crate::packet::coalesce::{Coalescer, MOST_PIECES};
use crate::packet::ecn;
use crate::shared::{Session, Shared};
use crate::worker::Round;

/// Datagrams or trains taken in at once, at most: where the wire does not coalesce, as many as make a
/// good super-packet.
pub(crate) const SLOTS: usize = 32;
/// A train of the kernel's can be as long as a datagram.
const SLOT_SIZE: usize = 65_536;

/// Letters that strangers may have waiting at any time by what they send to the wrong socket, or by what
/// is no message at all.
pub(crate) const STRAYS: usize = 64;

/// Receives, opens and delivers.
pub(crate) struct Inbound {
    slots: usize,
    /// Up to how many letters a handshake message is added to.
    letters: usize,
    batch: ReceiveBatch,
    coalescer: Coalescer,
}

impl Inbound {
    /// For `slots` datagrams or trains at once (at most [`SLOTS`]), whose handshake messages become
    /// letters, unless `letters` wait already.
    pub fn new(slots: usize, letters: usize) -> Self {
        let batch = ReceiveBatch::new(slots, SLOT_SIZE);
        Self { slots, letters, batch, coalescer: Coalescer::default() }
    }

    /// Takes what waits in `socket`, up to a batch, and delivers it. False if there is no more.
    pub fn forward(&mut self, round: &Round<'_>, socket: &Udp) -> bool {
        // What the network reports to a socket concerns some datagram that was sent before.
        let Ok(received) = socket.receive(&mut self.batch) else { return false };
        let Self { letters, batch, coalescer, .. } = self;
        coalescer.joins = round.shared.offloads.of_tun();
        let mut opener = Opener { round, letters: *letters, coalescer, last: None };
        batch.datagrams().for_each(|datagrams| opener.open(datagrams));
        deliver(round, opener.coalescer, batch.bytes());
        received == self.slots
    }
}

/// Opens the messages of one batch.
struct Opener<'a> {
    round: &'a Round<'a>,
    letters: usize,
    coalescer: &'a mut Coalescer,
    /// The session of the previous message. Forgotten with the batch, so that its keys can be wiped.
    last: Option<Arc<Session>>,
}

/// Where messages of a train came from, and where they lie.
struct Origin {
    endpoint: Endpoint,
    tos: u8,
    /// Where in the batch.
    start: usize,
    stride: usize,
}

impl Opener<'_> {
    /// Takes a datagram or train apart into runs of one session each.
    fn open(&mut self, datagrams: Received<'_>) {
        let Received { from: remote, local: source, tos, segment_size: stride, start, .. } =
            datagrams;
        let endpoint = Endpoint { remote, source };
        let mut origin = Origin { endpoint, tos, start, stride };
        let mut rest = datagrams.bytes;
        while !rest.is_empty() {
            let Some(first) = rest.chunks(stride).next().map(kind) else { return };
            let same = rest.chunks(stride).take_while(|message| kind(message) == first);
            let length = rest.len().min(same.count() * stride);
            let Some((run, behind)) = rest.split_at_mut_checked(length) else { return };
            if let Ok(Kind::Data(index)) = first {
                let last = self.last.take().filter(|last| last.keypair.local_index == index);
                if let Some(session) = last.or_else(|| self.round.shared.sessions.find(index)) {
                    self.open_run(&session, &origin, run);
                    self.last = Some(session);
                }
            } else {
                run.chunks(stride)
                    .for_each(|datagram| self.not_data(first, origin.endpoint, datagram));
            }
            origin.start += length;
            rest = behind;
        }
    }

    /// Opens messages of one session, and lets each that is authentic and new have its effect.
    fn open_run(&mut self, session: &Arc<Session>, origin: &Origin, run: &mut [u8]) {
        let &Round { shared, now, .. } = self.round;
        let Session { keypair, peer, window } = &**session;
        // One lock a run; with one worker, or as the kernel steers, nobody else ever holds it.
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut accepted, mut confirmed, mut data, mut bytes) = (false, false, false, 0);
        for (index, message) in keypair.open(now, &mut window, run, origin.stride).enumerate() {
            let Ok(message) = message else { continue };
            accepted = true;
            confirmed |= keypair.confirm(&message);
            let start = origin.start + index * origin.stride + DATA_HEADER;
            let plaintext = message.into_plaintext();
            data |= !plaintext.is_empty();
            match self.admit(session, origin, start, plaintext) {
                Ok(()) => bytes += DATA_OVERHEAD + plaintext.len(),
                Err(reason) => {
                    let is_new = peer.traffic.refuse(reason);
                    if let Some(inner) = inner_packet(plaintext).filter(|_| is_new) {
                        let notice = || Letter::Tell(Notice::Refused(peer.key, inner.source));
                        shared.control.post_at_most(STRAYS, notice);
                    }
                }
            }
        }
        drop(window);
        if accepted {
            self.note(session, origin.endpoint, data, bytes);
        }
        // Only now that the endpoint is known: staged packets will leave for it. And before the first
        // packet is delivered, so that workers can answer it.
        if confirmed {
            peer.send_on_unless_staged(keypair);
            shared.report(peer.id, Report::Confirmed(keypair.local_index));
        }
    }

    /// Queues a decrypted packet for delivery if its source is the peer's; a keepalive has none.
    fn admit(
        &mut self,
        session: &Session,
        origin: &Origin,
        start: usize,
        plaintext: &mut [u8],
    ) -> Result<(), Discard> {
        if plaintext.is_empty() {
            return Ok(());
        }
        let inner = inner_packet(plaintext).ok_or(Discard::BadPacket)?;
        let owner = self.round.routes.lookup(inner.source);
        if owner.is_none_or(|owner| owner.id != session.peer.id) {
            return Err(Discard::NotAllowed);
        }
        let packet = plaintext.get_mut(..inner.length).ok_or(Discard::BadPacket)?;
        ecn::decapsulate(origin.tos, packet);
        self.coalescer.push(start..start + inner.length, packet);
        Ok(())
    }

    /// Lets endpoint, timers and counts know of authentic messages.
    fn note(&self, session: &Session, from: Endpoint, data: bool, bytes: usize) {
        let &Round { shared, now, .. } = self.round;
        let Session { keypair, peer, .. } = session;
        peer.roam(shared, from);
        peer.traffic.count_rx(bytes as u64);
        if peer.traffic.received(now, data) {
            shared.report(peer.id, Report::Armed);
        }
        if keypair.wants_rekey_on_receive(now) {
            shared.report(peer.id, Report::WantsSession);
        }
    }

    /// Passes on what is the control thread's business, and what is nobody's, if it came where handshakes
    /// come: a worker is not to be kept from its packets by strangers.
    fn not_data(&self, kind: Result<Kind, Discard>, from: Endpoint, datagram: &[u8]) {
        let control = &self.round.shared.control;
        match kind {
            Ok(_) => {
                control.post_at_most(self.letters, || Letter::Handshake(from, datagram.into()))
            }
            Err(reason) if self.letters > STRAYS => {
                control.post_at_most(STRAYS, || Letter::Tell(Notice::Dropped(from.remote, reason)))
            }
            Err(_) => {}
        }
    }
}

/// Writes what was admitted to the TUN: super-packets whole, or else their packets as they came.
fn deliver(round: &Round<'_>, coalescer: &mut Coalescer, bytes: &[u8]) {
    let shared = round.shared;
    for delivery in coalescer.finish() {
        let tun = shared.queue(&round.post.tun, delivery.packets_apart(bytes));
        let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
        let pieces = delivery.gather(bytes, &mut pieces);
        if delivery.packets() == 1 {
            // Like everywhere on the way of a packet, no room means that it is lost.
            let _ = tun.write_vectored(pieces);
        } else if let Err(error) =
            shared.offloads.make_up(offload::Kind::TunTcp).and_then(|()| tun.write_vectored(pieces))
        {
            super_packet_refused(shared, error);
            let header = VnetHeader::default().encode();
            for packet in delivery.packets_apart(bytes) {
                let _ = tun.write_vectored(&[IoSlice::new(&header), IoSlice::new(packet)]);
            }
        }
    }
    coalescer.clear();
}

/// Some kernels refuse super-packets that they should take (Linux 6.6.44 and its like): do without.
fn super_packet_refused(shared: &Shared, error: io::Error) {
    if error.kind() == io::ErrorKind::InvalidInput
        && (shared.offloads.lose(offload::Kind::TunTcp)
            | shared.offloads.lose(offload::Kind::TunUdp))
    {
        shared.control.post(Letter::Tell(Notice::OffloadLost(offload::Kind::TunTcp, error)));
    }
}
