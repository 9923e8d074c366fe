//! What a process that has put walls around itself is refused, and what it still can do. Each time it is
//! this program again, which says what came of everything that it tried.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod attempts;
#[path = "../../../sys/tests/support/raw.rs"]
mod raw;

use std::collections::{BTreeMap, HashMap};
use std::env::consts::ARCH;
use std::fs::{self, File};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio, id};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, panic, process, thread};

use attempts::{ATTEMPTS, Holdings, abstract_name};
use host::confine::{Reach, USER, Wall, Work, confine};
use host::news::Follower;
use host::unreachable::Reports;
use host::ways::preferred_source;
use host::{Change, Network, namespace};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};
use rustix::process::{
    DumpableBehavior, dumpable_behavior, getegid, geteuid, getgid, getpid, getppid, getuid,
};
use rustix::system::uname;
use rustix::thread::{UnshareFlags, gettid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use sys::clock::boottime;
use sys::namespaces::leave;
use sys::poll::{Epoll, Event, Timer};
use sys::tun::{Offload, Tun, VnetHeader};
use sys::udp::{Family, Group, Outgoing, ReceiveBatch};

/// What this program is to put up when it is run again.
const WALLS: &str = "ADIT_WALLS";
/// Set if it is not to carry packets but to serve whoever does.
const SERVES: &str = "ADIT_SERVES";
/// A folder that it can use, and a process that is not its business.
const FOLDER: &str = "ADIT_FOLDER";
const OTHER: &str = "ADIT_OTHER";
/// How it begins a line about something that it tried, and about a wall that it could not put up.
const TRIED: &str = "tried: ";
const MISSING: &str = "missing: ";
/// What only Landlock sees, since 6.12, and since 6.7.
const ABSTRACT: &str = "send to an abstract socket";
const TCP: &str = "connect TCP";
const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_confined_process_takes_nothing_back() {
    if let Ok(walls) = env::var(WALLS) {
        return try_everything(&walls);
    }
    let mut possible = possible();
    for (what, version) in [(ABSTRACT, ABI::V6), (TCP, ABI::V4)] {
        if !landlock_is(version) {
            // No other wall stands before it.
            println!("skipped: the kernel's Landlock does not know: {what}");
            possible.retain(|it| it != what);
        }
    }
    assert!(possible.len() >= 25 || !getuid().is_root(), "{possible:?}");
    let Some(refusals) = refusals(&Wall::ALL) else { return };
    assert_refused(&refusals, &possible);
}

#[test]
fn seccomp_alone_refuses_all_but_what_it_cannot_see() {
    let Some(refusals) = refusals(&[Wall::Seccomp]) else { return };
    let allowed: Vec<_> = refusals.into_iter().filter(|(_, refused)| !refused).collect();
    // Where a datagram goes, and what is connected to what, stands in memory.
    assert_eq!(allowed, [TCP, ABSTRACT].map(|it| (it.to_owned(), false)));
}

#[test]
fn landlock_alone_keeps_away_from_files_ports_and_others() {
    let (possible, Some(refusals)) = (possible(), refusals(&[Wall::Landlock])) else { return };
    let files = [
        "read a file",
        "write a file",
        "make a file",
        "list a folder",
        "make a folder",
        "unlink",
        "rename",
        "make a symbolic link",
        "make a device",
        "write to /proc/self",
        "write to /proc/sys",
        "execute",
        "mount",
    ];
    let ports = ["bind TCP", TCP];
    let others = ["signal another", "signal its thread", ABSTRACT];
    for (names, version, since) in
        [(&files[..], ABI::V1, "5.13"), (&ports, ABI::V4, "6.7"), (&others, ABI::V6, "6.12")]
    {
        if landlock_is(version) {
            let able = possible.iter().filter(|what| names.contains(&what.as_str()));
            assert_refused(&refusals, able);
        } else {
            println!("skipped: the kernel's Landlock is older than that of {since}: {names:?}");
        }
    }
    // What is seen of the others is that of Landlock, and not of something else here.
    assert!(!refusals["UDP"] && !refusals["another user"], "{refusals:?}");
}

#[test]
fn without_capabilities_root_is_nobody() {
    if !getuid().is_root() {
        return println!("skipped: this is nobody already");
    }
    let (possible, Some(refusals)) = (possible(), refusals(&[Wall::Capabilities])) else { return };
    let names = [
        "make a device",
        "another root",
        "mount",
        "trace another",
        "another user",
        "capabilities again",
        "the name of the machine",
        "leave the network",
        "enter a network",
        "packets",
    ];
    assert_refused(&refusals, possible.iter().filter(|what| names.contains(&what.as_str())));
    assert!(!refusals["read a file"] && !refusals["UDP"], "{refusals:?}");
}

#[test]
fn as_a_user_of_its_own_root_has_no_files_and_no_neighbours() {
    if !getuid().is_root() {
        return println!("skipped: this is nobody already");
    }
    let (possible, Some(refusals)) = (possible(), refusals(&[Wall::User])) else { return };
    let names = [
        "write a file",
        "make a file",
        "make a folder",
        "unlink",
        "rename",
        "change a mode",
        "change an owner",
        "write to /proc/sys",
        "mount",
        "signal its thread",
        "trace another",
        "another user",
        "capabilities again",
        "packets",
    ];
    assert_refused(&refusals, possible.iter().filter(|what| names.contains(&what.as_str())));
    assert!(!refusals["read a file"] && !refusals["UDP"], "{refusals:?}");
}

#[test]
fn the_kernel_says_that_nothing_is_left() {
    const TEST: &str = "the_kernel_says_that_nothing_is_left";
    if let Ok(walls) = env::var(WALLS) {
        let [mut status, mut limits] =
            ["status", "limits"].map(|it| File::open(format!("/proc/thread-self/{it}")).unwrap());
        let is_root = getuid().is_root();
        let missing = put_up(&walls);
        let mut text = String::new();
        status.read_to_string(&mut text).unwrap();
        for (name, value) in [
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
        ] {
            // Whoever was not root keeps a bounding set, which bounds nothing any more.
            if name != "CapBnd" || is_root {
                assert!(text.contains(&format!("{name}:\t{value}\n")), "{name}: {text}");
            }
        }
        if is_root && !missing.contains(&Wall::User) {
            for name in ["Uid", "Gid"] {
                let line = format!("{name}:\t{USER}\t{USER}\t{USER}\t{USER}\n");
                assert!(text.contains(&line), "{line}: {text}");
            }
            assert!(text.contains("\nGroups:\t \n"), "{text}");
        }
        if walls == all() && !missing.contains(&Wall::Seccomp) {
            assert!(text.contains("Seccomp:\t2\n"), "{text}");
        } else if walls != all() {
            assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        }
        text.clear();
        limits.read_to_string(&mut text).unwrap();
        let cores = text.lines().find_map(|it| it.strip_prefix("Max core file size")).unwrap();
        assert_eq!(cores.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
        return;
    }
    // Landlock and seccomp want the first, too, and the last refuses to say what the second has done.
    let first = [Wall::NoNewPrivileges, Wall::User, Wall::Dump, Wall::Capabilities];
    for walls in [all(), names(&first)] {
        assert_succeeds(&again(TEST, &walls, |_| {}));
    }
}

#[test]
fn what_a_data_plane_does_still_works() {
    if let Ok(walls) = env::var(WALLS) {
        return carry(&walls);
    }
    let folder = Folder::new();
    assert_succeeds(&again("what_a_data_plane_does_still_works", &all(), |it| {
        it.env(FOLDER, &folder.0);
    }));
}

/// As a data plane does, with everything made before that it is given.
fn carry(walls: &str) {
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let path = folder.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    let group = Group::bind(Family::V4, 0, 2, 0).unwrap();
    let name = abstract_name(&folder).unwrap();
    let _listener = UnixDatagram::bind_addr(&name).unwrap();
    let manager = UnixDatagram::unbound().unwrap();
    manager.connect_addr(&name).unwrap();
    let (privileged, unprivileged) = UnixStream::pair().unwrap();
    let [near, far] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let tuns = namespace::create().and_then(|network| {
        namespace::within(network.as_fd(), || Tun::create("confined", 1)).flatten()
    });
    // It ends when nobody holds the other end of what it reads.
    let mut broker = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let line = broker.stdin.take();
    put_up(walls);
    drop(line);
    assert!(broker.wait().unwrap().success());

    // Clients.
    client.write_all(b"get=1\n\n").unwrap();
    let (mut served, _) = listener.accept().unwrap();
    served.set_nonblocking(true).unwrap();
    let mut read = [0; 16];
    let (mut first, mut second) = ([0; 3], [0; 13]);
    let pieces = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(served.try_clone().unwrap().read_vectored(pieces).unwrap(), 7);
    assert_eq!(served.read(&mut read).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(served.peer_addr().is_ok() && served.take_error().unwrap().is_none());
    served.shutdown(Shutdown::Both).unwrap();

    // Datagrams.
    near.send_to(b"hello", far.local_addr().unwrap()).unwrap();
    assert_eq!(far.recv_from(&mut read).unwrap(), (5, near.local_addr().unwrap()));
    let socket = group.sockets().next().unwrap();
    socket.set_gro(false).unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, group.port().unwrap()));
    let hello = Outgoing { to, source: None, tos: 0, bytes: b"hello", stride: 5, is_train: false };
    for bytes in [b"hello", &[4, 0, 0, 0, 0][..]] {
        socket.send(&Outgoing { bytes, ..hello }).unwrap();
    }
    let mut batch = ReceiveBatch::new(4, 64);
    let sockets = group.sockets().filter(|it| it.receive(&mut batch).is_ok());
    assert_ne!(sockets.count(), 0);
    // To whom it was connected before, though it could not be connected now.
    assert_eq!(manager.send(b"READY=1").unwrap(), 7);
    // Descriptors, by whoever has them.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut sent = SendAncillaryBuffer::new(&mut space);
    let descriptors = [near.as_fd()];
    assert!(sent.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let (flags, letter) = (SendFlags::empty(), [IoSlice::new(b"x")]);
    sendmsg(&privileged, &letter, &mut sent, flags).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut come = RecvAncillaryBuffer::new(&mut space);
    let letter = &mut [IoSliceMut::new(&mut read)];
    recvmsg(&unprivileged, letter, &mut come, RecvFlags::CMSG_CLOEXEC).unwrap();
    assert_eq!(come.drain().count(), 1);
    let way = UdpSocket::from(near.as_fd().try_clone_to_owned().unwrap());
    let source = preferred_source(&way, far.local_addr().unwrap());
    assert_eq!(source.unwrap(), Ipv4Addr::LOCALHOST);

    // Threads, bells and clocks.
    let (epoll, event, timer) =
        (Epoll::new().unwrap(), Event::new().unwrap(), Timer::new().unwrap());
    epoll.add(&event, 1).unwrap();
    let thread = thread::Builder::new().name("worker".into());
    let worker = thread.spawn(move || {
        event.signal();
        thread::current().name().map(str::to_owned)
    });
    assert_eq!(worker.unwrap().join().unwrap().as_deref(), Some("worker"));
    timer.set(Some(boottime() + Duration::from_millis(1))).unwrap();
    epoll.add(&timer, 2).unwrap();
    while !epoll.wait(Some(LONG)).unwrap().any(|token| token == 2) {}
    thread::sleep(Duration::from_millis(1));

    // What rustix panics about, if it is refused.
    let _ = (getuid(), geteuid(), getgid(), getegid(), getpid(), getppid(), gettid(), uname());

    // Memory and chance, and a panic that somebody catches.
    let mut memory = vec![1u8; 100 << 20];
    memory.resize(150 << 20, 2);
    assert_eq!(memory.iter().map(|byte| usize::from(*byte)).sum::<usize>(), 200 << 20);
    drop(memory);
    let mut chance = [0; 32];
    sys::random::fill(&mut chance);
    assert_ne!(chance, [0; 32]);
    assert_eq!(HashMap::from([(1, 2)]).get(&1), Some(&2));
    assert!(panic::catch_unwind(|| panic!("as it should")).is_err());

    // An interface.
    match &tuns {
        Ok(tuns) => {
            let [first] = &tuns[..] else { panic!("one queue") };
            let first = Tun::from_fd(first.as_fd().try_clone_to_owned().unwrap()).unwrap();
            assert_eq!(first.name().unwrap(), "confined");
            assert!(!first.is_up().unwrap());
            first.set_offload(Offload { tcp: true, udp: false }).unwrap();
            assert_eq!(first.read(&mut read).unwrap_err().kind(), ErrorKind::WouldBlock);
            let nothing = [[0; VnetHeader::LEN].as_slice(), &[0x45]].map(IoSlice::new);
            assert_eq!(first.write_vectored(&nothing).unwrap_err().raw_os_error(), Some(libc::EIO));
        }
        Err(error) => println!("skipped: no interface: {error}"),
    }
}

#[test]
fn whoever_serves_has_doors_for_that_and_no_others() {
    let possible = possible();
    let refusals = refusals_with(&Wall::ALL, |it| {
        it.env(SERVES, "1");
    });
    let Some(refusals) = refusals else { return };
    let allowed = possible.iter().filter(|what| !refusals[*what]).map(String::as_str);
    let mut expected = vec!["IPv6", "UDP", "enter a network", "netlink"];
    // What nobody else refuses.
    expected.push("see a file");
    expected.extend((!landlock_is(ABI::V4)).then_some("bind TCP"));
    expected.retain(|it| possible.iter().any(|what| what == it));
    expected.sort_unstable();
    assert_eq!(allowed.collect::<Vec<_>>(), expected);
}

#[test]
fn what_whoever_serves_does_still_works() {
    if let Ok(walls) = env::var(WALLS) {
        return serve(&walls);
    }
    if !getuid().is_root() {
        return println!("skipped: this is nobody already");
    }
    let folder = Folder::new();
    assert_succeeds(&again("what_whoever_serves_does_still_works", &all(), |it| {
        it.env(FOLDER, &folder.0).env(SERVES, "1");
    }));
}

fn serve(walls: &str) {
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let [removed, called] = ["removed", "called"].map(|it| folder.join(it));
    for it in [&removed, &called, &folder.join("listed")] {
        fs::create_dir(it).unwrap();
    }
    fs::write(removed.join("file"), "").unwrap();
    fs::write(folder.join("file"), "").unwrap();
    let _listener = UnixListener::bind(called.join("socket")).unwrap();
    let [here, there] = [(); 2].map(|()| namespace::create().unwrap());
    let inside = || {
        let [tun] = <[_; 1]>::try_from(Tun::create("served", 1).unwrap()).unwrap();
        put_up(walls);
        // Sockets, with all that they can be given, and what comes by ICMP.
        let groups = sys::udp::bind_pair(53, 2, 7).unwrap();
        groups.iter().flatten().for_each(|group| group.set_mark(8).unwrap());
        assert!(groups[0].is_some());
        host::ways::probe(host::Family::V4, 7).unwrap();
        assert!(Reports::open().unwrap().into_sockets()[0].is_some());
        // An interface that moves, its settings there, and news of it.
        let mut follower = Follower::new(&tun).unwrap();
        let change = |change: Change<'_>| Network::open().unwrap().apply(change).unwrap();
        change(Change::MoveLink("served", there.as_fd()));
        follower.bell().drain();
        let (sight, network) = follower.look(&tun).unwrap();
        assert!(sight.moved && sight.mtu == Some(1500), "{sight:?}");
        follower.bell().drain();
        namespace::within(network.as_fd(), || {
            host::sysctl::set("net/ipv4/conf/served/send_redirects", "0").unwrap();
            change(Change::SetMtu("served", 1400));
        })
        .unwrap();
        assert!(follower.bell().rings());
        assert_eq!(follower.look(&tun).unwrap().0.mtu, Some(1400));
        // Files.
        fs::remove_file(removed.join("file")).unwrap();
        let refused = fs::remove_file(folder.join("file")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        fs::create_dir_all(folder.join("listed/later")).unwrap_err();
        assert!(fs::read_dir(folder.join("listed")).is_ok() && fs::read_dir(&removed).is_err());
        UnixStream::connect(called.join("socket")).unwrap();
    };
    namespace::within(here.as_fd(), inside).unwrap();
}

#[test]
fn the_time_is_told_without_a_call() {
    const TEST: &str = "the_time_is_told_without_a_call";
    if let Ok(walls) = env::var(WALLS) {
        // Whoever makes it is killed, whatever else is allowed.
        let calls = BTreeMap::from([(libc::SYS_clock_gettime, vec![])]);
        let (allow, kill) = (SeccompAction::Allow, SeccompAction::KillProcess);
        let filter = SeccompFilter::new(calls, allow, kill, ARCH.try_into().unwrap());
        let filter: BpfProgram = filter.unwrap().try_into().unwrap();
        seccompiler::apply_filter(&filter).unwrap();
        put_up(&walls);
        thread::spawn(boottime).join().unwrap();
        return;
    }
    // Some machines have no clock that can be read without the kernel.
    if refusals(&[Wall::Seccomp]).is_some() && again(TEST, "", |_| {}).status.success() {
        assert_succeeds(&again(TEST, &all(), |_| {}));
    }
}

#[test]
fn a_confined_process_can_still_abort() {
    if let Ok(walls) = env::var(WALLS) {
        put_up(&walls);
        process::abort();
    }
    let output = again("a_confined_process_can_still_abort", &all(), |_| {});
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
}

#[test]
fn walls_that_cannot_be_put_up_are_told() {
    if env::var_os(WALLS).is_some() {
        Wall::Seccomp.raise(Work::Carry).unwrap();
        let missing: Vec<_> = confine(Work::Carry).into_iter().map(|(wall, _)| wall).collect();
        let all = Wall::ALL.into_iter().filter(|wall| *wall != Wall::User || getuid().is_root());
        assert_eq!(missing, all.collect::<Vec<_>>());
        return;
    }
    if refusals(&[Wall::Seccomp]).is_some() {
        assert_succeeds(&again("walls_that_cannot_be_put_up_are_told", &all(), |_| {}));
    }
}

#[track_caller]
fn assert_refused<'a>(refusals: &Refusals, names: impl IntoIterator<Item = &'a String>) {
    let allowed: Vec<_> = names.into_iter().filter(|what| !refusals[*what]).collect();
    assert!(allowed.is_empty(), "not refused: {allowed:?}");
}

#[track_caller]
fn assert_succeeds(output: &Output) {
    let [out, err] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    println!("{out}");
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
}

/// Everything that is tried, and whether it was refused.
type Refusals = BTreeMap<String, bool>;

/// Tries everything behind these walls, in a process of its own. None if the last of them, which is to
/// be felt, cannot be put up.
fn refusals(walls: &[Wall]) -> Option<Refusals> {
    refusals_with(walls, |_| {})
}

fn refusals_with(walls: &[Wall], prepare: impl FnOnce(&mut Command)) -> Option<Refusals> {
    let folder = Folder::new();
    let _listener = UnixListener::bind(folder.0.join("socket")).unwrap();
    let _receiver = UnixDatagram::bind_addr(&abstract_name(&folder.0).unwrap()).unwrap();
    let other = Other(Command::new("sleep").arg("1000").spawn().unwrap());
    let output = again("a_confined_process_takes_nothing_back", &names(walls), |it| {
        it.env(FOLDER, &folder.0).env(OTHER, other.0.id().to_string());
        prepare(it);
    });
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let missing: Vec<_> = text.lines().filter_map(|line| line.split_once(MISSING)).collect();
    missing.iter().for_each(|(_, why)| println!("skipped: without a wall: {why}"));
    let last = walls.last().map(ToString::to_string).unwrap_or_default();
    if missing.iter().any(|(_, why)| why.starts_with(&format!("{last}: "))) {
        return None;
    }
    let tried = text.lines().filter_map(|line| line.split_once(TRIED)?.1.split_once(": "));
    let tried: Refusals = tried.map(|(what, refused)| (what.into(), refused == "true")).collect();
    assert_eq!(tried.len(), ATTEMPTS.len(), "{text}");
    Some(tried)
}

/// What is tried and not refused to a process without walls: to root, everything.
fn possible() -> Vec<String> {
    let (refused, possible): (Refusals, Refusals) =
        refusals(&[]).unwrap().into_iter().partition(|(_, refused)| *refused);
    for what in refused.into_keys() {
        println!("skipped: nobody may do this here: {what}");
    }
    possible.into_keys().collect()
}

/// The other side of [`refusals`].
fn try_everything(walls: &str) {
    // What is mounted is for nobody else. Who may not have that may not mount either.
    let private = || mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE);
    let _ = leave(UnshareFlags::NEWNS).and_then(|()| private());
    let folder = env::var_os(FOLDER).unwrap().into();
    let holdings = Holdings::new(folder, env::var(OTHER).unwrap().parse().unwrap());
    put_up(walls);
    for (what, attempt) in ATTEMPTS {
        let outcome = thread::scope(|scope| scope.spawn(|| attempt(&holdings)).join()).unwrap();
        let error =
            outcome.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw_os_error);
        // To ask for clone(2) instead, clone3(2) is said not to exist.
        let refused = match *what {
            "clone3" => error == Some(Errno::NOSYS),
            _ => matches!(error, Some(Errno::PERM | Errno::ACCESS)),
        };
        println!("{TRIED}{what}: {refused}");
    }
}

