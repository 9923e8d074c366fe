//! The words behind `wg set`, with a zero byte between each two.

use std::net::SocketAddr;

use config::uapi::Requests;
use config::wg::{Machine, Refusal, Secret, from_arguments, write_settings};

/// A machine on which every name is known and every file can be read.
pub struct Willing;

impl Machine for Willing {
    fn port(&mut self, service: &[u8]) -> Result<u16, Refusal> {
        Ok(service.len() as u16)
    }

    fn resolve(&mut self, _: &[u8], port: &[u8], _: &[u8]) -> Result<SocketAddr, Refusal> {
        Ok(SocketAddr::new([192, 0, 2, 1].into(), self.port(port)?))
    }

    fn can_resolve(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn key_file(&mut self, _: &[u8]) -> Result<Secret, Refusal> {
        Ok(Secret::default())
    }

    fn warn(&mut self, _: &[u8]) {}
}

pub fn run(bytes: &[u8]) {
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    if let Ok(settings) = from_arguments(&words, &mut Willing) {
        let mut request = Vec::new();
        write_settings(&mut request, &settings, |_| None).expect("a vector takes everything");
        let heard: Vec<_> = Requests::new(request.as_slice(), |_| None).collect();
        assert!(matches!(heard.as_slice(), [Ok(_)]), "said, but not understood: {heard:?}");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    const KEY: &str = "kYlQj78geDqd4w14Zf82eOjJPCeNqDeOsanqN2AFuzo=";
    [
        "listen-port 51820 fwmark 0xca6c private-key /dev/null".to_owned(),
        format!("peer {KEY} endpoint [fe80::1%eth0]:51820 persistent-keepalive 25"),
        format!("peer {KEY} preshared-key /dev/stdin allowed-ips 10.0.0.0/8,::/0,-10.1.0.0/16"),
        format!("peer {KEY} remove peer {KEY} endpoint example.com:1 allowed-ips , "),
        "fwmark off listen-port 0".to_owned(),
    ]
    .map(|line| line.replace(' ', "\0").into_bytes())
    .to_vec()
}
