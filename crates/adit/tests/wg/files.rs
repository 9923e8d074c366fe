//! Scenes of `wg setconf`, `addconf` and `syncconf`.

use crate::set::{A, B, PRESHARED, PRIVATE};
use crate::show::PUBLIC;
use crate::stage::{Scene, Stage, scene};

/// Applies one file in all three ways.
fn applied(stage: &Stage, number: usize, content: impl AsRef<[u8]>) -> [Scene; 3] {
    let name = format!("{number}.conf");
    stage.file(&name, content);
    ["setconf", "addconf", "syncconf"].map(|command| scene(&format!("{command} wgt0 {name}")))
}

pub fn scenes(stage: &Stage) {
    let mut scenes: Vec<_> = [
        "setconf",
        "setconf wgt0",
        "setconf wgt0 a b",
        "setconf --help",
        "addconf",
        "syncconf x",
        "setconf wgt0 none",
        "addconf wgt0 none",
        "syncconf wgt0 none",
        "setconf wgt0 ''",
        "setconf wgt0 /dev/null",
        "addconf wgt0 /dev/null",
        "syncconf wgt0 /dev/null",
        "setconf none /dev/null",
        "addconf none /dev/null",
        "syncconf none /dev/null",
        "setconf a/b /dev/null",
        "setconf averyveryverylongname /dev/null",
    ]
    .map(scene)
    .into();
    let whole = format!(
        "# A comment\n[Interface]\nPrivateKey = {PRIVATE}\nListenPort = 51820\nFwMark = 0xca6c\n\n\
         [Peer]\nPublicKey = {A}\nPresharedKey = {PRESHARED}\nEndpoint = 192.0.2.1:51820 # here\n\
         AllowedIPs = 10.0.0.0/8, fd00::/8\nAllowedIPs=::/0\nPersistentKeepalive = 25\n\n\
         [Peer]\nPublicKey={B}\nEndpoint=[2001:db8::1]:1\n"
    );
    let spaced: String = whole.chars().flat_map(|c| [' ', c, '\t']).collect();
    let contents = [
        whole.clone(),
        whole.to_uppercase().replace(&A.to_uppercase(), A),
        whole.replace('\n', "\r\n"),
        whole.replace("Peer", "pEER").replace("PublicKey", "publickey"),
        spaced.replace(" \n\t", "\n"),
        whole.trim_end().into(),
        format!("[Interface]\nListenPort=1\n[Peer]\nPublicKey={A}\n[Interface]\nListenPort=2\n"),
        format!("[Peer]\nPublicKey={A}\n[Interface]\nFwMark=1\n"),
        format!("[Peer]\nPublicKey={A}\n[Peer]\nPublicKey={A}\nAllowedIPs=10.0.0.0/8\n"),
        format!("[Peer]\nPublicKey={A}\nPublicKey={B}\n"),
        format!("[Peer]\nAllowedIPs=10.0.0.0/8\nPublicKey={A}\nPersistentKeepalive=off\n"),
        "[Interface]\n".into(),
        format!("[Interface]\nPrivateKey={}=\n", "A".repeat(43)),
        "[Interface]\nFwMark=off\nListenPort=domain\n".into(),
        "\n \n\t\n#\n # [x\n\0[x\n".into(),
    ];
    scenes.extend(contents.iter().enumerate().flat_map(|(i, text)| applied(stage, i, text)));
    scenes
        .extend(odd_bytes().iter().enumerate().flat_map(|(i, text)| applied(stage, 300 + i, text)));
    scenes.extend(bad_lines(stage));
    for command in ["setconf", "addconf", "syncconf"] {
        scenes.push(scene(&format!("{command} wgt0 /dev/stdin")).reading(&whole));
        scenes.push(scene(&format!("{command} wgt0 /dev/stdin")));
        scenes.push(scene(&format!("{command} wgt0 0.conf")).answered("errno=-22\n\n"));
        scenes.push(scene(&format!("{command} wgt0 0.conf")).told("errno=13\n\n"));
        scenes.push(scene(&format!("{command} wgt0 0.conf")).told(""));
        scenes.push(scene(&format!("{command} none 0.conf")));
    }
    stage.alike(&scenes);
}

