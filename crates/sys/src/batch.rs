//! Many datagrams a system call: recvmmsg(2) and sendmmsg(2), with the kernel's trains (`UDP_GRO`,
//! `UDP_SEGMENT`). Nothing here can be printed: what passes through may be secret.

use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::{io, ptr};

use rustix::net::SocketAddrAny;

use crate::control::Control;
use crate::udp::Udp;

/// One of our own addresses, as a datagram from afar found it or a datagram of ours shall bear it, and
/// the index of the interface that the datagram came in by, if the address is link-local.
pub type Local = (IpAddr, u32);

/// The interface where the address means nothing without it, else 0: a route may change its interface,
/// and the address stays good (spec §5.1 N20, N22).
fn local(address: IpAddr, interface: u32) -> Local {
    let is_needed = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    (address, if is_needed { interface } else { 0 })
}

/// What one datagram or one train of datagrams brought.
pub struct Received<'a> {
    /// Who sent it; a link-local address keeps its scope.
    pub from: SocketAddr,
    /// Where it was addressed to.
    pub local: Option<Local>,
    /// Its traffic class; the low two bits are ECN.
    pub tos: u8,
    /// Every datagram of the train has this length, except the last, which may be shorter. Never
    /// zero, so that it can be given to `chunks_mut`.
    pub segment_size: usize,
    /// The payloads, one behind the other.
    pub bytes: &'a mut [u8],
    /// Where they begin in [`ReceiveBatch::bytes`].
    pub start: usize,
}

/// Datagrams to one place.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where they go.
    pub to: SocketAddr,
    /// The address they bear, one of `to`'s family; another is ignored, as is the interface, unless
    /// the address is link-local.
    pub source: Option<Local>,
    /// Their traffic class; the low two bits are ECN.
    pub tos: u8,
    /// The payloads, one behind the other.
    pub bytes: &'a [u8],
    /// The length of each, at least one; the last may be shorter.
    pub stride: usize,
    /// Whether they leave as a train, which the kernel cuts. At most 64 are safe everywhere.
    pub is_train: bool,
}

/// Buffers for one call of [`Udp::receive`], allocated and touched once.
pub struct ReceiveBatch {
    messages: Vec<libc::mmsghdr>,
    /// What the message of the same number points to, besides its buffer.
    slots: Vec<Slot>,
    buffers: Vec<u8>,
    slot_size: usize,
    ready: usize,
}

// SAFETY: the pointers in it are dead: `receive` sets all that the kernel may follow anew in every
// call, from what it has borrowed, and nothing else follows any.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    /// Room for `slots` datagrams or trains (at least one) of at most `slot_size` bytes each. A
    /// train can hold as much as the largest datagram: 65,535 bytes less its headers.
    pub fn new(slots: usize, slot_size: usize) -> ReceiveBatch {
        let (count, slot_size) = (slots.max(1), slot_size.max(1));
        // An address of IPv6 is room enough for whoever sends something.
        let room = (Ipv6Addr::UNSPECIFIED, 0).into();
        let mut slots = vec![Slot::new(room, Control::EMPTY); count];
        let messages = slots.iter_mut().map(Slot::message).collect();
        // Zeros would be lent by the kernel page by page, later, on the data path.
        let buffers = vec![0xff; count * slot_size];
        ReceiveBatch { messages, slots, buffers, slot_size, ready: 0 }
    }

    /// What the last call received, in order, without what it had to cut short.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Received<'_>> {
        let buffers = self.buffers.chunks_exact_mut(self.slot_size);
        let messages = self.messages.iter().zip(&self.slots).take(self.ready);
        let starts = (0..).step_by(self.slot_size);
        messages.zip(buffers).zip(starts).filter_map(|(((message, slot), buffer), start)| {
            Some(Received { start, ..slot.read(message, buffer)? })
        })
    }

    /// All there is room for: what was received, or what was made of it in place.
    pub fn bytes(&self) -> &[u8] {
        &self.buffers
    }
}

impl Udp {
    /// Receives what is there, as far as `batch` has room, in place of what it held. Returns how
    /// much, at least one.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there. Whatever else the kernel reports concerns a datagram, not
    /// the socket, unless it does not end.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.ready = 0;
        let buffers = batch.buffers.chunks_exact_mut(batch.slot_size);
        for ((message, slot), buffer) in
            batch.messages.iter_mut().zip(&mut batch.slots).zip(buffers)
        {
            slot.control.length = Control::LEN;
            slot.piece = piece(buffer);
            *message = slot.message();
        }
        let fd = self.as_fd().as_raw_fd();
        let (messages, length) = (batch.messages.as_mut_ptr(), batch.messages.len() as _);
        let flags = libc::MSG_DONTWAIT as _;
        // SAFETY: each of the messages was pointed above at its own slot and buffer, with their true
        // lengths; all three belong to `batch`, which is borrowed until the call returns.
        let received = unsafe { libc::recvmmsg(fd, messages, length, flags, ptr::null_mut()) };
        batch.ready = count(received)?;
        Ok(batch.ready)
    }

    /// Sends the first of `datagrams`, as many as the kernel takes, at most 64 or one train; returns
    /// how many bytes they are. What stopped it is said by the next call, which begins with what
    /// stopped it.
    ///
    /// # Errors
    ///
    /// Only if nothing was sent, the error of the first: `WouldBlock` if the queue is full; `EIO`,
    /// `EINVAL` or `EMSGSIZE` if a train cannot be cut on this path; `EINVAL`, `ENETUNREACH` or
    /// `EADDRNOTAVAIL` if its source address is no longer ours; and whatever routes and firewalls
    /// say.
    pub fn send(&self, datagrams: &Outgoing<'_>) -> io::Result<usize> {
        let &Outgoing { bytes, stride, is_train, .. } = datagrams;
        let length = if is_train { bytes.len() } else { stride }.max(1);
        let mut slot = Slot::new(datagrams.to, datagrams.control());
        let common = slot.message();
        let mut messages = [const { MaybeUninit::uninit() }; MOST_SENT];
        let mut pieces = [const { MaybeUninit::uninit() }; MOST_SENT];
        let mut filled = 0;
        let places = messages.iter_mut().zip(&mut pieces);
        for ((message, place), bytes) in places.zip(bytes.chunks(length)) {
            // The kernel only reads the bytes.
            let piece = piece(ptr::from_ref(bytes).cast_mut());
            message.write(common).msg_hdr.msg_iov = place.write(piece);
            filled += 1;
        }
        let (fd, messages) = (self.as_fd().as_raw_fd(), messages.as_mut_ptr().cast());
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _;
        // SAFETY: the first `filled` messages were written above, and point at a piece each and at
        // what they have in common, all of which live on here. The kernel writes nothing but lengths
        // into the messages.
        let sent = unsafe { libc::sendmmsg(fd, messages, filled, flags) };
        Ok(bytes.len().min(count(sent)? * length))
    }
}

