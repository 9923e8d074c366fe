//! The stage: a client whose only link goes to a router, behind which are the other end of the
//! tunnel and the rest of the world; and the programs that may bring the tunnel up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::Network;

use crate::machine::{Machine, Said};
use crate::probe::{Sent, Storm};
use crate::wire::{Allowed, Frame, Leaks, Wire};

pub const OURS: &str = env!("CARGO_BIN_EXE_adit");
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// Who brings the tunnel up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `adit up`, with its guard.
    Ours,
    /// Debian's wg-quick with Debian's wireguard-go: the control.
    Theirs,
}

/// A machine takes only what comes on the link that it would answer on.
pub const STRICT: &str = "sysctl -q net.ipv4.conf.all.rp_filter=1 \
     net.ipv4.conf.default.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1";

pub struct Stage {
    pub program: Program,
    /// It ends before the machines do.
    pub wire: Wire,
    pub client: Machine,
    pub router: Machine,
    pub server: Machine,
    pub allowed: Allowed,
    /// Where the client is on its link.
    pub own: Ipv4Addr,
    /// Whether there are probes that insist on the link outside.
    pub insist: bool,
    /// All probes so far.
    pub probes: Sent,
    keys: [String; 2],
}

const CLIENT_LINKS: &str = "
ip link set eth0 address 02:00:00:00:00:77 up
ip address add 192.168.77.2/24 dev eth0
ip address add 2001:db8:77::2/64 dev eth0 nodad
ip route add default via 192.168.77.1
ip -6 route add default via 2001:db8:77::1";
const ROUTER_LINKS: &str = "
sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link set lan0 up
ip link set wan0 up
ip address add 192.168.77.1/24 dev lan0
ip address add 2001:db8:77::1/64 dev lan0 nodad
ip address add 203.0.113.1/24 dev wan0
ip address add 2001:db8::1/64 dev wan0 nodad
ip route add default via 203.0.113.5
ip -6 route add default via 2001:db8::5";
/// Behind the tunnel, it is the whole Internet.
const SERVER_LINKS: &str = "
ip link set eth0 up
ip address add 203.0.113.5/24 dev eth0
ip address add 2001:db8::5/64 dev eth0 nodad
ip address add 8.8.8.8/32 dev lo
ip address add 2001:4860:4860::8844/128 dev lo nodad
ip route add default via 203.0.113.1
ip -6 route add default via 2001:db8::1";

impl Stage {
    /// With a tunnel that is down; or a printed skip.
    pub fn new(program: Program) -> Option<Self> {
        if program == Program::Theirs && !Path::new("/usr/bin/wireguard-go").exists() {
            eprintln!("skipped: the control needs Debian's wireguard-go");
            return None;
        }
        let tools = ["wg", "wg-quick", "ip", "tcpdump", "ping", "nft", "sysctl", "busybox"];
        let missing = tools.iter().find(|tool| {
            let found = Command::new("which").arg(tool).stdout(Stdio::null()).status();
            !found.is_ok_and(|status| status.success())
        });
        let machines = || Some((Machine::start()?, Machine::start()?, Machine::start()?));
        let Some((mut client, mut router, mut server)) = machines().filter(|_| missing.is_none())
        else {
            eprintln!("skipped: this needs the right to make namespaces, and {tools:?}");
            return None;
        };
        join(&router, "lan0", &client, "eth0");
        join(&router, "wan0", &server, "eth0");
        router.run(ROUTER_LINKS);
        client.run(CLIENT_LINKS);
        server.run(SERVER_LINKS);
        let keys = [(); 2].map(|()| client.run("wg genkey").trim().to_owned());
        let wire = Wire::capture(&router, "lan0");
        let allowed = Allowed {
            endpoints: vec![(ENDPOINT.into(), 51820)],
            name: b"",
            secret: vec![INSIDE.into(), "fd00:9::2".parse().unwrap()],
        };
        let (own, probes) = (CLIENT, Sent::default());
        let mut stage = Self {
            program,
            client,
            router,
            server,
            wire,
            allowed,
            own,
            insist: true,
            probes,
            keys,
        };
        stage.start_server();
        Some(stage)
    }

