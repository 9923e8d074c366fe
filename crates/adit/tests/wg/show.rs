//! Scenes of `wg show` and `wg showconf`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use crate::stage::{Answers, Scene, Stage, leave_behind, pretend, scene, socket};

/// Clamped, as every implementation stores them.
pub const PRIVATE: &str = "a811111111111111111111111111111111111111111111111111111111111142";
pub const PUBLIC: [&str; 4] = [
    "e241fe9e40c6a83bb08499697a1bbaa4b98311513f9b0834bba56a4935eabd6c",
    "9189508fbf20783a9de30d7865ff3678e8c93c278da8378eb1a9ea376005bb3a",
    "aa70432b3c3be36fb46467fb66f9e211dcc99d0f4da228a5686cf8e93f7fc924",
    "f63ebad2fff868621f0b40da26a5b78dde8c973365d5f4dc1cbd6881e305347d",
];
const PRESHARED: &str = "d3cf6921d149b9f094f08230ae9a86b69a2976870287ab96a83d3a257a70af9a";
const PARAMETERS: [&str; 12] = [
    "public-key",
    "private-key",
    "listen-port",
    "fwmark",
    "peers",
    "preshared-keys",
    "endpoints",
    "allowed-ips",
    "latest-handshakes",
    "transfer",
    "persistent-keepalive",
    "dump",
];

/// A bit of everything that a peer may have.
pub fn full() -> String {
    let [a, b, c, d] = PUBLIC;
    let none = "0".repeat(64);
    format!(
        "private_key={PRIVATE}\nlisten_port=51820\nfwmark=51966\n\
         public_key={a}\npreshared_key={none}\nprotocol_version=1\n\
         last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n\
         persistent_keepalive_interval=0\n\
         public_key={b}\npreshared_key={PRESHARED}\nprotocol_version=1\n\
         endpoint=192.0.2.1:51820\n\
         last_handshake_time_sec={{now-93784}}\nlast_handshake_time_nsec=999999999\n\
         tx_bytes=1536\nrx_bytes=1023\npersistent_keepalive_interval=25\n\
         allowed_ip=10.0.0.0/8\nallowed_ip=192.168.4.28/32\nallowed_ip=::/0\n\
         public_key={c}\nendpoint=[2001:db8::c]:1\n\
         last_handshake_time_sec={{now-61}}\nlast_handshake_time_nsec=1\n\
         tx_bytes=18446744073709551615\nrx_bytes=0\npersistent_keepalive_interval=65535\n\
         allowed_ip=fd00:1::/64\n\
         public_key={d}\nendpoint=[fe80::1%lo]:65535\nlast_handshake_time_sec={{now-61}}\n\
         last_handshake_time_nsec=2\nlast_discard=bad_mac\nallowed_ip=0.0.0.0/0\n\
         errno=0\n\n"
    )
}

fn peer(lines: &str) -> String {
    format!("public_key={}\n{lines}\nerrno=0\n\n", PUBLIC[0])
}

/// The command line for one answer.
fn shown(line: &str, answer: &str) -> Scene {
    scene(line).told(answer)
}

pub fn scenes(stage: &Stage) {
    let full = full();
    let empty = "errno=0\n\n";
    let mut scenes = usage();
    for answer in [full.as_str(), empty] {
        for parameter in PARAMETERS {
            scenes.push(shown(&format!("show wgt0 {parameter}"), answer));
            // Theirs names the interface in the first line only; see `differences`.
            if parameter != "endpoints" {
                scenes.push(shown(&format!("show all {parameter}"), answer));
            }
        }
        for line in ["", "show", "show all", "show wgt0", "showconf wgt0"] {
            scenes.push(shown(line, answer));
            scenes.push(shown(line, answer).with("WG_COLOR_MODE", "always"));
            scenes.push(shown(line, answer).with("WG_COLOR_MODE", "never"));
            scenes.push(shown(line, answer).with("WG_COLOR_MODE", "auto"));
            scenes.push(shown(line, answer).with("WG_HIDE_KEYS", "never"));
            scenes.push(shown(line, answer).with("WG_HIDE_KEYS", "Never"));
            scenes.push(shown(line, answer).with("WG_HIDE_KEYS", "always"));
        }
    }
    scenes.extend(times().chain(addresses()).chain(sizes()));
    stage.alike(&scenes);
}

