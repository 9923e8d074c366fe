//! `adit daemon` from outside: command line, socket, signals, life and death.
//!
//! What needs a TUN runs in a network namespace of its own, and only for root.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use host::namespace;
use host::news::{Bell, News};
use host::{Change, Network};
use proto::{Discard, PrivateKey};
use sys::poll::Epoll;
use sys::tun::Tun;

const ADIT: &str = env!("CARGO_BIN_EXE_adit");

fn adit(arguments: &[&str]) -> Output {
    Command::new(ADIT).args(arguments).output().unwrap()
}

/// The exit code and what was said on stderr.
fn failure(output: &Output) -> (Option<i32>, &str) {
    assert!(output.stdout.is_empty());
    (output.status.code(), str::from_utf8(&output.stderr).unwrap())
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_on_stderr() {
    for (arguments, expected) in [
        (&[][..], "the interface's name is missing\nUsage: adit daemon"),
        (&["-f"], "the interface's name is missing\n"),
        (&["-x"], "invalid option '-x'\nUsage: adit daemon"),
        (&["wg0", "wg1"], "unexpected argument \"wg1\"\n"),
        (&["--foreground=1", "wg0"], "unexpected argument for option '--foreground': \"1\"\n"),
        (&[""], "`' cannot name an interface: it is empty\n"),
        (&["."], "`.' cannot name an interface: it stands for a directory\n"),
        (&[".."], "`..' cannot name an interface: it stands for a directory\n"),
        (
            &["a234567890123456"],
            "`a234567890123456' cannot name an interface: it is longer than 15 bytes\n",
        ),
        (&["a/b"], "`a/b' cannot name an interface: it contains `/', `:' or `%'\n"),
        (&["wg%d"], "`wg%d' cannot name an interface: it contains `/', `:' or `%'\n"),
        (&["a b"], "`a b' cannot name an interface: it contains white space\n"),
        (&["a\n"], "`a\n' cannot name an interface: it contains white space\n"),
        (&["--", "-f"], "`-f' cannot name an interface: it begins with `-'\n"),
    ] {
        let output = adit(&[&["daemon"], arguments].concat());
        let (code, said) = failure(&output);
        assert_eq!(code, Some(1), "{arguments:?}");
        assert!(said.starts_with(&format!("adit: {expected}")), "{arguments:?}: {said}");
    }
}

#[test]
fn it_answers_to_the_name_of_wireguard_go() {
    let version = Command::new(ADIT).arg0("/usr/bin/wireguard-go").arg("--version").output();
    assert!(version.unwrap().stdout.starts_with(b"adit "));
    let help = adit(&["daemon", "--help"]);
    assert!(help.status.success() && help.stdout.starts_with(b"Usage: adit daemon"));
}

#[test]
fn a_variable_that_makes_no_sense_is_named() {
    let fail = "a list of udp-gso=ERRNO, tun-tso=ERRNO";
    let offload = "a list of tun-tso, tun-uso, udp-gso, udp-gro";
    for (name, value, expected) in [
        ("ADIT_WORKERS", "many", "a number from 1 to 8"),
        ("ADIT_WORKERS", "0", "a number from 1 to 8"),
        ("ADIT_WORKERS", "9", "a number from 1 to 8"),
        ("ADIT_TIME_SCALE", "-1", "a number from 1 to 1000"),
        ("ADIT_TIME_SCALE", "1001", "a number from 1 to 1000"),
        ("ADIT_FAIL", "", fail),
        ("ADIT_FAIL", "udp-gso", fail),
        ("ADIT_FAIL", "udp-gso=0", fail),
        ("ADIT_FAIL", "udp-gso=4096", fail),
        ("ADIT_FAIL", "udp-gro=5", fail),
        ("ADIT_FAIL", "udp-gso=5,tun-tso=EIO", fail),
        ("ADIT_OFFLOAD", "tun-tso,all", offload),
        ("ADIT_OFFLOAD", "tun-tso udp-gso", offload),
        ("WG_TUN_FD", "/dev/net/tun", "a number from 0 to 2147483647"),
        ("WG_UAPI_FD", "-1", "a number from 0 to 2147483647"),
    ] {
        let output =
            Command::new(ADIT).args(["daemon", "-f", "wg0"]).env(name, value).output().unwrap();
        let said = format!("adit: {name} must be {expected}\n");
        assert_eq!(failure(&output), (Some(1), &*said), "{value}");
    }
}

/// Says that a test is skipped, past the harness, which would swallow it.
fn skipped(reason: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED: {test} ({reason})");
}

/// A name for one test's interface, and a place to put it.
struct Lab {
    network: OwnedFd,
    name: String,
}

impl Lab {
    /// None without the rights that it takes.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            skipped("not root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            network: namespace::create().unwrap(),
            name: format!("adt{}x{number}", std::process::id() % 1_000_000),
        })
    }

    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        namespace::within(self.network.as_fd(), work).unwrap()
    }

    fn adit(&self, arguments: &[&str]) -> Output {
        self.within(|| adit(arguments))
    }

    /// Another name in the same network.
    fn neighbour(&self) -> Self {
        Self { network: self.network.try_clone().unwrap(), name: format!("{}n", self.name) }
    }

    /// A daemon that serves, as a child of ours.
    fn child(&self) -> Child {
        self.child_with(|_| {})
    }

    fn child_with(&self, prepare: impl FnOnce(&mut Command)) -> Child {
        let mut command = Command::new(ADIT);
        // As the second process of a start in the background, it tells when it serves.
        command.args(["daemon", &self.name]).env("ADIT_BACKGROUND", "1");
        // What waits for a timer does not wait long.
        command.env("LOG_LEVEL", "debug").env("ADIT_TIME_SCALE", "20");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = self.within(|| command.spawn().unwrap());
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "serving\n");
        child
    }

    fn has_interface(&self) -> bool {
        let mut network = Network::open_in(self.network.as_fd()).unwrap();
        network.link(&self.name).is_ok()
    }

    fn socket(&self) -> PathBuf {
        format!("/var/run/wireguard/{}.sock", self.name).into()
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }

    fn ask(&self, request: &str) -> String {
        ask(&mut self.connect(), request)
    }

    fn nothing_is_left(&self) -> bool {
        !self.socket().exists() && !self.has_interface()
    }
}

