//! TUN: packets to and from the machine's own network stack.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::{array, ptr};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

/// One queue of a TUN interface, non-blocking. The interface lives as long as one of its queues is
/// open.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    /// Whether the kernel puts and wants a [`VnetHeader`] before each packet. Always so where we made
    /// it.
    vnet_header: bool,
}

impl Tun {
    /// Creates the interface `name`, down, with as many queues as asked for (at least one), each
    /// carrying packets behind a [`VnetHeader`]. In `name`, the kernel replaces a `%d` by the first
    /// free number.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the name is taken, by whatever kind of interface; `EPERM` without
    /// `CAP_NET_ADMIN`; `EINVAL` if the kernel cannot use the name; `ENOENT` or `ENODEV` if
    /// /dev/net/tun is missing or its driver is.
    pub fn create(name: &str, queues: usize) -> io::Result<Vec<Tun>> {
        let mut request = InterfaceRequest::named(name)?;
        let multi_queue = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
        let shape = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | multi_queue;
        let open = |queue| {
            // Without IFF_TUN_EXCL, a queue would silently join a multi-queue interface that
            // somebody else made.
            let exclusive = if queue == 0 { libc::IFF_TUN_EXCL } else { 0 };
            request.flags = (shape | exclusive) as u16;
            let fd = File::options().read(true).write(true).open("/dev/net/tun")?;
            // The answer carries the name that the kernel chose, for the queues after the first.
            ioctl(fd.as_fd(), Request::SetInterface(&mut request))?;
            Tun::from_fd(fd.into())
        };
        (0..queues.max(1)).map(open).collect()
    }

    /// Takes over a queue that was opened before, perhaps by somebody else who handed it down. It must
    /// have been opened with `IFF_NO_PI`; that, the kernel does not tell (`TUNGETIFF` uses the bit for
    /// another thing).
    ///
    /// # Errors
    ///
    /// `ENOTTY` or `EBADFD` if it is no queue of an interface; `EINVAL` if it is a TAP's.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Tun> {
        let mut request = InterfaceRequest::default();
        ioctl(fd.as_fd(), Request::GetInterface(&mut request))?;
        let has = |flag: libc::c_int| request.flags & flag as u16 != 0;
        if !has(libc::IFF_TUN) {
            return Err(Errno::INVAL.into());
        }
        let vnet_header = has(libc::IFF_VNET_HDR);
        if vnet_header {
            ioctl(fd.as_fd(), Request::SetVnetHeaderSize)?;
        }
        fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        Ok(Tun { fd, vnet_header })
    }

    /// The interface's present name: it can be renamed at any time.
    ///
    /// # Errors
    ///
    /// `EBADFD` if the interface was deleted.
    pub fn name(&self) -> io::Result<OsString> {
        let mut request = InterfaceRequest::default();
        ioctl(self.as_fd(), Request::GetInterface(&mut request))?;
        Ok(request.name())
    }

    /// Says what the reader of this interface takes off the kernel's hands. It holds for all its
    /// queues. Packets may then be read that are larger than the MTU or lack a checksum.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the kernel does not know one of them (USO before Linux 6.2), or its packets have no
    /// [`VnetHeader`]; nothing has changed then.
    pub fn set_offload(&self, offload: Offload) -> io::Result<()> {
        if !self.vnet_header && offload != Offload::default() {
            return Err(Errno::INVAL.into());
        }
        ioctl(self.as_fd(), Request::SetOffload(offload.flags())).map(drop)
    }

    /// Reads one packet behind its [`VnetHeader`], which says nothing where the kernel gives none; what
    /// does not fit into `buffer` is cut off.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; `EBADFD` once the interface was deleted.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.vnet_header {
            return Ok(rustix::io::read(&self.fd, buffer)?);
        }
        let (header, packet) =
            buffer.split_first_chunk_mut::<{ VnetHeader::LEN }>().ok_or(Errno::INVAL)?;
        *header = [0; VnetHeader::LEN];
        Ok(VnetHeader::LEN + rustix::io::read(&self.fd, packet)?)
    }

    /// Writes one packet, gathered from at most 1024 pieces, of which the first is its [`VnetHeader`].
    ///
    /// # Errors
    ///
    /// `EIO` while the interface is down; `EINVAL` if the kernel does not like the header or the
    /// packet is no IP; `EBADFD` once the interface was deleted; `ENOBUFS`, `ENOMEM` or
    /// `WouldBlock` if it has no room.
    pub fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let pieces = pieces.get(usize::from(!self.vnet_header)..).unwrap_or_default();
        Ok(rustix::io::writev(&self.fd, pieces)?)
    }

    /// Whether the interface is up. It works from another network namespace, too.
    ///
    /// # Errors
    ///
    /// `EBADFD` if the interface was deleted.
    pub fn is_up(&self) -> io::Result<bool> {
        let mut queue = [PollFd::new(&self.fd, PollFlags::OUT)];
        poll(&mut queue, Some(&rustix::time::Timespec::default()))?;
        let [queue] = queue;
        // The driver calls a queue writable exactly while its interface has IFF_UP.
        match queue.revents() {
            events if events.contains(PollFlags::ERR) => Err(Errno::BADFD.into()),
            events => Ok(events.contains(PollFlags::OUT)),
        }
    }

    /// The network namespace that the interface is in at present: it can be moved at any time.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_ADMIN` over that namespace, `EBADFD` if the interface was deleted.
    pub fn network_namespace(&self) -> io::Result<OwnedFd> {
        let fd = ioctl(self.as_fd(), Request::GetNetworkNamespace)?;
        // SAFETY: the ioctl has just made this descriptor and nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What passes a TUN as super-packets. Whoever reads it then cuts them in the kernel's place, and
/// completes the checksums of packets that are marked [`VnetHeader::NEEDS_CSUM`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// TCP, over IPv4 and IPv6, with ECN or without.
    pub tcp: bool,
    /// UDP (USO), over IPv4 and IPv6. Linux 6.2 and later.
    pub udp: bool,
}

