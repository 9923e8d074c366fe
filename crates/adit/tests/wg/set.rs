//! Scenes of `wg set`.

use std::fs;
use std::process::Command;

use crate::show::PUBLIC;
use crate::stage::{Scene, Stage, scene};

/// Two public keys and others in base64; one is not clamped.
pub const A: &str = "4kH+nkDGqDuwhJlpehu6pLmDEVE/mwg0u6VqSTXqvWw=";
pub const B: &str = "kYlQj78geDqd4w14Zf82eOjJPCeNqDeOsanqN2AFuzo=";
pub const PRIVATE: &str = "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=";
pub const PRESHARED: &str = "089pIdFJufCU8IIwrpqGtpopdocCh6uWqD06JXpwr5o=";

/// `wg set wgt0` with a setting of the interface.
fn interface(name: &str, values: &[&str]) -> Vec<Scene> {
    values.iter().map(|value| scene(&format!("set wgt0 {name} {value}"))).collect()
}

/// `wg set wgt0 peer A` with a setting of the peer.
fn peer(name: &str, values: &[&str]) -> Vec<Scene> {
    values.iter().map(|value| scene(&format!("set wgt0 peer {A} {name} {value}"))).collect()
}

pub fn scenes(stage: &Stage) {
    write_key_files(stage);
    let mut scenes = usage();
    scenes.extend(interface(
        "listen-port",
        &[
            "0", "1", "51820", "65535", "00080", "domain", "''", "x", "-1", "+80", "~80", "80~",
            "0x50", "51820x", "http",
        ],
    ));
    scenes.extend(interface(
        "fwmark",
        &[
            "0",
            "off",
            "OFF",
            "oFf",
            "1",
            "0x1",
            "0xca6c",
            "0xCAFE",
            "0xffffffff",
            "4294967295",
            "4294967296",
            "0x100000000",
            "99999999999999999999999",
            "010",
            "0X1",
            "0x",
            "0xg",
            "''",
            "x",
            "-1",
            "+1",
            "~1",
            "1~",
            "offf",
            "of",
            "0x0x1",
            "0x-1",
            "00000000000000000000001",
        ],
    ));
    scenes.extend(interface("private-key", &KEY_FILES));
    scenes.extend(peer("preshared-key", &KEY_FILES));
    scenes.extend(peer(
        "persistent-keepalive",
        &["0", "off", "Off", "1", "25", "65535", "65536", "025", "''", "x", "-1", "0x19", "25s"],
    ));
    let endpoints = peer("endpoint", &ENDPOINTS).into_iter();
    scenes.extend(endpoints.map(|scene| scene.with("WG_ENDPOINT_RESOLUTION_RETRIES", "0")));
    scenes.extend(peer("allowed-ips", &ALLOWED_IPS));
    scenes.extend(keys());
    stage.alike(&scenes);
}

