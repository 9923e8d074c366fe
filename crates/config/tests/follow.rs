//! What `follow` writes into a file of the keys and peers that an interface has now, and what it
//! leaves alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Instant;

use config::file::follow;
use config::key::{from_base64, to_base64};
use config::wg::read_state;
use proto::{DeviceState, PrivateKey};

const PRIVATE: &str = "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=";
const A: &str = "089pIdFJufCU8IIwrpqGtpopdocCh6uWqD06JXpwr5o=";
const B: &str = "kYlQj78geDqd4w14Zf82eOjJPCeNqDeOsanqN2AFuzo=";

/// The key, in the digits of the control socket.
fn hex(key: &str) -> String {
    from_base64(key).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An interface as the daemon tells of it; peers are `A` and `B`.
fn state(told: &str) -> DeviceState {
    let told = told.replace("=A", &format!("={}", hex(A))).replace("=B", &format!("={}", hex(B)));
    let told = format!("private_key={}\n{told}errno=0\n\n", hex(PRIVATE));
    read_state(told.as_bytes(), |_| None).unwrap()
}

fn followed(file: &str, told: &str) -> Option<String> {
    let file = file.replace("= A", &format!("= {A}")).replace("= B", &format!("= {B}"));
    let text = follow(file.as_bytes(), &state(told), |_| None)?;
    let text = String::from_utf8(text.to_vec()).unwrap();
    Some(text.replace(A, "A").replace(B, "B"))
}

const FILE: &str = "# home\n[Interface]\nListenPort = 5 # open\nSaveConfig = true\n#! Guard = off\n\n\
    # alice\n[Peer]\nPublicKey = A\nAllowedIPs = 10.0.0.1/24\nAllowedIPs=fd00::/64 # both\n\
    Endpoint = a.example:5\nPersistentKeepalive = off\n\n# bob\n[Peer]\nPublicKey = B\n\
    Endpoint = 192.0.2.1:5\n\n# the end\n";
const LIVE: &str = "listen_port=5\npublic_key=A\nendpoint=192.0.2.7:5\nallowed_ip=10.0.0.0/24\n\
    allowed_ip=fd00::/64\npublic_key=B\nendpoint=192.0.2.1:5\n";

#[test]
fn a_file_that_says_all_of_it_already_is_left_alone() {
    assert_eq!(followed(FILE, LIVE), None);
    // Nor is written down where a peer was heard that nobody has given an endpoint, a port that was
    // found by itself, or a mark that nobody asked for.
    let quiet = FILE.replace("Endpoint = 192.0.2.1:5\n", "").replace("ListenPort = 5 # open\n", "");
    assert_eq!(followed(&quiet, &format!("fwmark=51820\n{LIVE}")), None);
    // A name that nobody has found yet.
    assert_eq!(followed(FILE, &LIVE.replace("endpoint=192.0.2.7:5\n", "")), None);
}

#[test]
fn only_what_has_changed_is_written() {
    for (live, now, before, after) in [
        ("listen_port=5", "listen_port=6", "ListenPort = 5 # open", "ListenPort = 6 # open"),
        (
            "allowed_ip=fd00::/64",
            "allowed_ip=fd01::/64",
            "AllowedIPs = 10.0.0.1/24\nAllowedIPs=fd00::/64 # both",
            "AllowedIPs = 10.0.0.0/24, fd01::/64",
        ),
        (
            "endpoint=192.0.2.1:5",
            "endpoint=192.0.2.2:5\npersistent_keepalive_interval=25",
            "PublicKey = B\nEndpoint = 192.0.2.1:5",
            "PublicKey = B\nPersistentKeepalive = 25\nEndpoint = 192.0.2.2:5",
        ),
        (
            "endpoint=192.0.2.7:5",
            "endpoint=192.0.2.7:5\npersistent_keepalive_interval=7",
            "PersistentKeepalive = off",
            "PersistentKeepalive = 7",
        ),
        (
            "public_key=B\nendpoint=192.0.2.1:5\n",
            "",
            "\n\n# bob\n[Peer]\nPublicKey = B\nEndpoint = 192.0.2.1:5\n\n# the end\n",
            "\n\n",
        ),
    ] {
        let expected = FILE.replace(before, after);
        assert_ne!(expected, FILE, "{before}");
        assert_eq!(followed(FILE, &LIVE.replace(live, now)), Some(expected), "{now}");
    }
}

#[test]
fn a_peer_goes_with_its_name_and_a_new_one_comes_last() {
    let only_b = "listen_port=5\npublic_key=B\nendpoint=192.0.2.1:5\n";
    let (head, rest) = FILE.split_once("# alice\n").unwrap();
    let (_, bob) = rest.split_once("# bob\n").unwrap();
    assert_eq!(followed(FILE, only_b), Some(format!("{head}# bob\n{bob}")));
    let new = "[Interface]\nListenPort = 5\n";
    assert_eq!(
        followed(new, only_b).unwrap(),
        format!("{new}\n[Peer]\nPublicKey = B\nEndpoint = 192.0.2.1:5\n")
    );
}

#[test]
fn keys_are_written_where_there_were_keys() {
    let psk = to_base64(&[7; 32]);
    let told = format!("public_key=A\npreshared_key={}\n", "07".repeat(32));
    let file = format!("[Interface]\nPrivateKey = {B}\n[Peer]\nPublicKey = {A}\n");
    let text = follow(file.as_bytes(), &state(&told), |_| None).unwrap();
    // The daemon tells it as it is used.
    let clamped = PrivateKey::new(*from_base64(PRIVATE).unwrap()).unwrap();
    let private = to_base64(clamped.as_bytes());
    let expected = format!(
        "[Interface]\nPrivateKey = {}\n[Peer]\nPublicKey = {A}\nPresharedKey = {}\n",
        *private, *psk
    );
    assert_eq!(str::from_utf8(&text).unwrap(), expected);
    // A key from a hook is nobody's to write into a file.
    let text = follow(b"[Interface]\n", &state(""), |_| None);
    assert_eq!(text, None);
}

#[test]
fn a_hundred_thousand_peers_take_little_time() {
    let (mut file, mut told) = ("[Interface]\n".to_owned(), String::new());
    for peer in 0..100_000_u32 {
        let mut key = [200; 32];
        key[4..8].copy_from_slice(&peer.to_le_bytes());
        let key = to_base64(&key);
        file += &format!("[Peer]\nPublicKey = {}\nPersistentKeepalive = 25\n", *key);
        // Every other peer has gone.
        if peer % 2 == 0 {
            told += &format!("public_key={}\npersistent_keepalive_interval=25\n", hex(&key));
        }
    }
    let start = Instant::now();
    let text = followed(&file, &told).unwrap();
    assert_eq!(text.lines().count(), 1 + 3 * 50_000);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
