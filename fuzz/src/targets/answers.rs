//! What a daemon of anybody answers to `wg`, and every way to show it.

use config::wg::{Look, Mode, Names, View, from_file, peer_names, read_result, read_state};

use super::words::Willing;

pub fn run(bytes: &[u8]) {
    let _ = read_result(bytes);
    let Ok(state) = read_state(bytes, |_| Some(2)) else { return };
    let names = peer_names(&String::from_utf8_lossy(bytes));
    for names in [&names, &Names::new()] {
        let view = View { name: "wg0", state: &state, names, zone: |_| Some("eth0".to_owned()) };
        for (colours, secrets) in [(false, false), (true, true)] {
            let shown = view.pretty(Look { colours, secrets, now: 1_700_000_000 });
            let strange = shown.chars().find(|it| it.is_control() && !matches!(it, '\n' | '\x1b'));
            assert_eq!(strange, None, "{shown:?}");
        }
        for parameter in ["dump", "endpoints", "allowed-ips", "transfer", "latest-handshakes"] {
            let lines = view.script(parameter, true).expect("wg knows it");
            assert!(lines.lines().all(|line| line.starts_with("wg0\t")));
        }
        serde_json::to_string(&view.json()).expect("JSON can be written");
    }
    // What is shown as a configuration file is one.
    let view =
        View { name: "wg0", state: &state, names: &names, zone: |_| Some("eth0".to_owned()) };
    let file = view.configuration();
    let settings = from_file(file.as_bytes(), Mode::Replace, &mut Willing)
        .unwrap_or_else(|wrong| panic!("{}\n{file}", String::from_utf8_lossy(&wrong)));
    assert_eq!(settings.peers.len(), state.peers.len());
}

pub fn seeds() -> Vec<Vec<u8>> {
    let [a, b] = ["a1", "b2"].map(|byte| byte.repeat(32));
    [
        "errno=0\n\n".to_owned(),
        "errno=-22\n\n".to_owned(),
        format!(
            "private_key={a}\nlisten_port=51820\nfwmark=51820\nlast_discard=bad-mac\npublic_key={b}\n\
             preshared_key={a}\nprotocol_version=1\nendpoint=[fe80::1%eth0]:51820\n\
             last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\ntx_bytes=1\nrx_bytes=2\n\
             persistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/64\n\
             public_key={a}\nendpoint=192.0.2.1:1\nerrno=0\n\n"
        ),
    ]
    .map(String::into_bytes)
    .to_vec()
}
