//! The wire outside: everything that the client sends on it is captured, and judged.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::machine::Machine;

/// A running capture.
pub struct Wire {
    tcpdump: Child,
    /// What it says at its end.
    summary: Option<JoinHandle<String>>,
    captured: Arc<Captured>,
    markers: u32,
}

#[derive(Default)]
struct Captured {
    frames: Mutex<Vec<Frame>>,
    more: Condvar,
}

/// Something that the client sent.
#[derive(Clone)]
pub struct Frame {
    /// When, as the clock of the machine tells (`CLOCK_REALTIME`).
    pub at: Duration,
    bytes: Vec<u8>,
}

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A datagram of the tunnel to its endpoint, or a question where that is.
    Tunnel,
    /// What every link needs: ARP, neighbours, routers, an address.
    Housekeeping,
    /// The end of what is to be judged.
    Marker(u32),
    /// Anything else.
    Leak(String),
}

/// What the tunnel is allowed.
pub struct Allowed {
    pub endpoints: Vec<(IpAddr, u16)>,
    /// What everybody outside may be asked where the endpoint is by, as it stands in a question.
    pub name: &'static [u8],
    /// Addresses that nobody outside may learn of.
    pub secret: Vec<IpAddr>,
}

const UDP: u8 = 17;
const SNAPLEN: &str = "200";
const MARKER: &[u8] = b"end of what is judged ";

impl Wire {
    /// Begins to capture at a link of a machine.
    pub fn capture(machine: &Machine, link: &str) -> Self {
        let mut command = Command::new("tcpdump");
        command.args(["-i", link, "-Z", "root", "-U", "-n", "--immediate-mode", "-B", "65536"]);
        command.args(["-s", SNAPLEN, "-w", "-", "ether", "src", "02:00:00:00:00:77"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tcpdump = machine.within(|| command.spawn()).unwrap();
        let mut errors = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("listening on") {
            assert!(errors.read_line(&mut said).unwrap() > 0, "tcpdump ended: {said}");
        }
        let summary = thread::spawn(move || io::read_to_string(errors).unwrap());
        let captured = Arc::new(Captured::default());
        let (output, into) = (tcpdump.stdout.take().unwrap(), Arc::clone(&captured));
        thread::spawn(move || read(output, &into));
        Self { tcpdump, summary: Some(summary), captured, markers: 0 }
    }

    /// All that the client has sent since the last time, in its order.
    pub fn frames(&mut self, client: &Machine, own: Ipv4Addr) -> Vec<Frame> {
        // What another processor has sent before may still be on its way when the first marker
        // arrives, but not when one arrives that was sent after that.
        for _ in 0..2 {
            self.markers += 1;
            self.wait_for(client, own, self.markers);
        }
        std::mem::take(&mut self.captured.frames.lock().unwrap())
    }

    fn wait_for(&self, client: &Machine, own: Ipv4Addr, number: u32) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut last = Ok(0);
        let mut frames = self.captured.frames.lock().unwrap();
        while !frames.iter().any(|frame| frame.marker() == Some(number)) {
            assert!(Instant::now() < deadline, "the capture has ended: {last:?}");
            drop(frames);
            // Such as a DHCP client sends: nobody forbids it.
            let payload = [MARKER, number.to_string().as_bytes()].concat();
            // A real one may hold the port for a moment, or change the address.
            last = client.within(|| {
                let socket = UdpSocket::bind((own, 68))?;
                socket.set_broadcast(true)?;
                socket.send_to(&payload, (Ipv4Addr::BROADCAST, 67))
            });
            frames = self.captured.frames.lock().unwrap();
            let wait = self.captured.more.wait_timeout(frames, Duration::from_millis(200));
            frames = wait.unwrap().0;
        }
    }
}

/// Nothing has been missed.
impl Drop for Wire {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.tcpdump), Signal::TERM);
        let _ = self.tcpdump.wait();
        let summary = self.summary.take().map(JoinHandle::join);
        if let Some(Ok(summary)) = summary.filter(|_| !thread::panicking()) {
            assert!(summary.contains("\n0 packets dropped by kernel"), "{summary}");
        }
    }
}

/// Reads a file as tcpdump writes it (pcap-savefile(5)) to its end.
fn read(mut file: impl Read, into: &Captured) {
    let mut head = [0; 24];
    if file.read_exact(&mut head).is_err() {
        return;
    }
    assert_eq!((&head[..4], head[20]), (&0xa1b2_c3d4u32.to_ne_bytes()[..], 1), "of Ethernet");
    let mut record = [0; 16];
    while file.read_exact(&mut record).is_ok() {
        let number = |at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().unwrap());
        let at = Duration::new(number(0).into(), number(4) * 1000);
        let mut bytes = vec![0; number(8) as usize];
        if file.read_exact(&mut bytes).is_err() {
            return;
        }
        into.frames.lock().unwrap().push(Frame { at, bytes });
        into.more.notify_all();
    }
}

/// The fields of an IP packet that matter here.
struct Packet<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload: &'a [u8],
}

impl Frame {
    pub fn kind(&self, allowed: &Allowed) -> Kind {
        if let Some(number) = self.marker() {
            return Kind::Marker(number);
        }
        match self.ethertype() {
            0x0806 => self.arp(allowed),
            _ => match self.packet() {
                Some(packet) => packet.kind(allowed),
                None => Kind::Leak(format!("{:02x?}", self.bytes)),
            },
        }
    }

