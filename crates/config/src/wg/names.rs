//! What people call their peers: names in the comments of a configuration file.
//!
//! `wg` knows no names, so every tool has its own way to write them down. These are read:
//! `friendly_name = X` and `friendly_json = {…}` (exporters), `Name = X`, `Name: X`, `#! Name = X`,
//! `#Name# = X`, `Client: X (id)`, `-WGP- Display name: X`, `### Client X`, `BEGIN_PEER X`, `### begin X ###`,
//! and a bare comment right behind or right before `[Peer]`.

use std::collections::BTreeMap;
use std::fmt;

use proto::PublicKey;

use super::value::without_space;
use crate::file::is_invisible;
use crate::key;

/// The names of peers.
pub type Names = BTreeMap<PublicKey, String>;

/// Reads the names from a configuration file, whatever else is in it.
#[must_use]
pub fn peer_names(file: &str) -> Names {
    let mut names = Names::new();
    let mut peer = Peer::default();
    // Comments without a gap behind them belong to what follows.
    let mut above: Vec<Comment> = Vec::new();
    for line in file.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix('#') {
            above.extend(Comment::read(comment));
        } else if line.starts_with('[') {
            peer.name_into(&mut names);
            let above = std::mem::take(&mut above).into_iter();
            peer = Peer { is_peer: line.eq_ignore_ascii_case("[Peer]"), ..Peer::default() };
            above.for_each(|comment| peer.consider(comment.above()));
        } else {
            above.drain(..).for_each(|comment| peer.consider(comment));
            peer.key = peer.key.or_else(|| public_key(line));
        }
    }
    above.into_iter().for_each(|comment| peer.consider(comment));
    peer.name_into(&mut names);
    names
}

/// The peer that a word stands for: its public key, or its name, in its own case or another, if no
/// other peer has that too.
///
/// # Errors
///
/// No peer is called so, or several are. A key is taken whether it has a name or not.
pub fn find_peer(names: &Names, word: &[u8]) -> Result<PublicKey, NoSuchPeer> {
    if let Some(key) = key::from_base64(word) {
        return Ok(PublicKey(*key));
    }
    let called = |is: fn(&[u8], &[u8]) -> bool| -> Vec<PublicKey> {
        let named = names.iter().filter(|(_, name)| is(name.as_bytes(), word));
        named.map(|(key, _)| *key).collect()
    };
    let exactly = called(|name, word| name == word);
    let found = if exactly.is_empty() { called(<[u8]>::eq_ignore_ascii_case) } else { exactly };
    match &*found {
        [key] => Ok(*key),
        [] => Err(NoSuchPeer::Unknown),
        _ => Err(NoSuchPeer::Ambiguous(found)),
    }
}

/// Why a word stands for no peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSuchPeer {
    /// It is no key, and nobody has that name.
    Unknown,
    /// All of these have that name.
    Ambiguous(Vec<PublicKey>),
}

impl fmt::Display for NoSuchPeer {
    /// What is to be said behind the word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("is neither a public key nor the name of a peer"),
            Self::Ambiguous(keys) => {
                f.write_str("is the name of several peers; say which by its key:")?;
                keys.iter().try_for_each(|peer| write!(f, " {}", *key::to_base64(&peer.0)))
            }
        }
    }
}

fn public_key(line: &str) -> Option<PublicKey> {
    let (setting, _) = line.split_once('#').unwrap_or((line, ""));
    let (name, value) = setting.split_once('=')?;
    let is_key = name.trim().eq_ignore_ascii_case("PublicKey");
    let key = key::from_base64(without_space(value.as_bytes())).filter(|_| is_key)?;
    Some(PublicKey(*key))
}

/// A section and the best name for it so far.
#[derive(Default)]
struct Peer {
    is_peer: bool,
    key: Option<PublicKey>,
    name: Option<Comment>,
}

impl Peer {
    fn consider(&mut self, comment: Comment) {
        let is_better = self.name.as_ref().is_none_or(|best| comment.rank < best.rank);
        // A remark further down is about something else.
        if is_better && (comment.rank != Rank::Behind || self.key.is_none()) {
            self.name = Some(comment);
        }
    }

    fn name_into(&mut self, names: &mut Names) {
        if let (true, Some(key), Some(comment)) = (self.is_peer, self.key, self.name.take()) {
            names.insert(key, comment.name);
        }
    }
}

/// How likely a comment is a name, the likeliest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Said,
    Marked,
    Behind,
    Before,
}

struct Comment {
    rank: Rank,
    name: String,
}

impl Comment {
    /// The name in a comment, which comes without its first `#`.
    fn read(comment: &str) -> Option<Self> {
        let is_block = comment.starts_with("##");
        let text = comment.trim_matches('#').trim();
        let (rank, name) = said(text)
            .map(|name| (Rank::Said, name))
            .or_else(|| marked(text, is_block).map(|name| (Rank::Marked, name)))
            .or_else(|| bare(comment, text).map(|name| (Rank::Behind, name)))?;
        // Nothing that a terminal would obey.
        let name: String = name.chars().filter(|&letter| !is_invisible(letter)).collect();
        name.contains(char::is_alphanumeric).then_some(Self { rank, name })
    }

    /// The same, in front of `[Peer]`.
    fn above(self) -> Self {
        let rank = if self.rank == Rank::Behind { Rank::Before } else { self.rank };
        Self { rank, ..self }
    }
}

