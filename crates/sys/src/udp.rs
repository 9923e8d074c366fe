//! UDP sockets: a group of them on one port, and what is asked of each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use libc::{BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MOD, BPF_RET};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use crate::batch::UDP_GRO;
pub use crate::batch::{Local, Outgoing, ReceiveBatch, Received};
use crate::option;

/// Which internet protocol a socket speaks. A socket for IPv6 never sees IPv4 in disguise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of the sockets that reach `remote`.
    pub fn of(remote: SocketAddr) -> Self {
        if remote.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// The sockets of one family on one port, of which each datagram reaches exactly one, chosen by its
/// first bytes. So a flood of handshakes cannot crowd data out of its queue, and a session's data
/// stay with one worker.
///
/// The choice is a courtesy, not a promise: until the filter is attached, where it is refused, and
/// where the kernel joined the datagrams of a train, any socket may get anything.
#[derive(Debug)]
pub struct Group {
    /// Socket `i` gets the datagrams that begin with a 4 and whose fifth byte is `i`, modulo their
    /// number.
    pub data: Vec<Udp>,
    /// Gets all the others.
    pub handshake: Udp,
}

impl Group {
    /// Opens `data_sockets` sockets (at most 256) and one for handshakes, all bound
    /// to the wildcard address and `port` in the calling thread's network namespace; port 0 lets
    /// the kernel choose. `mark` is put on whatever they send, 0 for none.
    ///
    /// The port is ours alone: the first socket is bound without `SO_REUSEPORT`. Only then is the
    /// port opened to the others, and by the kernel's rule only to sockets that ask for it as the
    /// same user.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE` if anything else has the port, `EAFNOSUPPORT` if the kernel does not speak the
    /// family, `EPERM` if there is a mark but no `CAP_NET_ADMIN`.
    pub fn bind(family: Family, port: u16, data_sockets: usize, mark: u32) -> io::Result<Group> {
        let bind = |port, joins| Udp::bind(family, port, joins, mark);
        let first = bind(port, false)?;
        let port = first.port()?;
        let mut data = vec![first];
        for _ in 1..data_sockets {
            data.push(bind(port, true)?);
        }
        let group = Group { data, handshake: bind(port, true)? };
        // Without the filter the kernel deals datagrams out by their addresses and ports.
        let _ = group.steer();
        Ok(group)
    }

    /// Has the kernel choose the socket of each datagram by its first bytes.
    fn steer(&self) -> io::Result<()> {
        let data_sockets = self.data.len() as u32;
        let instruction =
            |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
        // Byte 0 is the first of the UDP payload. A load beyond the end returns 0: data socket 0.
        let mut filter = [
            instruction(BPF_LD | BPF_B | BPF_ABS, 0, 0),
            instruction(BPF_JMP | BPF_JEQ | BPF_K, 4, 3),
            instruction(BPF_LD | BPF_B | BPF_ABS, 4, 0),
            instruction(BPF_ALU | BPF_MOD | BPF_K, data_sockets, 0),
            instruction(BPF_RET | BPF_A, 0, 0),
            instruction(BPF_RET | BPF_K, data_sockets, 0),
        ];
        let (len, filter) = (filter.len() as u16, filter.as_mut_ptr());
        let program = libc::sock_fprog { len, filter };
        let option = libc::SO_ATTACH_REUSEPORT_CBPF;
        option::set(&self.handshake, libc::SOL_SOCKET, option, &program)
    }

    /// The port that all of them are bound to.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn port(&self) -> io::Result<u16> {
        self.handshake.port()
    }

    /// Marks whatever is sent from now on (`SO_MARK`), for the machine's routing rules; 0 for no
    /// mark.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_ADMIN` or `CAP_NET_RAW`.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.sockets().try_for_each(|socket| socket.set_mark(mark))
    }

    /// All of them, data first.
    pub fn sockets(&self) -> impl Iterator<Item = &Udp> {
        self.data.iter().chain([&self.handshake])
    }
}

