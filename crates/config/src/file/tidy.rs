//! The same file, written tidily: nothing is lost, nothing means anything else.

use zeroize::Zeroizing;

use super::check::not_to_be_read;
use super::line::{Kind, Line, Section, lines, trim};
use super::{Extensions, Key, Problem};

/// Writes every line in the usual way: keys in their usual case, one space around `=` and behind
/// commas, no space at the ends of lines, one blank line at most in a row and one before a section,
/// LF at the end of each line. Comments, order, values and the names of hosts stay.
///
/// # Errors
///
/// What stands in lines that are not understood: nobody knows what would be lost.
pub fn tidy(content: &[u8]) -> Result<Zeroizing<Vec<u8>>, Vec<Problem>> {
    let problems = not_to_be_read(content);
    if !problems.is_empty() {
        return Err(problems);
    }
    // A line grows by less than itself and a few spaces. With room for all, no copy of a key is left
    // behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(content.len() * 4 + 16));
    let mut above = Above::Nothing;
    let mut gap = false;
    for line in lines(content) {
        let now = match line.kind {
            Kind::Blank => {
                gap = true;
                continue;
            }
            Kind::Head { .. } if above == Above::Text => Above::Section,
            Kind::Comment | Kind::Extension { .. } => Above::Comment,
            _ => Above::Text,
        };
        // A comment right above a section belongs to it.
        if gap && above != Above::Nothing || now == Above::Section {
            text.push(b'\n');
        }
        write(&mut text, &line);
        text.push(b'\n');
        (above, gap) = (if now == Above::Comment { now } else { Above::Text }, false);
    }
    Ok(text)
}

/// What the last line was that is not blank.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Above {
    Nothing,
    Comment,
    Text,
    /// Not above yet: a section that begins behind text.
    Section,
}

fn write(text: &mut Vec<u8>, line: &Line<'_>) {
    match line.kind {
        Kind::Head { comment } => {
            let head = if line.section == Section::Interface { "[Interface]" } else { "[Peer]" };
            text.extend_from_slice(head.as_bytes());
            append(text, comment);
        }
        Kind::Setting { key, value, comment } => {
            let known = Key::find(key);
            let name = known.map_or(key, |key| key.name().as_bytes());
            text.extend_from_slice(name);
            text.extend_from_slice(b" =");
            // Where it does not belong, a list is not one for `wg`.
            match known.filter(|key| line.section.place() == Some(key.place())) {
                Some(Key::Address | Key::Dns) => words(text, value, of_list(value)),
                // What `wg` would refuse is not mended in silence.
                Some(Key::AllowedIps) if !has_gap(value) => {
                    words(text, value, value.split(|&byte| byte == b',').map(trim));
                }
                _ => append(text, value),
            }
            append(text, comment);
        }
        Kind::Extension { key, value } => {
            let known = Extensions::KEYS.iter().map(|(name, _)| *name);
            let known = known.into_iter().find(|name| key.eq_ignore_ascii_case(name.as_bytes()));
            text.extend_from_slice(b"#! ");
            text.extend_from_slice(known.map_or(key, str::as_bytes));
            text.extend_from_slice(b" =");
            match known {
                Some("ExcludeIPs" | "DNS") => words(text, value, of_list(value)),
                _ => append(text, value),
            }
        }
        Kind::Blank | Kind::Comment | Kind::Unknown => text.extend_from_slice(trim(line.text)),
    }
}

/// Words with commas or spaces between them.
fn of_list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| matches!(byte, b',' | b' ' | b'\t'))
}

/// Whether there is nothing before, between or behind commas.
fn has_gap(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|word| trim(word).is_empty())
}

fn append(text: &mut Vec<u8>, part: &[u8]) {
    if !part.is_empty() {
        text.push(b' ');
        text.extend_from_slice(part);
    }
}

/// A list, one space behind each comma.
fn words<'a>(text: &mut Vec<u8>, value: &[u8], words: impl Iterator<Item = &'a [u8]>) {
    let mut words = words.filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        append(text, value);
    }
    while let Some(word) = words.next() {
        append(text, word);
        if words.peek().is_some() {
            text.push(b',');
        }
    }
}