/// Sends a request and reads to the end of its answer.
fn ask(stream: &mut UnixStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        answer += &line;
        answer.push('\n');
        if line.is_empty() {
            break;
        }
    }
    answer
}

/// Returns when whoever is at the other end has gone.
fn await_end(mut stream: UnixStream) {
    // Gone with or without having read everything.
    let _ = stream.read_to_end(&mut Vec::new());
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn it_serves_before_the_command_in_the_foreground_returns() {
    let Some(lab) = Lab::new() else { return };
    let output = lab.adit(&["daemon", &lab.name]);
    assert_eq!((failure(&output), output.status.success()), ((Some(0), ""), true));
    let file = fs::metadata(lab.socket()).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.mode() & 0o777, 0o700);
    let mut network = Network::open_in(lab.network.as_fd()).unwrap();
    let link = network.link(&lab.name).unwrap();
    assert_eq!((link.up, link.mtu), (false, 1420));
    assert_eq!(lab.ask("get=1\n\n"), "errno=0\n\n");
    let links = || Bell::open(News::Links);
    let links = namespace::within(lab.network.as_fd(), links).unwrap().unwrap();
    fs::remove_file(lab.socket()).unwrap();
    let epoll = Epoll::new().unwrap();
    epoll.add(&links, 0).unwrap();
    while network.has_link(&lab.name).unwrap() {
        let _ = epoll.wait(None).unwrap();
        links.drain();
    }
    assert!(lab.nothing_is_left());
}

