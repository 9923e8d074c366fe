//! Configuration files: every reader of one, and that they agree.

use std::io::Read;

use config::file::{Extensions, Severity, Surroundings, check, explain, follow, tidy};
use config::quick::File;
use config::uapi::{Request, Requests};
use config::wg::{Mode, from_file, peer_names, write_settings};

use super::words::Willing;

pub fn run(bytes: &[u8]) {
    let around = Surroundings::default();
    let problems = check(bytes, &around);
    let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(problems.iter().all(|problem| (0..=lines).contains(&problem.line)));
    drop(explain(bytes, &around));
    drop(Extensions::parse(bytes));
    drop(peer_names(&String::from_utf8_lossy(bytes)));
    if let Ok(tidied) = tidy(bytes) {
        let again = tidy(&tidied).expect("what is tidy can be tidied");
        assert_eq!(*again, *tidied, "tidied twice it is something else");
        let before = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        let after = check(&tidied, &around);
        let after = after.iter().filter(|problem| problem.severity == Severity::Error).count();
        assert_eq!(before, after, "tidying has changed what is wrong");
    }
    let is_sound = problems.iter().all(|problem| problem.severity != Severity::Error);
    let quick = File::parse(bytes);
    assert!(quick.is_ok() || !is_sound, "no error was found, but wg-quick finds one");
    for (content, mode) in
        [(quick.as_ref().map_or(bytes, |it| &it.rest), Mode::Append), (bytes, Mode::Replace)]
    {
        let settings = from_file(content, mode, &mut Willing);
        assert!(settings.is_ok() || !is_sound || mode == Mode::Replace, "no error but wg's");
        if let Ok(settings) = settings {
            // Whatever is understood can be said to a daemon, which understands it.
            let mut request = Vec::new();
            write_settings(&mut request, &settings, |_| None).expect("a vector takes everything");
            let heard: Vec<_> = Requests::new(request.as_slice().take(1 << 30), |_| None).collect();
            let [Ok(Request::Set(change))] = heard.as_slice() else { panic!("{heard:?}") };
            assert_eq!(change.peers.len(), settings.peers.len());
        }
    }
    if let Some(followed) = follow(bytes, &Default::default(), |_| None) {
        assert!(follow(&followed, &Default::default(), |_| None).is_none(), "it says so already");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    const KEYS: [&str; 3] = [
        "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=",
        "kYlQj78geDqd4w14Zf82eOjJPCeNqDeOsanqN2AFuzo=",
        "089pIdFJufCU8IIwrpqGtpopdocCh6uWqD06JXpwr5o=",
    ];
    let [own, ann, bob] = KEYS;
    [
        format!("[Interface]\nPrivateKey = {own}\n[Peer]\nPublicKey = {ann}\nAllowedIPs = ::/0\n"),
        format!(
            "# top\n[Interface]\nPrivateKey = {own}\nAddress = 10.0.0.2/24, fd00::2/64\nDNS = 10.0.0.1 \
             lan\nMTU = 1420\nTable = off\nPostUp = echo a,b  # c\nPreDown=x\nSaveConfig = true\n\
             ListenPort = 51820\nFwMark = 0xca6c\n#! ExcludeIPs = lan, 10.0.0.0/8\n#! Guard = off\n\n\
             # ann\n[Peer]\nPublicKey = {ann}\nPresharedKey = {bob}\nAllowedIPs = 10.0.0.7,::/0\n\
             PersistentKeepalive = 25\n### end ann ###\n### begin bob ###\n[Peer]\nPublicKey = {bob}\n\
             Endpoint = [fe80::1%eth0]:1\nAllowedIPs = -10.0.0.9/32, +10.0.0.8\n#! Name = x\n"
        ),
        "[Interface]\r\nlistenport=1\r\n#friendly_name = a\r\n[Peer]\r\npublickey=\r\n".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}
