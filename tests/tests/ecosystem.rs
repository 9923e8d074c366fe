//! Programs that ask every tunnel of a machine how it is: libraries such as wgctrl by the control
//! sockets, exporters of Prometheus by `wg show all dump`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use adit_tests::lab::{Family, Implementation, Lab, PATIENCE, Pair, Pairing};
use adit_tests::play_alone;

/// wgctrl takes whatever lies in the folder for a tunnel, and gives up if one does not answer. Of a
/// line it wants one `=`, and of a handshake nanoseconds, else it never was.
fn a_reader_of_all_sockets_understands_every_line(lab: &Lab, implementation: Implementation) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let socket = pair.left.daemon.socket();
    for entry in fs::read_dir(socket.parent().expect("a folder")).expect("the folder") {
        let entry = entry.expect("an entry");
        // The laboratory claims its names by files with a dot.
        let is_ours = !entry.file_name().as_encoded_bytes().starts_with(b".");
        let is_other = entry.file_type().is_ok_and(|kind| !kind.is_socket());
        assert!(!(is_ours && is_other), "{entry:?}");
    }
    for side in [&pair.left, &pair.right] {
        let lines = all_lines(&side.daemon.socket());
        let of_device = lines.iter().position(|(key, _)| key == "public_key").expect("a peer");
        let (device, peer) = lines.split_at(of_device);
        let device: Vec<_> = device.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(device, ["private_key", "listen_port"]);
        let told: BTreeSet<_> = peer.iter().map(|(key, _)| key.as_str()).collect();
        let wanted = [
            "endpoint",
            "last_handshake_time_nsec",
            "last_handshake_time_sec",
            "rx_bytes",
            "tx_bytes",
            "persistent_keepalive_interval",
            "allowed_ip",
            "protocol_version",
        ];
        assert!(wanted.iter().all(|key| told.contains(key)), "{told:?}");
        for (key, value) in peer {
            match key.as_str() {
                "public_key" | "preshared_key" => assert_eq!(value.len(), 64, "{key}"),
                "endpoint" => drop(value.parse::<std::net::SocketAddr>().expect("an endpoint")),
                "allowed_ip" => assert_eq!(value.split('/').count(), 2, "{value}"),
                "errno" => assert_eq!(value, "0"),
                _ => {
                    let number: u64 = value.parse().unwrap_or_else(|_| panic!("{key}={value}"));
                    assert!(number > 0 || key == "persistent_keepalive_interval", "{key}={value}");
                }
            }
        }
    }
}

/// The whole answer to `get`, up to the blank line.
fn all_lines(socket: &Path) -> Vec<(String, String)> {
    let mut stream = UnixStream::connect(socket).expect("the control socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(b"get=1\n\n").expect("the daemon listens");
    let lines = BufReader::new(stream).lines().map(|line| line.expect("text"));
    lines
        .take_while(|line| !line.is_empty())
        .map(|line| {
            assert_eq!(line.matches('=').count(), 1, "{line}");
            let (key, value) = line.split_once('=').expect("seen above");
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

fn an_exporter_finds_its_columns(lab: &Lab, implementation: Implementation) {
    let pair = Pair::new(lab, Pairing::new(implementation, implementation), Family::V4);
    pair.ping();
    let dump = pair.left.daemon.wg("show all dump");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs();
    let name = &pair.left.daemon.interface;
    let lines: Vec<Vec<_>> = dump.lines().map(|line| line.split('\t').collect()).collect();
    let of_it: Vec<_> = lines.iter().filter(|line| line.first() == Some(&name.as_str())).collect();
    let [device, peer] = of_it.as_slice() else { panic!("{dump}") };
    assert_eq!(device.len(), 5, "interface, private key, public key, port, mark: {dump}");
    let [_, key, _, endpoint, networks, handshake, received, sent, keepalive] = peer.as_slice()
    else {
        panic!("{dump}")
    };
    assert_eq!(*key, pair.right.key.public);
    assert!(endpoint.contains(':') && networks.contains('/'), "{dump}");
    let age = now.abs_diff(handshake.parse().expect("seconds since 1970"));
    assert!(age <= PATIENCE.as_secs(), "{age}");
    for counter in [received, sent] {
        assert!(counter.parse::<u64>().is_ok_and(|bytes| bytes > 0), "{dump}");
    }
    assert!(*keepalive == "off" || keepalive.parse::<u16>().is_ok(), "{dump}");
}

play_alone!(a_reader_of_all_sockets_understands_every_line, an_exporter_finds_its_columns);