impl Offload {
    /// Everything, as Linux 6.2 and later can.
    pub const ALL: Offload = Offload { tcp: true, udp: true };

    fn flags(self) -> libc::c_uint {
        let tcp = libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
        let flags = if self.tcp { tcp } else { 0 } | if self.udp { udp } else { 0 };
        // No super-packet has its checksum.
        if flags == 0 { 0 } else { flags | libc::TUN_F_CSUM }
    }
}

/// What stands before each packet and says what is left to do for it: `struct virtio_net_hdr`, in
/// the machine's byte order (virtio 1.2 §5.1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`](Self::NEEDS_CSUM) or not.
    pub flags: u8,
    /// One of the `GSO_` kinds, perhaps with [`GSO_ECN`](Self::GSO_ECN) added.
    pub gso_type: u8,
    /// Length of all headers of a super-packet; a hint that cannot be trusted on forwarded packets.
    pub hdr_len: u16,
    /// Payload bytes of each segment of a super-packet but the last.
    pub gso_size: u16,
    /// From which byte of the packet on to sum, if `NEEDS_CSUM`.
    pub csum_start: u16,
    /// How many bytes behind `csum_start` the sum goes.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Its length in bytes.
    pub const LEN: usize = 1 + 1 + 4 * 2;

    /// The checksum field holds only the sum of the pseudo-header.
    pub const NEEDS_CSUM: u8 = 1;

    /// A packet like any other.
    pub const GSO_NONE: u8 = 0;
    /// A TCP super-packet over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// A TCP super-packet over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// A UDP super-packet (USO): the datagrams of one flow in a row.
    pub const GSO_UDP_L4: u8 = 5;
    /// Added to a TCP kind: CWR is set, on the first segment only.
    pub const GSO_ECN: u8 = 0x80;

    /// Splits the header off what was read from a TUN; `None` if there is not even a header.
    pub fn decode(bytes: &[u8]) -> Option<(VnetHeader, &[u8])> {
        let (&[flags, gso_type, h0, h1, s0, s1, c0, c1, o0, o1], packet) =
            bytes.split_first_chunk()?;
        let [hdr_len, gso_size, csum_start, csum_offset] =
            [[h0, h1], [s0, s1], [c0, c1], [o0, o1]].map(u16::from_ne_bytes);
        Some((VnetHeader { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset }, packet))
    }

    /// The header as it is written before a packet.
    pub fn encode(&self) -> [u8; VnetHeader::LEN] {
        let VnetHeader { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset } = *self;
        let [[h0, h1], [s0, s1], [c0, c1], [o0, o1]] =
            [hdr_len, gso_size, csum_start, csum_offset].map(u16::to_ne_bytes);
        [flags, gso_type, h0, h1, s0, s1, c0, c1, o0, o1]
    }
}

const _: () = assert!(VnetHeader::LEN == 10);
const VNET_HEADER_SIZE: libc::c_int = VnetHeader::LEN as libc::c_int;

/// `struct ifreq`: the name of an interface, and flags. All that concern a TUN fit.
#[repr(C)]
#[derive(Default)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    unused: [u8; size_of::<libc::ifreq>() - libc::IFNAMSIZ - 2],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

impl InterfaceRequest {
    /// The name must leave room for its closing zero, and have none inside.
    fn named(name: &str) -> io::Result<InterfaceRequest> {
        let name = name.as_bytes();
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(&0) {
            return Err(Errno::INVAL.into());
        }
        let name = array::from_fn(|at| name.get(at).copied().unwrap_or_default());
        Ok(InterfaceRequest { name, ..InterfaceRequest::default() })
    }

    fn name(&self) -> OsString {
        let name = self.name.split(|&byte| byte == 0).next().unwrap_or_default();
        OsString::from_vec(name.to_vec())
    }
}

/// The ioctls of a TUN, each with the argument that the kernel expects of it.
enum Request<'a> {
    SetInterface(&'a mut InterfaceRequest),
    GetInterface(&'a mut InterfaceRequest),
    SetVnetHeaderSize,
    SetOffload(libc::c_uint),
    GetNetworkNamespace,
}

fn ioctl(fd: BorrowedFd<'_>, request: Request<'_>) -> io::Result<RawFd> {
    let (number, argument) = match request {
        Request::SetInterface(name) => (libc::TUNSETIFF, ptr::from_mut(name).cast()),
        Request::GetInterface(name) => (libc::TUNGETIFF, ptr::from_mut(name).cast()),
        // The kernel only reads it.
        Request::SetVnetHeaderSize => {
            (libc::TUNSETVNETHDRSZ, ptr::from_ref(&VNET_HEADER_SIZE).cast_mut().cast())
        }
        // Not a pointer, but the flags themselves.
        Request::SetOffload(flags) => {
            (libc::TUNSETOFFLOAD, ptr::without_provenance_mut(flags as usize))
        }
        Request::GetNetworkNamespace => (libc::TUNGETDEVNETNS, ptr::null_mut::<libc::c_void>()),
    };
    // SAFETY: the match above gives each request the argument that its driver expects, alive until
    // the call returns. A descriptor of another kind rejects the numbers, which are the TUN driver's
    // own.
    match unsafe { libc::ioctl(fd.as_raw_fd(), number, argument) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

#[cfg(test)]
mod tests;
