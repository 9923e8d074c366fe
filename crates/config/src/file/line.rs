//! One line after the other: what each is, and which section it is in.

use super::{Key, Place};
use crate::wg::{self, is_space, without_space};

/// A line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Counted from 1.
    pub number: usize,
    /// All of it, without its end.
    pub text: &'a [u8],
    /// Whether it ends in CR and LF instead of LF.
    pub returned: bool,
    /// Where it stands.
    pub section: Section,
    /// What it is.
    pub kind: Kind<'a>,
}

/// The section that a line belongs to. The head of a section belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Before the first one, or in one of a name that nobody knows.
    None,
    /// `[Interface]`.
    Interface,
    /// `[Peer]`: which of them, counted from 0.
    Peer(usize),
}

impl Section {
    /// Which keys belong there.
    #[must_use]
    pub fn place(self) -> Option<Place> {
        match self {
            Self::None => None,
            Self::Interface => Some(Place::Interface),
            Self::Peer(_) => Some(Place::Peer),
        }
    }
}

/// What a line is. No part has white space at its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// White space at most.
    Blank,
    /// Only a comment, and none of the next sort.
    Comment,
    /// `#! Key = Value`: a comment for everybody else, a setting for us.
    Extension {
        /// What is before `=`.
        key: &'a [u8],
        /// What is behind it.
        value: &'a [u8],
    },
    /// `[Interface]` or `[Peer]`, in any case.
    Head {
        /// A comment behind it, which begins with `#`, or nothing.
        comment: &'a [u8],
    },
    /// `Key = Value`.
    Setting {
        /// What is before `=`.
        key: &'a [u8],
        /// What is behind it; may be empty.
        value: &'a [u8],
        /// A comment behind that, which begins with `#`, or nothing. A hook has none: what `#`
        /// means there is for the shell to say.
        comment: &'a [u8],
    },
    /// Nothing that `wg` and `wg-quick` both understand.
    Unknown,
}

/// Cuts a file into its lines.
pub fn lines(content: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut section = Section::None;
    let mut peers = 0;
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    content.split(|&byte| byte == b'\n').enumerate().map(move |(before, text)| {
        let (returned, text) = match text.strip_suffix(b"\r") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (head, kind) = read(text);
        match head {
            Some(Head::Interface) => section = Section::Interface,
            Some(Head::Peer) => {
                section = Section::Peer(peers);
                peers += 1;
            }
            Some(Head::Other) => section = Section::None,
            None => {}
        }
        Line { number: before + 1, text, returned, section, kind }
    })
}

enum Head {
    Interface,
    Peer,
    Other,
}

fn read(text: &[u8]) -> (Option<Head>, Kind<'_>) {
    let (whole, comment) = cut(text, b'#');
    if whole.is_empty() {
        return (None, remark(comment));
    }
    if whole.starts_with(b"[") {
        // Space inside is nothing to `wg`, but `wg-quick` does not know the section then.
        let name = without_space(whole).to_ascii_lowercase();
        let head = match &*name {
            b"[interface]" => Head::Interface,
            b"[peer]" => Head::Peer,
            _ => return (Some(Head::Other), Kind::Unknown),
        };
        let is_plain = name.len() == whole.len();
        return (Some(head), if is_plain { Kind::Head { comment } } else { Kind::Unknown });
    }
    let (key, rest) = cut(whole, b'=');
    let Some(value) = rest.strip_prefix(b"=") else {
        return (None, Kind::Unknown);
    };
    let kind = if Key::find(key).is_some_and(Key::is_hook) {
        let (_, command) = cut(text, b'=');
        let command = command.strip_prefix(b"=").unwrap_or_default();
        Kind::Setting { key, value: trim(command), comment: b"" }
    } else {
        Kind::Setting { key, value: trim(value), comment }
    };
    (None, kind)
}

/// A line that is nothing but a comment, or not even that.
fn remark(comment: &[u8]) -> Kind<'_> {
    let extension = comment.strip_prefix(b"#!").map(|text| cut(text, b'='));
    match extension {
        _ if comment.is_empty() => Kind::Blank,
        Some((key, [b'=', value @ ..])) => Kind::Extension { key, value: trim(value) },
        _ => Kind::Comment,
    }
}

/// What is before the first such byte, and the rest from there on.
fn cut(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    let position = text.iter().position(|&byte| byte == at).unwrap_or(text.len());
    let (before, rest) = text.split_at(position);
    (trim(before), trim(rest))
}

/// Without the white space at both ends.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    wg::trim(text, is_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting<'a>(key: &'a str, value: &'a str, comment: &'a str) -> Kind<'a> {
        let [key, value, comment] = [key, value, comment].map(str::as_bytes);
        Kind::Setting { key, value, comment }
    }

    #[test]
    fn each_line_is_what_it_looks_like() {
        for (line, expected) in [
            ("", Kind::Blank),
            (" \t\r", Kind::Blank),
            ("# a = b", Kind::Comment),
            ("  #! Guard = off # not", Kind::Extension { key: b"Guard", value: b"off # not" }),
            ("#!Guard=", Kind::Extension { key: b"Guard", value: b"" }),
            ("#!/bin/sh", Kind::Comment),
            ("[interface] # x", Kind::Head { comment: b"# x" }),
            ("[PEER]\r", Kind::Head { comment: b"" }),
            ("[ Peer ]", Kind::Unknown),
            ("[Peer]x", Kind::Unknown),
            ("MTU=1#2", setting("MTU", "1", "#2")),
            (" a b = c = d ", setting("a b", "c = d", "")),
            ("=x", setting("", "x", "")),
            ("PostUp = a # b ; c=d\t", setting("PostUp", "a # b ; c=d", "")),
            ("postup=", setting("postup", "", "")),
            ("PostUp # = a", Kind::Unknown),
            ("MTU", Kind::Unknown),
            ("\u{feff}[Interface]", Kind::Unknown),
        ] {
            let found: Vec<_> = lines(line.as_bytes()).map(|line| line.kind).collect();
            assert_eq!(found, [expected], "{line:?}");
        }
    }

    #[test]
    fn a_head_begins_a_section_and_an_unknown_one_ends_it() {
        let content = "a\n[Interface]\nb\n[Peer]\n[peer]\nc\n[Other]\nd\n[Peer]\n";
        let sections: Vec<_> = lines(content.as_bytes()).map(|line| line.section).collect();
        use Section::{Interface, None, Peer};
        assert_eq!(
            sections,
            [None, Interface, Interface, Peer(0), Peer(1), Peer(1), None, None, Peer(2)]
        );
    }

    #[test]
    fn lines_end_where_a_person_sees_them_end() {
        for (content, expected) in [
            ("", vec![""]),
            ("\n", vec![""]),
            ("a\nb", vec!["a", "b"]),
            ("a\r\n\r\nb\r\n", vec!["a", "", "b"]),
            ("a\n\n", vec!["a", ""]),
        ] {
            let texts: Vec<_> = lines(content.as_bytes()).map(|line| line.text).collect();
            let expected: Vec<_> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(texts, expected, "{content:?}");
        }
    }
}
