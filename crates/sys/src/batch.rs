//! Many datagrams a system call: recvmmsg(2) and sendmmsg(2), with the kernel's trains (`UDP_GRO`,
//! `UDP_SEGMENT`). Nothing here can be printed: what passes through may be secret.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::{io, mem, ptr};

use rustix::net::SocketAddrAny;

use crate::control::Control;
use crate::udp::Udp;

/// One of our own addresses, as a datagram from afar found it or a datagram of ours shall bear it, and
/// the index of the interface that the datagram came in by.
pub type Local = (IpAddr, u32);

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
}

/// What one datagram or one train of datagrams shall be.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub to: SocketAddr,
    /// The address it bears, one of `to`'s family; another is ignored, as is the interface, unless
    /// the address is link-local.
    pub source: Option<Local>,
    /// Its traffic class; the low two bits are ECN.
    pub tos: u8,
    /// Cut `bytes` into datagrams of this length, the last perhaps shorter. At most 64 of them are
    /// safe everywhere.
    pub segment_size: Option<u16>,
    /// The payload.
    pub bytes: &'a [u8],
}

/// Buffers for one call of [`Udp::receive`], allocated and touched once.
pub struct ReceiveBatch {
    frames: Frames,
    buffers: Vec<u8>,
    slot_size: usize,
    ready: usize,
}

impl ReceiveBatch {
    /// Room for `slots` datagrams or trains (at least one) of at most `slot_size` bytes each. A
    /// train can hold as much as the largest datagram: 65,535 bytes less its headers.
    pub fn new(slots: usize, slot_size: usize) -> ReceiveBatch {
        let (slots, slot_size) = (slots.max(1), slot_size.max(1));
        // Zeros would be lent by the kernel page by page, later, on the data path.
        let buffers = vec![0xff; slots * slot_size];
        ReceiveBatch { frames: Frames::new(slots), buffers, slot_size, ready: 0 }
    }

    /// What the last call received, in order, without what it had to cut short.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Received<'_>> {
        let buffers = self.buffers.chunks_exact_mut(self.slot_size);
        let frames = self.frames.headers.iter().zip(&self.frames.slots).take(self.ready);
        frames.zip(buffers).filter_map(|((header, slot), buffer)| slot.read(header, buffer))
    }
}

/// The lists that one call of [`Udp::send`] hands to the kernel, allocated once.
pub struct SendBatch(Frames);

impl SendBatch {
    /// Room for `slots` datagrams or trains (at least one; the kernel takes no more than 1024).
    pub fn new(slots: usize) -> SendBatch {
        SendBatch(Frames::new(slots.max(1)))
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
        for ((header, slot), buffer) in batch.frames.iter_mut().zip(buffers) {
            slot.control.length = Control::LEN;
            slot.point(header, buffer);
        }
        let headers = &mut batch.frames.headers;
        // SAFETY: each of the `len` headers was pointed above at its own slot and buffer, with their
        // true lengths; all three belong to `batch`, which is borrowed until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                self.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as _,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        batch.ready = count(received)?;
        Ok(batch.ready)
    }