/// Opens a group for each family, IPv4 first, on the same port. A family that the kernel does not speak is left
/// out; with port 0, ports are drawn until one is free for both (spec §1.12).
///
/// # Errors
///
/// As for [`Group::bind`]; nothing stays open then. `EAFNOSUPPORT` only if neither family exists.
pub fn bind_pair(port: u16, data_sockets: usize, mark: u32) -> io::Result<[Option<Group>; 2]> {
    let mut others = if port == 0 { 100 } else { 0 };
    let bind = |family, port| match Group::bind(family, port, data_sockets, mark) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(None),
        result => result.map(Some),
    };
    loop {
        let v4 = bind(Family::V4, port)?;
        let same_port = v4.as_ref().map_or(Ok(port), Group::port)?;
        match bind(Family::V6, same_port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && others > 0 => others -= 1,
            Err(error) => return Err(error),
            Ok(None) if v4.is_none() => return Err(Errno::AFNOSUPPORT.into()),
            Ok(v6) => return Ok([v4, v6]),
        }
    }
}

/// One UDP socket, non-blocking, that tells where each datagram was addressed to and how it was
/// marked, and lets the network fragment what it sends. It can be handed to another process.
#[derive(Debug)]
pub struct Udp(pub UdpSocket);

impl Udp {
    /// Bound to `port`, which others may join from then on; alone, unless it `joins` others itself.
    fn bind(family: Family, port: u16, joins: bool, mark: u32) -> io::Result<Udp> {
        let (domain, any, level, options) = match family {
            Family::V4 => (AddressFamily::INET, ANY_V4, libc::IPPROTO_IP, V4_OPTIONS),
            Family::V6 => (AddressFamily::INET6, ANY_V6, libc::IPPROTO_IPV6, V6_OPTIONS),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let udp = Udp(socket_with(domain, SocketType::DGRAM, flags, None)?.into());
        for (name, value) in options {
            option::set(&udp, level, *name, value)?;
        }
        if mark != 0 {
            udp.set_mark(mark)?;
        }
        // The forced variant may exceed the machine's limit but needs a capability; without it, as
        // much as allowed.
        sockopt::set_socket_recv_buffer_size_force(&udp, BUFFER)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&udp, BUFFER))?;
        sockopt::set_socket_send_buffer_size_force(&udp, BUFFER)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&udp, BUFFER))?;
        // Without it each datagram arrives alone: slower, and no less right.
        let _ = udp.set_gro(true);
        sockopt::set_socket_reuseport(&udp, joins)?;
        bind(&udp, &SocketAddr::new(any, port))?;
        sockopt::set_socket_reuseport(&udp, true)?;
        Ok(udp)
    }

    /// The port it is bound to.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.0.local_addr()?.port())
    }

    /// Marks whatever is sent from now on (`SO_MARK`), for the machine's routing rules; 0 for no
    /// mark.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_ADMIN` or `CAP_NET_RAW`.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        option::set(self, libc::SOL_SOCKET, libc::SO_MARK, &mark)
    }

    /// Waits until there is room to send, or for so long.
    pub fn wait_for_room(&self, patience: Duration) {
        // A timeout of more seconds than the kernel can count is forever.
        let patience = Timespec::try_from(patience).ok();
        let _ = poll(&mut [PollFd::new(self, PollFlags::OUT)], patience.as_ref());
    }

    /// Whether the kernel may join datagrams of one flow into a train (`UDP_GRO`). On from the
    /// start where it can.
    ///
    /// # Errors
    ///
    /// `ENOPROTOOPT` before Linux 5.0.
    pub fn set_gro(&self, on: bool) -> io::Result<()> {
        option::set(self, libc::SOL_UDP, UDP_GRO, &libc::c_int::from(on))
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What spec §1.12 asks for; the kernel doubles it for its own bookkeeping.
const BUFFER: usize = 7 << 20;

/// Every address of this machine.
const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Where each datagram was addressed to, its traffic class, and don't-fragment off (spec §1.12).
const V4_OPTIONS: &[(i32, i32)] = &[
    (libc::IP_PKTINFO, 1),
    (libc::IP_RECVTOS, 1),
    (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
];
const V6_OPTIONS: &[(i32, i32)] = &[
    (libc::IPV6_V6ONLY, 1),
    (libc::IPV6_RECVPKTINFO, 1),
    (libc::IPV6_RECVTCLASS, 1),
    (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
];