/// How words may be put together, and what the interface may answer.
fn usage() -> Vec<Scene> {
    let lines = [
        "set wgt0 ''".to_owned(),
        "set wgt0 x".into(),
        "set wgt0 listen-port".into(),
        "set wgt0 fwmark".into(),
        "set wgt0 private-key".into(),
        "set wgt0 peer".into(),
        "set wgt0 remove".into(),
        "set wgt0 allowed-ips 10.0.0.0/8".into(),
        "set wgt0 Listen-Port 1".into(),
        "set wgt0 fwmark 1 listen-port 2 fwmark 3".into(),
        "set none fwmark 1".into(),
        "set a/b fwmark 1".into(),
        "set '' fwmark 1".into(),
        "set wgt0.sock fwmark 1".into(),
        "set averyveryverylongname fwmark 1".into(),
        format!("set wgt0 peer {A}"),
        format!("set wgt0 peer {A} x"),
        format!("set wgt0 peer {A} remove"),
        format!("set wgt0 peer {A} remove allowed-ips 10.0.0.0/8 endpoint 1.2.3.4:5"),
        format!("set wgt0 peer {A} fwmark 1"),
        format!("set wgt0 peer {A} endpoint"),
        format!("set wgt0 peer {A} allowed-ips"),
        format!("set wgt0 peer {A} preshared-key"),
        format!("set wgt0 peer {A} persistent-keepalive"),
        format!("set wgt0 peer {A} peer {B} remove peer {A}"),
        format!("set wgt0 peer {A} allowed-ips 10.0.0.0/8 allowed-ips 11.0.0.0/8"),
        format!("set wgt0 peer {A} allowed-ips 10.0.0.0/8 allowed-ips ''"),
        format!("set wgt0 peer {A} allowed-ips '' allowed-ips ::/0"),
        format!("set wgt0 peer {A} endpoint 1.2.3.4:5 endpoint [::1]:6"),
        format!("set wgt0 peer {A} persistent-keepalive 7 persistent-keepalive off"),
        format!("set wgt0 peer {A} preshared-key preshared preshared-key empty"),
        format!("set wgt0 peer {A} remove remove"),
        format!("set wgt0 peer {A} remove x"),
        format!("set none peer {A} allowed-ips x"),
        "set wgt0 private-key private private-key empty".into(),
        "set wgt0 listen-port 1 listen-port x".into(),
        "set wgt0 ÿ".into(),
        "set wgt0 peer ÿ".into(),
        "set wgt0 fwmark ÿ".into(),
        "set wgt0 listen-port ÿ".into(),
        "set wgt0 private-key ÿ".into(),
        format!("set wgt0 peer {A} allowed-ips ÿ/8"),
        format!("set wgt0 peer {A} endpoint ÿ:1"),
        format!("set wgt0 peer {A} endpoint 1.2.3.4:ÿ"),
        format!(
            "set wgt0 listen-port 1 fwmark 2 private-key private peer {A} preshared-key preshared \
             endpoint [::1]:3 persistent-keepalive 4 allowed-ips 5.0.0.0/8 peer {B} allowed-ips ::/0"
        ),
    ];
    let answers = [
        "",
        "\n",
        "errno=0",
        "errno=0\n",
        "errno=1\n\n",
        "errno=-1\n\n",
        "errno=-22\n\n",
        "errno=-98\n\n",
        "errno=22\n\n",
        "errno=\n\n",
        "errno=x\n\n",
        "errno=-9999\n\n",
        "x=1\nerrno=0\n\n",
        "errno=-5\nerrno=0\n\n",
        "errno=2147483648\n\n",
        "hello\n\n",
    ];
    let answered = answers.map(|answer| scene("set wgt0 fwmark 1").answered(answer));
    let lines = lines.iter().map(|line| scene(line));
    // For the one name in them.
    let lines = lines.map(|scene| scene.with("WG_ENDPOINT_RESOLUTION_RETRIES", "0"));
    lines.chain(answered).collect()
}

fn keys() -> Vec<Scene> {
    let keys = [
        "",
        "x",
        "AAAA",
        &A.replace("Ww=", "Wx="),
        &A.replace('=', ""),
        &A.replace('=', "=="),
        &A.replace('+', "-"),
        &A.replace('+', "~"),
        &format!("~{A}"),
        &format!("{A}~"),
        &A.replace('=', "A"),
        PUBLIC[0],
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ];
    keys.map(|key| scene(&format!("set wgt0 peer {}", if key.is_empty() { "''" } else { key })))
        .into()
}

/// Files that [`write_key_files`] makes, and others.
const KEY_FILES: [&str; 22] = [
    "private",
    "preshared",
    "newline",
    "space",
    "empty",
    "short",
    "trailing",
    "late",
    "zero",
    "zeros",
    "leading",
    "noncanonical",
    "inside",
    "long",
    "none",
    "''",
    "/dev/null",
    "/dev/zero",
    "directory",
    "/dev/stdin",
    "forbidden/key",
    "unterminated",
];

fn write_key_files(stage: &Stage) {
    for (name, content) in [
        ("private", format!("{PRIVATE}\n")),
        ("preshared", format!("{PRESHARED}\n")),
        ("newline", "\n".into()),
        ("space", format!("{PRIVATE} \t\r\n\n\x0b\x0c")),
        ("empty", String::new()),
        ("short", "AAAA\n".into()),
        ("trailing", format!("{PRIVATE}x\n")),
        ("late", format!("{PRIVATE}\n\n #\n")),
        ("zero", format!("{PRIVATE}\0")),
        ("zeros", "\0".repeat(50)),
        ("leading", format!(" {PRIVATE}\n")),
        ("noncanonical", PRIVATE.replace("kc=", "kd=")),
        ("inside", PRIVATE.replace('+', "\0").replace("gJn", "g\0n")),
        ("long", PRIVATE.repeat(3)),
        ("unterminated", PRIVATE.into()),
    ] {
        stage.file(name, content);
    }
    fs::create_dir("directory").unwrap();
    fs::write("forbidden", "").unwrap();
}

/// What comes through a pipe: it cannot be told from a file that ends early.
pub fn pipes(stage: &Stage) {
    let [private, preshared] = [PRIVATE, PRESHARED].map(|key| format!("{key}\n"));
    let contents =
        [private.as_str(), PRIVATE, "", "\n", "AAAA", private.trim_end_matches("=\n"), "x"];
    let mut scenes = Vec::new();
    for content in contents {
        for line in ["set wgt0 private-key", &format!("set wgt0 peer {A} preshared-key")] {
            scenes.push(scene(&format!("{line} /dev/stdin")).reading(content));
        }
    }
    // The first takes it all.
    let line = format!("set wgt0 private-key /dev/stdin peer {A} preshared-key /dev/stdin");
    scenes.push(scene(&line).reading(private + &preshared));
    stage.alike(&scenes);
}

