//! What a process tries behind its walls, and what it holds for that.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs as unix;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::net::sockopt::set_socket_broadcast;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, socketpair,
};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process, pidfd_open,
    set_dumpable_behavior, setrlimit,
};
use rustix::system::{Uname, uname};
use rustix::thread::{
    CapabilitySets, LinkNameSpaceType, Uid, UnshareFlags, capabilities, move_into_link_name_space,
    set_capabilities, set_thread_uid,
};
use sys::namespaces::leave;

use crate::raw::{self, Call};
use crate::{ABSTRACT, TCP};

/// What a process holds when it puts up its walls.
pub struct Holdings {
    folder: PathBuf,
    listener: SocketAddr,
    network: OwnedFd,
    tun: File,
    stream: OwnedFd,
    tcp: OwnedFd,
    datagrams: UnixDatagram,
    capabilities: CapabilitySets,
    machine: Uname,
    other: i32,
}

impl Holdings {
    /// All that is needed for [`ATTEMPTS`], of which none must fail for another reason than a wall.
    pub fn new(folder: PathBuf, other: i32) -> Self {
        for file in ["file", "old", "unlinked"] {
            fs::write(folder.join(file), "").unwrap();
        }
        for inner in ["removed", "listed", "called"] {
            fs::create_dir(folder.join(inner)).unwrap();
        }
        Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(keep).unwrap(),
            network: File::open("/proc/self/ns/net").unwrap().into(),
            tun: File::open("/dev/net/tun").or_else(|_| File::open("/dev/null")).unwrap(),
            stream: socket(AddressFamily::INET, SocketType::STREAM).unwrap(),
            tcp: socket(AddressFamily::INET, SocketType::STREAM).unwrap(),
            datagrams: UnixDatagram::unbound().unwrap(),
            capabilities: capabilities(None).unwrap(),
            machine: uname(),
            folder,
            other,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn other(&self) -> Pid {
        Pid::from_raw(self.other).unwrap()
    }
}

/// It listens as long as this process lives.
fn keep(listener: TcpListener) -> io::Result<SocketAddr> {
    let address = listener.local_addr();
    Box::leak(Box::new(listener));
    address
}

fn socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd, Errno> {
    socket_with(family, kind, SocketFlags::CLOEXEC, None)
}

pub type Attempt = fn(&Holdings) -> io::Result<()>;

/// What nobody refuses to root. Each is tried in a thread of its own, since some change it.
pub const ATTEMPTS: &[(&str, Attempt)] = &[
    // Files.
    ("read a file", |it| fs::read(it.path("file")).map(drop)),
    ("write a file", |it| fs::write(it.path("file"), "x")),
    ("make a file", |it| File::create_new(it.path("new")).map(drop)),
    ("watch a file", |it| host::watch::Watch::new(it.path("file")).map(drop)),
    // Which Landlock does not mind.
    ("see a file", |it| fs::metadata(it.path("file")).map(drop)),
    ("list a folder", |it| fs::read_dir(&it.folder).map(drop)),
    ("make a folder", |it| fs::create_dir(it.path("folder"))),
    ("unlink", |it| fs::remove_file(it.path("unlinked"))),
    ("rename", |it| fs::rename(it.path("old"), it.path("renamed"))),
    ("make a symbolic link", |it| unix::symlink("file", it.path("symbolic"))),
    ("make a device", |it| {
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, Mode::RUSR);
        let here = rustix::fs::CWD;
        Ok(mknodat(here, it.path("null"), kind, mode, rustix::fs::makedev(1, 3))?)
    }),
    ("change a mode", |it| {
        fs::set_permissions(it.path("file"), fs::metadata(it.path("file"))?.permissions())
    }),
    ("change an owner", |it| unix::chown(it.path("file"), Some(0), Some(0))),
    ("write to /proc/self", |_| fs::write("/proc/self/coredump_filter", "0")),
    ("write to /proc/sys", |_| {
        fs::write("/proc/sys/kernel/core_pattern", fs::read("/proc/sys/kernel/core_pattern")?)
    }),
    ("a file in memory", |_| {
        Ok(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).map(drop)?)
    }),
    ("another root", |_| unix::chroot("/")),
    ("mount", |it| Ok(mount("tmpfs", &it.folder, "tmpfs", MountFlags::NOSUID, c"mode=0755")?)),
    // Programs and processes.
    ("execute", |_| Command::new("/bin/true").status().map(drop)),
    ("a process", |_| raw::make(Call::Clone)),
    ("clone3", |_| raw::make(Call::Clone3)),
    ("signal another", |it| Ok(kill_process(it.other(), Signal::CONT)?)),
    ("signal its thread", |it| raw::make(Call::SignalThread(it.other))),
    ("signal its task", |it| raw::make(Call::SignalTask(it.other))),
    ("signals for another", |it| raw::make(Call::SetOwner(it.datagrams.as_fd(), it.other))),
    ("hold another", |it| Ok(pidfd_open(it.other(), PidfdFlags::empty()).map(drop)?)),
    ("trace another", |it| raw::make(Call::Trace(it.other))),
    ("read another's memory", |it| raw::make(Call::ReadMemory(it.other))),
    ("memory to execute", |_| raw::make(Call::MapExecutable)),
    ("memory made executable", |_| raw::make(Call::MakeExecutable)),
    ("memory made executable by key", |_| raw::make(Call::MakeExecutableWithKey)),
    // Privileges.
    ("another user", |_| Ok(set_thread_uid(Uid::from_raw(65_534))?)),
    ("capabilities again", |it| Ok(set_capabilities(None, it.capabilities)?)),
    ("cores again", |_| {
        let limit = Rlimit { current: Some(1 << 20), maximum: None };
        Ok(setrlimit(Resource::Core, limit)?)
    }),
    ("dumps again", |_| Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)),
    ("the name of the machine", |it| {
        Ok(rustix::system::sethostname(it.machine.nodename().to_bytes())?)
    }),
    ("leave the network", |_| Ok(leave(UnshareFlags::NEWNET)?)),
    ("enter a network", |it| {
        Ok(move_into_link_name_space(it.network.as_fd(), Some(LinkNameSpaceType::Network))?)
    }),
    // The network.
    ("UDP", |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
    ("TCP", |_| Ok(socket(AddressFamily::INET, SocketType::STREAM).map(drop)?)),
    ("IPv6", |_| Ok(socket(AddressFamily::INET6, SocketType::DGRAM).map(drop)?)),
    ("netlink", |_| Ok(socket(AddressFamily::NETLINK, SocketType::RAW).map(drop)?)),
    ("packets", |_| Ok(socket(AddressFamily::PACKET, SocketType::RAW).map(drop)?)),
    ("a Unix socket", |_| UnixDatagram::unbound().map(drop)),
    ("a pair of sockets", |_| {
        let flags = SocketFlags::CLOEXEC;
        Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).map(drop)?)
    }),
    ("bind TCP", |it| Ok(bind(&it.stream, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?)),
    ("listen", |it| Ok(listen(&it.stream, 1)?)),
    (TCP, |it| Ok(connect(&it.tcp, &it.listener)?)),
    (ABSTRACT, |it| it.datagrams.send_to_addr(b"x", &abstract_name(&it.folder)?).map(drop)),
    ("an option of a socket", |it| Ok(set_socket_broadcast(&it.datagrams, true)?)),
    ("an interface", |it| raw::make(Call::SetInterface(it.tun.as_fd()))),
    ("an MTU", |it| raw::make(Call::SetMtu(it.datagrams.as_fd()))),
    // The kernel's many other doors.
    ("bpf", |_| raw::make(Call::Bpf)),
    ("io_uring", |_| raw::make(Call::IoUring)),
    ("perf_event_open", |_| raw::make(Call::PerfEvent)),
    ("userfaultfd", |_| raw::make(Call::UserFaultFd)),
    ("keyctl", |_| raw::make(Call::Keyctl)),
    ("personality", |_| raw::make(Call::Personality)),
    ("init_module", |_| raw::make(Call::InitModule)),
];

/// Of a socket that only whoever knows the folder's name looks for.
pub fn abstract_name(folder: &Path) -> io::Result<UnixAddress> {
    UnixAddress::from_abstract_name(folder.to_str().unwrap())
}