/// Puts up the walls of these names, of which all is the same as [`confine`]; says which cannot be.
fn put_up(names: &str) -> Vec<Wall> {
    let folder = env::var_os(FOLDER).map(PathBuf::from).unwrap_or_default();
    let work = match env::var_os(SERVES) {
        None => Work::Carry,
        Some(_) => Work::Serve(Reach {
            removed: &folder.join("removed"),
            listed: &folder.join("listed/later"),
            called: &folder.join("called"),
        }),
    };
    let missing = if names == all() {
        confine(work)
    } else {
        let walls =
            Wall::ALL.into_iter().filter(|wall| names.split(',').any(|it| it == wall.to_string()));
        walls.filter_map(|wall| Some((wall, wall.raise(work).err()?))).collect()
    };
    for (wall, error) in &missing {
        println!("{MISSING}{wall}: {error}");
    }
    missing.into_iter().map(|(wall, _)| wall).collect()
}

fn all() -> String {
    names(&Wall::ALL)
}

fn names(walls: &[Wall]) -> String {
    walls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Runs one test of this program again, which learns from [`WALLS`] that it is to be confined.
fn again(test: &str, walls: &str, prepare: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(WALLS, walls);
    prepare(&mut command);
    command.output().unwrap()
}

/// Whether the kernel's Landlock can do all of this version's.
fn landlock_is(version: ABI) -> bool {
    let ruleset = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let files = ruleset().handle_access(AccessFs::from_all(version)).is_ok();
    let ports = version < ABI::V4 || ruleset().handle_access(AccessNet::from_all(version)).is_ok();
    let others = version < ABI::V6 || ruleset().scope(Scope::from_all(version)).is_ok();
    files && ports && others
}

/// A folder for one process, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("adit-confine-{}-{number}", id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that is nobody's business.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
