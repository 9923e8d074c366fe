//! A machine for one test: namespaces of its own, in which nothing of the real machine's DNS can be
//! reached. It has a LAN with a name server on `eth0`, and tunnels `wg0` and `wg1`, each with a name
//! server at its other end; which one was asked for a name is known.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use host::dns::{self, Patience, Plan, Settings};
use host::namespace;
use host::{Change, Network, Prefix};
use rustix::process::{Pid, Signal, kill_process};

use crate::server::Server;

/// Set for a test that runs inside of its machine.
const INSIDE: &str = "ADIT_RESOLVERS_STAGE";
/// Set for a process that a test starts with itself as the program.
pub const CHILD: &str = "ADIT_RESOLVERS_CHILD";
/// The system calls that change something, by their names on each machine (strace(1)). A file that was
/// only just opened for writing is one that will be written.
const CHANGES: &str = "write sendto sendmsg ftruncate ?rename ?renameat renameat2 ?unlink unlinkat ?rmdir \
                       ?symlink symlinkat ?mkdir mkdirat ?chmod fchmod fchmodat ?lchown fchown fchownat \
                       utimensat";
/// How long a test may take altogether, in seconds, and how long anything in it is waited for.
const BOUND: &str = "600";
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What the LAN's router has told this machine.
pub const BY_HAND: &str = "# by hand\nnameserver 192.0.2.53\n";

pub struct Stage {
    pub lan: Server,
    pub tunnels: [Server; 2],
    pub far: OwnedFd,
    children: Vec<Child>,
}

/// Runs the test of this name again, inside of a machine of its own.
pub fn play(test: &str, act: fn(&mut Stage)) {
    if env::var_os(INSIDE).is_some() {
        let mut stage = Stage::build();
        return act(&mut stage);
    }
    let namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut unshare = Command::new("unshare");
    unshare.args(namespaces).arg("true").stderr(Stdio::null());
    if !unshare.status().is_ok_and(|status| status.success()) {
        println!("skipped: this needs the right to make namespaces");
        return;
    }
    let output = Command::new("timeout")
        .args(["--signal=KILL", BOUND, "unshare"])
        .args(namespaces)
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "yes")
        .output()
        .unwrap();
    let Output { status, stdout, stderr } = output;
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(stdout.contains("running 1 test"), "there is no test {test}");
    assert!(status.success(), "{status}\n{stdout}{stderr}");
    // The first one is behind the name of the test.
    for (_, why) in stdout.lines().filter_map(|line| line.split_once("skipped: ")) {
        println!("skipped: {why}");
    }
}

impl Stage {
    fn build() -> Self {
        private_files();
        let far = namespace::create().unwrap();
        let mut near = Network::open().unwrap();
        near.apply(Change::SetUp("lo")).unwrap();
        let mut beyond = Network::open_in(far.as_fd()).unwrap();
        for (link, end, network) in [("eth0", "far0", 0), ("wg0", "far1", 1), ("wg1", "far2", 2)] {
            near.apply(Change::CreateVeth(link, end)).unwrap();
            near.apply(Change::MoveLink(end, far.as_fd())).unwrap();
            let own = address(network, 2);
            near.apply_all(&[Change::AddAddress(link, own), Change::SetUp(link)]).unwrap();
            let other = address(network, 53);
            beyond.apply_all(&[Change::AddAddress(end, other), Change::SetUp(end)]).unwrap();
        }
        let server = |network| {
            let answer = Ipv4Addr::new(203, 0, 113, network);
            Server::start(far.as_fd(), (address(network, 53).address, 53).into(), answer)
        };
        Self { lan: server(0), tunnels: [server(1), server(2)], far, children: Vec::new() }
    }

    /// Starts a daemon, which goes with the machine.
    pub fn start(&mut self, command: &mut Command) {
        let log = fs::File::create("/run/daemon.log").unwrap();
        let errors = log.try_clone().unwrap();
        self.children
            .push(command.stdout(log).stderr(errors).stdin(Stdio::null()).spawn().unwrap());
    }

