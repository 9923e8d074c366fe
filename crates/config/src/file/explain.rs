//! What each line of a file does, in plain words.

use std::fmt::Write as _;
use std::net::IpAddr;

use proto::{Prefix, PrivateKey};
use zeroize::Zeroizing;

use super::check::{Surroundings, check};
use super::line::{Kind, Line, Section, lines, trim};
use super::problem::{may_hold_key, plain};
use super::{Extensions, Key, Severity};
use crate::wg::{allowed_ip, number, split_endpoint, without_space};
use crate::{key, quick};

/// A line, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Counted from 1.
    pub line: usize,
    /// The line as it can be shown to anybody: without secrets, nor anything that a terminal would
    /// obey.
    pub text: String,
    /// What it does; what is wrong with it, if it does nothing; empty for a blank line.
    pub meaning: String,
    /// Whether something is wrong with it.
    pub severity: Option<Severity>,
}

/// Explains every line.
#[must_use]
pub fn explain(content: &[u8], around: &Surroundings<'_>) -> Vec<Explanation> {
    let mut problems = check(content, around).into_iter().peekable();
    let mut explained = Vec::new();
    for line in lines(content) {
        let mut one = Explanation {
            line: line.number,
            text: shown(&line),
            meaning: meaning(&line),
            severity: None,
        };
        while let Some(problem) = problems.next_if(|problem| problem.line <= line.number) {
            // What is wrong does not do what it says.
            if problem.severity == Severity::Error && one.severity != Some(Severity::Error) {
                one.meaning.clear();
            }
            if problem.severity == Severity::Error || one.severity != Some(Severity::Error) {
                let gap = if one.meaning.is_empty() { "" } else { "; " };
                // Nothing fails that is written into a string.
                let _ = write!(one.meaning, "{gap}{problem}");
            }
            one.severity = one.severity.max(Some(problem.severity));
        }
        explained.push(one);
    }
    explained
}

/// The text of a line, made harmless.
fn shown(line: &Line<'_>) -> String {
    let text = trim(line.text);
    let known = match line.kind {
        Kind::Setting { key, .. } => Key::find(key),
        _ => None,
    };
    let is_secret = match known {
        Some(Key::PublicKey) => false,
        Some(Key::PrivateKey | Key::PresharedKey) => true,
        _ => may_hold_key(text),
    };
    let text = match (is_secret, known) {
        (false, _) => String::from_utf8_lossy(text).into_owned(),
        (true, Some(key)) => format!("{} = (hidden)", key.name()),
        (true, None) => "(hidden)".to_owned(),
    };
    text.chars().map(plain).collect()
}

fn meaning(line: &Line<'_>) -> String {
    match line.kind {
        Kind::Blank => String::new(),
        Kind::Unknown => "not understood".to_owned(),
        Kind::Comment => "a remark".to_owned(),
        Kind::Head { .. } if line.section == Section::Interface => {
            "this machine's end of the tunnel".to_owned()
        }
        Kind::Head { .. } => "another end of the tunnel: a peer".to_owned(),
        Kind::Extension { key, value } => of_extension(key, &String::from_utf8_lossy(value)),
        Kind::Setting { key, value, .. } => match Key::find(key) {
            Some(Key::PrivateKey) => of_private_key(value),
            Some(key) if key.place() == super::Place::Peer => of_peer(key, value),
            Some(key) => of_interface(key, value),
            None => "not understood".to_owned(),
        },
    }
}

fn of_private_key(value: &[u8]) -> String {
    let text = Zeroizing::new(without_space(value));
    let known = key::from_base64(&*text).and_then(|key| PrivateKey::new(*key));
    let public = known.map_or_else(String::new, |own| {
        format!("; the public key to it, for the peers: {}", *key::to_base64(&own.public_key().0))
    });
    format!("the secret that proves who this machine is{public}")
}