    fn ethertype(&self) -> u16 {
        u16::from_be_bytes([self.bytes[12], self.bytes[13]])
    }

    fn marker(&self) -> Option<u32> {
        let payload = self.bytes.get(14 + 20 + 8..)?.strip_prefix(MARKER)?;
        std::str::from_utf8(payload).ok()?.parse().ok()
    }

    /// Of a packet in the tunnel, the receiver's index of its session.
    pub fn session(&self) -> Option<[u8; 4]> {
        let packet = self.packet().filter(|packet| packet.protocol == UDP)?;
        let message = packet.payload.get(8..)?.strip_prefix(&[4, 0, 0, 0])?;
        message.first_chunk().copied()
    }

    fn arp(&self, allowed: &Allowed) -> Kind {
        let sender: [u8; 4] = self.bytes[14 + 14..14 + 18].try_into().unwrap();
        if allowed.secret.contains(&sender.into()) {
            return Kind::Leak(format!("ARP tells of {}", Ipv4Addr::from(sender)));
        }
        Kind::Housekeeping
    }

    fn packet(&self) -> Option<Packet<'_>> {
        let bytes = self.bytes.get(14..)?;
        match self.ethertype() {
            0x0800 => {
                let header = usize::from(bytes.first()? & 0xf) * 4;
                let address = |at: usize| <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok();
                Some(Packet {
                    source: address(12)?.into(),
                    destination: address(16)?.into(),
                    protocol: *bytes.get(9)?,
                    payload: bytes.get(header..)?,
                })
            }
            0x86dd => {
                let address = |at: usize| <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok();
                // Reports of listeners have a router alert option before them.
                let (protocol, payload) = match *bytes.get(6)? {
                    0 => (*bytes.get(40)?, bytes.get(48..)?),
                    protocol => (protocol, bytes.get(40..)?),
                };
                Some(Packet {
                    source: address(8)?.into(),
                    destination: address(24)?.into(),
                    protocol,
                    payload,
                })
            }
            _ => None,
        }
    }
}

impl Packet<'_> {
    fn kind(&self, allowed: &Allowed) -> Kind {
        const ICMP6: u8 = 58;
        let word =
            |at: usize| self.payload.get(at..at + 2).map(|it| u16::from_be_bytes([it[0], it[1]]));
        let ports = (word(0), word(2));
        let carried = self.payload.get(8..12);
        let is_wireguard = carried.is_some_and(|it| matches!(it, [1..=4, 0, 0, 0]));
        match self.protocol {
            _ if allowed.secret.contains(&self.source) => self.leak(),
            UDP if ports
                .1
                .is_some_and(|it| allowed.endpoints.contains(&(self.destination, it)))
                && is_wireguard =>
            {
                Kind::Tunnel
            }
            UDP if ports.1 == Some(53) && self.asks_for(allowed.name) => Kind::Tunnel,
            UDP if ports == (Some(68), Some(67)) => Kind::Housekeeping,
            UDP if ports == (Some(546), Some(547)) => Kind::Housekeeping,
            ICMP6 if matches!(self.payload.first(), Some(131..=133 | 135 | 136 | 143)) => {
                Kind::Housekeeping
            }
            _ => self.leak(),
        }
    }

    /// Whether it is a question for this name (RFC 1035 §4.1).
    fn asks_for(&self, name: &[u8]) -> bool {
        const HEAD: usize = 8 + 12;
        let asked = self.payload.get(HEAD..HEAD + name.len());
        !name.is_empty() && asked == Some(name) && self.payload.len() == HEAD + name.len() + 4
    }

    fn leak(&self) -> Kind {
        let Self { source, destination, protocol, payload } = self;
        let about = match (protocol, payload) {
            (6 | 17, [_, _, high, low, ..]) => {
                format!("port {}", u16::from_be_bytes([*high, *low]))
            }
            (_, [first, ..]) => format!("type {first}"),
            _ => String::new(),
        };
        Kind::Leak(format!("{source} to {destination}, protocol {protocol}, {about}"))
    }
}

/// What leaked, and how often.
#[derive(Default)]
pub struct Leaks(BTreeMap<String, usize>);

impl Leaks {
    pub fn of(frames: &[Frame], allowed: &Allowed) -> Self {
        let mut leaks = Self::default();
        for frame in frames {
            if let Kind::Leak(what) = frame.kind(allowed) {
                *leaks.0.entry(what).or_default() += 1;
            }
        }
        leaks
    }

    pub fn count(&self) -> usize {
        self.0.values().sum()
    }

    /// Those to a port of TCP or UDP.
    pub fn to_port(&self, port: u16) -> usize {
        let to = format!("port {port}");
        self.0.iter().filter(|(what, _)| what.ends_with(&to)).map(|(_, count)| count).sum()
    }

    /// Those to addresses that begin so.
    pub fn to(&self, address: &str) -> usize {
        self.of_kind(&format!(" to {address}"))
    }

    /// Those with this in their description.
    pub fn of_kind(&self, words: &str) -> usize {
        self.0.iter().filter(|(what, _)| what.contains(words)).map(|(_, count)| count).sum()
    }
}

impl std::fmt::Display for Leaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, count) in self.0.iter().take(20) {
            writeln!(f, "{count} x {what}")?;
        }
        Ok(())
    }
}

/// Of no machine here, so that what is sent to it must be refused or go through the tunnel.
pub const ELSEWHERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844);