    /// Sends the first of `datagrams`, as many as `batch` has room for and the kernel takes;
    /// returns how many that were. What stopped it is said by the next call, which begins with what
    /// stopped it.
    ///
    /// # Errors
    ///
    /// Only if nothing was sent, the error of the first: `WouldBlock` if the queue is full; `EIO`,
    /// `EINVAL` or `EMSGSIZE` if a train cannot be cut on this path; `EINVAL`, `ENETUNREACH` or
    /// `EADDRNOTAVAIL` if its source address is no longer ours; and whatever routes and firewalls
    /// say.
    pub fn send<'a>(
        &self,
        batch: &mut SendBatch,
        datagrams: impl IntoIterator<Item = Outgoing<'a>>,
    ) -> io::Result<usize> {
        let mut filled = 0;
        for ((header, slot), datagram) in batch.0.iter_mut().zip(datagrams) {
            slot.write(header, &datagram);
            filled += 1;
        }
        let headers = &mut batch.0.headers;
        // SAFETY: the first `filled` headers were pointed above at their slots, borrowed until the
        // call returns, and at bytes that live for 'a, thus longer than this call. The kernel writes
        // nothing but lengths into the headers.
        let sent = unsafe {
            libc::sendmmsg(
                self.as_fd().as_raw_fd(),
                headers.as_mut_ptr(),
                filled,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        count(sent)
    }
}

/// What a system call has returned. No signal interrupts one that does not wait.
fn count(result: libc::c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The lists that the kernel reads: one header for each datagram, which points into the slot of the
/// same number.
struct Frames {
    headers: Vec<libc::mmsghdr>,
    slots: Vec<Slot>,
}

/// What a header points to, besides the payload.
#[derive(Clone)]
struct Slot {
    piece: libc::iovec,
    /// Whom a datagram is for, or who has sent it. At first one of IPv6, which is room enough for
    /// whoever sends something.
    address: SocketAddrAny,
    control: Control,
}

// SAFETY: the pointers in it are dead: `receive` and `send` set those that the kernel may follow
// anew in every call, from what they have borrowed, and nothing else follows any.
unsafe impl Send for Frames {}

impl Frames {
    fn new(slots: usize) -> Frames {
        // SAFETY: a header is pointers, which may be null, and integers.
        let header: libc::mmsghdr = unsafe { mem::zeroed() };
        let slot = Slot {
            piece: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
            address: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into(),
            control: Control::EMPTY,
        };
        Frames { headers: vec![header; slots], slots: vec![slot; slots] }
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (&mut libc::mmsghdr, &mut Slot)> {
        self.headers.iter_mut().zip(&mut self.slots)
    }
}

impl Slot {
    /// Points `header` at this slot and at the bytes of a payload.
    fn point(&mut self, header: &mut libc::mmsghdr, payload: *mut [u8]) {
        self.piece = libc::iovec { iov_base: payload.cast(), iov_len: payload.len() };
        let header = &mut header.msg_hdr;
        header.msg_name = self.address.as_mut_ptr().cast();
        header.msg_namelen = self.address.addr_len();
        header.msg_iov = &raw mut self.piece;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut self.control.bytes).cast();
        header.msg_controllen = self.control.length as _;
        header.msg_flags = 0;
    }

    /// Describes a datagram to the kernel, which only reads its bytes.
    fn write(&mut self, header: &mut libc::mmsghdr, datagram: &Outgoing<'_>) {
        self.address = datagram.to.into();
        self.write_control(datagram);
        self.point(header, ptr::from_ref(datagram.bytes).cast_mut());
    }

    /// Control messages cost time, so only those that say something are written.
    fn write_control(&mut self, datagram: &Outgoing<'_>) {
        let control = &mut self.control;
        control.length = 0;
        if let Some(size) = datagram.segment_size
            && usize::from(size) < datagram.bytes.len()
        {
            control.push(libc::SOL_UDP, UDP_SEGMENT, &size.to_ne_bytes());
        }
        let (level, traffic_class) = match datagram.to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        if datagram.tos != 0 {
            control.push(level, traffic_class, &i32::from(datagram.tos).to_ne_bytes());
        }
        if let Some((source, interface)) = datagram.source {
            // The interface where the address means nothing without it, else 0: a route may change its
            // interface, and the address stays good (spec §5.1 N20, N22).
            let scope = |needed| if needed { interface } else { 0 }.to_ne_bytes();
            match (datagram.to, source) {
                // struct in_pktinfo: interface, source, and a destination that is not read.
                (SocketAddr::V4(_), IpAddr::V4(address)) => {
                    let info = [scope(address.is_link_local()), address.octets(), [0; 4]];
                    control.push(level, libc::IP_PKTINFO, info.as_flattened());
                }
                // struct in6_pktinfo: source, interface.
                (SocketAddr::V6(_), IpAddr::V6(address)) => {
                    let mut info = [0; 16 + 4];
                    let scope = scope(address.is_unicast_link_local());
                    let bytes = address.octets().into_iter().chain(scope);
                    info.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                    control.push(level, libc::IPV6_PKTINFO, &info);
                }
                _ => {}
            }
        }
    }

    /// What the kernel put here and into `buffer`; `None` if it had to cut it short.
    fn read<'a>(&self, header: &libc::mmsghdr, buffer: &'a mut [u8]) -> Option<Received<'a>> {
        if header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return None;
        }
        let from = self.address.clone().try_into().ok()?;
        let bytes = buffer.get_mut(..header.msg_len as usize)?;
        let mut received =
            Received { from, local: None, tos: 0, segment_size: bytes.len().max(1), bytes };
        for (level, kind, data) in self.control.messages(header.msg_hdr.msg_controllen as _) {
            let number = |at| u32::from_ne_bytes(field(data, at));
            match (level, kind) {
                (libc::SOL_UDP, UDP_GRO) => received.segment_size = number(0).max(1) as usize,
                (libc::IPPROTO_IP, libc::IP_TOS) => [received.tos] = field(data, 0),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => received.tos = number(0) as u8,
                // struct in_pktinfo: the second of its fields is the address that an answer should
                // bear, which for a broadcast is not the one it was sent to.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    received.local = Some((field::<4>(data, 4).into(), number(0)));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    received.local = Some((field::<16>(data, 0).into(), number(16)));
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
