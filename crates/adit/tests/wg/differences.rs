//! Where we are not like a `wg`, and why. Everything else is alike.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use adit_tests::tools::Version;
use serde_json::Value;

use crate::set::A;
use crate::show::{PUBLIC, full};
use crate::stage::{OURS, Scene, Seen, Stage, scene};

/// Why, if the newest does as ours.
const OF_2026: &str = "wireguard-tools 1.0.20260223 does so";

/// Why, for which scene, and a text that only theirs or only ours shows (none if it is empty).
type Difference = (&'static str, Scene, &'static str, &'static str);

fn table() -> Vec<Difference> {
    let [a, b, ..] = PUBLIC;
    let two = format!(
        "public_key={a}\npreshared_key={a}\npersistent_keepalive_interval=5\n\
         public_key={b}\nerrno=0\n\n"
    );
    let told = |line: &str| format!("public_key={a}\n{line}\nerrno=0\n\n");
    let peer = |words: &str| scene(&format!("set wgt0 peer {A} {words}"));
    let file = |text: &str| {
        scene("addconf wgt0 /dev/stdin").reading(format!("[Peer]\nPublicKey={A}\n{text}\n"))
    };
    let wraps = "a port that is too large must not become another one";
    vec![
        (OF_2026, scene("--version"), "v1.0.20210914 - ", "v1.0.20260223 - "),
        (OF_2026, scene("-v"), "v1.0.20210914 - ", "v1.0.20260223 - "),
        (
            OF_2026,
            scene("set"),
            "[allowed-ips <ip1>",
            "[allowed-ips [+|-]<ip1>/<cidr1>[,[+|-]<ip2>",
        ),
        (OF_2026, peer("allowed-ips +10.0.0.0/8"), "`+10.0.0.0'", "bd6c\nallowed_ip=10.0.0.0/8\n"),
        (OF_2026, peer("allowed-ips -::/0"), "`-::'", "bd6c\nallowed_ip=-::/0\n\n"),
        (
            OF_2026,
            peer("allowed-ips ::/0,+::1"),
            "`+::1'",
            "bd6c\nallowed_ip=::/0\nallowed_ip=::1/128\n",
        ),
        (
            OF_2026,
            peer("allowed-ips -::1,::/0"),
            "`-::1'",
            "bd6c\nallowed_ip=-::1/128\nallowed_ip=::/0\n",
        ),
        (
            OF_2026,
            peer("allowed-ips +::1 allowed-ips ::2"),
            "`+::1'",
            "bd6c\nreplace_allowed_ips=true\n",
        ),
        (
            OF_2026,
            peer("allowed-ips ::2 allowed-ips +::1"),
            "`+::1'",
            "bd6c\nallowed_ip=::2/128\nall",
        ),
        (OF_2026, peer("allowed-ips ++::1"), "`++::1'", "Unable to parse IP address: `+::1'\n"),
        (OF_2026, peer("allowed-ips +"), "`+'", "Unable to parse IP address: `'\n"),
        (OF_2026, peer("allowed-ips -::1/64"), "`-::1'", "nonzero host part: ::1/64\n"),
        (OF_2026, peer("allowed-ips -::1/x"), "`-::1'", "not in the correct format: `::1/x'\n"),
        (
            OF_2026,
            file("AllowedIPs = +::1, -::2"),
            "`+::1'",
            "bd6c\nallowed_ip=::1/128\nallowed_ip=-",
        ),
        (
            OF_2026,
            file("AllowedIPs = +::1\nAllowedIPs = ::2"),
            "`+::1'",
            "bd6c\nreplace_allowed_ips",
        ),
        (OF_2026, scene("show all endpoints").told(&two), "\nkYlQ", "\nwgt0\tkYlQ"),
        (
            OF_2026,
            scene("syncconf wgt0 /dev/stdin")
                .reading(format!("[Peer]\nPublicKey={A}\n"))
                .told(&two),
            "bd6c\nreplace",
            "00\npersistent_keepalive_interval=0\nreplace",
        ),
        (OF_2026, scene("show averyveryverylongname"), "Protocol not", "File name too long\n"),
        (OF_2026, scene("show ../wireguard/wgt0 x"), "Protocol not", "File name too long\n"),
        (wraps, scene("set wgt0 listen-port 65536"), "listen_port=0", "ai_socktype: `65536'\n"),
        (wraps, scene("set wgt0 listen-port 70000"), "listen_port=4464", "ai_socktype: `70000'\n"),
        (wraps, peer("endpoint 1.2.3.4:65536"), "=1.2.3.4:0", "ai_socktype: `1.2.3.4:65536'\n"),
        (wraps, file("Endpoint = [::1]:99999"), "=[::1]:34463", "`[::1]:99999'\nConfiguration par"),
        (
            "a directory is no empty configuration, which would remove all peers",
            scene("setconf wgt0 /tmp"),
            "replace_peers=true",
            "fopen: Is a directory\n",
        ),
        (
            "a number that does not fit makes no sense, whatever it counts",
            scene("show wgt0").told(&told("rx_bytes=18446744073709551616")),
            "16777216.00 TiB received",
            "Unable to access interface: Protocol error\n",
        ),
        (
            "a daemon may tell a key that is not clamped: it is the same key",
            scene("show wgt0 private-key").told(&format!("private_key={a}\nerrno=0\n\n")),
            "4kH+nkDG",
            "4EH+nkDG",
        ),
        (
            "a daemon may tell host bits that mean nothing",
            scene("show wgt0").told(&told("allowed_ip=fe80::1/28")),
            "fe80::1/28",
            "fe80::/28",
        ),
        (
            "an endpoint that makes no sense is no reason to crash",
            scene("show wgt0").told(&told("endpoint=[::1%none]:1")),
            "None",
            "Unable to access interface: Protocol error\n",
        ),
    ]
}

pub fn scenes(stage: &Stage) {
    let transcript =
        |Seen { code, stdout, stderr, requests }| format!("{code:?}\n{stdout}{stderr}{requests}");
    for (why, scene, only_theirs, only_ours) in table() {
        if (why, stage.tools.version) == (OF_2026, Version::Of2026) {
            stage.alike(&[scene]);
            continue;
        }
        let [theirs, ours] = [stage.theirs(&scene), stage.ours(&scene)].map(transcript);
        let is_as_told = theirs.contains(only_theirs) && ours.contains(only_ours);
        assert!(is_as_told && theirs != ours, "{why}: {scene:?}\n{theirs}\n{ours}");
    }
}

/// What `wg` does not notice: that nobody will read what it writes.
pub fn full_disk(stage: &Stage) {
    for (program, expected) in [(&*stage.tools.wg(), 0), (Path::new(OURS), 1)] {
        for words in
            [&["wg", "help"][..], &["wg", "show", "interfaces"], &["wg", "showconf", "wgt0"]]
        {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let words = if expected == 0 { &words[1..] } else { words };
            stage.tell(&scene("").told("errno=0\n\n"));
            let output = Command::new(program).args(words).stdout(full).output().unwrap();
            assert_eq!(output.status.code(), Some(expected), "{program:?} {words:?}");
        }
    }
}

/// Ours only: JSON with all that upstream's script makes of the same state, and names of peers.
pub fn ours(stage: &Stage) {
    // Times that are the same whenever they are asked for.
    let full = full().replace("{now-", "17000").replace('}', "");
    let state = scene("show --json").told(&full);
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    stage.tell(&state);
    let script = stage.tools.wg_json();
    if fs::exists(&script).unwrap() {
        let path = format!("{}:/usr/bin:/bin", stage.tools.folder.display());
        let theirs = Command::new("bash").arg(script).env("PATH", path).output().unwrap().stdout;
        let ours = stage.ours(&state).stdout;
        assert_contains(&json(&ours), &json(&String::from_utf8(theirs).unwrap()));
    }
    fs::write("/etc/wireguard/wgt0.conf", format!("[Peer]\n# laptop\nPublicKey = {A}\n")).unwrap();
    let named = json(&stage.ours(&state).stdout);
    assert_eq!(named["wgt0"]["peers"][A]["name"], "laptop");
    assert_documented(&named["wgt0"]);
    assert_eq!(json(&stage.ours(&scene("show wgt0 --json").told(&full)).stdout), named);
    let broken = scene("show wgt0 --json").told("errno=13\n\n");
    assert_eq!(stage.ours(&broken).stderr, "Unable to access interface: Permission denied\n");

    let plain = scene("show wgt0")
        .told("public_key=PUBLIC\nerrno=0\n\n".replace("PUBLIC", PUBLIC[0]).as_str());
    let shown = |value| stage.ours(&plain.clone().with("WG_SHOW_NAMES", value)).stdout;
    assert!(shown("1").contains(&format!("peer: {A}\n  name: laptop\n  allowed ips: (none)\n")));
    assert_eq!(shown("0"), stage.theirs(&plain).stdout);

    let by_key = stage.ours(&scene(&format!("set wgt0 peer {A} remove")));
    assert_eq!(stage.ours(&scene("set wgt0 peer laptop remove")), by_key);
    assert!(by_key.requests.contains("remove=true"), "{by_key:?}");
    stage.alike(&[scene("set wgt0 peer desktop remove")]);
}

/// Every field, and those of its fields, has its place in the manual page.
fn assert_documented(fields: &Value) {
    const PAGE: &str = include_str!("../../share/man/wg.8");
    for (field, value) in fields.as_object().unwrap() {
        let is_there = [format!(".B {field}\n"), format!(".BR {field} ")];
        assert!(is_there.iter().any(|line| PAGE.contains(line)), "wg.8 says nothing of {field}");
        if field == "peers" {
            value.as_object().unwrap().values().for_each(assert_documented);
        }
    }
}

/// Every field of `part` is in `whole`, and the same.
fn assert_contains(whole: &Value, part: &Value) {
    match part {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, part)| assert_contains(&whole[name], part));
        }
        part => assert_eq!(whole, part),
    }
}

