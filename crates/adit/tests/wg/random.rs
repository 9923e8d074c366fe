//! Command lines, files and answers that nobody has thought of, the same ones in every run.

use adit_tests::tools::Version;

use crate::set::{A, B};
use crate::show::PUBLIC;
use crate::stage::{Scene, Stage, scene};

const SCENES: usize = 1000;

/// The keys of the peers that are told of, and one more.
const PEERS: [&str; 5] = [
    A,
    B,
    "qnBDKzw742+0ZGf7ZvniEdzJnQ9NoiilaGz46T9/ySQ=",
    "9j660v/4aGIfC0DaJqW3jd6MlzNl1fTcHL1ogeMFNH0=",
    "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
];

const KEYS: [&str; 6] = [A, A, "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "AAAA", "", "=A"];
const ADDRESSES: &[&str] = &[
    "10.0.0.0",
    "10.0.0.7",
    "256.1.1.1",
    "010.0.0.1",
    "1.2.3",
    "::",
    "::1",
    "fd00::9",
    "::1.2.3.4",
    "1::2::3",
    "::ffff:1.2.3.4",
    "fe80::1%lo",
    "x",
    "",
];
const LENGTHS: &[&str] =
    &["", "", "/8", "/24", "/32", "/33", "/64", "/128", "/129", "/08", "/", "/x"];
const HOSTS: &[&str] = &[
    "1.2.3.4",
    "[::1]",
    "::1",
    "127.1",
    "[1.2.3.4]",
    "[::1",
    "[]",
    "",
    "localhost",
    "only6.test",
    "[fe80::1%lo]",
    "[only4.test]",
];
const PORTS: &[&str] =
    &["", ":1", ":51820", ":0", ":", ":http", ":-1", ":065535", ":~5", ":5~", ":nosuch", ":1:2"];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "off",
    "OFF",
    "0x1",
    "0X1",
    "0xca6c",
    "0x100000000",
    "-1",
    "~1",
    "1~",
    "007",
    "",
    "x",
    "18446744073709551616",
];
const PARAMETERS: &[&str] = &[
    "dump",
    "peers",
    "endpoints",
    "allowed-ips",
    "transfer",
    "latest-handshakes",
    "fwmark",
    "preshared-keys",
    "persistent-keepalive",
    "listen-port",
    "private-key",
    "public-key",
    "x",
    "''",
];
const ENDS: &[&str] = &["\n", "\n", "\n", " \n", "\r\n", "#c\n", "\n\n", "", " # c\n"];

const SIGNS: &[&str] = &["", "", "", "+", "-"];

/// xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
struct Chance {
    state: u64,
    /// Whether what only the newest `wg` knows may come, too.
    newest: bool,
}

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        for shift in [13, -7, 17] {
            self.state ^= if shift > 0 { self.state << shift } else { self.state >> -shift };
        }
        usize::try_from(self.state >> 33).unwrap() % bound
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn network(&mut self) -> String {
        let sign = if self.newest { self.of(SIGNS) } else { "" };
        sign.to_owned() + self.of(ADDRESSES) + self.of(LENGTHS)
    }

    fn networks(&mut self) -> String {
        let many = self.below(3);
        (0..=many).map(|_| self.network()).collect::<Vec<_>>().join(",")
    }

    fn endpoint(&mut self) -> String {
        self.of(HOSTS).to_owned() + self.of(PORTS)
    }

    /// A setting of a peer, as `key value`.
    fn of_peer(&mut self) -> (&'static str, String) {
        match self.below(4) {
            0 => ("endpoint", self.endpoint()),
            1 => ("persistent-keepalive", self.of(NUMBERS).to_owned()),
            _ => ("allowed-ips", self.networks()),
        }
    }

    fn set(&mut self) -> Scene {
        let mut words = vec!["set".to_owned(), self.of(&["wgt0", "wgt0", "nosuch"]).to_owned()];
        if self.below(2) == 0 {
            words.extend(["fwmark".into(), self.of(NUMBERS).into()]);
        }
        for _ in 0..self.below(3) {
            words.extend(["peer".into(), self.of(&KEYS).into()]);
            for _ in 0..self.below(3) {
                let (key, value) = self.of_peer();
                words.extend([key.to_owned(), value]);
            }
        }
        if words.len() == 2 && !self.newest {
            // Else the usage is seen, which has changed.
            words.push("remove".into());
        } else if self.below(9) == 0 {
            words.remove(self.below(words.len()));
        }
        let quoted = |word: &String| if word.is_empty() { "''".into() } else { word.clone() };
        scene(&words.iter().map(quoted).collect::<Vec<_>>().join(" "))
    }

    fn file(&mut self) -> Scene {
        let mut text = String::new();
        for _ in 0..=self.below(8) {
            let key = self.of(&KEYS);
            text += &match self.below(6) {
                0 => "[Interface]".to_owned(),
                1 => self.of(&["[Peer]", "[peer]", " [ Peer ]", "[Peer", "[]"]).to_owned(),
                2 => format!("{}{key}", self.of(&["PublicKey = ", "publickey=", "PresharedKey ="])),
                3 => format!("FwMark = {}", self.of(NUMBERS)),
                4 => format!("PrivateKey{}{key}", self.of(&["=", " = ", " ", "==", "\t=\t"])),
                _ => {
                    let (key, value) = self.of_peer();
                    format!("{} = {value}", key.replace('-', ""))
                }
            };
            text += self.of(ENDS);
        }
        let command = self.of(&["setconf", "addconf", "syncconf"]);
        scene(&format!("{command} wgt0 /dev/stdin")).reading(text.replace('~', " "))
    }

    /// What an interface tells, with all peers or the first of them.
    fn state(&mut self) -> String {
        let mut told = format!("fwmark={}\n", self.below(3));
        for key in PUBLIC {
            told += &format!("public_key={key}\n");
            let (tx, ago) = (self.below(1 << 30), self.below(1 << 27));
            told += &match self.below(5) {
                0 => format!("tx_bytes={tx}\nrx_bytes={}\n", self.below(1 << 12)),
                1 => format!("last_handshake_time_sec={{now-{ago}}}\n"),
                2 => "endpoint=[2001:db8::1]:7\nallowed_ip=10.0.0.0/8\n".to_owned(),
                3 => format!("preshared_key={key}\n"),
                _ => format!("persistent_keepalive_interval={}\n", self.below(1 << 16)),
            };
            if self.below(8) == 0 {
                break;
            }
        }
        told + "errno=0\n\n"
    }

    fn show(&mut self) -> Scene {
        let mut which = vec!["show wgt0", "show wgt0", "show nosuch", "show interfaces"];
        if self.newest {
            which.extend(["show", "show all"]);
        }
        let which = self.of(&which);
        let scene = scene(&format!("{which} {}", self.of(PARAMETERS)));
        scene.told(&self.state()).with("WG_COLOR_MODE", self.of(&["always", "never"]))
    }

    /// A file without faults for what is there already.
    fn sync(&mut self) -> Scene {
        let mut file = String::from("[Interface]\nListenPort=7\n");
        for _ in 0..self.below(5) {
            file += &format!("[Peer]\nPublicKey={}\n", self.of(&PEERS));
            for line in ["AllowedIPs=+::1,-::2", "PersistentKeepalive=9", "Endpoint=[::1]:1"] {
                if self.below(3) == 0 {
                    file += &format!("{line}\n");
                }
            }
            if self.below(3) == 0 {
                file += &format!("PresharedKey={}\n", self.of(&PEERS));
            }
        }
        scene("syncconf wgt0 /dev/stdin").reading(file).told(&self.state())
    }
}

pub fn scenes(stage: &Stage) {
    let newest = stage.tools.version == Version::Of2026;
    let mut chance = Chance { state: 0x5eed_0000_0000_0001, newest };
    let scenes: Vec<_> = (0..SCENES)
        .map(|number| match number % 4 {
            0 => chance.set(),
            1 => chance.file(),
            2 if newest => chance.sync(),
            _ => chance.show(),
        })
        .map(|scene| scene.with("WG_ENDPOINT_RESOLUTION_RETRIES", "0"))
        .collect();
    stage.alike(&scenes);
}