#[test]
fn it_is_found_by_the_name_that_it_was_called_by() {
    let Some(lab) = Lab::new() else { return };
    // In the background it has started itself anew.
    assert!(lab.adit(&["daemon", &lab.name]).status.success());
    let serving = lab.connect();
    let daemon = rustix::net::sockopt::socket_peercred(&serving).unwrap().pid;
    let name = fs::read_to_string(format!("/proc/{}/comm", daemon.as_raw_nonzero())).unwrap();
    assert_eq!(name, "adit\n");
    fs::remove_file(lab.socket()).unwrap();
    await_end(serving);
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    for name in ["-TERM", "-INT"] {
        let Some(lab) = Lab::new() else { return };
        let mut child = lab.child();
        // Whoever closes the terminal does not close the tunnel.
        signal(&child, "-HUP");
        assert_eq!(lab.ask("get=1\n\n"), "errno=0\n\n");
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(lab.nothing_is_left());
    }
}

#[test]
fn a_service_manager_is_told_when_it_serves() {
    let Some(lab) = Lab::new() else { return };
    let path = std::env::temp_dir().join(&lab.name);
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = Command::new(ADIT);
    command.args(["daemon", "-f", &lab.name]).env("NOTIFY_SOCKET", &path);
    let mut child = lab.within(|| command.spawn().unwrap());
    let mut said = [0; 16];
    let length = manager.recv(&mut said);
    fs::remove_file(&path).unwrap();
    assert_eq!(&said[..length.unwrap()], b"READY=1");
    assert_eq!(lab.ask("get=1\n\n"), "errno=0\n\n");
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_end_of_its_interface_is_its_end() {
    let Some(lab) = Lab::new() else { return };
    let mut child = lab.child();
    let mut network = Network::open_in(lab.network.as_fd()).unwrap();
    network.apply(Change::DeleteLink(&lab.name)).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(lab.nothing_is_left());
}

#[test]
fn its_socket_may_change_hands_but_not_place() {
    let Some(lab) = Lab::new() else { return };
    let mut child = lab.child();
    fs::set_permissions(lab.socket(), Permissions::from_mode(0o770)).unwrap();
    std::os::unix::fs::chown(lab.socket(), None, Some(1)).unwrap();
    let neighbour = lab.socket().with_extension("other");
    fs::write(&neighbour, "").unwrap();
    assert_eq!(lab.ask("get=1\n\n"), "errno=0\n\n");
    // Another file in its place is the end, and that file is left alone.
    fs::rename(&neighbour, lab.socket()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!lab.has_interface());
    assert!(fs::metadata(lab.socket()).unwrap().is_file());
    fs::remove_file(lab.socket()).unwrap();
}

#[test]
fn a_name_is_taken_once() {
    let Some(lab) = Lab::new() else { return };
    let mut child = lab.child();
    let expected = format!(
        "adit: interface `{0}' exists already; delete it with `ip link delete {0}', or choose \
         another name\n",
        lab.name
    );
    for arguments in [&["daemon", "-f", &lab.name][..], &["daemon", &lab.name]] {
        let second = lab.adit(arguments);
        assert_eq!(failure(&second), (Some(1), &*expected));
    }
    // In another namespace the interface is free, but the socket is not.
    let elsewhere = Lab { network: namespace::create().unwrap(), name: lab.name.clone() };
    let expected = format!(
        "adit: {} is in use: a tunnel of this name is running, perhaps in another network \
         namespace\n",
        lab.socket().display()
    );
    for arguments in [&["daemon", "-f", &lab.name][..], &["daemon", &lab.name]] {
        let second = elsewhere.adit(arguments);
        assert_eq!(failure(&second), (Some(1), &*expected));
        assert!(!elsewhere.has_interface());
    }
    assert_eq!(lab.ask("get=1\n\n"), "errno=0\n\n");
    signal(&child, "-TERM");
    child.wait().unwrap();
}

#[test]
fn a_socket_that_nobody_listens_at_is_replaced() {
    let Some(lab) = Lab::new() else { return };
    fs::create_dir_all("/var/run/wireguard").unwrap();
    drop(UnixListener::bind(lab.socket()).unwrap());
    let mut child = lab.child();
    assert_eq!(lab.ask("get=1\n\n"), "errno=0\n\n");
    child.kill().unwrap();
    child.wait().unwrap();
    // Killed, it could not clean up; the next one does.
    assert!(lab.socket().exists());
    let mut child = lab.child();
    signal(&child, "-TERM");
    child.wait().unwrap();
    assert!(lab.nothing_is_left());
}

#[test]
fn an_interface_that_is_handed_down_keeps_its_name_and_mtu() {
    let Some(mut lab) = Lab::new() else { return };
    let [tun] = <[_; 1]>::try_from(lab.within(|| Tun::create(&lab.name, 1).unwrap())).unwrap();
    let mut network = Network::open_in(lab.network.as_fd()).unwrap();
    network.apply(Change::SetMtu(&lab.name, 1300)).unwrap();
    let made = std::mem::replace(&mut lab.name, "ignored".into());
    let mut child = lab.child_with(|command| {
        command.env("WG_TUN_FD", "0").stdin(tun.as_fd().try_clone_to_owned().unwrap());
    });
    lab.name = made;
    drop(tun);
    assert_eq!(lab.ask("get=1\n\n"), "errno=0\n\n");
    assert_eq!(network.link(&lab.name).unwrap().mtu, 1300);
    signal(&child, "-TERM");
    child.wait().unwrap();
    assert!(lab.nothing_is_left());
}

#[test]
fn a_socket_that_is_handed_down_is_served_and_removed() {
    let Some(lab) = Lab::new() else { return };
    fs::create_dir_all("/var/run/wireguard").unwrap();
    let listener = UnixListener::bind(lab.socket()).unwrap();
    // A client may be there before the daemon.
    let mut early = lab.connect();
    let mut child = lab.child_with(|command| {
        command.env("WG_UAPI_FD", "0").stdin(OwnedFd::from(listener));
    });
    for stream in [&mut early, &mut lab.connect()] {
        assert_eq!(ask(stream, "get=1\n\n"), "errno=0\n\n");
    }
    signal(&child, "-TERM");
    child.wait().unwrap();
    assert!(lab.nothing_is_left());
}

#[test]
fn what_is_handed_down_must_be_of_use() {
    let Some(lab) = Lab::new() else { return };
    for (name, number, why) in [
        ("WG_TUN_FD", "999", "Bad file descriptor"),
        ("WG_TUN_FD", "0", "Inappropriate ioctl for device"),
        ("WG_UAPI_FD", "999", "Bad file descriptor"),
    ] {
        let mut command = Command::new(ADIT);
        command.args(["daemon", &lab.name]).env(name, number);
        let output = lab.within(|| command.output().unwrap());
        let expected = format!("adit: {name} names no descriptor that can be used: {why}\n");
        assert_eq!(failure(&output), (Some(1), &*expected));
        assert!(lab.nothing_is_left());
    }
}

#[test]
fn a_connection_outlives_a_bad_request() {
    let Some(lab) = Lab::new() else { return };
    let mut child = lab.child();
    let mut stream = lab.connect();
    for (request, answer) in [
        ("set=1\nfwmark=5\n\n", "errno=0\n\n"),
        ("set=1\nfwmark=6\nfoo=1\nfwmark=7\n\n", "errno=-22\n\n"),
        ("set=1\nfwmark\n\n", "errno=-71\n\n"),
        ("get=1\n\n", "fwmark=5\nerrno=0\n\n"),
        ("get=1\nx", "errno=-22\n\n"),
        ("get=1\n\n", "fwmark=5\nerrno=0\n\n"),
        ("set=1\nfwmark=0\n\n", "errno=0\n\n"),
        ("get=1\n\n", "errno=0\n\n"),
        // What is no request at all closes it.
        ("get=2\n", ""),
    ] {
        assert_eq!(ask(&mut stream, request), answer, "{request:?}");
    }
    signal(&child, "-TERM");
    child.wait().unwrap();
}

#[test]
fn clients_that_stall_keep_nobody_out_but_those_who_are_too_many() {
    let Some(lab) = Lab::new() else { return };
    let mut child = lab.child();
    let mut stalled: Vec<_> = (0..63).map(|_| lab.connect()).collect();
    for stream in &mut stalled {
        stream.write_all(b"set=1\nfwmark=1").unwrap();
    }
    let mut last = lab.connect();
    assert_eq!(ask(&mut last, "get=1\n\n"), "errno=0\n\n");
    let mut refused = lab.connect();
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    // A place that becomes free can be taken. It is free when the daemon has closed the connection.
    let leaving = stalled.pop().unwrap();
    leaving.shutdown(std::net::Shutdown::Write).unwrap();
    await_end(leaving);
    assert!(lab.ask("get=1\n\n").ends_with("errno=0\n\n"));
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn questions_until_the_last_moment_do_not_keep_it_from_ending() {
    let Some(lab) = Lab::new() else { return };
    let mut child = lab.child();
    let key = "a1".repeat(32);
    let set = format!("set=1\npublic_key={key}\nallowed_ip=10.0.0.0/8\n\n");
    thread::scope(|scope| {
        for request in ["get=1\n\n", &set, "get=1\n\n", &set] {
            let mut stream = lab.connect();
            scope.spawn(move || {
                // Ends when the daemon does.
                while stream.write_all(request.as_bytes()).is_ok()
                    && stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0)
                {}
            });
        }
        for _ in 0..200 {
            assert!(lab.ask("get=1\n\n").ends_with("errno=0\n\n"));
        }
        signal(&child, "-TERM");
    });
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(lab.nothing_is_left());
}

/// Runs a script of the shell as root of a mount namespace of its own.
fn in_a_container(lab: &Lab, script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, ADIT, &lab.name]);
    lab.within(|| command.output().unwrap())
}