    pub fn start_server(&mut self) {
        let [client, server] = &self.keys;
        let public = self.client.run(&format!("echo {client} | wg pubkey"));
        let file = format!(
            "[Interface]\nPrivateKey = {server}\nListenPort = 51820\n[Peer]\nPublicKey = {public}\
             AllowedIPs = 10.9.0.2/32, fd00:9::2/128\n"
        );
        self.server.write("/etc/wireguard/wg0.conf", &file);
        self.server.run(&format!("{OURS} daemon wg0 && wg setconf wg0 /etc/wireguard/wg0.conf"));
        self.server.run(
            "ip address add 10.9.0.1/24 dev wg0 && ip address add fd00:9::1/64 dev wg0 nodad \
             && ip link set wg0 up",
        );
    }

    /// Writes the client's file: what the peer may send from, and more lines of the interface.
    pub fn configure(&mut self, allowed_ips: &str, more: &str) {
        let [client, server] = &self.keys;
        let public = self.client.run(&format!("echo {server} | wg pubkey"));
        let file = format!(
            "[Interface]\nPrivateKey = {client}\nAddress = 10.9.0.2/24, fd00:9::2/64\n{more}\n\
             [Peer]\nPublicKey = {public}AllowedIPs = {allowed_ips}\n\
             Endpoint = 203.0.113.5:51820\nPersistentKeepalive = 1\n"
        );
        self.client.write("/etc/wireguard/wg0.conf", &file);
    }

    /// `up`, `down` or `reload`, which must succeed.
    #[track_caller]
    pub fn tunnel(&mut self, verb: &str) {
        let said = self.attempt(verb);
        assert_eq!(said.code, 0, "{verb}: {}{}", said.out, said.err);
    }

    pub fn attempt(&mut self, verb: &str) -> Said {
        let program = match self.program {
            Program::Ours => OURS,
            Program::Theirs => "/usr/bin/wg-quick",
        };
        self.client.attempt(&format!("{program} {verb} wg0"))
    }

    /// Whether what is behind the tunnel answers through it.
    pub fn reaches_the_other_end(&mut self) -> bool {
        let listener = self.server.within(|| TcpListener::bind("[::]:4443")).unwrap();
        let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)), 4443);
        let deadline = Instant::now() + Duration::from_secs(20);
        let reached = self.client.within(|| {
            while Instant::now() < deadline {
                if TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok() {
                    return true;
                }
            }
            false
        });
        drop(listener);
        reached
    }

    /// Whether what is only behind the tunnel, as far as anybody knows, answers.
    pub fn reaches_the_internet(&mut self) -> bool {
        self.client.attempt("ping -n -q -c 3 -i 0.2 -w 20 8.8.8.8").code == 0
            && self.client.attempt("ping -n -q -c 3 -i 0.2 -w 20 2001:4860:4860::8844").code == 0
    }

    /// What leaks while something is done and probes are sent, of which there are at least so many.
    pub fn leaks_during(&mut self, least: usize, act: impl FnOnce(&mut Self)) -> Leaks {
        let ((), frames) = self.frames_during(least, act);
        Leaks::of(&frames, &self.allowed)
    }

    /// All that is sent meanwhile, and what came of it.
    pub fn frames_during<T>(
        &mut self,
        least: usize,
        act: impl FnOnce(&mut Self) -> T,
    ) -> (T, Vec<Frame>) {
        self.forget();
        let storm = Storm::begin(&self.client, self.insist);
        let outcome = act(self);
        storm.wait_for(least);
        self.probes += storm.end();
        (outcome, self.wire.frames(&self.client, self.own))
    }

    /// What has leaked since the last time.
    pub fn leaks(&mut self) -> Leaks {
        Leaks::of(&self.wire.frames(&self.client, self.own), &self.allowed)
    }

    /// Nothing that was sent until now counts.
    pub fn forget(&mut self) {
        self.wire.frames(&self.client, self.own);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        println!("{} probes by {:?}: {:?}", self.probes.count(), self.program, self.probes);
    }
}

/// A cable between two machines.
pub fn join(one: &Machine, here: &str, other: &Machine, there: &str) {
    use host::Change::{CreateVeth, MoveLink, RenameLink};
    let mut network = Network::open_in(one.network()).unwrap();
    let end = format!("{here}-far");
    network.apply_all(&[CreateVeth(here, &end), MoveLink(&end, other.network())]).unwrap();
    let mut network = Network::open_in(other.network().as_fd()).unwrap();
    network.apply(RenameLink(&end, there)).unwrap();
}
