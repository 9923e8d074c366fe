//! A WireGuard daemon in a namespace, of whichever implementation, driven by Debian's `wg`. The
//! kernel counts as one, without a process.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::namespace::command_output;
use super::{Lab, Namespace, PATIENCE, await_some, await_that, find_program};

/// Whose daemon it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    Adit,
    WireguardGo,
    Boringtun,
    Gotatun,
    Kernel,
}

impl Implementation {
    /// Where its program is, or why it cannot be used.
    pub fn program(self) -> Result<PathBuf, String> {
        let (name, variable) = match self {
            Self::Kernel => return kernel_module(),
            Self::Adit => ("adit", "ADIT_BIN"),
            Self::WireguardGo => ("wireguard-go", "WIREGUARD_GO"),
            Self::Boringtun => ("boringtun-cli", "BORINGTUN"),
            Self::Gotatun => ("gotatun", "GOTATUN"),
        };
        if let Some(path) = env::var_os(variable) {
            let path = PathBuf::from(path);
            return if path.is_file() {
                Ok(path)
            } else {
                Err(format!("{variable} names no file"))
            };
        }
        let built = match self {
            Self::Adit => Some(built_folder().join(name)),
            Self::WireguardGo | Self::Kernel => None,
            Self::Boringtun | Self::Gotatun => {
                built_folder().parent().map(|target| target.join("peers/bin").join(name))
            }
        };
        let found = built.filter(|path| path.is_file()).or_else(|| find_program(name));
        found.ok_or_else(|| format!("no program {name}; {variable} may name it"))
    }

    /// The command that runs it in the foreground for this interface; none for the kernel, which
    /// runs anyway.
    fn command(self, interface: &str) -> Option<Command> {
        let mut command = Command::new(self.program().expect("`Lab::open` has looked for it"));
        match self {
            Self::Kernel => return None,
            Self::Adit => {
                // Also where the kernel is known to do harm with some, unless a test says otherwise.
                command.env("ADIT_OFFLOAD", "tun-tso,tun-uso,udp-gso,udp-gro");
                command.args(["daemon", "-f", interface])
            }
            Self::WireguardGo => command.args(["-f", interface]),
            // One thread: with several it reorders the datagrams of a flow.
            Self::Boringtun => {
                command.args(["-f", "--disable-drop-privileges", "-t", "1", interface])
            }
            Self::Gotatun => {
                command.args(["-f", "-v", "debug", "--disable-drop-privileges", interface])
            }
        };
        command.env("LOG_LEVEL", "debug");
        Some(command)
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adit => "adit",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
            Self::Gotatun => "gotatun",
            Self::Kernel => "the kernel",
        })
    }
}

/// `target/debug` or `target/release`: the test executable lies in `deps/` below it.
pub(crate) fn built_folder() -> PathBuf {
    let test = env::current_exe().expect("a test knows its executable");
    test.parent().and_then(Path::parent).expect("target/PROFILE/deps").to_owned()
}

/// What stands for the program of the kernel.
fn kernel_module() -> Result<PathBuf, String> {
    let module = PathBuf::from("/sys/module/wireguard");
    if module.exists() { Ok(module) } else { Err("no WireGuard in this kernel".into()) }
}

/// A running daemon; ended by its process id when dropped.
pub struct Daemon {
    pub implementation: Implementation,
    pub interface: String,
    /// Where it was started, and where its UDP sockets are.
    pub home: Namespace,
    /// Where the kernel's interface is: `wg` finds it only there.
    place: Mutex<Namespace>,
    /// The kernel has none.
    process: Option<Child>,
    log: String,
}

/// The process that started this one, unless it has ended.
pub fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The only process that this one has started.
pub fn only_child(pid: u32) -> u32 {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children: Vec<_> = pids.filter(|it| parent(*it) == Some(pid)).collect();
    match children[..] {
        [child] => child,
        _ => panic!("not one child, but {children:?}"),
    }
}

/// What `wg show … dump` says of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    pub preshared_key: Option<String>,
    pub endpoint: Option<SocketAddr>,
    pub allowed_ips: Vec<String>,
    /// Unix time of the last completed handshake, in seconds; 0 if there was none.
    pub latest_handshake: u64,
    pub received: u64,
    pub sent: u64,
    pub keepalive: String,
}

impl Daemon {
    /// Starts it in `home` and waits until `wg` can talk to it.
    #[track_caller]
    pub fn start(
        lab: &Lab,
        implementation: Implementation,
        home: &Namespace,
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_as(lab, implementation, home, environment, &Lab::interface_name())
    }

    /// The same with a given interface name, for a daemon that comes back.
    #[track_caller]
    pub fn start_as(
        lab: &Lab,
        implementation: Implementation,
        home: &Namespace,
        environment: &[(&str, &str)],
        interface: &str,
    ) -> Self {
        let log = lab.file(&format!("{interface}.log"), "");
        let output =
            || Stdio::from(File::options().append(true).open(&log).expect("the log just made"));
        let process = implementation.command(interface).map(|mut command| {
            command
                .envs(environment.iter().copied())
                .stdin(Stdio::null())
                .stdout(output())
                .stderr(output());
            home.within(|| command.spawn()).expect("the daemon starts")
        });
        let mut daemon = Self {
            implementation,
            interface: interface.to_owned(),
            home: home.clone(),
            place: Mutex::new(home.clone()),
            process,
            log,
        };
        if daemon.process.is_none() {
            home.ip(&format!("link add {interface} type wireguard"));
            return daemon;
        }
        let socket = daemon.socket();
        await_that("the daemon answers on its control socket", || {
            if let Some(status) = daemon.ended() {
                panic!("{implementation} ended at start: {status}");
            }
            UnixStream::connect(&socket).is_ok()
        });
        daemon
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("not the kernel").id()
    }