#[test]
fn a_missing_tun_device_is_named_with_its_remedies() {
    let Some(lab) = Lab::new() else { return };
    let script = "mount -t tmpfs none /dev/net && exec \"$0\" daemon \"$1\"";
    let expected = "adit: the TUN device /dev/net/tun is missing; load its driver with `modprobe \
                    tun', or start a container with --device /dev/net/tun\n";
    assert_eq!(failure(&in_a_container(&lab, script)), (Some(1), expected));
}

#[test]
fn a_missing_right_is_named() {
    let Some(lab) = Lab::new() else { return };
    let script = "exec setpriv --bounding-set=-net_admin --inh-caps=-all \"$0\" daemon \"$1\"";
    let expected = format!(
        "adit: no right to create interface `{}': this needs root or CAP_NET_ADMIN, and access to \
         /dev/net/tun; start a container with --cap-add NET_ADMIN --device /dev/net/tun\n",
        lab.name
    );
    assert_eq!(failure(&in_a_container(&lab, script)), (Some(1), &*expected));
}

#[test]
fn a_socket_that_cannot_be_made_is_named_and_the_interface_goes_again() {
    let Some(lab) = Lab::new() else { return };
    let script = "mount -t tmpfs -o ro none /var/run/wireguard && exec \"$0\" daemon \"$1\"";
    fs::create_dir_all("/var/run/wireguard").unwrap();
    let expected =
        format!("adit: cannot create {}: Read-only file system\n", lab.socket().display());
    assert_eq!(failure(&in_a_container(&lab, script)), (Some(1), &*expected));
    assert!(!lab.has_interface());
}