/// A terminal gets colours, whatever the program's file is called.
pub fn terminal(stage: &Stage) {
    fs::create_dir("bin").unwrap();
    std::os::unix::fs::symlink(OURS, "bin/wg").unwrap();
    let shown = |program: &Path| {
        stage.tell(&scene("").told("listen_port=1\nerrno=0\n\n"));
        let line = format!("{} show wgt0", program.display());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
        String::from_utf8(script.output().unwrap().stdout).unwrap()
    };
    assert_eq!(shown(Path::new("bin/wg")), shown(&stage.tools.wg()));
    assert!(
        shown(Path::new("bin/wg")).contains("\x1b[32m\x1b[1minterface\x1b[0m: \x1b[32mwgt0\x1b[0m")
    );
}

/// What it calls itself: as it was called, if that was `wg`.
pub fn names(_: &Stage) {
    for (words, expected) in [
        (&["wg", "x"][..], "Invalid subcommand: `x'\nUsage: adit wg <cmd> [<args>]\n"),
        (&["wg", "set"], "Usage: adit wg set <interface> "),
        (&["wg", "genkey", "x"], "Usage: adit wg genkey\n"),
        (&["wg", "showconf"], "Usage: adit wg showconf <interface>\n"),
    ] {
        let output = Command::new(OURS).args(words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(expected), "{words:?}: {stderr}");
        assert_eq!(output.status.code(), Some(1));
    }
    for command in ["genkey", "genpsk"] {
        let output = Command::new(OURS).args(["wg", command]).output().unwrap();
        assert_eq!((output.stdout.len(), output.status.code()), (45, Some(0)));
    }
}