fn of_interface(key: Key, value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match key {
        Key::ListenPort if number(value, 10) == Some(0) => {
            "listens on whatever UDP port is free".to_owned()
        }
        Key::ListenPort => format!("listens on UDP port {text}"),
        Key::FwMark => {
            format!("marks the tunnel's own packets with {text}, so that routing rules know them")
        }
        Key::Address => each(text.split([',', ' ', '\t']), |word| {
            let (address, length) = quick::prefix(word)?;
            let network = Prefix::new(address, length)?.address();
            let is_alone = length == if address.is_ipv4() { 32 } else { 128 };
            let network = if is_alone { String::new() } else { format!(" in {network}/{length}") };
            Some(format!("this machine is {address}{network}"))
        }),
        Key::Dns => each(text.split([',', ' ', '\t']).filter(|word| !word.is_empty()), |word| {
            Some(match word.strip_prefix('~') {
                Some(domain) => in_domain(domain),
                None if quick::is_server(word) => format!("names are asked of {word}"),
                None => format!("short names are looked for in {word}"),
            })
        }),
        Key::Mtu => format!("packets of up to {text} bytes fit into the tunnel"),
        Key::Table => match &*text {
            "off" => "makes no routes: they are your own affair".to_owned(),
            "auto" => "makes routes to all AllowedIPs, as is usual".to_owned(),
            table => format!("makes the routes in table {table} instead of the main one"),
        },
        Key::PreUp => "root's shell runs this before the interface is configured".to_owned(),
        Key::PostUp => "root's shell runs this when the interface is up".to_owned(),
        Key::PreDown => "root's shell runs this before the interface goes down".to_owned(),
        Key::PostDown => "root's shell runs this when the interface is gone".to_owned(),
        _ if text.eq_ignore_ascii_case("true") => {
            "when the interface goes down, this file is written anew from what it was".to_owned()
        }
        _ => "this file is never written by the tools".to_owned(),
    }
}

fn of_peer(key: Key, value: &[u8]) -> String {
    let value = without_space(value);
    let text = String::from_utf8_lossy(&value);
    match key {
        Key::PublicKey => "who the peer is: whoever has the private key to this".to_owned(),
        Key::PresharedKey => {
            "a second secret, of both ends alone, which also a quantum computer would need"
                .to_owned()
        }
        Key::AllowedIps => each(text.split(','), |word| {
            let (address, length) = allowed_ip(word.as_bytes()).ok()?;
            let network = Prefix::new(address, length)?.address();
            Some(match (length, network) {
                (0, IpAddr::V4(_)) => "all of IPv4 goes to this peer".to_owned(),
                (0, IpAddr::V6(_)) => "all of IPv6 goes to this peer".to_owned(),
                (32, IpAddr::V4(_)) | (128, _) => format!("{network} is behind this peer"),
                _ => format!("the network {network}/{length} is behind this peer"),
            })
        }),
        Key::Endpoint => match split_endpoint(&value) {
            Ok((host, port)) => {
                let (host, port) = (String::from_utf8_lossy(host), String::from_utf8_lossy(port));
                let is_name = host.parse::<IpAddr>().is_err() && !host.contains(':');
                let name = if is_name { ", whose address is looked up first" } else { "" };
                format!("the peer is called at UDP port {port} of {host}{name}")
            }
            Err(_) => "not understood".to_owned(),
        },
        _ if text.eq_ignore_ascii_case("off") || &*text == "0" => {
            "when there is nothing to say, nothing is sent".to_owned()
        }
        _ => format!(
            "when nothing was sent for {text} seconds an empty packet is, so that routers and \
             firewalls on the way keep it open"
        ),
    }
}

fn of_extension(key: &[u8], value: &str) -> String {
    let known = Extensions::KEYS.iter().map(|(name, _)| *name);
    match known.into_iter().find(|name| key.eq_ignore_ascii_case(name.as_bytes())) {
        Some("ExcludeIPs") => each(value.split([',', ' ', '\t']), |word| match word {
            "" => None,
            lan if lan.eq_ignore_ascii_case("lan") => {
                Some("the networks of other links stay outside of the tunnel".to_owned())
            }
            network => Some(format!("{network} stays outside of the tunnel")),
        }),
        Some("Guard") if value.eq_ignore_ascii_case("off") => {
            "packets may leave beside a full tunnel".to_owned()
        }
        Some("Guard") => "no packet may leave beside a full tunnel".to_owned(),
        Some("DNS") => {
            each(value.split([',', ' ', '\t']), |word| word.strip_prefix('~').map(in_domain))
        }
        Some(_) => format!("the peer is called {value} here"),
        None => "not understood".to_owned(),
    }
}

fn in_domain(domain: &str) -> String {
    format!("names in {domain} are asked of the tunnel's name servers")
}

/// What each word means, of those that mean something.
fn each<'a>(
    words: impl Iterator<Item = &'a str>,
    meaning: impl Fn(&str) -> Option<String>,
) -> String {
    let meanings: Vec<_> = words.filter_map(meaning).collect();
    meanings.join("; ")
}
