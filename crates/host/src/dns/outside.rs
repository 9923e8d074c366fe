//! Questions that go past whoever answers this machine's programs, and past the tunnel: where the
//! other end of it is cannot be asked through it.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use crate::ways::connected;

/// Where the servers of the network stand, the first file that names any: who reads it, who else is
/// told by systemd-resolved, and by NetworkManager.
const FILES: [&str; 3] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
];
/// As many as getaddrinfo(3) asks.
const MOST: usize = 3;
const PORT: u16 = 53;
/// For the answers of one server, and how often it is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
const ATTEMPTS: usize = 2;
/// Of an answer over UDP to a question that does not ask for more (RFC 1035 §2.3.4). Whoever sends
/// more is read as far as that goes.
const LONGEST: usize = 512;

/// The servers that this machine would ask if there were no tunnel with its `own`, as far as the files
/// that others keep tell. None in the worst case: what listens on the loopback asks somebody else.
#[must_use]
pub fn servers_besides(own: &[IpAddr]) -> Vec<IpAddr> {
    let servers = FILES.iter().map(|file| listed(&fs::read(file).unwrap_or_default(), own));
    servers.into_iter().find(|servers| !servers.is_empty()).unwrap_or_default()
}

/// The servers in a file (resolv.conf(5)) but for some, and those of this machine.
fn listed(file: &[u8], own: &[IpAddr]) -> Vec<IpAddr> {
    let file = String::from_utf8_lossy(file);
    let words = file.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    // An address with a zone is of a link that may be another one tomorrow.
    let servers = words.filter_map(|word| word.parse().ok());
    let is_other = |server: &IpAddr| {
        !server.is_loopback() && !server.is_unspecified() && !own.contains(server)
    };
    servers.filter(is_other).take(MOST).collect()
}

/// Whom to ask beside a tunnel, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Of the network, in their order.
    pub servers: Vec<IpAddr>,
    /// Of the tunnel's own datagrams, for which the way leads outside.
    pub mark: u32,
}

impl Outside {
    /// The addresses of a host, those that can be reached first, and of these those of IPv6.
    ///
    /// # Errors
    ///
    /// Nobody knows any, or nobody answers.
    pub fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let answers = self.servers.iter().map(|server| self.ask(*server, host));
        let mut answers = answers.filter(|answer| !matches!(answer.as_deref(), Ok([])));
        let mut found = match answers.find(Result::is_ok) {
            Some(found) => found?,
            None => return Err(io::Error::new(io::ErrorKind::NotFound, "nobody knows it")),
        };
        let is_out_of_reach =
            |address: IpAddr| connected(SocketAddr::new(address, PORT), self.mark).is_err();
        found.sort_by_key(|address| (is_out_of_reach(*address), address.is_ipv4()));
        Ok(found)
    }

    /// Asks one server, and once more for what was not answered: either may be lost on the way.
    fn ask(&self, server: IpAddr, host: &str) -> io::Result<Vec<IpAddr>> {
        let socket = connected(SocketAddr::new(server, PORT), self.mark)?;
        let mut questions = vec![(number(), TYPE::AAAA), (number(), TYPE::A)];
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS {
            for (number, kind) in &questions {
                socket.send(&question(*number, host, *kind)?)?;
            }
            let deadline = Instant::now() + PATIENCE;
            while !questions.is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                let Some(datagram) = receive(&socket, left)? else { break };
                questions.retain(|(number, kind)| {
                    let addresses = answer(&datagram, *number, host, *kind);
                    let is_open = addresses.is_none();
                    found.extend(addresses.into_iter().flatten());
                    is_open
                });
            }
        }
        Ok(found)
    }
}

/// The next datagram, unless none comes in time.
fn receive(socket: &UdpSocket, patience: Duration) -> io::Result<Option<Vec<u8>>> {
    if patience.is_zero() {
        return Ok(None);
    }
    socket.set_read_timeout(Some(patience))?;
    let mut datagram = vec![0; LONGEST];
    match socket.recv(&mut datagram) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        length => {
            datagram.truncate(length?);
            Ok(Some(datagram))
        }
    }
}