#[test]
fn whatever_it_lacks_descriptors_for_it_says_so_and_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let start = |limit: u32, background: bool| {
        let script = format!("ulimit -n {limit} && exec \"$0\" daemon \"$1\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, ADIT, &lab.name]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if background {
            command.env("ADIT_BACKGROUND", "1");
        }
        lab.within(|| command.spawn().unwrap())
    };
    let mut reasons = BTreeSet::new();
    for limit in 4.. {
        let mut child = start(limit, true);
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said == "serving\n" {
            signal(&child, "-TERM");
            assert!(child.wait().unwrap().success());
            break;
        }
        assert_eq!(child.wait().unwrap().code(), Some(1), "{limit} descriptors: {said}");
        assert!(lab.nothing_is_left(), "{limit} descriptors: {said}");
        reasons.insert(said);
    }
    let socket = format!("cannot create {}", lab.socket().display());
    let expected = ["cannot open a netlink socket", "cannot start the tunnel", &socket];
    assert_eq!(reasons, expected.map(|what| format!("{what}: Too many open files\n")).into());
    let output = start(4, false).wait_with_output().unwrap();
    let expected = "adit: cannot start in the background: Too many open files\n";
    assert_eq!(failure(&output), (Some(1), expected));
}

#[test]
fn a_death_in_the_background_is_noticed() {
    let Some(lab) = Lab::new() else { return };
    let mut command = Command::new("strace");
    // Of the two processes only the one in the background listens.
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=listen:signal=KILL"]);
    command.args([ADIT, "daemon", &lab.name]);
    let Ok(output) = lab.within(|| command.output()) else {
        return skipped("strace is not installed");
    };
    let expected = "adit: the process in the background has ended (signal: 9 (SIGKILL)); start it \
                    with --foreground to see why\n";
    assert_eq!(failure(&output), (Some(1), expected));
    assert!(lab.nothing_is_left());
    // What it could not clear away any more, the next of this name does.
    let private = lab.socket().with_file_name(format!(".{}", lab.name));
    assert!(private.exists());
    let mut child = lab.child();
    assert!(!private.exists());
    signal(&child, "-TERM");
    child.wait().unwrap();
}