fn said(text: &str) -> Option<String> {
    let (what, name) = text.split_once(['=', ':'])?;
    let name = name.trim();
    let what = what.strip_prefix('!').unwrap_or(what).trim();
    match what.to_ascii_lowercase().as_str() {
        "friendly_name" | "name" | "name#" | "-wgp- display name" => Some(name.to_owned()),
        "friendly_json" => {
            let fields: serde_json::Value = serde_json::from_str(name).ok()?;
            let name = ["name", "username"].iter().find_map(|name| fields.get(name)?.as_str());
            name.map(str::to_owned)
        }
        "client" => Some(name.split_once(" (").map_or(name, |(name, _)| name).to_owned()),
        _ => None,
    }
}

fn marked(text: &str, is_block: bool) -> Option<String> {
    let (what, name) = text.split_once(' ')?;
    let is_mark = what == "BEGIN_PEER" || is_block && ["Client", "begin"].contains(&what);
    is_mark.then(|| name.trim().to_owned())
}

/// No setting that was put out of use, no end of a block, no note of a program to itself.
fn bare(comment: &str, text: &str) -> Option<String> {
    let is_other = comment.starts_with('!')
        || text.contains('=')
        || ["end ", "END_PEER", "-WGP-"].iter().any(|other| text.starts_with(other));
    let (name, _) = text.split_once(" / ").unwrap_or((text, ""));
    (!is_other).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    const KEY: &str = "4kH+nkDGqDuwhJlpehu6pLmDEVE/mwg0u6VqSTXqvWw=";

    /// What the only peer in a file is called.
    fn name(file: &str) -> Option<String> {
        peer_names(&file.replace("KEY", KEY)).into_values().next()
    }

    #[test]
    fn every_tool_is_understood() {
        for (file, expected) in [
            ("[Peer]\n# friendly_name = Ann's phone\nPublicKey = KEY", Some("Ann's phone")),
            ("[Peer]\n#friendly_json={\"username\":\"Ann\",\"id\":1}\nPublicKey=KEY", Some("Ann")),
            ("[Peer]\n# Name = ann\nPublicKey = KEY", Some("ann")),
            ("[Peer]\n# Name: ann\nPublicKey = KEY", Some("ann")),
            ("[Peer]\n#! Name = ann\nPublicKey = KEY", Some("ann")),
            ("### Client ann\n[Peer]\nPublicKey = KEY", Some("ann")),
            ("# Client: ann (7f1e)\n[Peer]\nPublicKey = KEY", Some("ann")),
            ("# BEGIN_PEER ann\n[Peer]\nPublicKey = KEY\n# END_PEER ann", Some("ann")),
            ("### begin ann ###\n[Peer]\nPublicKey = KEY\n### end ann ###", Some("ann")),
            ("[Peer]\n#Name# = ann\nPublicKey = KEY", Some("ann")),
            ("# -WGP- Display name: ann\n# -WGP- x: y\n[Peer]\nPublicKey = KEY", Some("ann")),
            ("# ann\n[Peer]\nPublicKey = KEY", Some("ann")),
            ("[peer]\n# ann\npublickey = KEY # here", Some("ann")),
            ("# ann / ann@example.org / today\n[Peer]\nPublicKey = KEY", Some("ann")),
            // The one that says so is the one.
            ("# the first\n[Peer]\n# ann's\nPublicKey = KEY\n# Name = ann", Some("ann")),
            ("# before\n[Peer]\n# behind\nPublicKey = KEY", Some("behind")),
        ] {
            assert_eq!(name(file).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn not_every_comment_is_a_name() {
        for file in [
            "[Peer]\nPublicKey = KEY",
            "[Peer]\nPublicKey = KEY\n# a remark",
            "[Peer]\n# Endpoint = 192.0.2.1:1\nPublicKey = KEY",
            "#! Key = Value\n[Peer]\n#!x\nPublicKey = KEY",
            "# a remark\n\n[Peer]\nPublicKey = KEY",
            "[Peer]\n#\n# # #\nPublicKey = KEY",
            "[Interface]\n# ann\nPublicKey = KEY",
            "[Peer]\n# ann\nPublicKey = none",
        ] {
            assert_eq!(name(file), None, "{file}");
        }
    }

    #[test]
    fn each_peer_has_its_own_name_and_no_terminal_obeys_it() {
        let other = KEY.replace("4kH", "5kH");
        let file = format!(
            "[Peer]\n# \x1b[31mann\nPublicKey = {KEY}\n# bob\n[Peer]\nPublicKey = {other}\n"
        );
        let names: Vec<_> = peer_names(&file).into_values().collect();
        assert_eq!(names, ["[31mann", "bob"]);
    }

    #[test]
    fn a_word_is_a_key_before_it_is_a_name() {
        let keys: Vec<_> =
            ["4kH", "5kH", "6kH", "7kH"].map(|start| KEY.replace("4kH", start)).into();
        let file: String = (keys.iter().zip(["Ann", "ann", "Bob", &keys[0]]))
            .map(|(key, name)| format!("[Peer]\n# Name: {name}\nPublicKey = {key}\n"))
            .collect();
        let names = peer_names(&file);
        let find = |word: &str| find_peer(&names, word.as_bytes());
        let peer = |number: usize| PublicKey(*key::from_base64(&keys[number]).unwrap());
        assert_eq!(find("ann"), Ok(peer(1)));
        assert_eq!(find("bob"), Ok(peer(2)));
        assert_eq!(find(&keys[0]), Ok(peer(0)));
        assert_eq!(find("ANN"), Err(NoSuchPeer::Ambiguous(vec![peer(0), peer(1)])));
        assert_eq!(find("Al"), Err(NoSuchPeer::Unknown));
        assert_eq!(find_peer(&Names::new(), keys[3].as_bytes()), Ok(peer(3)));
    }
}
