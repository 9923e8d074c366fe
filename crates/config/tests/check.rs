//! What `check` finds in a file, and that what it lets pass really passes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod chance;

use std::net::SocketAddr;
use std::time::Instant;

use config::file::{Problem, Severity, Surroundings, check};
use config::quick::File;
use config::wg::{Machine, Mode, Refusal, Secret, from_file};

const PRIVATE: &str = "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=";
/// The most of it that may be told is less.
const SECRET: &str = "gJnSoFwHT6MgW23t6QkD";
/// The public key of that.
const OWN: &str = "4kH+nkDGqDuwhJlpehu6pLmDEVE/mwg0u6VqSTXqvWw=";
const A: &str = "089pIdFJufCU8IIwrpqGtpopdocCh6uWqD06JXpwr5o=";
const B: &str = "kYlQj78geDqd4w14Zf82eOjJPCeNqDeOsanqN2AFuzo=";

/// `K`, `O`, `A` and `B` in angle brackets stand for keys.
fn with_keys(text: &str) -> String {
    text.replace("<K>", PRIVATE).replace("<O>", OWN).replace("<A>", A).replace("<B>", B)
}

fn problems(text: &str) -> Vec<Problem> {
    check(with_keys(text).as_bytes(), &Surroundings::default())
}

/// Line and code of each, with a mark behind what is no more than a warning.
fn codes(problems: &[Problem]) -> Vec<String> {
    let mark = |problem: &Problem| if problem.severity == Severity::Warning { "?" } else { "" };
    problems.iter().map(|one| format!("{} {}{}", one.line, one.code, mark(one))).collect()
}

const GOOD: &str = "[Interface]\nPrivateKey = <K>\nAddress = 10.0.0.2/24, fd00::2/64\n";
const PEER: &str = "[Peer]\nPublicKey = <A>\nEndpoint = vpn.example.com:51820\n";

#[test]
fn a_good_file_has_no_problem() {
    let file = format!(
        "# home\n{GOOD}DNS = 10.0.0.1, lan.example\nMTU = 1420\nTable = auto\nPostUp = echo %i # x\n\
         ListenPort = 51820\nFwMark = 0xca6c\nSaveConfig = false\n#! ExcludeIPs = lan\n\n{PEER}\
         #! Name = gate\nPresharedKey = <B>\nAllowedIPs = 0.0.0.0/0, ::/0\n\
         PersistentKeepalive = 25\n\n[Peer] # phone\nPublicKey = <B>\nAllowedIPs = 10.0.0.7\n"
    );
    assert_eq!(problems(&file), []);
}

