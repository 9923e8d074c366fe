//! From the TUN to the peers: route, segment, pad, seal, send.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use proto::limits::{DATA_HEADER, DATA_OVERHEAD, TAG};
use proto::{Bucket, Keypair, Kind, Report, kind, padding};
use sys::tun::VnetHeader;

use crate::backlog::Backlog;
use crate::packet::segment::Segments;
use crate::packet::{self, ecn, icmp};
use crate::shared::Peer;
use crate::worker::Round;

/// The largest datagram: 65,535 bytes less the headers of IPv4 and UDP.
const MAX_DATAGRAM: usize = 65_535 - 20 - 8;
/// Messages that one train may have on every kernel.
const MAX_TRAIN: usize = 64;
/// A packet as read from a TUN, with its header.
const MAX_READ: usize = VnetHeader::LEN + 65_535;
/// Packets that are read before the other direction has its turn.
const MAX_BATCH: usize = 128;
/// Bytes that are.
const MAX_ROUND: usize = 256 * 1024;

/// Messages to one peer, of one session, equally long but for the last: what one send can carry.
pub(crate) struct Train {
    pub peer: Arc<Peer>,
    pub keypair: Arc<Keypair>,
    /// ECN of the packets inside.
    pub tos: u8,
    length: usize,
    pub stride: usize,
}

impl Train {
    /// Whether a message of `length` bytes may follow. A shorter one ends the train.
    fn takes(&self, to: &Destination<'_>, length: usize) -> bool {
        Arc::ptr_eq(&self.keypair, to.keypair)
            && self.tos == to.tos
            && length <= self.stride
            && self.length.is_multiple_of(self.stride)
            && self.length / self.stride < MAX_TRAIN
            && self.length + length <= MAX_DATAGRAM
    }
}

/// What messages must have in common to travel together.
struct Destination<'a> {
    peer: &'a Arc<Peer>,
    keypair: &'a Arc<Keypair>,
    tos: u8,
}

/// Gathers messages into one train after the other, and sends them.
pub(crate) struct Outbound {
    read: Vec<u8>,
    /// Those of the train, sealed just before they are sent.
    messages: Vec<u8>,
    /// The one that still grows.
    train: Option<Train>,
    /// Of answers by ICMP.
    answers: Bucket,
}

impl Outbound {
    pub fn new() -> Self {
        Self {
            // Written to now, since a page fault costs as much as a packet.
            read: vec![0xff; MAX_READ],
            messages: vec![0xff; MAX_DATAGRAM],
            train: None,
            answers: Bucket::default(),
        }
    }

