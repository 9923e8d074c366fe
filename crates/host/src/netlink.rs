//! netlink: how the kernel is asked about links, addresses, routes, packet filters and what else it
//! has families for, and how they are changed (netlink(7), rtnetlink(7), nfnetlink.h). Numbers are
//! in the machine's own byte order, but for those of packet filters, which are big-endian;
//! everything is aligned to four bytes. Some of it is secret, so all of it is wiped.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use sys::option;
use zeroize::Zeroizing;

/// `nlmsghdr`: length, kind, flags, sequence, port.
const HEADER: usize = 4 + 2 + 2 + 4 + 4;
/// `nfgenmsg`: family, version, and a number that a batch gives its subsystem in.
const NETFILTER_HEADER: usize = 1 + 1 + 2;
/// The largest piece that the kernel makes of a dump (`netlink_recvmsg`).
const BUFFER: usize = 32 * 1024;
/// What may wait for whoever listens, in bytes, but for those that the kernel itself needs: what one
/// look of a keeper makes of the packet filters of several tunnels. If that were lost, it would have to
/// look again.
const ROOM: i32 = 2 * 1024 * 1024;

/// Of a request for all there is, not for one (`NLM_F_DUMP`).
pub const DUMP: u16 = libc::NLM_F_DUMP as u16;
/// Of a request to make something that may be there (`NLM_F_CREATE`).
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// With [`CREATE`]: fail with EEXIST if it is there (`NLM_F_EXCL`).
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
/// With [`CREATE`]: behind what is there, not before it (`NLM_F_APPEND`).
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;

/// Of a change of packet filters that is told to whoever makes it as to everybody who listens
/// (`NLM_F_ECHO`).
pub const ECHO: u16 = libc::NLM_F_ECHO as u16;

/// A request under construction.
#[derive(Clone)]
pub struct Message(Zeroizing<Vec<u8>>);

impl Message {
    /// Begins a request: its kind (`RTM_*`, `NFT_MSG_*`), its flags ([`DUMP`], [`CREATE`], …) and
    /// the fixed header of its family.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let flags = flags | libc::NLM_F_REQUEST as u16;
        let mut bytes = vec![0; HEADER];
        put(&mut bytes, 4, &kind.to_ne_bytes());
        put(&mut bytes, 6, &flags.to_ne_bytes());
        bytes.extend(header);
        Self(Zeroizing::new(bytes)).aligned()
    }

    /// Appends an attribute. One that exceeds 64 KiB makes a request that the kernel refuses.
    #[must_use]
    pub fn with(mut self, kind: u16, payload: &[u8]) -> Self {
        self.0.extend(attribute_length(4 + payload.len()));
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(payload);
        self.aligned()
    }

    /// Appends an attribute that holds `header` and then the attributes that `fill` appends.
    #[must_use]
    pub fn nested(self, kind: u16, header: &[u8], fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        let mut filled = fill(self.with(kind | libc::NLA_F_NESTED as u16, header));
        let length = filled.0.len() - start;
        put(&mut filled.0, start, &attribute_length(length));
        filled
    }

    /// As whoever it is sent to reads it.
    pub fn reply(&self) -> Reply {
        let kind = Messages(&self.numbered(0)).next().map_or(0, |told| told.kind);
        Reply { kind, payload: self.0.get(HEADER..).unwrap_or_default().to_vec().into() }
    }

    fn aligned(mut self) -> Self {
        let length = self.0.len().next_multiple_of(4);
        self.0.resize(length, 0);
        self
    }

    /// With a flag more ([`ECHO`], …).
    #[must_use]
    pub fn flagged(&self, flag: u16) -> Self {
        let mut bytes = self.0.clone();
        if let Some(flags) = bytes.get_mut(6..8).and_then(|bytes| bytes.first_chunk_mut()) {
            *flags = (u16::from_ne_bytes(*flags) | flag).to_ne_bytes();
        }
        Self(bytes)
    }

    /// Whose success is to be told too, which a dump's is anyway.
    fn acknowledged(&self) -> Self {
        self.flagged(libc::NLM_F_ACK as u16)
    }

    /// The bytes that are sent.
    pub fn numbered(&self, sequence: u32) -> Zeroizing<Vec<u8>> {
        let mut bytes = self.0.clone();
        let length = bytes.len() as u32;
        put(&mut bytes, 0, &length.to_ne_bytes());
        put(&mut bytes, 8, &sequence.to_ne_bytes());
        bytes
    }
}

