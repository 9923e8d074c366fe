//! A name server that answers every question for an address with the same one, and remembers what it
//! was asked.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::thread;

use host::namespace;

/// The type of an IPv4 address, and of the extension of the protocol (RFC 1035, RFC 6891).
const A: u16 = 1;
const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

pub struct Server {
    answer: Ipv4Addr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Listens in a network namespace, for as long as the process runs.
    pub fn start(network: BorrowedFd<'_>, address: SocketAddr, answer: Ipv4Addr) -> Self {
        let socket = namespace::within(network, || UdpSocket::bind(address)).unwrap().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let memory = Arc::clone(&asked);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let query = &buffer[..length];
                let Some((name, kind)) = question(query) else { continue };
                memory.lock().unwrap().push(name);
                let _ = socket.send_to(&reply(query, (kind == A).then_some(answer)), from);
            }
        });
        Self { answer, asked }
    }

    /// What it answers with.
    pub fn answer(&self) -> String {
        self.answer.to_string()
    }

    pub fn was_asked(&self, name: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked.eq_ignore_ascii_case(name))
    }
}

/// The name and the type that are asked for.
fn question(query: &[u8]) -> Option<(String, u16)> {
    let mut labels = Vec::new();
    let mut rest = query.get(12..)?;
    loop {
        let (length, behind) = rest.split_first()?;
        let (label, behind) = behind.split_at_checked((*length).into())?;
        rest = behind;
        match label.is_empty() {
            true => break,
            false => labels.push(String::from_utf8_lossy(label).into_owned()),
        }
    }
    Some((labels.join("."), u16::from_be_bytes(*rest.first_chunk()?)))
}

/// The same question, with the answer or none, to be forgotten at once.
fn reply(query: &[u8], answer: Option<Ipv4Addr>) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1 + 4;
    let extended = query[11] > 0;
    let mut reply = query[..end].to_vec();
    reply[2..12].copy_from_slice(&[
        0x81,
        0x80,
        0,
        1,
        0,
        u8::from(answer.is_some()),
        0,
        0,
        0,
        extended.into(),
    ]);
    if let Some(address) = answer {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address.octets());
    }
    if extended {
        reply.extend(OPT);
    }
    reply
}