#[test]
fn each_mistake_is_found_in_its_line() {
    let table: &[(&str, &[&str])] = &[
        // The text itself.
        ("", &["1 interface-missing"]),
        ("\u{feff}[Interface]\nPrivateKey = <K>\n", &["1 byte-order-mark"]),
        ("[Interface]\r\nPrivateKey = <K>\r\n", &["1 cr-lf?"]),
        ("[Interface]\nPrivateKey = <K>\nMTU = 14\x0000\n", &["3 zero-byte", "3 value"]),
        ("[Interface]\nPrivateKey = <K>\n# a\u{2028}PostUp = x\n", &["3 invisible?"]),
        ("[Interface]\nPrivateKey = <K>\n# \x1b[2J\n", &["3 invisible?"]),
        // Lines and sections.
        ("[Interface]\nPrivateKey = <K>\nMTU\n", &["3 line-unknown"]),
        (
            "[Interface]\nPrivateKey = <K>\n[Peers]\nPublicKey = <A>\n",
            &["3 section-unknown", "4 key-misplaced"],
        ),
        (
            "[Interface]\nPrivateKey = <K>\n[ Peer ]\nPublicKey = <A>\nAllowedIPs = ::1\nEndpoint = a:1\n",
            &["3 section-unknown"],
        ),
        ("PrivateKey = <K>\n[Interface]\n", &["1 key-misplaced", "2 private-key-missing?"]),
        ("[Interface]\nPrivateKey = <K>\n[Interface]\nMTU = 1400\n", &["3 section-repeated?"]),
        ("[Interface]\nPrivateKey = <K>\nAdress = 10.0.0.1/24\n", &["3 key-unknown"]),
        ("[Interface]\nPrivateKey = <K>\nAllowedIPs = 10.0.0.1/24\n", &["3 key-misplaced"]),
        ("[Interface]\nPrivateKey = <K>\nMTU =\n", &["3 value-missing"]),
        ("[Interface]\nPrivateKey = <K>\nMTU = 1400\nMTU = 1300\n", &["4 key-repeated?"]),
        ("[Interface]\nPrivateKey = <K>\n#! Gaurd = off\n", &["3 extension-unknown"]),
        // The interface.
        ("[Interface]\nMTU = 1400\n", &["1 private-key-missing?"]),
        ("[Interface]\nPostUp = wg set %i private-key /k\n", &[]),
        ("[Interface]\nPrivateKey = <K>=\n", &["2 value"]),
        ("[Interface]\nPrivateKey = <K> junk\n", &["2 value"]),
        ("[Interface]\nPrivateKey = <K>\nListenPort = 65536\n", &["3 value"]),
        ("[Interface]\nPrivateKey = <K>\nListenPort = -1\n", &["3 value"]),
        ("[Interface]\nPrivateKey = <K>\nFwMark = 0X1\n", &["3 value"]),
        ("[Interface]\nPrivateKey = <K>\nAddress = 10.0.0.0/24\n", &["3 address-is-network?"]),
        ("[Interface]\nPrivateKey = <K>\nAddress = 10.0.0.0/31, 10.0.0.1, fd00::/127\n", &[]),
        ("[Interface]\nPrivateKey = <K>\nAddress = 10.0.0.1/33\n", &["3 value"]),
        ("[Interface]\nPrivateKey = <K>\nAddress = ,\n", &["3 value"]),
        ("[Interface]\nPrivateKey = <K>\nDNS = lan\n", &["3 dns-without-server?"]),
        ("[Interface]\nPrivateKey = <K>\nDNS = 10.0.0\n", &["3 value"]),
        ("[Interface]\nPrivateKey = <K>\nDNS = ::1, ~corp.example, ~.\n", &["3 dns-split?"; 2]),
        ("[Interface]\nPrivateKey = <K>\nDNS = ::1, ~a..b\n", &["3 value"]),
        (
            "[Interface]\nPrivateKey = <K>\nMTU = 1000\nAddress = fd00::2/64\n",
            &["4 mtu-without-ipv6?"],
        ),
        ("[Interface]\nPrivateKey = <K>\nMTU = 67\n", &["3 value"]),
        ("[Interface]\nPrivateKey = <K>\nTable = $(id)\n", &["3 value"]),
        ("[Interface]\nPrivateKey = <K>\nSaveConfig = yes\n", &["3 value"]),
        ("[Interface]\nPrivateKey = <K>\nSaveConfig = true\n# mine\n", &["4 comments-lost?"]),
        // Peers.
        ("G[Peer]\nAllowedIPs = 10.0.0.0/24\nEndpoint = a:1\n", &["4 public-key-missing"]),
        ("G[Peer]\nPublicKey = <A>\nEndpoint = a:1\n", &["4 allowed-ips-missing?"]),
        (
            "G[Peer]\nPublicKey = <A>\nPublicKey = <B>\nAllowedIPs = ::1\nEndpoint = a:1\n",
            &["6 key-repeated"],
        ),
        ("P::1\n[Peer]\nPublicKey = <A>\nAllowedIPs = ::2\n", &["9 peer-repeated"]),
        ("G[Peer]\nPublicKey = <A>\nAllowedIPs = ::1\n", &["1 listen-port-missing?"]),
        ("G[Peer]\nPublicKey = <K>\nAllowedIPs = ::1\nEndpoint = a:1\n", &["5 own-key"]),
        ("G[Peer]\nPublicKey = <O>\nAllowedIPs = ::1\nEndpoint = a:1\n", &["5 own-key"]),
        ("P::1\nPersistentKeepalive = 65536\n", &["8 value"]),
        ("P::1\nPersistentKeepalive = off\n", &[]),
        (
            "P::1\n[Peer]\nPublicKey = <B>\nAllowedIPs = ::2\nPersistentKeepalive = 25\n",
            &["11 keepalive-without-endpoint?"],
        ),
        (
            "G[Peer]\nPublicKey = <A>\nAllowedIPs = ::1\nEndpoint = [::]:1\n",
            &["7 endpoint-unspecified?"],
        ),
        ("G[Peer]\nPublicKey = <A>\nAllowedIPs = ::1\nEndpoint = 0.0.0.1:1\n", &[]),
        ("P10.0.0.1/24\n", &["7 host-bits?"]),
        ("P10.0.0.1/33\n", &["7 value"]),
        ("P10.0.0.1,,10.0.0.2\n", &["7 value"]),
        ("P+10.0.0.1,-10.0.0.2\n", &[]),
        // Networks.
        ("P0.0.0.0/0\n", &["7 half-tunnel?"]),
        ("P0.0.0.0/1, 128.0.0.0/1\n", &["7 half-tunnel?"]),
        ("P128.0.0.0/1\n", &[]),
        ("P::/0\n", &["7 half-tunnel?"]),
        ("P10.0.0.0/24, 10.0.0.0/24\n", &["7 allowed-ips-repeated?"]),
        ("P10.0.0.0/24, 10.0.0.7\n", &[]),
        (
            "P10.0.0.0/24\n[Peer]\nPublicKey = <B>\nAllowedIPs = 10.0.0.0/24\n",
            &["10 allowed-ips-taken"],
        ),
        (
            "P10.0.0.0/24\n[Peer]\nPublicKey = <B>\nAllowedIPs = 10.0.0.9\n",
            &["10 allowed-ips-shadowed?"],
        ),
        (
            "P10.0.0.9\n[Peer]\nPublicKey = <B>\nAllowedIPs = 10.0.0.0/24\n",
            &["7 allowed-ips-shadowed?"],
        ),
        ("P192.0.2.0/24\nEndpoint = 192.0.2.1:1\n", &["7 endpoint-inside?", "8 key-repeated?"]),
        (
            "G[Peer]\nPublicKey = <A>\nEndpoint = [2001:db8::1]:1\nAllowedIPs = fd00::/8, 2001:db8::/64\n",
            &["7 endpoint-inside?"],
        ),
        (
            "G[Peer]\nPublicKey = <A>\nEndpoint = 10.2.0.1:1\nAllowedIPs = 10.1.0.0/16\n\
             [Peer]\nPublicKey = <B>\nEndpoint = a:1\nAllowedIPs = 10.2.0.0/16\n",
            &["11 endpoint-inside?"],
        ),
        (
            "GFwMark = 1\n[Peer]\nPublicKey = <A>\nEndpoint = 10.2.0.1:1\nAllowedIPs = 10.0.0.0/8\n",
            &[],
        ),
        (
            "GTable = 5\n[Peer]\nPublicKey = <A>\nEndpoint = 10.2.0.1:1\nAllowedIPs = 10.0.0.0/8\n",
            &[],
        ),
        (
            "GPostUp = x\n[Peer]\nPublicKey = <A>\nEndpoint = 10.2.0.1:1\nAllowedIPs = 10.0.0.0/8\n",
            &[],
        ),
        (
            "G[Peer]\nPublicKey = <A>\nEndpoint = 10.2.0.1:1\nAllowedIPs = 0.0.0.0/0, ::/0, 10.0.0.0/8\n",
            &[],
        ),
        ("P::/0, 0.0.0.0/0\n[Peer]\nPublicKey = <B>\nAllowedIPs = 10.0.0.0/24, a::/16\n", &[]),
    ];
    for (text, expected) in table {
        let text = text.replacen('G', GOOD, usize::from(text.starts_with('G')));
        let peer = format!("{GOOD}{PEER}AllowedIPs = ");
        let text = text.replacen(
            'P',
            &peer,
            usize::from(text.starts_with('P') && !text.starts_with("Pr")),
        );
        let found = problems(&text);
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        expected.sort_by_key(|code| code.split_once(' ').unwrap().0.parse::<usize>().unwrap());
        let mut found_codes = codes(&found);
        found_codes.sort();
        expected.sort();
        assert_eq!(found_codes, expected, "{text:?}: {found:#?}");
        assert!(found.is_sorted_by_key(|problem| problem.line), "{found:#?}");
    }
}