    /// Of the process that does what takes privileges for one of adit's: its only child.
    pub fn broker(&self) -> u32 {
        only_child(self.pid())
    }

    /// The path of its control socket.
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/var/run/wireguard/{}.sock", self.interface))
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its exit status, if it has ended, which the kernel never has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.try_wait().expect("a child of ours")
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn await_end(&mut self) -> ExitStatus {
        await_some("the daemon ends", || self.ended())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id is not zero");
        // It may have ended already; then there is nobody to tell.
        let _ = kill_process(pid, signal);
    }

    /// Moves its interface from `home` to another namespace and sets it up there.
    #[track_caller]
    pub fn move_to(&self, inside: &Namespace) {
        self.home.ip(&format!("link set {} netns {}", self.interface, inside.name()));
        // Whoever is held cannot be deleted, which is what some scenarios are about.
        if self.process.is_none() {
            *self.place.lock().expect("no holder of this lock panics") = inside.clone();
        }
    }

    fn place(&self) -> Namespace {
        self.place.lock().expect("no holder of this lock panics").clone()
    }

    /// Runs Debian's `wg` with these words; `%i` stands for the interface.
    pub fn attempt_wg(&self, words: &str) -> Result<String, String> {
        let words = words.replace("%i", &self.interface);
        let mut command = Command::new("wg");
        command.args(words.split_whitespace());
        match self.process {
            None => self.place().within(|| command_output(&command)),
            Some(_) => command_output(&command),
        }
    }

    /// Runs Debian's `wg`, which must succeed.
    #[track_caller]
    pub fn wg(&self, words: &str) -> String {
        self.attempt_wg(words)
            .unwrap_or_else(|error| panic!("{}: wg {words}: {error}", self.implementation))
    }

    /// `wg set`.
    #[track_caller]
    pub fn set(&self, words: &str) {
        self.wg(&format!("set %i {words}"));
    }

    /// One parameter of `wg show`, without the newline at its end.
    #[track_caller]
    pub fn show(&self, parameter: &str) -> String {
        self.wg(&format!("show %i {parameter}")).trim_end().to_owned()
    }

    /// One request on the control socket; the whole answer, up to its blank line.
    #[track_caller]
    pub fn uapi(&self, request: &str) -> String {
        let mut socket = UnixStream::connect(self.socket()).expect("the control socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.write_all(request.as_bytes()).expect("the daemon reads");
        let (mut answer, mut line) = (String::new(), String::new());
        let mut reader = BufReader::new(socket);
        while line != "\n" {
            line.clear();
            if reader.read_line(&mut line).expect("the daemon answers") == 0 {
                break;
            }
            answer.push_str(&line);
        }
        answer
    }

    /// The port that `wg` shows.
    #[track_caller]
    pub fn listen_port(&self) -> u16 {
        self.show("listen-port").parse().expect("a port")
    }

    /// What `wg` shows of the peer with this public key, if it has it.
    #[track_caller]
    pub fn peer(&self, public_key: &str) -> Option<PeerState> {
        let dump = self.show("dump");
        dump.lines().skip(1).find(|line| line.starts_with(public_key)).map(PeerState::parse)
    }

    /// The endpoint that `wg` shows for this peer.
    #[track_caller]
    pub fn endpoint_of(&self, public_key: &str) -> Option<SocketAddr> {
        self.peer(public_key).and_then(|peer| peer.endpoint)
    }
}

impl PeerState {
    fn parse(line: &str) -> Self {
        let [_, preshared, endpoint, allowed, handshake, received, sent, keepalive] =
            line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("not a peer of `wg show dump`: {line}");
        };
        let present = |text: &str| (text != "(none)").then(|| text.to_owned());
        Self {
            preshared_key: present(preshared),
            endpoint: endpoint.parse().ok(),
            allowed_ips: present(allowed)
                .iter()
                .flat_map(|list| list.split(','))
                .map(str::to_owned)
                .collect(),
            latest_handshake: handshake.parse().expect("seconds"),
            received: received.parse().expect("bytes"),
            sent: sent.parse().expect("bytes"),
            keepalive: keepalive.to_owned(),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let state = self.attempt_wg("show %i").unwrap_or_else(|error| error);
            eprintln!(
                "--- {} {}\n{state}\n{}\n---",
                self.implementation,
                self.interface,
                self.log()
            );
        }
        if self.process.is_none() {
            // It may have gone with its namespace.
            let _ = self.place().attempt(&format!("ip link delete {}", self.interface));
            return;
        }
        // boringtun has no clean end: its interface and socket go below.
        if self.implementation != Implementation::Boringtun {
            self.signal(Signal::TERM);
            for _ in 0..200 {
                if self.ended().is_some() {
                    break;
                }
                thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_file(self.socket());
    }
}
