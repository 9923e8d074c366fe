//! What clients say to a daemon, in pieces of any length, and what a device makes of it.

use std::io::{self, Read};
use std::time::Duration;

use adit_tests::net::{Chance, Seed};
use config::uapi::{Errno, Request, Requests, write_state};
use config::wg::read_state;
use proto::{Device, Now, Time};

/// A stream that gives as many bytes at once as the bytes before them say.
struct Pieces<'a> {
    bytes: &'a [u8],
    next: u8,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::from(self.next % 7) + 1;
        let length = length.min(self.bytes.len()).min(buffer.len());
        let (piece, rest) = self.bytes.split_at(length);
        buffer[..length].copy_from_slice(piece);
        self.bytes = rest;
        self.next = piece.last().copied().unwrap_or(0).wrapping_mul(31).wrapping_add(self.next);
        Ok(length)
    }
}

pub fn run(bytes: &[u8]) {
    let whole: Vec<Result<Request, Errno>> = Requests::new(bytes, |_| Some(2)).collect();
    for next in [0, 6] {
        let pieces = Requests::new(Pieces { bytes, next }, |_| Some(2));
        assert_eq!(pieces.collect::<Vec<_>>(), whole, "it depends on how the bytes arrive");
    }
    let now = Now { time: Time::from_start(Duration::from_secs(9)), wall: Duration::from_secs(9) };
    let mut chance = Chance::new(Seed(1));
    let mut device = Device::new(Box::new(move |bytes| chance.fill(bytes)));
    device.up(now);
    for request in whole {
        if let Ok(Request::Set(change)) = request {
            device.configure(now, &change).expect("so few bytes hold no million peers");
        }
        while device.poll_event().is_some() {}
    }
    let state = device.state();
    let mut answer = Vec::new();
    write_state(&mut answer, &state).expect("a vector takes everything");
    let read = read_state(answer.as_slice(), |_| Some(2));
    assert_eq!(read.as_ref(), Ok(&state), "what is answered is read as something else");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let [a, b] = ["a1", "b2"].map(|byte| byte.repeat(32));
    [
        "get=1\n\n".to_owned(),
        format!(
            "set=1\nprivate_key={a}\nlisten_port=51820\nfwmark=51820\nreplace_peers=true\npublic_key={b}\n\
             protocol_version=1\npreshared_key={a}\nendpoint=[fe80::1%eth0]:1\n\
             persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/8\n\
             allowed_ip=-fd00::/64\n\nget=1\n\nset=1\npublic_key={b}\nremove=true\n\n"
        ),
        format!("set=1\npublic_key={b}\nupdate_only=true\nendpoint=192.0.2.1:1\nallowed_ip=::/0\n\n"),
        format!("set=1\npublic_key={a}\nallowed_ip=10.0.0.1/32\npublic_key={b}\nallowed_ip=10.0.0.1/32\n\n"),
        "set=1\nfwmark=0x1\nlisten_port=65536\n\nget=1\n\n".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}