#[test]
fn endpoints_are_judged_by_their_form() {
    for (endpoint, is_good) in [
        ("vpn.example.com:51820", true),
        ("vpn_1.example.:1", true),
        ("192.0.2.1:65535", true),
        ("[2001:db8::1]:51820", true),
        ("[fe80::1%eth0]:51820", true),
        ("münchen.example:1", true),
        ("192.0.2.1", false),
        ("192.0.2.300:1", false),
        ("192.0.2.1:0", false),
        ("192.0.2.1:65536", false),
        ("192.0.2.1:domain", false),
        ("2001:db8::1:51820", false),
        ("[192.0.2.1]:1", false),
        ("[::1]51820", false),
        (":51820", false),
        ("$(id).example:1", false),
        ("`id`:1", false),
        ("https://vpn.example:1", false),
        ("vpn.example:51820/udp", false),
    ] {
        let file =
            format!("{GOOD}[Peer]\nPublicKey = <A>\nAllowedIPs = ::1\nEndpoint = {endpoint}\n");
        let expected: &[&str] = if is_good { &[] } else { &["7 value"] };
        assert_eq!(codes(&problems(&file)), expected, "{endpoint}");
    }
}

#[test]
fn a_problem_says_what_to_write_instead() {
    for (line, expected) in [
        ("AllowedIP = ::1", "there is no key `AllowedIP'; did you mean `AllowedIPs'?"),
        ("Colour = red", "there is no key `Colour'; remove it, or write `#' before it"),
        (
            "Guard = off",
            "there is no key `Guard'; write `#! Guard', so that other tools take it for a comment",
        ),
        ("MTU = 1400", "`MTU' does not belong here; write it below [Interface]"),
        (
            "AllowedIPs = 10.0.0.1/24",
            "warning: `10.0.0.1/24' is an address in a network, which is what counts; write \
             10.0.0.0/24, or `/32' or `/128' for one address",
        ),
        (
            "PresharedKey = secret",
            "`PresharedKey': this has 6 characters and is not a key; copy all of it: 44 \
             characters, the last one `='",
        ),
        (
            "\x1b]0;x\x07 = 1",
            "there is no key `\u{fffd}]0;x\u{fffd}'; remove it, or write `#' before it",
        ),
    ] {
        let found = problems(&format!("{GOOD}{PEER}AllowedIPs = 10.9.0.0/16\n{line}\n"));
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(found.contains(&expected.to_owned()), "{line}: {found:#?}");
    }
}

