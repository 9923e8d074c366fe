//! DNS for a tunnel: whoever answers this machine's programs is told of the tunnel's servers, and
//! later told to forget them.
//!
//! [`choose`] looks and changes nothing. Its [`Plan`] says in words what will be done and why; the
//! plan's [`Record`] is to be written down first, then the plan applied. The record alone undoes it,
//! in whatever process, and however much of it was done.

mod file;
mod settings;
mod stack;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use file::File;

use crate::Error;
use crate::resolvconf::Resolvconf;

pub use settings::{Domain, Misread, Settings};

/// What the programs of this machine read (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where that file is kept while a tunnel has it.
const KEPT: &str = "/var/lib/adit/dns";

/// What will be done for one link, and why in this way.
#[derive(Clone, Debug)]
pub struct Plan {
    settings: Settings,
    record: Record,
    because: String,
}

/// What was done for one link, or may have been: enough to undo it. It is written as one line of
/// text, and read back from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    link: String,
    backend: Backend,
}

/// Who answers, and what has to be known to tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Backend {
    Resolvconf(Resolvconf),
    /// With the place where the file is kept, which tells files apart.
    File(PathBuf),
}

/// Finds out who answers the programs of this machine, and whether that can give a link what it
/// wants. The link need not exist yet.
///
/// # Errors
///
/// That it cannot, and what to do about it.
pub fn choose(link: &str, settings: &Settings) -> Result<Plan, Error> {
    let refused = |cause| Error::new(attempt(link), cause);
    let plan = |backend, because: &str| Plan {
        settings: settings.clone(),
        record: Record { link: link.into(), backend },
        because: because.into(),
    };
    if let Ok(resolvconf) = Resolvconf::find(link) {
        may_ask_for_all(settings, "the program resolvconf").map_err(refused)?;
        return Ok(plan(Backend::Resolvconf(resolvconf), "it is installed"));
    }
    may_ask_for_all(settings, RESOLV_CONF).map_err(refused)?;
    let file = resolv_conf();
    file.check().map_err(refused)?;
    Ok(plan(Backend::File(file.state().into()), "nobody else looks after it"))
}

impl Plan {
    /// To be written down before the plan is applied.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Tells whoever answers. The link exists and is up. Applying a plan again, or another of the
    /// same link in its place, replaces what was told. Says what has to be known of it, usually
    /// nothing.
    ///
    /// # Errors
    ///
    /// That it was refused; then perhaps a part was done, which the record undoes.
    pub fn apply(&self) -> Result<String, Error> {
        let Self { settings, record: Record { link, backend }, .. } = self;
        match backend {
            Backend::Resolvconf(resolvconf) => {
                let words = |items: &[String]| items.to_vec();
                let servers: Vec<_> = settings.servers.iter().map(ToString::to_string).collect();
                let search: Vec<_> = settings.search.iter().map(ToString::to_string).collect();
                resolvconf.set(&words(&servers), &words(&search))
            }
            Backend::File(_) => {
                let done = resolv_conf().apply(link, settings);
                done.map(|()| String::new()).map_err(|cause| Error::new(attempt(link), cause))
            }
        }
    }

    /// Whether what was told still holds.
    pub fn is_applied(&self) -> Result<bool, Error> {
        let Self { settings, record: Record { link, backend }, .. } = self;
        match backend {
            Backend::Resolvconf(resolvconf) => {
                let servers = resolvconf.servers()?;
                Ok(settings.servers.iter().map(ToString::to_string).eq(servers))
            }
            Backend::File(_) => {
                let holds = resolv_conf().is_applied(link, settings);
                holds.map_err(|cause| Error::new(format!("look for the DNS of {link}"), cause))
            }
        }
    }
}

impl Record {
    /// Tells whoever answers to forget the link, which may be gone. What somebody else has changed
    /// since is left alone. Says what has to be known of it, usually nothing.
    pub fn undo(&self) -> Result<String, Error> {
        let Self { link, backend } = self;
        match backend {
            Backend::Resolvconf(resolvconf) => resolvconf.remove(),
            Backend::File(state) => {
                let file = resolv_conf();
                if file.state() != state {
                    return Ok(format!(
                        "{RESOLV_CONF} is left alone: it is not the file that was written for \
                         {link}, which is kept in {}",
                        state.display()
                    ));
                }
                let done = file.undo(link);
                done.map_err(|cause| Error::new(format!("undo the DNS of {link}"), cause))
            }
        }
    }
}

fn resolv_conf() -> File {
    File::new(Path::new(RESOLV_CONF), Path::new(KEPT))
}

fn attempt(link: &str) -> String {
    format!("set the DNS of {link}")
}

/// Some can only be told of servers for all names. To tell them so when only some names are wanted
/// would show all others to servers that they are not meant for.
fn may_ask_for_all(settings: &Settings, who: &str) -> io::Result<()> {
    let Some(domain) = settings.routes.first().filter(|_| !settings.default) else {
        return Ok(());
    };
    Err(io::Error::other(format!(
        "{who} cannot send only the names below {domain} to the tunnel: install systemd-resolved, \
         or ask the tunnel for all names by leaving out `~{domain}'"
    )))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, record, because } = self;
        write!(f, "{settings}, by {}, because {because}", record.backend)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolvconf(_) => f.write_str("resolvconf"),
            Self::File(_) => f.write_str(RESOLV_CONF),
        }
    }
}

/// A line for a journal: who, the link, and what else has to be known.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = &self.link;
        match &self.backend {
            Backend::Resolvconf(it) => {
                write!(f, "resolvconf {link} {} {}", it.record(), it.program().display())
            }
            Backend::File(state) => write!(f, "file {link} {}", state.display()),
        }
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
        let mut word = || words.next().filter(|word| !word.is_empty()).ok_or(NotARecord);
        let (who, link, rest) = (word()?, word()?.to_owned(), word());
        let backend = match who {
            "resolvconf" => {
                let (record, program) = rest?.split_once(' ').ok_or(NotARecord)?;
                Backend::Resolvconf(Resolvconf::new(program.into(), record.into()))
            }
            "file" => Backend::File(rest?.into()),
            _ => return Err(NotARecord),
        };
        Ok(Self { link, backend })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_from_its_line() {
        for line in ["resolvconf wg0 tun.wg0 /sbin/resolv conf", "file wg0 /var/lib/adit/dns/etc"] {
            assert_eq!(line.parse::<Record>().map(|it| it.to_string()), Ok(line.into()));
        }
        for line in ["", "file", "file wg0", "file  /var", "resolvconf wg0 tun.wg0", "else wg0 x"] {
            assert_eq!(line.parse::<Record>(), Err(NotARecord), "{line}");
        }
    }
}