fn attribute_length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// What is in an attribute, as far as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Others, each with its kind.
    Nest(Vec<(u16, Content<'a>)>),
    Value(&'a [u8]),
}

/// The attributes in some bytes, each as its kind and its payload. Ends before the first that does
/// not fit.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those that follow a fixed header of `header` bytes; none if the payload is shorter.
    pub fn after(header: usize, payload: &'a [u8]) -> Self {
        Self(payload.get(header.next_multiple_of(4)..).unwrap_or_default())
    }

    /// The payload of the first of this kind.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find(|(found, _)| *found == kind).map(|(_, payload)| payload)
    }

    /// The number in the first of this kind, if it holds just that.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// Those of the kinds that `asked`, which a [`Message`] was made of, has something of, however deep,
    /// ordered by kind, and those of one kind as they are. Of other kinds there may be any: what the
    /// kernel numbers and counts, and what later ones tell besides.
    pub fn within(self, asked: Attributes<'_>) -> Vec<(u16, Content<'a>)> {
        let mut asked: Vec<_> = asked.with_nesting().collect();
        let mut told: Vec<_> =
            self.filter(|(kind, _)| asked.iter().any(|(of, ..)| of == kind)).collect();
        told.sort_by_key(|(kind, _)| *kind);
        // The first of a kind is asked for by the first of it, and so on.
        let content = |(kind, payload)| {
            let place = asked.iter().position(|(of, ..)| *of == kind);
            let content = match place.map(|place| asked.remove(place)) {
                Some((_, true, nest)) => Content::Nest(Self(payload).within(Attributes(nest))),
                _ => Content::Value(payload),
            };
            (kind, content)
        };
        told.into_iter().map(content).collect()
    }

    /// Each with whether it says of itself that it holds others. Those of older kernels do not.
    fn with_nesting(mut self) -> impl Iterator<Item = (u16, bool, &'a [u8])> {
        std::iter::from_fn(move || self.take_first())
    }

    fn take_first(&mut self) -> Option<(u16, bool, &'a [u8])> {
        let (&[l0, l1, k0, k1], _) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([k0, k1]);
        let nests = kind & libc::NLA_F_NESTED as u16 != 0;
        Some((kind & libc::NLA_TYPE_MASK as u16, nests, payload))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.take_first().map(|(kind, _, payload)| (kind, payload))
    }
}

/// The messages in one received piece, whatever asked for them.
pub fn replies(piece: &[u8]) -> Vec<Reply> {
    Messages(piece).map(|told| Reply::of(&told)).collect()
}

/// What the kernel said, in one message.
#[derive(Clone, Copy, Debug)]
struct Told<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    /// Who caused it: a socket's number, zero being the kernel.
    port: u32,
    payload: &'a [u8],
}

/// The messages in one received piece; ends before the first that does not fit.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Told<'a>;

    fn next(&mut self) -> Option<Told<'a>> {
        let (&[l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3], _) =
            self.0.split_first_chunk::<HEADER>()?;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Told {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            payload,
        })
    }
}

/// One message of an answer: its kind and what follows the common header.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// `RTM_NEWLINK`, `RTM_NEWADDR`, `RTM_NEWROUTE`, …
    pub kind: u16,
    /// The fixed header of the family, then attributes.
    pub payload: Zeroizing<Vec<u8>>,
}

impl Reply {
    fn of(told: &Told<'_>) -> Self {
        Self { kind: told.kind, payload: told.payload.to_vec().into() }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Whom a [`Socket`] talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// rtnetlink: links, addresses, routes, rules.
    Route,
    /// nfnetlink: packet filters.
    Netfilter,
    /// Families that are found by name.
    Generic,
}

/// A socket for requests, bound to the network namespace that it was opened in.
pub struct Socket {
    socket: OwnedFd,
    sequence: u32,
    buffer: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let socket = bound_socket(protocol, 0, SocketFlags::CLOEXEC)?;
        // A refusal does not repeat the request, which is known here, may be secret, and can be longer
        // than the buffer.
        let _ = option::set_number(&socket, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        if protocol == Protocol::Route {
            // Lets the kernel apply what a dump asks for, such as one table of routes. One before 4.20
            // cannot, and tells all.
            let option = libc::NETLINK_GET_STRICT_CHK;
            let _ = option::set_number(&socket, libc::SOL_NETLINK, option, 1);
        }
        Ok(Self { socket, sequence: 0, buffer: Zeroizing::new(vec![0; BUFFER]) })
    }

    /// Sends a request and waits for all of its answer: nothing for a change, the objects for a
    /// question. The error is the kernel's own errno. A dump that changed under the reader is asked
    /// for again, some times.
    pub fn request(&mut self, message: &Message) -> io::Result<Vec<Reply>> {
        const ATTEMPTS: usize = 16;
        let message = message.acknowledged();
        for _ in 0..ATTEMPTS {
            if let Some(replies) = self.exchange(std::slice::from_ref(&message))? {
                return Ok(replies);
            }
        }
        Err(io::Error::other("it changes faster than it can be read"))
    }