#[test]
fn whoever_asks_when_the_interface_is_up_finds_the_port_open() {
    let Some(lab) = Lab::new() else { return };
    let mut child = lab.child();
    let mut network = Network::open_in(lab.network.as_fd()).unwrap();
    let mut stream = lab.connect();
    assert_eq!(ask(&mut stream, "set=1\nlisten_port=53\n\n"), "errno=0\n\n");
    for round in 0..200 {
        network.apply(Change::SetUp(&lab.name)).unwrap();
        ask(&mut stream, "get=1\n\n");
        assert!(lab.within(|| UdpSocket::bind("127.0.0.1:53")).is_err(), "round {round}");
        network.apply(Change::SetDown(&lab.name)).unwrap();
        while lab.within(|| UdpSocket::bind("127.0.0.1:53")).is_err() {}
    }
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
}

#[test]
fn where_no_broker_can_be_started_it_keeps_its_privileges_and_says_so() {
    let Some(lab) = Lab::new() else { return };
    let mut command = Command::new("strace");
    // By this name it starts itself.
    command.args(["-f", "-qq", "-o", "/dev/null", "-P", "/proc/self/exe"]);
    command.args(["-e", "inject=execve:error=EACCES", ADIT, "daemon", &lab.name]);
    command.env("ADIT_BACKGROUND", "1").env("LOG_LEVEL", "error");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(child) = lab.within(|| command.spawn()) else {
        return skipped("strace is not installed");
    };
    let mut output = (child.stdout.unwrap(), BufReader::new(child.stderr.unwrap()));
    let mut said = String::new();
    BufReader::new(&mut output.0).read_line(&mut said).unwrap();
    assert_eq!(said, "serving\n");
    let name = &lab.name;
    while !said.starts_with("ERROR") {
        // strace has something to say, too.
        said.clear();
        assert_ne!(output.1.read_line(&mut said).unwrap(), 0);
    }
    let expected = format!(
        "ERROR: ({name}) Keeps privileges: no broker for them can be started: Permission denied\n"
    );
    assert_eq!(said, expected);
    // What takes privileges is done all the same.
    assert_eq!(lab.ask("set=1\nfwmark=5\nlisten_port=53\n\n"), "errno=0\n\n");
    let mut network = Network::open_in(lab.network.as_fd()).unwrap();
    network.apply(Change::SetUp(name)).unwrap();
    // Whoever tried to have the port might be in the way.
    let sockets = || fs::read_to_string("/proc/thread-self/net/udp").unwrap();
    while !lab.within(sockets).contains(":0035 ") {
        thread::yield_now();
    }
    let stream = lab.connect();
    fs::remove_file(lab.socket()).unwrap();
    await_end(stream);
    // The process has ended when there is no stdout, either.
    output.0.read_to_end(&mut Vec::new()).unwrap();
    assert!(lab.nothing_is_left());
}

