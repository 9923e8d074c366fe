//! A machine: a network namespace with a daemon in it, and what is said to either.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use config::key::to_hex;
use host::namespace;
use host::{Change, Network, Prefix};
use proto::{PrivateKey, PublicKey};

use super::Outcome;

/// The name of a machine's end of the cable, in its own namespace.
pub const CABLE: &str = "eth0";
/// Every daemon's UDP port, each in a namespace of its own.
const PORT: u16 = 51820;
/// How long a step that takes a moment may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// One of the two. Its tunnel interface is named as it is.
pub struct Machine {
    pub name: &'static str,
    /// Inside the tunnel.
    pub address: Ipv4Addr,
    pub network: Network,
    namespace: OwnedFd,
    private_key: PrivateKey,
    uapi: BufReader<UnixStream>,
}

impl Machine {
    /// Makes the namespace, and starts a daemon in it.
    pub fn start(name: &'static str, address: Ipv4Addr) -> Outcome<Self> {
        let namespace =
            namespace::create().map_err(|error| format!("make a network namespace: {error}"))?;
        let log = format!("/var/run/{name}.log");
        let mut daemon = Command::new("/proc/self/exe");
        daemon.arg0("adit").args(["daemon", "--foreground", name]);
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut daemon = namespace::within(namespace.as_fd(), || daemon.spawn())??;
        let uapi = connect(name, &mut daemon).ok_or_else(|| {
            let said = fs::read_to_string(&log).ok().filter(|said| !said.is_empty());
            let said = said.unwrap_or("it does not say why".into());
            format!("{name}'s daemon did not start: {}", said.trim())
        })?;
        uapi.set_read_timeout(Some(PATIENCE))?;
        let mut seed = [0; 32];
        sys::random::fill(&mut seed);
        Ok(Self {
            name,
            address,
            network: Network::open_in(namespace.as_fd())?,
            namespace,
            private_key: PrivateKey::new(seed).ok_or("the random generator gives zeros")?,
            uapi: BufReader::new(uapi),
        })
    }

    pub fn public_key(&self) -> PublicKey {
        self.private_key.public_key()
    }

    /// Where the others find this machine, at one of its addresses.
    pub fn endpoint(&self, address: Ipv4Addr) -> SocketAddrV4 {
        SocketAddrV4::new(address, PORT)
    }

    /// Runs `work` on a thread inside the machine.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Outcome<T> {
        Ok(namespace::within(self.namespace.as_fd(), work)?)
    }

    /// Plugs a cable into both machines.
    pub fn join(&mut self, other: &mut Self) -> Outcome<()> {
        const FAR_END: &str = "eth1";
        let cable = [
            Change::CreateVeth(CABLE, FAR_END),
            Change::MoveLink(FAR_END, other.namespace.as_fd()),
        ];
        self.network.apply_all(&cable)?;
        Ok(other.network.apply(Change::RenameLink(FAR_END, CABLE))?)
    }

    /// Gives the daemon its key and port, and the tunnel its address.
    pub fn open_tunnel(&mut self) -> Outcome<()> {
        let key = &*to_hex(self.private_key.as_bytes());
        self.configure(&format!("private_key={key}\nlisten_port={PORT}\n"))?;
        let address = Change::AddAddress(self.name, Prefix::v4(self.address, 24));
        Ok(self.network.apply_all(&[address, Change::SetUp(self.name)])?)
    }

    /// Makes `key` the only peer: it owns `address` in the tunnel, and is found at `endpoint` if
    /// that is known.
    pub fn set_peer(
        &mut self,
        key: PublicKey,
        address: Ipv4Addr,
        endpoint: Option<SocketAddrV4>,
    ) -> Outcome<()> {
        let endpoint =
            endpoint.map(|endpoint| format!("endpoint={endpoint}\n")).unwrap_or_default();
        let key = &*to_hex(&key.0);
        self.configure(&format!(
            "replace_peers=true\npublic_key={key}\n{endpoint}allowed_ip={address}/32\n"
        ))
    }

    /// Makes the daemon seek a session with `key` now: a keepalive is due, and needs one.
    pub fn call(&mut self, key: PublicKey) -> Outcome<()> {
        let key = &*to_hex(&key.0);
        self.configure(&format!(
            "public_key={key}\nupdate_only=true\npersistent_keepalive_interval=25\n"
        ))
    }

    /// Changes the daemon's configuration, in the lines of the UAPI protocol.
    fn configure(&mut self, lines: &str) -> Outcome<()> {
        match self.ask(&format!("set=1\n{lines}\n"))?.number("errno") {
            Some(0) => Ok(()),
            errno => {
                Err(format!("{}'s daemon refuses its configuration: errno {errno:?}", self.name)
                    .into())
            }
        }
    }

    /// Asks the daemon for its state.
    pub fn state(&mut self) -> Outcome<State> {
        self.ask("get=1\n\n")
    }

    fn ask(&mut self, request: &str) -> Outcome<State> {
        self.exchange(request)
            .map_err(|error| format!("{}'s daemon does not answer: {error}", self.name).into())
    }

    fn exchange(&mut self, request: &str) -> io::Result<State> {
        self.uapi.get_mut().write_all(request.as_bytes())?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.uapi.read_line(&mut line)?;
            match line.trim_end().split_once('=') {
                Some((key, value)) => lines.push((key.to_owned(), value.to_owned())),
                None if line == "\n" => return Ok(State(lines)),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

/// What a daemon said of itself: its own lines, then those of its one peer.
pub struct State(Vec<(String, String)>);

impl State {
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        self.text(key)?.parse().ok()
    }

    /// When the last handshake was completed, since 1970; none if never.
    pub fn last_handshake(&self) -> Option<Duration> {
        let seconds = self.number("last_handshake_time_sec")?;
        let nanoseconds = self.number("last_handshake_time_nsec")?;
        let time = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        (!time.is_zero()).then_some(time)
    }
}

/// The daemon's socket, as soon as it is there; none if the daemon ends first.
fn connect(name: &str, daemon: &mut Child) -> Option<UnixStream> {
    let path = format!("/var/run/wireguard/{name}.sock");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && daemon.try_wait().is_ok_and(|ended| ended.is_none()) {
        if let Ok(socket) = UnixStream::connect(&path) {
            return Some(socket);
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}