    /// Kills the daemon whose name begins so.
    pub fn kill_named(&mut self, name: &str) {
        let is_it = |child: &Child| {
            let comm = fs::read_to_string(format!("/proc/{}/comm", child.id()));
            comm.is_ok_and(|comm| comm.starts_with(name))
        };
        let place = self.children.iter().position(is_it).unwrap();
        let child = self.children.remove(place);
        self.children.push(child);
        self.kill();
    }

    /// Kills the daemon that was started last.
    pub fn kill(&mut self) {
        let mut child = self.children.pop().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The daemon that was started last hangs, which holds nothing: who looks at what it was told is not
    /// kept waiting for as long as who tells it something.
    pub fn assert_hangs_briefly(&self, plan: &Plan) {
        let daemon = Pid::from_child(self.children.last().unwrap());
        kill_process(daemon, Signal::STOP).unwrap();
        let start = Instant::now();
        assert!(!plan.is_applied().unwrap_or(false));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        kill_process(daemon, Signal::CONT).unwrap();
        eventually("an answer", || plan.is_applied().unwrap_or(false));
    }

    /// A bus of the system, as distributions configure it, but that everybody may do everything.
    pub fn start_bus(&mut self) -> bool {
        if Path::new(BUS_SOCKET).exists() {
            return true;
        }
        fs::create_dir_all("/run/dbus").unwrap();
        fs::write("/run/bus.conf", BUS).unwrap();
        if !exists("dbus-daemon") {
            println!("skipped: dbus-daemon is not installed");
            return false;
        }
        self.start(Command::new("dbus-daemon").args(["--config-file=/run/bus.conf", "--nofork"]));
        eventually("the bus", || Path::new(BUS_SOCKET).exists());
        true
    }

    /// Asks for the address of a name as programs do, and finds out that this one answered, and that
    /// the others were not even asked.
    #[track_caller]
    pub fn assert_asks(&self, name: &str, expected: &Server) {
        self.assert_asks_for(name, name, expected);
    }

    /// The same, for a name that is completed from a search list.
    #[track_caller]
    pub fn assert_asks_for(&self, name: &str, full: &str, expected: &Server) {
        let output = run(Command::new("getent").args(["ahostsv4", name]));
        let address = output.split_whitespace().next().unwrap_or("nothing").to_owned();
        assert_eq!(address, expected.answer(), "{name}");
        for server in [&self.lan, &self.tunnels[0], &self.tunnels[1]] {
            let is_it = server.answer() == expected.answer();
            assert_eq!(server.was_asked(full), is_it, "{full} asked of {}", server.answer());
        }
    }
}

/// `/run` is empty, `/etc` and `/var/lib` are the real ones, but what is written is not.
fn private_files() {
    let mount = |arguments: &[&str]| run(Command::new("mount").args(arguments));
    mount(&["-t", "tmpfs", "none", "/run"]);
    for place in ["/etc", "/var/lib"] {
        overlay(Path::new(place), None);
    }
    // As in containers: what is in it is seen, and nobody waits for udev.
    mount(&["-t", "sysfs", "-o", "ro", "none", "/sys"]);
    fs::write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n").unwrap();
    fs::write("/etc/hosts", "127.0.0.1 localhost\n").unwrap();
    let _ = fs::remove_file(RESOLV_CONF);
    fs::write(RESOLV_CONF, BY_HAND).unwrap();
    let _ = fs::remove_dir_all("/var/lib/adit");
}

/// Lets a folder be written without its files being touched, and lays another one over it.
pub fn overlay(place: &Path, over: Option<&Path>) {
    let name = place.display().to_string().replace('/', "-");
    let (upper, work) = (format!("/run/upper{name}"), format!("/run/work{name}"));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).unwrap();
    }
    let over = over.map(|over| format!("{}:", over.display())).unwrap_or_default();
    let lower = place.display();
    let options = format!("lowerdir={over}{lower},upperdir={upper},workdir={work}");
    run(Command::new("mount").args(["-t", "overlay", "-o", &options, "none"]).arg(place));
}