/// Command lines that need no answer, or make no sense.
fn usage() -> Vec<Scene> {
    let lines = [
        "help",
        "-h",
        "--help",
        "help x",
        "--help x",
        "help help",
        "Show",
        "--",
        "-- show",
        "ÿ",
        "version x",
        "x",
        "''",
        "-v x",
        "show -h",
        "show --help",
        "show help",
        "show wgt0 peers x",
        "show all peers x",
        "show interfaces x",
        "show interfaces",
        "show wgt0 ''",
        "show wgt0 x",
        "show wgt0 ÿ",
        "show ÿ",
        "show all x",
        "show all ''",
        "show wgt0 Peers",
        "show none",
        "show none x",
        "show none peers",
        "show ''",
        "show a/b",
        "show ../x/wgt0",
        "show wgt0.sock",
        "show fifteenletters_",
        "showconf",
        "showconf a b",
        "showconf none",
        "showconf --help",
        "showconf ''",
        "genkey x",
        "genpsk --help",
        "pubkey x",
    ];
    lines.map(scene).into()
}

fn times() -> impl Iterator<Item = Scene> {
    let ages = [
        "{now}",
        "{now-1}",
        "{now-2}",
        "{now-59}",
        "{now-60}",
        "{now-61}",
        "{now-3600}",
        "{now-86399}",
        "{now-86400}",
        "{now-31535999}",
        "{now-31536000}",
        "{now-63158401}",
        "{now+2}",
        "{now+100000}",
        "1",
        "0",
        "9223372036854775807",
    ];
    ages.into_iter().flat_map(|age| {
        let answer = peer(&format!("last_handshake_time_sec={age}\nlast_handshake_time_nsec=7"));
        [
            shown("show wgt0", &answer),
            shown("show wgt0", &answer).with("WG_COLOR_MODE", "always"),
            shown("show wgt0 latest-handshakes", &answer),
        ]
    })
}

fn addresses() -> impl Iterator<Item = Scene> {
    let prefixes = [
        "0.0.0.0/0",
        "255.255.255.255/32",
        "10.1.2.3/32",
        "::/0",
        "::1/128",
        "::0.1.0.2/128",
        "::1.2.3.4/128",
        "::ffff:1.2.3.4/128",
        "::ffff:0:0/96",
        "::1:0:0/96",
        "1::/16",
        "2001:db8:0:1:1:1:1:1/128",
        "2001:db8:0:0:1:0:0:1/128",
        "2001:DB8::A/128",
        "64:ff9b::1.2.3.4/128",
        "1:2:3:4:5:6:7:8/128",
        "0:0:1::/48",
    ];
    let prefixes = prefixes.map(|prefix| format!("allowed_ip={prefix}"));
    let endpoints = [
        "1.2.3.4:0",
        "[::]:1",
        "[::1]:65535",
        "[::1.2.3.4]:5",
        "[::ffff:1.2.3.4]:5",
        "[fe80::1]:1",
        "[fe80::1%1]:1",
        "[fe80::1%lo]:1",
        "[fe80::1%77]:1",
        "[ff02::1%lo]:1",
        "[2001:db8::1%1]:1",
        "[ff01::1%1]:1",
        "::1:5",
    ];
    let endpoints = endpoints.map(|endpoint| format!("endpoint={endpoint}"));
    prefixes.into_iter().chain(endpoints).flat_map(|line| {
        let answer = peer(&line);
        ["show wgt0", "show wgt0 dump", "showconf wgt0"].map(|line| shown(line, &answer))
    })
}

fn sizes() -> impl Iterator<Item = Scene> {
    let sizes: [u64; 14] = [
        1,
        1023,
        1024,
        1025,
        1536,
        10239,
        1_048_575,
        1_048_576,
        1_053_818,
        1_073_741_823,
        1_099_511_627_775,
        1_099_511_627_776,
        1_125_899_906_842_624,
        u64::MAX,
    ];
    sizes.into_iter().flat_map(|size| {
        let answer = peer(&format!("rx_bytes={size}\ntx_bytes={}", size / 3));
        let keepalive = peer(&format!("persistent_keepalive_interval={}", size % 65536));
        [
            shown("show wgt0", &answer),
            shown("show wgt0", &answer).with("WG_COLOR_MODE", "always"),
            shown("show wgt0 transfer", &answer),
            shown("show wgt0", &keepalive),
            shown("show wgt0 persistent-keepalive", &keepalive),
        ]
    })
}

