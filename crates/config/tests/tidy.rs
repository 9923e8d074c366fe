//! What `tidy` makes of a file, and that it means the same; and what `explain` says of one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod chance;

use config::file::{Extensions, Kind, Severity, Surroundings, check, explain, lines, tidy};
use config::quick::File;
use config::wg::peer_names;

const PRIVATE: &str = "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=";
const B: &str = "kYlQj78geDqd4w14Zf82eOjJPCeNqDeOsanqN2AFuzo=";
const A: &str = "089pIdFJufCU8IIwrpqGtpopdocCh6uWqD06JXpwr5o=";

fn tidied(text: &str) -> String {
    let text = tidy(text.as_bytes()).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
    String::from_utf8(text.to_vec()).unwrap()
}

#[test]
fn a_file_is_written_in_the_usual_way() {
    let file = "\n\n# home\r\n[INTERFACE]   # here\r\nprivatekey=k\r\n\r\n\r\n\r\nADDRESS=10.0.0.1/24,fd00::1/64 \
        10.0.0.2# two\n  dns = 1.1.1.1 ,  lan\npostup=echo  a,b # no comment  \n#!guard=off\n\
        #!ExcludeIPs=lan,10.0.0.0/8\n # bob\n[peer]\nPUBLICKEY=k==\nallowedips=10.0.0.1/32,::1/128\n\
        [Peer]\nendpoint =  Host.Example:5\nmtu=\n# end\n\n\n";
    let expected = "# home\n[Interface] # here\nPrivateKey = k\n\nAddress = 10.0.0.1/24, fd00::1/64, \
        10.0.0.2 # two\nDNS = 1.1.1.1, lan\nPostUp = echo  a,b # no comment\n#! Guard = off\n\
        #! ExcludeIPs = lan, 10.0.0.0/8\n# bob\n[Peer]\nPublicKey = k==\nAllowedIPs = 10.0.0.1/32, \
        ::1/128\n\n[Peer]\nEndpoint = Host.Example:5\nMTU =\n# end\n";
    assert_eq!(tidied(file), expected);
    assert_eq!(tidied(expected), expected);
    assert_eq!(tidied(""), "");
    assert_eq!(tidied("\n\n"), "");
    assert_eq!(tidied("[Peer]\nAllowedIPs = , \n"), "[Peer]\nAllowedIPs = ,\n");
}

#[test]
fn what_is_not_understood_is_left_alone() {
    for (file, code) in [
        ("[Interface]\nx\n", "2 line-unknown"),
        ("[Interfaces]\n", "1 section-unknown"),
        ("[Interface]\nColour = red\n", "2 key-unknown"),
        ("[Interface]\n# a\0b\n", "2 zero-byte"),
        ("\u{feff}[Interface]\n", "1 byte-order-mark"),
    ] {
        let problems = tidy(file.as_bytes()).unwrap_err();
        let first = problems.first().map(|problem| format!("{} {}", problem.line, problem.code));
        assert_eq!(first.as_deref(), Some(code), "{file:?}");
    }
}

/// All that a file says to anybody.
fn sense(content: &[u8]) -> impl PartialEq + std::fmt::Debug {
    let quick = File::parse(content).ok().map(|file| {
        let hooks = [file.hooks.pre_up, file.hooks.post_up, file.hooks.pre_down];
        // For `wg` there is neither space nor comment nor case in the rest.
        let rest: Vec<_> =
            lines(&file.rest).filter(|line| !matches!(line.kind, Kind::Blank)).collect();
        let rest: Vec<_> = rest
            .iter()
            .map(|line| {
                let text = line.text.split(|&byte| byte == b'#').next().unwrap();
                let key = text.split(|&byte| byte == b'=').next().unwrap().len();
                let mut text = text.to_vec();
                text[..key].make_ascii_lowercase();
                text.retain(|byte| !byte.is_ascii_whitespace() && *byte != 0x0b);
                text
            })
            .filter(|text| !text.is_empty())
            .collect();
        (file.addresses, file.servers, file.search, file.mtu, file.table, hooks, file.save, rest)
    });
    let text = String::from_utf8_lossy(content);
    (quick, peer_names(&text), Extensions::parse(content).ok())
}

/// Whatever has become of the file, nobody sees much of its private key.
fn assert_no_secret(file: &[u8]) {
    let told = explain(file, &Surroundings::default());
    for (one, part) in told.iter().flat_map(|one| {
        PRIVATE.trim_end_matches('=').as_bytes().windows(20).map(move |it| (one, it))
    }) {
        let part = str::from_utf8(part).unwrap();
        assert!(!one.text.contains(part) && !one.meaning.contains(part), "{one:?}");
    }
}