    /// Takes what waits in the TUN, up to a batch, and sends it.
    ///
    /// # Errors
    /// Those of reading from the TUN, but for "nothing there".
    pub fn forward(&mut self, round: &Round<'_>) -> io::Result<()> {
        // Nobody else reads here until the tunnel ends, so nobody else holds it.
        let mut backlog = round.post.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = std::mem::take(&mut self.read);
        let (mut packets, mut bytes) = (0, 0);
        let outcome = loop {
            // Where there was no room, the rest waits in the TUN, whose queue tells the senders.
            if packets == MAX_BATCH || bytes > MAX_ROUND || round.has_waited.get() {
                break Ok(());
            }
            match round.post.tun.read(&mut read) {
                Ok(length) => {
                    self.route(round, &mut backlog, read.get_mut(..length).unwrap_or_default());
                    packets += 1;
                    bytes += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    backlog.emptied();
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        self.read = read;
        self.flush(round);
        outcome
    }

    /// Finds the peer of a packet as read from the TUN, and gathers or stages what it stands for.
    fn route(&mut self, round: &Round<'_>, backlog: &mut Backlog, read: &mut [u8]) {
        let Some((header, _)) = VnetHeader::decode(read) else { return };
        let packet = read.get_mut(VnetHeader::LEN..).unwrap_or_default();
        let Some(destination) = packet::destination(packet) else { return };
        let peer = round.routes.lookup(destination);
        let remote = peer.and_then(|peer| Some(peer.endpoint.load().as_deref()?.remote));
        let (Some(peer), Some(remote)) = (peer, remote) else {
            return self.unreachable(round, packet);
        };
        let mut session = peer.session(round.now);
        let is_ours = |keypair: &Arc<Keypair>| {
            packet::udp_payload(packet).map(kind) == Some(Ok(Kind::Data(keypair.remote_index)))
        };
        if remote.ip() == destination && session.as_ref().is_some_and(is_ours) {
            // The way to the peer leads into the tunnel, which would carry itself without an end.
            return;
        }
        let is_super_packet = header.gso_type != VnetHeader::GSO_NONE;
        // Who sends too much is told by a mark, or loses the first segment.
        let loses =
            backlog.is_too_much(round.now, packet, is_super_packet) && !ecn::congested(packet);
        let Some(segments) = Segments::new(header, packet) else { return };
        let tos = ecn::outer(packet::tos(packet).unwrap_or_default());
        for index in usize::from(loses)..segments.count() {
            let length = segments.length(index);
            if session.is_none() {
                session = peer.stage(round.now, || {
                    let mut packet = vec![0; length];
                    let _ = segments.write(index, &mut packet);
                    packet.into()
                });
            }
            if let Some(keypair) = &session {
                let packet = self.append(round, &Destination { peer, keypair, tos }, length);
                let _ = segments.write(index, packet);
            }
        }
        if session.is_none() && peer.traffic.ask(round.now) {
            round.shared.report(peer.id, Report::WantsSession);
        }
    }

    /// Room for a packet of `length` bytes in the next message, its padding already zero; none if no
    /// datagram could carry it. A train that this message cannot follow is sent first.
    fn append(&mut self, round: &Round<'_>, to: &Destination<'_>, length: usize) -> &mut [u8] {
        let padding = padding(length, round.shared.mtu.load(Ordering::Relaxed));
        let message = DATA_OVERHEAD + length + padding;
        if self.train.as_ref().is_some_and(|train| !train.takes(to, message)) {
            self.flush(round);
        }
        let train = self.train.get_or_insert_with(|| Train {
            peer: Arc::clone(to.peer),
            keypair: Arc::clone(to.keypair),
            tos: to.tos,
            length: 0,
            stride: message,
        });
        let packet = train.length + DATA_HEADER;
        train.length += message;
        if let Some(padding) = self.messages.get_mut(packet + length..train.length - TAG) {
            padding.fill(0);
        }
        self.messages.get_mut(packet..packet + length).unwrap_or_default()
    }

    /// Sends `packets`, which waited for `keypair`.
    pub fn send_staged(
        &mut self,
        round: &Round<'_>,
        peer: &Arc<Peer>,
        keypair: &Arc<Keypair>,
        packets: impl IntoIterator<Item = Box<[u8]>>,
    ) {
        for packet in packets {
            let tos = ecn::outer(packet::tos(&packet).unwrap_or_default());
            let room = self.append(round, &Destination { peer, keypair, tos }, packet.len());
            if room.len() == packet.len() {
                room.copy_from_slice(&packet);
            }
        }
        self.flush(round);
    }

    /// Seals and sends the train.
    fn flush(&mut self, round: &Round<'_>) {
        let Some(train) = self.train.take() else { return };
        let messages = self.messages.get_mut(..train.length).unwrap_or_default();
        // Else the session has ended meanwhile.
        if train.keypair.seal(round.now, messages, train.stride).is_ok() {
            train.send(round, messages);
        }
    }

    /// Answers a packet that nobody is there for, as a router would (spec §1.9).
    fn unreachable(&mut self, round: &Round<'_>, packet: &[u8]) {
        let mut answer = [0; icmp::LONGEST];
        let Some(answer) = icmp::unreachable(packet, &mut answer) else { return };
        if self.answers.spend(round.now, icmp::COST, icmp::FULL) {
            let header = VnetHeader::default().encode();
            // An error message may be lost like any other packet.
            let _ = round.post.tun.write_vectored(&[&header[..], answer].map(IoSlice::new));
        }
    }
}