const ENDPOINTS: [&str; 40] = [
    "1.2.3.4:5",
    "1.2.3.4:0",
    "1.2.3.4:65535",
    "1.2.3.4:domain",
    "1.2.3.4:00005",
    "[::1]:5",
    "[2001:db8::1]:51820",
    "[::1.2.3.4]:5",
    "[::ffff:1.2.3.4]:5",
    "::1:51820",
    "[fe80::1%lo]:5",
    "[fe80::1%1]:5",
    "[fe80::1%99]:5",
    "[fe80::1]:5",
    "fe80::1%lo:5",
    "[fe80::1%none]:5",
    "[ff02::1%lo]:5",
    "[2001:db8::1%1]:5",
    "[2001:db8::1%lo]:5",
    "[1.2.3.4]:5",
    "''",
    ":",
    ":5",
    "1.2.3.4",
    "1.2.3.4:",
    "[::1]",
    "[::1]:",
    "[::1",
    "[::1]5",
    "[]:5",
    "[::1]:5:6",
    "[::1]]:5",
    "only4.test:5",
    "only6.test:5",
    "localhost:5",
    "ONLY4.TEST:5",
    "[only4.test]:5",
    "1.2:5",
    "0x7f.1:5",
    "~1.2.3.4:5",
];

const ALLOWED_IPS: [&str; 56] = [
    "''",
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.0.0.1",
    "fd00::1",
    "10.0.0.0/8,fd00::/8",
    "10.0.0.0/8,~fd00::/8",
    "~1~0.0.0.0/8~",
    "10.0.0.0/8,",
    ",10.0.0.0/8",
    ",",
    "10.0.0.0/8,,::/0",
    "10.0.0.1/8",
    "10.0.0.1/24",
    "10.0.0.255/31",
    "10.0.0.0/32",
    "10.0.0.0/33",
    "10.0.0.0/",
    "10.0.0.0/x",
    "10.0.0.0/-1",
    "10.0.0.0/+8",
    "10.0.0.0/8x",
    "10.0.0.0/8/8",
    "10.0.0.0/08",
    "10.0.0.1/08",
    "10.0.0.0/00000000000000000000008",
    "10.0.0.0/99999999999999999999",
    "10.0.0.0/0x8",
    "010.0.0.0/8",
    "10.0.0/8",
    "10.0.0.256/8",
    "10.0.0.0.0/8",
    "/8",
    "x",
    "x/8",
    "::1/64",
    "::/128",
    "::/129",
    "::1",
    "::1.2.3.4/128",
    "::ffff:1.2.3.4/96",
    "1::2::3/8",
    "fe80::1%lo/64",
    "12345::/16",
    "1:2:3:4:5:6:7:8/127",
    "1:2:3:4:5:6:7::/128",
    "[::1]/128",
    "FD00::A/128",
    "fd00::1/0",
    "1.2.3.4/0",
    "10.0.0.0/8,x",
    "10.0.0.1/8,10.0.0.2/8,x",
    "10.0.0.0/8,10.0.0.0/8",
    "10.0.0.0-10.0.0.9",
    "localhost",
];

/// Names that are not there, and resolvers that do not answer.
pub fn names(stage: &Stage) {
    // Only with an interface to ask through does the resolver try.
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.unwrap().success());
    let line = |endpoint: &str| scene(&format!("set wgt0 peer {A} endpoint {endpoint}"));
    let mut scenes = Vec::new();
    for retries in [
        "0",
        "''",
        "",
        "1x",
        "x",
        "-0",
        "-1",
        "+0",
        " 0",
        "Infinity",
        "infinity",
        "2147483647",
        "2147483648",
        "99999999999999999999",
        "00",
    ] {
        let retried = |scene: Scene| scene.with("WG_ENDPOINT_RESOLUTION_RETRIES", retries);
        scenes.push(retried(line("1.2.3.4:5")));
        scenes.push(retried(line("''")));
        scenes.push(retried(line("nothing")));
        scenes.push(retried(line(":1")));
        scenes.push(retried(scene("set wgt0 fwmark 1")));
    }
    for (endpoint, retries) in
        [("silent.test:1", "0"), ("silent.test:1", "1"), ("1.2.3.4:noservice", "2")]
    {
        scenes.push(line(endpoint).with("WG_ENDPOINT_RESOLUTION_RETRIES", retries));
    }
    stage.alike(&scenes);
}
