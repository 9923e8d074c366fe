//! A network namespace: run commands and open sockets in it.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::panic;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::await_that;
use super::echo::{self, Echo};

/// A handle on a network namespace; the last one deletes its name.
#[derive(Clone)]
pub struct Namespace(Arc<Inner>);

struct Inner {
    name: String,
    file: File,
}

impl Namespace {
    pub(super) fn create(name: &str) -> Self {
        one_at_a_time(|| {
            command_output(Command::new("ip").args(["netns", "add", name])).expect("ip netns add")
        });
        let file =
            File::open(PathBuf::from("/run/netns").join(name)).expect("the namespace just made");
        let namespace = Self(Arc::new(Inner { name: name.to_owned(), file }));
        namespace.ip("link set lo up");
        // With its first address an interface does not lose the others of the subnet.
        namespace.sysctl("ipv4/conf/all/promote_secondaries", "1");
        namespace.sysctl("ipv4/ping_group_range", "0 0");
        namespace
    }

    /// The name that `ip netns` knows.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Does `work` on a thread inside this namespace. A socket opened there stays there, whoever
    /// uses it later; a process started there lives there.
    #[track_caller]
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.0.file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("setns");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|cause| panic::resume_unwind(cause))
    }

    /// Runs a program with these words as arguments and gives its standard output, or else its
    /// standard error.
    pub fn attempt(&self, command: &str) -> Result<String, String> {
        let mut words = command.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        self.within(|| command_output(command.args(words)))
    }

    /// Runs a program that must succeed and gives its standard output.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        self.attempt(command).unwrap_or_else(|error| panic!("{}: {command}: {error}", self.name()))
    }

    /// Starts a program that goes on until the result is dropped.
    #[track_caller]
    pub fn spawn(&self, command: &str) -> Background {
        let mut words = command.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Background(self.within(|| command.spawn()).expect("the program starts"))
    }

    /// Runs `ip` with these words.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        self.run(&format!("ip {words}"))
    }

    /// Writes a setting below `/proc/sys/net`.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = PathBuf::from("/proc/sys/net").join(key);
        self.within(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Gives an interface that is up an address like `10.0.0.1/24`, if it does not have it.
    #[track_caller]
    pub fn address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("address replace {address} dev {interface} {nodad}"));
        // The kernel makes an address of IPv6 usable later, when it finds the time.
        let own = address.split('/').next().unwrap_or(address);
        await_that("the new address is local", || {
            self.ip(&format!("route get {own}")).starts_with("local")
        });
    }

    /// Joins this namespace with another one by a virtual Ethernet link; both ends are up.
    #[track_caller]
    pub fn link(&self, here: &str, other: &Self, there: &str) {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.name()));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    /// Whether every one of `count` echo requests with so many bytes of payload is answered in
    /// time, ten of them under way at a time, none fragmented inside the tunnel.
    pub fn pings(&self, to: IpAddr, count: u16, payload: usize) -> Result<(), String> {
        self.within(|| echo::pings(to, count, payload))
    }

    /// Expects every echo request to be answered, as [`Self::pings`].
    #[track_caller]
    pub fn ping(&self, to: IpAddr, count: u16) {
        self.ping_whole(to, count, 56);
    }

    /// The same with so many bytes of payload.
    #[track_caller]
    pub fn ping_whole(&self, to: IpAddr, count: u16, payload: usize) {
        if let Err(error) = self.pings(to, count, payload) {
            panic!("echo of {payload} bytes from {} to {to}: {error}", self.name());
        }
    }

    /// Expects no answer to a few echo requests.
    #[track_caller]
    pub fn no_ping(&self, to: IpAddr) {
        assert!(self.hears_nothing(to, 56), "{to} answers");
    }

    /// Whether there is no answer to a few echo requests with so many bytes of payload.
    pub fn hears_nothing(&self, to: IpAddr, payload: usize) -> bool {
        let silence = Duration::from_millis(300);
        let missing = self.within(|| Echo::new(to).and_then(|e| e.unanswered(2, payload, silence)));
        // An error, such as that there is no way to that address, is no answer either.
        missing.map_or(true, |missing| missing.len() == 2)
    }
}

/// A program that runs beside the test; ended by its process id when dropped.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        one_at_a_time(|| {
            drop(command_output(Command::new("ip").args(["netns", "delete", &self.name])))
        });
    }
}

/// Two `ip netns` that make the first namespace at once disturb each other's mounts, also across
/// test processes.
fn one_at_a_time<T>(work: impl FnOnce() -> T) -> T {
    let lock = File::create("/run/adit-lab.lock").expect("a lock file");
    lock.lock().expect("the lock of the laboratory");
    work()
}

/// The standard output of a command that succeeds, otherwise all it said. A command that does not
/// end, such as `wg` before a daemon that does not answer, is ended.
pub(super) fn command_output(command: &Command) -> Result<String, String> {
    let mut bounded = Command::new("timeout");
    bounded.args(["-k", "1", "20"]).arg(command.get_program()).args(command.get_args());
    let output = bounded.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let Output { status, stdout, stderr } = output;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(stdout);
    }
    Err(format!("{status}: {stdout}{}", String::from_utf8_lossy(&stderr)))
}
