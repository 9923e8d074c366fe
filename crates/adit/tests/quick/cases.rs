//! The configurations, read from `cases.txt`, which says how to read it.

use config::key::to_base64;

/// One configuration, and what is done with it.
#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    /// Shell commands that come before the program.
    pub setup: String,
    /// Shell commands that call it.
    pub steps: Vec<String>,
    /// Paths and contents.
    pub files: Vec<(String, String)>,
}

/// All of them.
pub fn all() -> Vec<Case> {
    include_str!("cases.txt").split("\n=== ").skip(1).map(Case::read).collect()
}

impl Case {
    pub fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let mut case = Self { name: lines.next().unwrap().to_owned(), ..Self::default() };
        case.files.push(("/etc/wireguard/wg0.conf".to_owned(), String::new()));
        for line in lines {
            match line.split_once(' ') {
                Some(("$", command)) => case.setup += &format!("{command}\n"),
                Some((">", command)) => case.steps.push(command.to_owned()),
                Some(("---", path)) => case.files.push((path.to_owned(), String::new())),
                _ => case.files.last_mut().unwrap().1 += &expand(line),
            }
        }
        if case.steps.is_empty() {
            case.steps = ["up", "save", "down"].map(|verb| format!("step {verb} wg0")).to_vec();
        }
        case
    }
}

fn expand(line: &str) -> String {
    const KEY: &str = "ePc7qomV7OQEdX0Eye2GZI+a+c8fD8TYmB1oF9oWK0c=";
    match line {
        "@interface" => format!("[Interface]\nPrivateKey = {KEY}\n"),
        "@peer A" => peer(0xa),
        "@peer B" => peer(0xb),
        "@peer C" => peer(0xc),
        "@peers" => (100..140)
            .map(|number| {
                let allowed = format!("AllowedIPs = 10.1.{number}.0/24, fd01:{number}::/48\n");
                peer(number) + &allowed
            })
            .collect(),
        line => {
            let end = if line.ends_with('␄') { "" } else { "\n" };
            line.trim_end_matches('␄').replace('␍', "\r").replace('␉', "\t") + end
        }
    }
}

fn peer(number: u8) -> String {
    format!("[Peer]\nPublicKey = {}\n", *to_base64(&[number; 32]))
}