/// What no editor would write.
fn odd_bytes() -> Vec<Vec<u8>> {
    let interface = |line: &[u8]| [b"[Interface]\n", line, b"\nListenPort=9\n"].concat();
    let long = |byte: &[u8]| byte.repeat(200_000);
    vec![
        [b"\xef\xbb\xbf", &interface(b"FwMark=1")[..]].concat(),
        interface(b"FwMark=1\rFwMark=2"),
        interface(b"FwMark\x0b=\x0c1"),
        interface(b"FwMark=1 FwMark=2"),
        interface(b"FwMark=1\\"),
        interface(b"FwMark=1\0FwMark=2"),
        interface(b"\0FwMark=1"),
        interface(b"\xffFwMark=1"),
        interface(b"FwMark=\xff"),
        interface(&[b"FwMark=", &long(b"0")[..], b"1"].concat()),
        interface(&[b"FwMark=1#", &long(b"x")[..]].concat()),
        interface(&[b"FwMark=1", &long(b" ")[..]].concat()),
        interface(&long(b"\n")),
        long(b"["),
        long(b"\0"),
        b"[Interface][Peer]\nFwMark=1\n".to_vec(),
        b"[Inter face]\nFwMark=1\n".to_vec(),
        b"[Interface] FwMark=1\n".to_vec(),
    ]
}

/// Each in a section of its own.
fn bad_lines(stage: &Stage) -> Vec<Scene> {
    let interface = [
        "x",
        "=",
        "ListenPort",
        "ListenPort=",
        "ListenPort = # 1",
        "=1",
        "Listen Port = 1",
        "ListenPort: 1",
        "ListenPort=x",
        "FwMark=x",
        "FwMark=0X1",
        "PrivateKey=x",
        &format!("PrivateKey={PRIVATE}x"),
        &format!("PrivateKey={}", PUBLIC[0]),
        "Address=10.0.0.1/8",
        "DNS=1.1.1.1",
        "MTU=1420",
        "PublicKey=x",
        "AllowedIPs=10.0.0.0/8",
        "Table=off",
        "[Interface",
        "Interface]",
        "[Interfaces]",
        "[]",
        "[Peer] x",
        "; comment",
        "// comment",
        "ListenPort=1=2",
        "Jc=1",
        "\u{fc}=1",
        "ListenPort\0=1",
    ];
    let peer = [
        "Endpoint=",
        "Endpoint=x",
        "Endpoint=x:",
        "Endpoint=[::1",
        "Endpoint=nowhere:",
        "PresharedKey=x",
        "AllowedIPs=",
        "AllowedIPs=x",
        "AllowedIPs=10.0.0.0/8,",
        "AllowedIPs=10.0.0.1/8",
        "AllowedIPs=10.0.0.1/8,x",
        "AllowedIPs=10.0.0.0/33",
        "PersistentKeepalive=x",
        "PersistentKeepalive=65536",
        "PersistentKeepalive=off",
        "PublicKey=x",
        "ListenPort=1",
        "PrivateKey=x",
        "Name=x",
        "AllowedIP=10.0.0.0/8",
    ];
    let interface = interface.iter().map(|line| format!("[Interface]\n{line}\nFwMark=9\n"));
    let peer = peer.iter().map(|line| format!("[Peer]\nPublicKey={A}\n{line}\n"));
    let others = [
        "ListenPort=1\n".to_owned(),
        "x\n".into(),
        "[Peer]\n".into(),
        format!("[Peer]\nPublicKey={A}\n[Peer]\n"),
        format!("[Peer]\n[Peer]\nPublicKey={A}\n"),
        "[Peer]\nAllowedIPs=10.0.0.1/8\nx\n".into(),
    ];
    let contents = interface.chain(peer).chain(others);
    contents.enumerate().flat_map(|(i, text)| applied(stage, 100 + i, text)).collect()
}

/// What `syncconf` makes of what is there already.
pub fn synchronised(stage: &Stage) {
    let [a, b, c, d] = PUBLIC;
    let states = [
        "errno=0\n\n".to_owned(),
        format!("private_key={c}\nlisten_port=1\nfwmark=2\nerrno=0\n\n"),
        format!("public_key={a}\nerrno=0\n\n"),
        format!("public_key={a}\nendpoint=1.2.3.4:5\nerrno=0\n\n"),
        format!("public_key={a}\npreshared_key={}\nerrno=0\n\n", "0".repeat(64)),
        format!("public_key={d}\npublic_key={c}\npublic_key={b}\nerrno=0\n\n"),
        format!("public_key={c}\nallowed_ip=10.0.0.0/8\npublic_key={d}\nerrno=0\n\n"),
    ];
    let files = [
        String::new(),
        "[Interface]\nListenPort=7\n".into(),
        format!("[Peer]\nPublicKey={A}\n"),
        format!("[Peer]\nPublicKey={A}\nPresharedKey={PRESHARED}\nPersistentKeepalive=9\n"),
        format!("[Peer]\nPublicKey={A}\nAllowedIPs=10.0.0.0/8\n[Peer]\nPublicKey={B}\n"),
        format!("[Peer]\nPublicKey={A}\n[Peer]\nPublicKey={A}\nPresharedKey={PRESHARED}\n"),
    ];
    let mut scenes = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let [_, _, syncconf] = applied(stage, i, file);
        scenes.extend(states.iter().map(|state| syncconf.clone().told(state)));
    }
    stage.alike(&scenes);
}
