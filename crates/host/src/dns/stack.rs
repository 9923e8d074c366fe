//! The tunnels that want the same place, and what each wrote there or is about to.

use std::fmt;
use std::net::IpAddr;

use super::{Domain, Settings};

/// What one tunnel wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    link: String,
    boot: String,
    /// All that is to be there.
    pub(super) text: String,
}

impl Entry {
    /// The heading, and behind it what a link wants, as resolv.conf(5) has it.
    pub(super) fn new(link: &str, boot: String, heading: String, settings: &Settings) -> Self {
        let mut text = heading;
        for server in &settings.servers {
            let is_of_link = matches!(server, IpAddr::V6(it) if it.is_unicast_link_local());
            let zone = if is_of_link { format!("%{link}") } else { String::new() };
            text += &format!("nameserver {server}{zone}\n");
        }
        if !settings.search.is_empty() {
            let domains: Vec<&str> = settings.search.iter().map(Domain::as_str).collect();
            text += &format!("search {}\n", domains.join(" "));
        }
        Self { link: link.into(), boot, text }
    }
}

/// Entries, the topmost last. As text: a line with the name of the link and of the boot, and its
/// lines, each behind a tab.
#[derive(Default)]
pub(super) struct Stack(Vec<Entry>);

impl Stack {
    /// Lines that mean nothing are passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for line in text.lines() {
            if let Some(line) = line.strip_prefix('\t') {
                if let Some(entry) = entries.last_mut() {
                    entry.text.push_str(line);
                    entry.text.push('\n');
                }
            } else if let Some((link, boot)) = line.split_once(' ') {
                let (link, boot) = (link.into(), boot.into());
                entries.push(Entry { link, boot, text: String::new() });
            }
        }
        Self(entries)
    }

    pub(super) fn top(&self) -> Option<&Entry> {
        self.0.last()
    }

    pub(super) fn contains(&self, entry: &Entry) -> bool {
        self.0.contains(entry)
    }

    /// The servers that a tunnel wanted there.
    pub(super) fn servers_of(&self, link: &str) -> Vec<IpAddr> {
        let entries = self.0.iter().filter(|entry| entry.link == link);
        let words = entries.flat_map(|entry| entry.text.lines());
        words.filter_map(|line| line.strip_prefix("nameserver ")?.parse().ok()).collect()
    }

    pub(super) fn has(&self, link: &str) -> bool {
        self.0.iter().any(|entry| entry.link == link)
    }

    /// What the tunnels wrote, or were about to.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entry| &*entry.text)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// An older entry of the same tunnel stays until this one is written.
    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    /// Leaves of the entries of the topmost tunnel only that one, and of the others those of the
    /// same boot: an older one's tunnels are gone.
    pub(super) fn settle(&mut self) {
        if let Some(top) = self.0.pop() {
            self.0.retain(|entry| entry.link != top.link && entry.boot == top.boot);
            self.0.push(top);
        }
    }

    /// Leaves those of other tunnels of this boot.
    pub(super) fn remove(&mut self, link: &str, boot: &str) {
        self.0.retain(|entry| entry.link != link && entry.boot == boot);
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { link, boot, text } in &self.0 {
            writeln!(f, "{link} {boot}")?;
            text.lines().try_for_each(|line| writeln!(f, "\t{line}"))?;
        }
        Ok(())
    }
}