/// The last byte of an address in the network of the LAN (0) or of a tunnel.
fn address(network: u8, host: u8) -> Prefix {
    let address = match network {
        0 => Ipv4Addr::new(192, 0, 2, host),
        _ => Ipv4Addr::new(10, 0, network, host),
    };
    Prefix::v4(address, 24)
}

/// Somebody writes `/etc/resolv.conf` by hand, in place of whatever is there.
pub fn write(text: &str) {
    fs::write("/etc/resolv.conf.new", text).unwrap();
    fs::rename("/etc/resolv.conf.new", RESOLV_CONF).unwrap();
}

/// What a program prints; it succeeds, or `getent` finds nothing.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let found_nothing = command.get_program() == "getent" && status.code() == Some(2);
    let failed = String::from_utf8_lossy(&stderr);
    assert!(status.success() || found_nothing, "{command:?}: {status}: {failed}");
    String::from_utf8(stdout).unwrap()
}

#[track_caller]
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        let log = || fs::read_to_string("/run/daemon.log").unwrap_or_default();
        assert!(Instant::now() < end, "{what} in {PATIENCE:?}\n{}", log());
        thread::sleep(Duration::from_millis(20));
    }
}

pub fn settings(words: &str) -> Settings {
    let words = words.split(' ').map(String::from);
    let (servers, domains): (Vec<_>, Vec<_>) =
        words.partition(|word| word.starts_with(char::is_numeric));
    Settings::read(&servers, &domains).unwrap().unwrap()
}

#[track_caller]
pub fn plan(link: &str, words: &str) -> Plan {
    dns::choose(link, &settings(words), Patience::Long).unwrap()
}

/// Why nothing can be chosen.
#[track_caller]
pub fn refusal(link: &str, words: &str) -> String {
    dns::choose(link, &settings(words), Patience::Long).unwrap_err().to_string()
}

/// Undoes by the line that a journal has.
#[track_caller]
pub fn undo(plan: &Plan) -> String {
    plan.record().to_string().parse::<dns::Record>().unwrap().undo().unwrap()
}

/// A package of Debian that is unpacked for the tests, not installed; or a printed skip.
pub fn package(name: &str, file: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/resolvers").join(name);
    match root.join(file).exists() {
        true => Some(root.canonicalize().unwrap()),
        false => {
            println!(
                "skipped: {name} is not unpacked in target/resolvers; ./test does that on Debian"
            );
            None
        }
    }
}

/// Whether this process is one that a test has started.
pub fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Has a test play its victim again and again, each time killed before another of the system calls by
/// which it changes something, until it has been killed before every one of them. What is left is
/// judged each time, by someone who is told when it was.
pub fn killed_at_every_change(test: &str, mut judge: impl FnMut(&str)) {
    if !exists("strace") {
        println!("skipped: strace is not installed");
        return;
    }
    let mut kills = 0;
    for call in CHANGES.split(' ') {
        for number in 1.. {
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let mut victim = Command::new("strace");
            victim.args(["-f", "-qq", "-o", "/dev/null"]);
            victim.args(["-e", &format!("trace={call}"), "-e", &inject]);
            victim.arg(env::current_exe().unwrap()).args(["--exact", test, "--test-threads=1"]);
            let victim = victim.env(CHILD, "yes").stdout(Stdio::null());
            let status = victim.status().unwrap();
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9), "{call} {number}: {status}");
            judge(&format!("killed before {call} {number}"));
            kills += 1;
        }
    }
    assert!(kills > 20, "{kills}");
}

fn exists(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).exists())
}

const BUS_SOCKET: &str = "/run/dbus/system_bus_socket";
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"#;