#[test]
fn no_secret_is_repeated_however_it_is_misspelt() {
    for line in [
        "PrivateKey = <K>x",
        "PrivateKey <K>",
        "PrivteKey = <K>",
        "<K>",
        "[<K>]",
        "PrivateKey == <K>",
        "PresharedKey = <K>",
        "#! PrivateKey = <K>",
        "MTU = <K>",
        "Address = <K>",
        "Table = <K>",
        "SaveConfig = <K>",
    ] {
        for section in ["[Interface]", "[Peer]"] {
            for problem in problems(&format!("{section}\n{line}\n")) {
                assert!(!problem.to_string().contains(SECRET), "{line}: {problem}");
            }
        }
    }
}

#[test]
fn what_surrounds_a_file_matters_too() {
    let file = with_keys("[Interface]\nPrivateKey = <K>\nPostUp = id\n");
    let seen = |around: Surroundings<'_>| codes(&check(file.as_bytes(), &around));
    let plain = Surroundings::default();
    assert!(seen(plain).is_empty());
    assert_eq!(seen(Surroundings { readable: true, ..plain }), ["2 key-readable?"]);
    let why = Some("everybody can write to it");
    assert_eq!(seen(Surroundings { writable: why, ..plain }), ["3 hook-untrusted"]);
    let both = Surroundings { writable: why, shared: true, ..plain };
    assert_eq!(seen(both), ["3 hook-untrusted"], "that says it already");
    assert_eq!(seen(Surroundings { shared: true, ..plain }), ["1 file-writable?"]);
    for name in [
        "wg 0.conf",
        "-.CONF",
        "wg0",
        ".conf",
        "sixteencharacter.conf",
        "-x.conf",
        "..conf",
        "...conf",
    ] {
        let found = seen(Surroundings { name: Some(name), ..plain });
        assert_eq!(found, ["1 interface-name"], "{name}");
    }
    assert!(seen(Surroundings { name: Some("wg0.conf"), ..plain }).is_empty());
}

#[test]
fn many_warnings_are_no_error_and_hide_none() {
    let remark = "# \u{2028}\n".repeat(1500);
    let mut file = format!("{GOOD}{remark}");
    let [.., last] = &problems(&file)[..] else { panic!("nothing was found") };
    let told = (last.line, last.code, last.severity, &*last.what);
    assert_eq!(told, (1003, "more", Severity::Warning, "warnings that are not shown: 500"));
    file += "MTU = x\n";
    let found = problems(&file);
    let errors: Vec<_> = found.iter().filter(|one| one.severity == Severity::Error).collect();
    assert_eq!(
        errors.iter().map(|one| (one.line, one.code)).collect::<Vec<_>>(),
        [(1504, "value")]
    );
}

