//! Everything that is wrong with a file, at once.

mod interface;
mod overlap;
mod peer;
mod text;
mod value;

use std::collections::BTreeMap;

use super::key::likeliest;
use super::line::{Kind, Line, Section, lines, trim};
use super::problem::{Problem, Severity, may_hold_key, quoted};
use super::{Extensions, Key, Place};
use crate::quick;
use interface::Interface;
use overlap::Routes;
use peer::{Peer, Peers};

/// What matters of a file besides its content.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// The name of the file, from which the interface has its own. None: it comes from a pipe.
    pub name: Option<&'a str>,
    /// Why others than root can write to it, if so.
    pub writable: Option<&'a str>,
    /// Whether others than its owner can read it.
    pub readable: bool,
    /// Whether they can write to it.
    pub shared: bool,
}

/// Finds all that is wrong with a file, in the order of its lines. No secret is repeated.
///
/// What has no error here, `wg` and `wg-quick` accept too, as far as text can tell: whether the name
/// of a host, a service or a routing table exists is for the machine to say. Time and memory grow
/// with the file as sorting does. Beyond a thousand errors, and a thousand warnings, the others are
/// only counted.
#[must_use]
pub fn check(content: &[u8], around: &Surroundings<'_>) -> Vec<Problem> {
    if let Some(problem) = text::utf_16(content) {
        return vec![problem];
    }
    let mut check = Check::default();
    let text = content.strip_prefix(text::BYTE_ORDER_MARK);
    check.problems.extend(text.map(|_| text::byte_order_mark()));
    for line in lines(text.unwrap_or(content)) {
        check.line(&line);
    }
    check.end(around);
    check.problems.into_sorted()
}

/// What makes a file impossible to read: without a word of what it says in other lines.
pub(super) fn not_to_be_read(content: &[u8]) -> Vec<Problem> {
    if let Some(problem) = text::utf_16(content) {
        return vec![problem];
    }
    let mut problems = Problems::default();
    problems.extend(content.strip_prefix(text::BYTE_ORDER_MARK).map(|_| text::byte_order_mark()));
    for line in lines(content) {
        let mut known = Problems::default();
        text::Text::default().line(&line, &mut known);
        let errors = known.all.into_iter().filter(|problem| problem.severity == Severity::Error);
        errors.for_each(|problem| problems.push(problem));
        match line.kind {
            Kind::Unknown => problems.push(not_understood(&line)),
            Kind::Setting { key, .. } if Key::find(key).is_none() => {
                problems.push(unknown_key(line.number, key));
            }
            _ => {}
        }
    }
    problems.into_sorted()
}

/// What is known so far.
#[derive(Default)]
struct Check {
    problems: Problems,
    text: text::Text,
    extensions: Extensions,
    interface: Interface,
    peer: Option<Peer>,
    peers: Peers,
    routes: Routes,
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct At {
    line: usize,
    key: Key,
}

/// Scalar keys of the present section, with their lines.
type Seen = BTreeMap<Key, usize>;

impl Check {
    fn line(&mut self, line: &Line<'_>) {
        self.text.line(line, &mut self.problems);
        match line.kind {
            Kind::Blank => {}
            Kind::Comment | Kind::Extension { .. } => {
                self.interface.comment.get_or_insert(line.number);
                self.problems.extend(self.extensions.take(line));
            }
            Kind::Head { .. } => self.head(line),
            Kind::Unknown => {
                self.problems.push(not_understood(line));
                if trim(line.text).starts_with(b"[") {
                    self.head(line);
                }
            }
            Kind::Setting { key, value, .. } => self.setting(line, key, value),
        }
    }

    fn head(&mut self, line: &Line<'_>) {
        self.end_peer();
        match line.section {
            Section::Interface => self.interface.begin(line.number, &mut self.problems),
            Section::Peer(_) => self.peer = Some(Peer::new(line.number)),
            Section::None => {}
        }
    }

    fn end_peer(&mut self) {
        if let Some(peer) = self.peer.take() {
            peer.end(&mut self.problems);
        }
    }

    fn setting(&mut self, line: &Line<'_>, name: &[u8], value: &[u8]) {
        let number = line.number;
        let Some(key) = Key::find(name) else {
            return self.problems.push(unknown_key(number, name));
        };
        if line.section.place() != Some(key.place()) {
            let what = format!("`{}' does not belong here", key.name());
            let instead = format!("write it below {}", key.place().head());
            return self.problems.push(Problem::error(number, "key-misplaced", what, instead));
        }
        if value.is_empty() {
            let what = format!("`{}' has no value", key.name());
            let instead = "write one behind `=', or remove the line";
            return self.problems.push(Problem::error(number, "value-missing", what, instead));
        }
        let at = At { line: number, key };
        match &mut self.peer {
            Some(peer) => {
                peer.setting(at, value, &mut self.peers, &mut self.routes, &mut self.problems);
            }
            None => self.interface.setting(at, value, &mut self.problems),
        }
    }

