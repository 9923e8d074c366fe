//! DNS for a tunnel: whoever answers this machine's programs is told of the tunnel's servers, and
//! later told to forget them.
//!
//! [`choose`] looks and changes nothing. Its [`Plan`] says in words what will be done and why; the
//! plan's [`Record`] is to be written down first, then the plan applied. The record alone undoes it,
//! in whatever process, and however much of it was done.

mod backend;
mod dbus;
mod file;
mod network_manager;
mod outside;
mod resolved;
mod settings;
mod stack;
mod turns;
mod watch;
mod who;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use backend::Backend;

use crate::Error;

pub use outside::{Outside, servers_besides};
pub use settings::{Domain, Misread, Settings};
pub use watch::Watch;

/// What will be done for one link, and why in this way. Reads as "ask 10.0.0.1 for all names, by
/// systemd-resolved, because /etc/resolv.conf leads to it".
#[derive(Clone, Debug)]
pub struct Plan {
    settings: Settings,
    record: Record,
    because: &'static str,
}

/// What was done for one link, or may have been: enough to undo it. It is written as one line of
/// text, and read back from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    link: String,
    backend: Backend,
}

/// How long somebody who answers for names is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It may have to be started first, and nothing is done before.
    Long,
    /// Others wait for us, or it is only looked at.
    Short,
    /// It has just answered, and is told something.
    Telling,
}

impl Patience {
    fn time(self) -> Duration {
        Duration::from_secs(match self {
            Self::Long => 15,
            Self::Short => 2,
            Self::Telling => 5,
        })
    }
}

/// Finds out who answers the programs of this machine, and whether that can give a link what it
/// wants. The link need not exist yet.
///
/// # Errors
///
/// That it cannot, and what to do about it.
pub fn choose(link: &str, settings: &Settings, patience: Patience) -> Result<Plan, Error> {
    let (backend, because) = Backend::choose(link, settings, patience.time())
        .map_err(|cause| Error::new(attempt(link), cause))?;
    let record = Record { link: link.into(), backend };
    Ok(Plan { settings: settings.clone(), record, because })
}

impl Plan {
    /// One that was chosen before.
    pub fn again(settings: &Settings, record: &Record) -> Self {
        let (settings, record) = (settings.clone(), record.clone());
        Self { settings, record, because: "it was chosen before" }
    }

    /// What is wanted.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Why it is this one who is told, as a sentence.
    pub fn because(&self) -> &'static str {
        self.because
    }

    /// To be written down before the plan is applied.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Tells whoever answers. The link exists, is up and has its addresses. A plan that is applied
    /// again, or another one of the same link, replaces what was told. Says what has to be known of
    /// it, usually nothing.
    ///
    /// # Errors
    ///
    /// That it was refused. A part may be done then, which the record undoes.
    pub fn apply(&self) -> Result<String, Error> {
        let Record { link, backend } = &self.record;
        backend.apply(link, &self.settings).map_err(|cause| Error::new(attempt(link), cause))
    }

    /// Whether what was told still holds. Where tunnels take turns, it does while this one's is still
    /// to come. Whoever does not even run holds nothing, and whoever does not answer is not waited for long.
    pub fn is_applied(&self) -> Result<bool, Error> {
        let Record { link, backend } = &self.record;
        let holds = backend.is_applied(link, &self.settings, Patience::Short.time());
        holds.map_err(|cause| Error::new(format!("look for the DNS of {link}"), cause))
    }
}

impl Record {
    /// The link that it is about.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Who is told: the name of a program, or of a file.
    pub fn who(&self) -> &'static str {
        self.backend.name()
    }

    /// Whether nobody has to be told to forget it: it was forgotten with the link, which has gone.
    pub fn is_forgotten(&self) -> bool {
        self.backend.has_forgotten(&self.link)
    }

    /// Tells whoever answers to forget the link, which may be gone. What somebody else has changed
    /// since is left alone. Says what has to be known of it, usually nothing.
    ///
    /// # Errors
    ///
    /// That it was refused; the record is still needed then.
    pub fn undo(&self) -> Result<String, Error> {
        let Self { link, backend } = self;
        backend.undo(link).map_err(|cause| Error::new(format!("undo the DNS of {link}"), cause))
    }
}

/// Reads bytes as everything that is read here of others (`crate::readers`).
pub(crate) fn try_readers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    dbus::is_message(bytes);
    outside::try_readers(bytes);
    who::names_are_resolved_by(&text);
    // Of an end of a line of another system, `str::lines` leaves nothing.
    let stack = stack::Stack::parse(&text.replace('\r', ""));
    let again = stack::Stack::parse(&stack.to_string());
    assert_eq!(again.to_string(), stack.to_string(), "what was written is read as something else");
}

fn attempt(link: &str) -> String {
    format!("set the DNS of {link}")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, record, because } = self;
        write!(f, "{settings}, by {}, because {because}", record.who())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, rest) = self.backend.to_words();
        write!(f, "{who} {}{rest}", self.link)
    }
}

/// As its line.
impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A line that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARecord;

impl fmt::Display for NotARecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a record of DNS")
    }
}

impl std::error::Error for NotARecord {}

impl FromStr for Record {
    type Err = NotARecord;

    fn from_str(line: &str) -> Result<Self, NotARecord> {
        let mut words = line.splitn(3, ' ');
        let (who, link) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let backend = Backend::from_words(who, words.next())?;
        match link.is_empty() {
            true => Err(NotARecord),
            false => Ok(Self { link: link.into(), backend }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_from_its_line() {
        for line in [
            "resolved wg0",
            "networkmanager wg0",
            "resolvconf wg0 tun.wg0 /sbin/resolv conf",
            "file wg0 /var/lib/adit/dns/etc",
        ] {
            assert_eq!(line.parse::<Record>().map(|it| it.to_string()), Ok(line.into()));
        }
        for line in ["", "resolved", "file", "file wg0", "file  /x", "resolvconf wg0 x", "x wg0 x"]
        {
            assert_eq!(line.parse::<Record>(), Err(NotARecord), "{line}");
        }
    }
}