/// How many datagrams one call of [`Udp::send`] takes.
const MOST_SENT: usize = 64;

/// What a system call has returned. No signal interrupts one that does not wait.
fn count(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn piece(payload: *mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: payload.cast(), iov_len: payload.len() }
}

impl Outgoing<'_> {
    /// Control messages cost time, so only those that say something are written.
    fn control(&self) -> Control {
        let mut control = Control::EMPTY;
        if let Ok(size) = u16::try_from(self.stride)
            && self.is_train
            && self.stride < self.bytes.len()
        {
            control.push(libc::SOL_UDP, UDP_SEGMENT, &size.to_ne_bytes());
        }
        let (level, traffic_class) = match self.to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        if self.tos != 0 {
            control.push(level, traffic_class, &i32::from(self.tos).to_ne_bytes());
        }
        if let Some((source, interface)) = self.source.map(|(it, interface)| local(it, interface)) {
            let interface = interface.to_ne_bytes();
            match (self.to, source) {
                // struct in_pktinfo: interface, source, and a destination that is not read.
                (SocketAddr::V4(_), IpAddr::V4(address)) => {
                    let info = [interface, address.octets(), [0; 4]];
                    control.push(level, libc::IP_PKTINFO, info.as_flattened());
                }
                // struct in6_pktinfo: source, interface.
                (SocketAddr::V6(_), IpAddr::V6(address)) => {
                    let mut info = [0; 16 + 4];
                    let bytes = address.octets().into_iter().chain(interface);
                    info.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                    control.push(level, libc::IPV6_PKTINFO, &info);
                }
                _ => {}
            }
        }
        control
    }
}

/// What a message points to.
#[derive(Clone)]
struct Slot {
    piece: libc::iovec,
    /// Whom it is for, or who has sent it.
    address: SocketAddrAny,
    control: Control,
}

impl Slot {
    fn new(address: SocketAddr, control: Control) -> Slot {
        Slot { piece: piece(&mut []), address: address.into(), control }
    }

    /// A message that points here.
    fn message(&mut self) -> libc::mmsghdr {
        // SAFETY: it is pointers, which may be null, and integers.
        let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
        let header = &mut message.msg_hdr;
        header.msg_name = self.address.as_mut_ptr().cast();
        header.msg_namelen = self.address.addr_len();
        header.msg_iov = &raw mut self.piece;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut self.control.bytes).cast();
        header.msg_controllen = self.control.length as _;
        message
    }

    /// What the kernel put here and into `buffer`; `None` if it had to cut it short.
    fn read<'a>(&self, message: &libc::mmsghdr, buffer: &'a mut [u8]) -> Option<Received<'a>> {
        if message.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return None;
        }
        let from = self.address.clone().try_into().ok()?;
        let bytes = buffer.get_mut(..message.msg_len as usize)?;
        let segment_size = bytes.len().max(1);
        let mut received = Received { from, local: None, tos: 0, segment_size, bytes, start: 0 };
        for (level, kind, data) in self.control.messages(message.msg_hdr.msg_controllen as _) {
            let number = |at| u32::from_ne_bytes(field(data, at));
            match (level, kind) {
                (libc::SOL_UDP, UDP_GRO) => received.segment_size = number(0).max(1) as usize,
                (libc::IPPROTO_IP, libc::IP_TOS) => [received.tos] = field(data, 0),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => received.tos = number(0) as u8,
                // struct in_pktinfo: the second of its fields is the address that an answer should
                // bear, which for a broadcast is not the one it was sent to.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    received.local = Some(local(field::<4>(data, 4).into(), number(0)));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    received.local = Some(local(field::<16>(data, 0).into(), number(16)));
                }
                _ => {}
            }
        }
        Some(received)
    }
}

/// The bytes of a control message's field; zeros where the kernel sent less than it promises.
fn field<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    data.get(at..).and_then(|data| data.first_chunk().copied()).unwrap_or([0; N])
}

/// linux/udp.h; libc does not have them for every C library.
const UDP_SEGMENT: i32 = 103;
pub(crate) const UDP_GRO: i32 = 104;