/// Random edits of a file with everything in it: tidied it says the same, and is tidy.
#[test]
fn a_tidied_file_says_the_same() {
    let seed = format!(
        "# top\n[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.0.0.2/24, fd00::2/64\nDNS = 10.0.0.1 \
         lan\nMTU = 1420\nPostUp = echo a,b  # c\nPreDown=x\nSaveConfig = true\n#! ExcludeIPs = lan, \
         10.0.0.0/8\n#! Guard = off\n\n# ann\n[Peer]\nPublicKey = {A}\nAllowedIPs = 10.0.0.7,::/0\n### \
         end ann ###\n### begin bob ###\n[Peer]\nPublicKey = {B}\nEndpoint = a:1\n#! Name = x\n"
    );
    let pieces: &[&[u8]] = &[
        b"=",
        b"#",
        b"\n",
        b"\n\n",
        b"\r\n",
        b" ",
        b"\t",
        b"\x0b",
        b",",
        b"\n#",
        b":",
        b" # ",
        b"0",
        b"\n[Peer]\n",
        b"\n[interface]\n",
        b"off",
        b"#!",
        b"\nPostUp=",
        b"\nAllowedIPs=",
        b", ,",
    ];
    let mut random = chance::numbers(0x2545_f491_4f6c_dd1d);
    let mut tidied = 0;
    for round in 0..20_000 {
        let mut file = seed.clone().into_bytes();
        for _ in 0..=random(4) {
            let at = random(file.len());
            let end = (at + random(3)).min(file.len());
            file.splice(at..end, pieces[random(pieces.len())].iter().copied());
        }
        assert_no_secret(&file);
        let Ok(tidy_file) = tidy(&file) else { continue };
        tidied += 1;
        let shown = String::from_utf8_lossy(&file);
        assert_eq!(sense(&tidy_file), sense(&file), "{round}: {shown}");
        assert_eq!(*tidy(&tidy_file).unwrap(), *tidy_file, "{round}: {shown}");
    }
    println!("{tidied} files were tidied");
    assert!(tidied > 4_000, "{tidied}");
}

#[test]
fn bytes_that_are_no_file_at_all_are_no_trouble() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    for _ in 0..2_000 {
        let file: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let byte = (state >> 56) as u8;
                // Line ends, so that there are lines.
                if byte < 24 { b'\n' } else { byte }
            })
            .collect();
        let count = lines(&file).count();
        assert_eq!(explain(&file, &Surroundings::default()).len(), count);
        drop(tidy(&file));
        drop(Extensions::parse(&file));
    }
}

#[test]
fn a_file_in_utf_16_is_called_so_and_no_key_in_it_is_shown() {
    let file = format!("[Interface]\nPrivateKey = {PRIVATE}\n");
    for mark in ["", "\u{feff}"] {
        let units = format!("{mark}{file}").encode_utf16().collect::<Vec<_>>();
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = units.iter().flat_map(|unit| order(*unit)).collect();
            let around = Surroundings::default();
            let problems = check(&bytes, &around);
            if !mark.is_empty() {
                let expected = "the file is UTF-16, as PowerShell writes it, which no tool here \
                                understands; save it as UTF-8";
                assert_eq!(
                    problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    [expected]
                );
                assert_eq!(tidy(&bytes).map_err(|problems| problems.len()).unwrap_err(), 1);
            }
            let said = problems.iter().map(ToString::to_string);
            let said =
                said.chain(explain(&bytes, &around).into_iter().map(|it| it.text + &it.meaning));
            let seen: String = said.collect::<String>().replace(['\0', '\u{fffd}'], "");
            assert!(!seen.contains(PRIVATE.get(..10).unwrap()), "{seen}");
        }
    }
}

#[test]
fn every_line_is_explained() {
    let file = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.0.0.2/24, fd00::2\nDNS = 10.0.0.1, lan\n\
         \n# a remark\n#! Guard = off\nMTUU = 5\n[Peer]\nPublicKey = {A}\nAllowedIPs = 0.0.0.0/0, \
         10.9.0.1\nEndpoint = vpn.example:51820\nPersistentKeepalive = 25\n{PRIVATE}\n"
    );
    let found = explain(file.as_bytes(), &Surroundings::default());
    let told: Vec<_> = found.iter().map(|one| (one.text.as_str(), one.meaning.as_str())).collect();
    let public_key = format!("PublicKey = {A}");
    assert_eq!(
        told,
        [
            ("[Interface]", "this machine's end of the tunnel"),
            (
                "PrivateKey = (hidden)",
                "the secret that proves who this machine is; the public key to it, for the peers: \
                 4kH+nkDGqDuwhJlpehu6pLmDEVE/mwg0u6VqSTXqvWw="
            ),
            (
                "Address = 10.0.0.2/24, fd00::2",
                "this machine is 10.0.0.2 in 10.0.0.0/24; this machine is fd00::2"
            ),
            (
                "DNS = 10.0.0.1, lan",
                "names are asked of 10.0.0.1; short names are looked for in lan"
            ),
            ("", ""),
            ("# a remark", "a remark"),
            ("#! Guard = off", "packets may leave beside a full tunnel"),
            ("MTUU = 5", "there is no key `MTUU'; did you mean `MTU'?"),
            ("[Peer]", "another end of the tunnel: a peer"),
            (&public_key, "who the peer is: whoever has the private key to this"),
            (
                "AllowedIPs = 0.0.0.0/0, 10.9.0.1",
                "all of IPv4 goes to this peer; 10.9.0.1 is behind this peer; warning: all of IPv4 \
                 goes into the tunnel, and IPv6 passes beside it; add ::/0"
            ),
            (
                "Endpoint = vpn.example:51820",
                "the peer is called at UDP port 51820 of vpn.example, whose address is looked up \
                 first"
            ),
            (
                "PersistentKeepalive = 25",
                "when nothing was sent for 25 seconds an empty packet is, so that routers and \
                 firewalls on the way keep it open"
            ),
            ("(hidden)", "this line is no setting; write `Key = Value', or `#' before a remark"),
        ]
    );
    assert_eq!(found[7].severity, Some(Severity::Error));
    assert!(!format!("{found:?}").contains("gJnSoFwHT6MgW23t6QkDfLOsw1Y2"));
}