    /// Makes changes to one subsystem of netfilter (`NFNL_SUBSYS_*`), all of them or none. What is
    /// told of those with [`ECHO`]. The error is the errno of the first that is refused.
    pub fn transaction(&mut self, subsystem: u8, changes: &[Message]) -> io::Result<Vec<Reply>> {
        let bound = |kind| {
            let [high, low] = u16::from(subsystem).to_be_bytes();
            let header: [u8; NETFILTER_HEADER] = [libc::AF_UNSPEC as u8, 0, high, low];
            Message::new(kind, 0, &header)
        };
        let Some((last, others)) = changes.split_last() else {
            return Ok(Vec::new());
        };
        // Refusals are told in any case; one success is enough to know that there was none.
        let batch: Vec<Message> = [bound(libc::NFNL_MSG_BATCH_BEGIN as u16)]
            .into_iter()
            .chain(others.iter().cloned())
            .chain([last.acknowledged(), bound(libc::NFNL_MSG_BATCH_END as u16)])
            .collect();
        self.exchange(&batch).map(Option::unwrap_or_default)
    }

    /// Sends messages at once, under one number, since the first that is answered decides for all.
    fn exchange(&mut self, messages: &[Message]) -> io::Result<Option<Vec<Reply>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(messages.iter().map(|it| it.0.len()).sum()));
        for message in messages {
            bytes.extend_from_slice(&message.numbered(self.sequence));
        }
        self.send(&bytes)?;
        let (mut replies, mut consistent) = (Vec::new(), true);
        loop {
            for told in Messages(take(&self.socket, &mut self.buffer)?) {
                if told.sequence != self.sequence {
                    continue; // the rest of an answer that ended in an error
                }
                consistent &= told.flags & libc::NLM_F_DUMP_INTR as u16 == 0;
                match i32::from(told.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        outcome(told.payload)?;
                        return Ok(consistent.then_some(replies));
                    }
                    _ => replies.push(Reply::of(&told)),
                }
            }
        }
    }

    /// A request goes at once or not at all, and everybody may have room for so much of it. Whoever has
    /// CAP_NET_ADMIN may have more: a table of packet filters can be long.
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = send(&self.socket, bytes, SendFlags::empty());
        if sent == Err(Errno::MSGSIZE) {
            let room = bytes.len() as i32;
            // Where that is refused, so is the request again.
            let _ = option::set_number(&self.socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, room);
            sent = send(&self.socket, bytes, SendFlags::empty());
        }
        sent.map(drop).map_err(io::Error::from)
    }
}

/// Both endings of an answer carry a negative errno, or zero.
fn outcome(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(error @ ..0) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        _ => Ok(()),
    }
}

/// Word of every change of some kinds, bound to the network namespace that it was opened in.
/// Readable when there is some.
#[derive(Debug)]
pub struct Subscription {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// A change that somebody made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What changed, and how.
    pub reply: Reply,
    /// The number of the netlink socket that asked for it; zero if nobody did.
    pub port: u32,
}

impl Subscription {
    /// Listens in the calling thread's network namespace to some groups, given as bits
    /// (`RTMGRP_*`, or one shifted by the group's number less one).
    pub fn open(protocol: Protocol, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = bound_socket(protocol, groups, flags)?;
        // Where that is refused, more is lost.
        let _ = option::set_number(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ROOM);
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// Takes all that there is, without waiting, and tells whether some was lost because it came
    /// too fast, or was too long.
    pub fn receive(&mut self) -> io::Result<(Vec<Notice>, bool)> {
        let (mut notices, mut lost) = (Vec::new(), false);
        loop {
            match take(&self.socket, &mut self.buffer) {
                Ok(piece) => notices.extend(
                    Messages(piece).map(|told| Notice { reply: Reply::of(&told), port: told.port }),
                ),
                Err(Errno::NOBUFS | Errno::MSGSIZE) => lost = true,
                Err(Errno::WOULDBLOCK) => return Ok((notices, lost)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket in the calling thread's network namespace, which hears of these groups.
pub(crate) fn bound_socket(
    protocol: Protocol,
    groups: u32,
    flags: SocketFlags,
) -> io::Result<OwnedFd> {
    let protocol = match protocol {
        Protocol::Route => None,
        Protocol::Netfilter => Some(netlink::NETFILTER),
        Protocol::Generic => Some(netlink::GENERIC),
    };
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// The next piece; EMSGSIZE if it is longer than the buffer, so that nobody waits for an end that was
/// cut off.
fn take<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> rustix::io::Result<&'a [u8]> {
    let (_, length) = retry_on_intr(|| recv(socket, &mut *buffer, RecvFlags::TRUNC))?;
    buffer.get(..length).ok_or(Errno::MSGSIZE)
}

#[cfg(test)]
mod tests;