/// Resolves everything.
struct Willing;

impl Machine for Willing {
    fn port(&mut self, service: &[u8]) -> Result<u16, Refusal> {
        str::from_utf8(service).unwrap().parse().map_err(|_| Refusal::of("No port", service))
    }

    fn resolve(&mut self, _: &[u8], port: &[u8], _: &[u8]) -> Result<SocketAddr, Refusal> {
        Ok(SocketAddr::new([192, 0, 2, 1].into(), self.port(port)?))
    }

    fn can_resolve(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn key_file(&mut self, _: &[u8]) -> Result<Secret, Refusal> {
        panic!("a file names no file")
    }

    fn warn(&mut self, _: &[u8]) {}
}

/// Random edits of a good file: whatever passes here is accepted by `wg-quick` and by `wg`.
#[test]
fn what_has_no_error_is_accepted() {
    let seed = with_keys(&format!(
        "{GOOD}DNS = 10.0.0.1\nMTU = 1420\nTable = off\nListenPort = 5\nFwMark = 0x5\nPostUp = x\n\
         SaveConfig = true\n{PEER}PresharedKey = <B>\nAllowedIPs = 0.0.0.0/0, ::/0\n\
         PersistentKeepalive = 25\n#! Name = x\n[Peer]\nPublicKey = <B>\nAllowedIPs = 10.0.0.7\n"
    ));
    let found = check(seed.as_bytes(), &Surroundings::default());
    assert_eq!(codes(&found), ["17 comments-lost?"]);
    let pieces: &[&[u8]] = &[
        b"=",
        b"#",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"\x0b",
        b"\0",
        b",",
        b"[",
        b"]",
        b":",
        b"/",
        b"0",
        b"+",
        b"-",
        b"[Peer]",
        b"[Interface]",
        b"off",
        b"\xff",
        b"\xe2\x80\xa8",
        b"9",
        b"#!",
        b"PostUp",
        b".",
    ];
    let mut random = chance::numbers(0x9e37_79b9_7f4a_7c15);
    let mut passed = 0;
    for round in 0..40_000 {
        let mut file = seed.clone().into_bytes();
        for _ in 0..=random(3) {
            let at = random(file.len());
            let end = (at + random(4)).min(file.len());
            let piece = pieces[random(pieces.len())];
            file.splice(at..end, piece.iter().copied().take(random(20)));
        }
        let found = check(&file, &Surroundings::default());
        if found.iter().any(|problem| problem.severity == Severity::Error) {
            continue;
        }
        passed += 1;
        let text = String::from_utf8_lossy(&file);
        let quick = File::parse(&file).unwrap_or_else(|wrong| panic!("{round}: {wrong}\n{text}"));
        if let Err(wrong) = from_file(&quick.rest, Mode::Append, &mut Willing) {
            panic!("{round}: {}\n{text}", String::from_utf8_lossy(&wrong));
        }
    }
    println!("{passed} files had no error");
    assert!(passed > 1_000, "{passed}");
}

#[test]
fn a_hundred_thousand_peers_and_a_thousand_mistakes_take_little_time() {
    let mut file = with_keys(GOOD);
    for peer in 0..100_000_u32 {
        let mut key = [1; 32];
        key[..4].copy_from_slice(&peer.to_le_bytes());
        let key = config::key::to_base64(&key);
        let [_, b, c, d] = peer.to_be_bytes();
        file += &format!(
            "[Peer]\nPublicKey = {}\nAllowedIPs = 10.{b}.{c}.{d}/32\nEndpoint = 11.{b}.{c}.{d}:1\n",
            *key
        );
    }
    let start = Instant::now();
    let found = check(file.as_bytes(), &Surroundings::default());
    println!("{:?} for {} MB", start.elapsed(), file.len() / 1_000_000);
    assert_eq!(found, []);
    let found = check(&b"x\n".repeat(2_000_000), &Surroundings::default());
    assert_eq!(found.len(), 1001);
    assert_eq!(found[1000].what, "errors that are not shown: 1999001");
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
