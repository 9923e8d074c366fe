//! The same file, with the keys and peers that an interface has now: nothing else of it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proto::{DeviceState, PeerState, PresharedKey, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::Key;
use super::line::{Kind, Line, Section, lines, trim};
use crate::key::{from_base64, to_base64};
use crate::quick::prefix;
use crate::wg::{Names, View, ZoneName};

/// A value that may be secret.
type Value = Zeroizing<String>;

/// Writes into a file what was changed of its interface while it was up: peers that came, went or
/// were given other settings, and the private key, port and mark where the file has them. Comments,
/// order, and endpoints that are names stay. None if the file says all of that already.
#[must_use]
pub fn follow(content: &[u8], state: &DeviceState, zone: ZoneName) -> Option<Zeroizing<Vec<u8>>> {
    let lines: Vec<Line<'_>> = lines(content).collect();
    let names = Names::new();
    let view = View { name: "", state, names: &names, zone };
    let mut edit = Edit { lines: &lines, instead: BTreeMap::new(), behind: BTreeMap::new() };
    edit.interface(state);
    let written = edit.peers(&view);
    let new = state.peers.iter().filter(|peer| !written.contains(&peer.public_key));
    let new: Vec<Value> = new.map(|peer| Zeroizing::new(view.peer(peer))).collect();
    let is_same = edit.instead.is_empty() && edit.behind.is_empty() && new.is_empty();
    (!is_same).then(|| edit.text(&new))
}

/// What becomes of lines, by their place among all.
struct Edit<'a> {
    lines: &'a [Line<'a>],
    /// What stands there instead; nothing if the line goes.
    instead: BTreeMap<usize, Option<Value>>,
    /// What comes behind.
    behind: BTreeMap<usize, Vec<Value>>,
}

impl<'a> Edit<'a> {
    fn interface(&mut self, state: &DeviceState) {
        let key = state.private_key.as_ref();
        let key = key.map(|key| to_base64(key.as_bytes()));
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let port = Zeroizing::new(state.listen_port.to_string());
        let mark = Zeroizing::new(format!("{:#x}", state.fwmark));
        let lines = self.lines;
        let ours = || lines.iter().filter(|line| line.section == Section::Interface);
        for (key, value) in
            [(Key::PrivateKey, key), (Key::ListenPort, Some(port)), (Key::FwMark, Some(mark))]
        {
            let (Some(value), Some((at, written))) = (value, settings(ours(), key).pop()) else {
                continue;
            };
            let written = str::from_utf8(written).unwrap_or_default();
            let is_same = match key {
                // As it is used, which it need not be written as.
                Key::PrivateKey => {
                    let written = from_base64(written).and_then(|key| PrivateKey::new(*key));
                    written == state.private_key
                }
                _ => number(written) == number(&value) || state.fwmark == 0 && written == "off",
            };
            if !is_same {
                self.replace(at, key, Some(&value));
            }
        }
    }

    /// Those that are written and stay.
    fn peers(&mut self, view: &View<'_>) -> BTreeSet<PublicKey> {
        let present = view.state.peers.iter().map(|peer| (peer.public_key, peer));
        let present: BTreeMap<_, _> = present.collect();
        let mut written = BTreeSet::new();
        for section in self.lines.chunk_by(|one, next| one.section == next.section) {
            if !matches!(section, [Line { section: Section::Peer(_), .. }, ..]) {
                continue;
            }
            // What nobody can be told apart by stays.
            let Some((at, key)) = settings(section, Key::PublicKey).pop() else { continue };
            let Some(key) = from_base64(key).map(|key| PublicKey(*key)) else { continue };
            match present.get(&key) {
                Some(peer) if written.insert(key) => self.peer(section, at, peer, view),
                _ => self.remove(section),
            }
        }
        written
    }