/// What is no answer to `get`, or one that makes no sense.
pub fn broken_answers(stage: &Stage) {
    let key = PUBLIC[0];
    let answers = [
        "",
        "\n",
        "errno=0",
        "errno=0\n",
        "listen_port=1\n\n",
        "errno=22\n\n",
        "errno=1\n\n",
        "errno=-22\n\n",
        "errno=x\n\n",
        "errno=\n\n",
        "errno=2147483648\n\n",
        "errno=9999\n\n",
        "listen_port=65536\nerrno=0\n\n",
        "listen_port=-1\nerrno=0\n\n",
        "listen_port=\nerrno=0\n\n",
        "listen_port=1x\nerrno=0\n\n",
        "listen_port\nerrno=0\n\n",
        "fwmark=4294967296\nerrno=0\n\n",
        "fwmark=0x1\nerrno=0\n\n",
        "fwmark=0\nerrno=0\n\n",
        "private_key=12\nerrno=0\n\n",
        "unknown=1=2\nerrno=0\n\n",
        "=\nerrno=0\n\n",
        "preshared_key=x\nerrno=0\n\n",
        "errno=0\nlisten_port=7\n\n",
        "errno=0\nerrno=5\n\n",
        "errno=0\n\nmore\n",
    ];
    let peers = [
        "preshared_key=12",
        "persistent_keepalive_interval=65536",
        "allowed_ip=10.0.0.0",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=10.0.0.0/",
        "allowed_ip=10.0.0.0/8x",
        "allowed_ip=::/129",
        "allowed_ip=x/1",
        "last_handshake_time_sec=x",
        "rx_bytes=-1",
        "public_key=zz",
        "private_key=zz",
        "listen_port=zz",
        "endpoint=",
        "endpoint=[::1]",
        "endpoint=[::1:5",
        "endpoint=1.2.3.4",
    ];
    let peers = peers.map(|line| format!("public_key={key}\n{line}\nerrno=0\n\n"));
    let answers = answers.map(str::to_owned).into_iter().chain(peers);
    let scenes = answers.flat_map(|answer| {
        ["show wgt0", "show wgt0 dump", "show", "showconf wgt0"].map(|line| shown(line, &answer))
    });
    stage.alike(&scenes.collect::<Vec<_>>());
}

/// Several interfaces, of which some cannot be shown.
pub fn several(stage: &Stage) {
    let lines = ["", "show", "show all", "show interfaces", "show all dump", "show all x"];
    let play = |answer: &str| {
        // Both find the socket that was left behind, and remove it.
        for line in lines {
            for stale in [false, true] {
                if stale {
                    leave_behind("stale");
                }
                stage.alike(&[shown(line, answer)]);
            }
        }
    };
    play(&full());
    stage.serve("wgt1", Arc::new(Mutex::new(Answers { get: full(), ..Answers::default() })));
    play(&full());
    play("errno=13\n\n");
    stage.serve("wgt2", Arc::new(Mutex::new(Answers::default())));
    pretend("file");
    play(&full());
    play("errno=13\n\n");
    stage.alike(&["show file", "show stale", "showconf file"].map(scene));
    for line in ["show stale", "showconf stale", "set stale fwmark 1", "set file fwmark 1"] {
        leave_behind("stale");
        stage.alike(&[scene(line)]);
    }
    fs::remove_file(socket("wgt0")).unwrap();
    stage.alike(&lines.map(scene));
    fs::remove_dir_all("/run/wireguard").unwrap();
    stage.alike(&lines.map(scene));
    stage.alike(&["show wgt0", "set wgt0 fwmark 1"].map(scene));
}

/// Somebody who may not ask everything.
pub fn strangers(stage: &Stage) {
    const NOBODY: u32 = 65534;
    let lines = [
        "show",
        "show wgt0",
        "show interfaces",
        "show all dump",
        "showconf wgt0",
        "set wgt0 fwmark 1",
        "set wgt0 private-key private",
        "setconf wgt0 file",
        "syncconf wgt0 file",
    ];
    for (name, content) in [("private", PRIVATE), ("file", "[Interface]\nListenPort = 1\n")] {
        stage.file(name, content);
        fs::set_permissions(name, Permissions::from_mode(0o600)).unwrap();
    }
    for (folder, socket) in [(0o755, 0o755), (0o755, 0o777), (0o711, 0o777), (0o744, 0o777), (0, 0)]
    {
        fs::set_permissions("/run/wireguard", Permissions::from_mode(folder)).unwrap();
        fs::set_permissions(self::socket("wgt0"), Permissions::from_mode(socket)).unwrap();
        stage.alike(&lines.map(|line| scene(line).told(&full()).by(NOBODY)));
    }
}
