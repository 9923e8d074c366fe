//! The name servers of the other machine. Each notes the names that it is asked for.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

/// The type of an address of IPv4 (RFC 1035, section 3.2.2).
const A: u16 = 1;
const HEADER: usize = 12;

#[test]
#[ignore = "in a guest, as a unit that never ends"]
fn names_are_answered() {
    let inside = || answer("inside", [10, 9, 0, 1].into(), [10, 9, 0, 77].into());
    let outside = || answer("outside", [192, 0, 2, 1].into(), [192, 0, 2, 99].into());
    thread::scope(|scope| {
        scope.spawn(inside);
        scope.spawn(outside);
    });
}

/// At this address, with the same answer for every name but that of the peer.
fn answer(place: &str, at: Ipv4Addr, answer: Ipv4Addr) {
    let socket = UdpSocket::bind((at, 53)).expect("a server");
    let path = format!("/run/asked/{place}");
    let mut notes = OpenOptions::new().create(true).append(true).open(path).expect("a file");
    let mut query = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut query).expect("a query");
        let Some((name, kind, end)) = question(&query[..length]) else { continue };
        writeln!(notes, "{name}").expect("a note");
        let address = if name == "far.test" { Ipv4Addr::new(192, 0, 2, 1) } else { answer };
        let answers = u8::from(kind == A);
        let mut reply = query[..end].to_vec();
        reply[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0]);
        if kind == A {
            // The name as in the question, the type, the Internet, a second, four bytes.
            reply.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            reply.extend(address.octets());
        }
        socket.send_to(&reply, from).expect("a reply");
    }
}

/// The name and the type that are asked for, and where the question ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut rest = query.get(HEADER..)?;
    loop {
        let (length, behind) = rest.split_first()?;
        let (label, behind) = behind.split_at_checked((*length).into())?;
        rest = behind;
        match label.is_empty() {
            true => break,
            false => labels.push(String::from_utf8_lossy(label).to_lowercase()),
        }
    }
    let kind = u16::from_be_bytes(*rest.first_chunk()?);
    Some((labels.join("."), kind, query.len() - rest.len() + 4))
}