    fn end(&mut self, around: &Surroundings<'_>) {
        self.end_peer();
        self.text.end(&mut self.problems);
        self.interface.end(around, &self.peers, &mut self.problems);
        self.peers.end(self.interface.private_key(), &mut self.problems);
        if !self.interface.routes_nothing() {
            self.routes.full_tunnel(&mut self.problems);
        }
        if !self.interface.may_steer() {
            self.routes.circles(&mut self.problems);
        }
        std::mem::take(&mut self.routes).overlaps(&mut self.problems);
        self.problems.extend(around.name.and_then(file_name));
    }
}

/// A name of a file that no interface can have: one that programs would take for something else, too.
fn file_name(name: &str) -> Option<Problem> {
    let interface = quick::interface(name.as_ref());
    let is_odd = |name: &str| name.starts_with('-') || matches!(name, "." | "..");
    if interface.is_some_and(|name| !is_odd(name)) {
        return None;
    }
    let what = format!("{} is no name for an interface", quoted(name.as_bytes()));
    let instead = "call the file NAME.conf, NAME being 1 to 15 letters, digits or `_=+.-', which \
                   begins with a letter";
    Some(Problem::error(1, "interface-name", what, instead))
}

/// What was found, of each severity up to a number.
#[derive(Default)]
struct Problems {
    all: Vec<Problem>,
    /// How many there are, also of those that are not kept.
    numbers: BTreeMap<Severity, usize>,
}

impl Problems {
    const MOST: usize = 1000;

    fn push(&mut self, problem: Problem) {
        let number = self.numbers.entry(problem.severity).or_default();
        *number += 1;
        if *number <= Self::MOST {
            self.all.push(problem);
        }
    }

    fn extend(&mut self, problem: Option<Problem>) {
        problem.into_iter().for_each(|problem| self.push(problem));
    }

    /// A key that should be there once is there again.
    fn repeated(&mut self, at: At, seen: &mut Seen) {
        let Some(first) = seen.insert(at.key, at.line) else { return };
        let name = at.key.name();
        self.push(if at.key == Key::PublicKey {
            let what = format!("this peer has a `{name}' already, in line {first}");
            let instead = "write [Peer] above each peer";
            Problem::error(at.line, "key-repeated", what, instead)
        } else {
            let what = format!("`{name}' stands in line {first} already, and this one counts");
            Problem::warning(at.line, "key-repeated", what, "keep one of them")
        });
    }

    fn into_sorted(mut self) -> Vec<Problem> {
        self.all.sort_by_key(|problem| problem.line);
        let last = self.all.last().map_or(1, |problem| problem.line);
        let many = self.numbers.into_iter().filter(|(_, number)| *number > Self::MOST);
        let more = many.map(|(severity, number)| {
            let what = format!("{}s that are not shown: {}", severity.name(), number - Self::MOST);
            Problem { severity, ..Problem::error(last, "more", what, "mend these first") }
        });
        self.all.extend(more);
        self.all
    }
}

fn unknown_key(line: usize, name: &[u8]) -> Problem {
    let instead = match likeliest(name, Key::ALL.into_iter().map(Key::name)) {
        Some(key) => format!("did you mean `{key}'?"),
        None if may_hold_key(name) => return no_setting(line, "this line"),
        None if Extensions::KEYS
            .iter()
            .any(|(key, _)| name.eq_ignore_ascii_case(key.as_bytes())) =>
        {
            format!("write `#! {}', so that other tools take it for a comment", text::lossy(name))
        }
        None => "remove it, or write `#' before it".to_owned(),
    };
    Problem::error(line, "key-unknown", format!("there is no key {}", quoted(name)), instead)
}

/// A line that is neither a section nor a setting. It may be a secret that lost its key.
fn not_understood(line: &Line<'_>) -> Problem {
    let text = trim(line.text);
    let word = text.split(|&byte| crate::wg::is_space(byte)).next().unwrap_or_default();
    if word.starts_with(b"[") {
        let section = word.split(|&byte| byte == b'#').next().unwrap_or_default();
        let head = likeliest(section, [Place::Interface, Place::Peer].into_iter().map(Place::head));
        let instead = match head {
            Some(head) => format!("write {head}"),
            None => "there are [Interface] and [Peer]".to_owned(),
        };
        let what = format!("there is no section {}", quoted(section));
        return Problem::error(line.number, "section-unknown", what, instead);
    }
    let word = if may_hold_key(word) { "this line".to_owned() } else { quoted(word) };
    no_setting(line.number, &word)
}

fn no_setting(line: usize, what: &str) -> Problem {
    let instead = "write `Key = Value', or `#' before a remark";
    Problem::error(line, "line-unknown", format!("{what} is no setting"), instead)
}