/// Whoever cannot see the question cannot guess it.
fn number() -> u16 {
    let mut bytes = [0; 2];
    sys::random::fill(&mut bytes);
    u16::from_ne_bytes(bytes)
}

fn question(number: u16, host: &str, kind: TYPE) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(number);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let host = Name::new(host).map_err(io::Error::other)?;
    let class = QCLASS::CLASS(CLASS::IN);
    packet.questions.push(Question::new(host, QTYPE::TYPE(kind), class, false));
    packet.build_bytes_vec().map_err(io::Error::other)
}

/// The addresses in an answer to this question, which may be none; None if it is anything else.
/// Aliases come before the addresses that they stand for (RFC 1034 §3.6.2).
fn answer(datagram: &[u8], number: u16, host: &str, kind: TYPE) -> Option<Vec<IpAddr>> {
    let packet = Packet::parse(datagram).ok()?;
    let asked = packet.questions.first()?;
    let is_ours = packet.id() == number
        && packet.has_flags(PacketFlag::RESPONSE)
        && asked.qtype == QTYPE::TYPE(kind)
        && asked.qname.to_string().eq_ignore_ascii_case(host);
    if !is_ours {
        return None;
    }
    if packet.rcode() != RCODE::NoError {
        return Some(Vec::new());
    }
    let addresses = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(it) if kind == TYPE::A => Some(IpAddr::from(it.address.to_be_bytes())),
        RData::AAAA(it) if kind == TYPE::AAAA => Some(IpAddr::from(it.address.to_be_bytes())),
        _ => None,
    });
    Some(addresses.collect())
}

/// Reads bytes as an answer to some question, and as a list of servers.
pub(super) fn try_readers(bytes: &[u8]) {
    let [high, low] = bytes.first_chunk().copied().unwrap_or_default();
    for kind in [TYPE::A, TYPE::AAAA] {
        let found = answer(bytes, u16::from_be_bytes([high, low]), "vpn.example", kind);
        let other = |address: &IpAddr| address.is_ipv4() != (kind == TYPE::A);
        assert!(!found.unwrap_or_default().iter().any(other), "an address of the other family");
    }
    let servers = listed(bytes, &[]);
    assert!(servers.len() <= MOST && !servers.iter().any(IpAddr::is_loopback));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn servers_of_the_network_are_those_that_are_neither_ours_nor_here() {
        let file = b"# nameserver 1.1.1.1\nnameserver 127.0.0.53\nnameserver\t192.0.2.1 # x\n\
            nameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n\
            nameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver\n\xff\n";
        let found = listed(file, &["10.0.0.1".parse().unwrap()]);
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
    }

    /// As RFC 1035 §4 has it: an alias, and an address of the host that it stands for.
    #[test]
    fn an_answer_is_taken_only_for_the_question_that_was_asked() {
        let asked = question(0x1234, "vpn.Example", TYPE::A).unwrap();
        let head = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";
        assert_eq!(asked, [&head[..], b"\x03vpn\x07Example\x00\x00\x01\x00\x01"].concat());
        let records = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x09\x00\x04\x01a\xc0\x10\
            \xc0\x29\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\xc0\x00\x02\x07";
        let mut reply = [&asked[..], records].concat();
        (reply[2], reply[3], reply[7]) = (0x81, 0x80, 2);
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let host = "VPN.example";
        assert_eq!(answer(&reply, 0x1234, host, TYPE::A), Some(vec![address]));
        assert_eq!(answer(&reply, 0x1235, host, TYPE::A), None);
        assert_eq!(answer(&reply, 0x1234, "vpn.example.org", TYPE::A), None);
        assert_eq!(answer(&reply, 0x1234, host, TYPE::AAAA), None);
        assert_eq!(answer(&asked, 0x1234, host, TYPE::A), None, "a question is no answer");
        for length in 0..reply.len() {
            assert_eq!(answer(&reply[..length], 0x1234, host, TYPE::A), None, "{length} octets");
        }
        reply[3] = 0x83;
        assert_eq!(answer(&reply, 0x1234, host, TYPE::A), Some(vec![]), "there is no such name");
        assert!(question(0, &"a".repeat(64), TYPE::A).is_err());
    }
}