/// The next line that contains `words`.
fn await_line(stderr: &mut BufReader<ChildStderr>, words: &str) -> String {
    let mut lines = stderr.lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains(words));
    line.unwrap_or_else(|| panic!("it never said: {words}"))
}

#[test]
fn it_tells_its_owner_what_happens_and_why() {
    let Some(lab) = Lab::new() else { return };
    let (here, there) = (&lab, &lab.neighbour());
    let mut network = Network::open_in(lab.network.as_fd()).unwrap();
    network.apply(Change::SetUp("lo")).unwrap();
    let key = |byte: &str| config::key::from_hex(byte.repeat(32)).unwrap();
    let public = |byte: &str| {
        let key = PrivateKey::new(*key(byte)).unwrap().public_key();
        (config::key::to_hex(&key.0).to_string(), config::key::abbreviated(&key))
    };
    let (ours, _) = public("a1");
    let (theirs, their_name) = public("b2");
    let (mut a, mut b) = (here.child(), there.child());
    let mut a_says = BufReader::new(a.stderr.take().unwrap());
    let mut b_says = BufReader::new(b.stderr.take().unwrap());
    let configure = |lab: &Lab, key: &str, port: u16, peer: &str| {
        let peer = format!("public_key={peer}\nallowed_ip=::/0");
        let request =
            format!("set=1\nprivate_key={}\nlisten_port={port}\n{peer}\n\n", key.repeat(32));
        assert_eq!(lab.ask(&request), "errno=0\n\n");
        let mut network = Network::open_in(lab.network.as_fd()).unwrap();
        network.apply(Change::SetUp(&lab.name)).unwrap();
    };
    configure(here, "a1", 5001, &theirs);
    configure(there, "b2", 5002, &"c3".repeat(32));
    let up = await_line(&mut a_says, "Interface");
    assert_eq!(up, format!("DEBUG: ({}) Interface is up", here.name));

    // A stranger knocks; then it is introduced.
    let keepalive = "endpoint=127.0.0.1:5002\npersistent_keepalive_interval=25";
    let start = format!("set=1\npublic_key={theirs}\n{keepalive}\n\n");
    assert_eq!(here.ask(&start), "errno=0\n\n");
    let stranger = await_line(&mut b_says, "127.0.0.1");
    let expected = format!("ERROR: ({}) Dropped a message from 127.0.0.1:5001: ", there.name);
    let key = config::key::to_base64(&config::key::from_hex(&ours).unwrap());
    let reason = config::discard::explain(Discard::UnknownPeer);
    assert_eq!(stranger, format!("{expected}{reason}; its key is {}", *key));
    assert!(there.ask("get=1\n\n").contains("\nlast_discard=unknown_peer\n"));

    assert_eq!(there.ask(&format!("set=1\npublic_key={ours}\n\n")), "errno=0\n\n");
    let [again, done] = ["did not complete after 5 seconds, retrying", "completed"]
        .map(|words| format!("DEBUG: ({}) peer({their_name}) - Handshake {words}", here.name));
    let mut said = await_line(&mut a_says, "Handshake");
    assert_eq!(said, again);
    while said == again {
        said = await_line(&mut a_says, "Handshake");
    }
    assert_eq!(said, done);

    signal(&a, "-TERM");
    let end = await_line(&mut a_says, "ends");
    assert_eq!(end, format!("DEBUG: ({}) The tunnel ends: a signal asks for it", here.name));
    signal(&b, "-TERM");
    assert!(a.wait().unwrap().success() && b.wait().unwrap().success());
}