    /// Settings of a peer whose key stands at `at`.
    fn peer(&mut self, section: &[Line<'_>], at: usize, peer: &PeerState, view: &View<'_>) {
        for (key, value) in now(peer, view) {
            let written = settings(section, key);
            let values: Vec<&[u8]> = written.iter().map(|(_, value)| *value).collect();
            if says(key, &values, value.as_ref(), peer) {
                continue;
            }
            let mut places = written.iter().map(|(at, _)| *at);
            match (places.next(), &value) {
                (Some(first), value) => self.replace(first, key, value.as_ref()),
                (None, Some(value)) => {
                    let line = line(key, value, b"");
                    self.behind.entry(at).or_default().push(line);
                }
                (None, None) => {}
            }
            places.for_each(|at| drop(self.instead.insert(at, None)));
        }
    }

    fn replace(&mut self, at: usize, key: Key, value: Option<&Value>) {
        let comment = match self.lines.get(at).map(|line| line.kind) {
            Some(Kind::Setting { comment, .. }) => comment,
            _ => b"",
        };
        self.instead.insert(at, value.map(|value| line(key, value, comment)));
    }

    /// With the comments right above, which tell of it, but not with those of the next.
    fn remove(&mut self, section: &[Line<'_>]) {
        let is_comment = |at: usize| {
            let kind = self.lines.get(at).map(|line| line.kind);
            matches!(kind, Some(Kind::Comment | Kind::Extension { .. }))
        };
        let above = |head: usize| (0..head).rev().take_while(|at| is_comment(*at)).count();
        let Some(head) = section.first().map(place) else { return };
        let end = head + section.len();
        let is_last = end == self.lines.len();
        let end = if is_last { end } else { end - above(end) };
        let gone = head - above(head)..end;
        self.instead.extend(gone.map(|at| (at, None)));
    }

    /// The whole file, and new sections behind.
    fn text(&self, new: &[Value]) -> Zeroizing<Vec<u8>> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            let end: &[u8] = if line.returned { b"\r\n" } else { b"\n" };
            let text = match self.instead.get(&at) {
                None => Some(line.text),
                Some(instead) => instead.as_ref().map(|text| text.as_bytes()),
            };
            let behind = self.behind.get(&at).into_iter().flatten().map(|text| text.as_bytes());
            for text in text.into_iter().chain(behind) {
                parts.extend([text, end]);
            }
        }
        for section in new {
            parts.extend([b"\n", section.as_bytes()]);
        }
        // Made in one piece, so that no copy of a key is left behind.
        Zeroizing::new(parts.concat())
    }
}

/// Where a key stands among lines, and with which values.
fn settings<'a>(
    lines: impl IntoIterator<Item = &'a Line<'a>>,
    wanted: Key,
) -> Vec<(usize, &'a [u8])> {
    let settings = lines.into_iter().filter_map(|line| match line.kind {
        Kind::Setting { key, value, .. } if Key::find(key) == Some(wanted) => {
            Some((place(line), value))
        }
        _ => None,
    });
    settings.collect()
}

/// Of a line among all, counted from 0.
fn place(line: &Line<'_>) -> usize {
    line.number - 1
}

fn line(key: Key, value: &Value, comment: &[u8]) -> Value {
    let space = if comment.is_empty() { "" } else { " " };
    let comment = String::from_utf8_lossy(comment);
    Zeroizing::new(format!("{} = {}{space}{comment}", key.name(), **value))
}

/// What a peer has of each key, if anything.
fn now(peer: &PeerState, view: &View<'_>) -> [(Key, Option<Value>); 4] {
    let preshared_key = (peer.preshared_key != PresharedKey::default())
        .then(|| to_base64(peer.preshared_key.as_bytes()));
    let keepalive = (peer.persistent_keepalive != 0).then(|| peer.persistent_keepalive.to_string());
    [
        (Key::PresharedKey, preshared_key),
        (Key::AllowedIps, view.allowed_ips(peer).map(Zeroizing::new)),
        (Key::Endpoint, view.place(peer).map(Zeroizing::new)),
        (Key::PersistentKeepalive, keepalive.map(Zeroizing::new)),
    ]
}

/// Whether what is written says what is so.
fn says(key: Key, written: &[&[u8]], value: Option<&Value>, peer: &PeerState) -> bool {
    let value = value.map(|text| text.as_bytes());
    let last = written.last().copied();
    match key {
        Key::PresharedKey => {
            let written = last.and_then(from_base64).unwrap_or_default();
            PresharedKey::new(*written) == peer.preshared_key
        }
        Key::AllowedIps => {
            let live = peer.allowed_ips.iter().map(|it| (it.address(), it.length()));
            prefixes(written) == Some(live.collect())
        }
        // Where a peer was heard is nothing that anybody wants it to keep to; and a name may not
        // have been found yet, or was found to be this.
        Key::Endpoint => last.is_none_or(|it| Some(it) == value || value.is_none() || is_name(it)),
        _ => last.filter(|text| !matches!(*text, b"0" | b"off")) == value,
    }
}

/// None if one cannot be read.
fn prefixes(values: &[&[u8]]) -> Option<BTreeSet<(IpAddr, u8)>> {
    let words = values.iter().flat_map(|value| value.split(|&byte| byte == b',')).map(trim);
    let words = words.filter(|word| !word.is_empty());
    words
        .map(|word| {
            let (address, length) = prefix(str::from_utf8(word).ok()?)?;
            let prefix = proto::Prefix::new(address, length)?;
            Some((prefix.address(), prefix.length()))
        })
        .collect()
}

fn is_name(endpoint: &[u8]) -> bool {
    let endpoint = String::from_utf8_lossy(endpoint);
    let host = endpoint.rsplit_once(':').map_or(&*endpoint, |(host, _)| host);
    !host.starts_with('[') && host.parse::<IpAddr>().is_err()
}
