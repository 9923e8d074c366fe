//! Who is told of a tunnel's servers: the choice among them, and how to tell each.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::turns::Turns;
use super::who::{Who, is_of_more_than_this_network, names_are_resolved};
use super::{NotARecord, Patience, Settings, file, network_manager, resolved};
use crate::Error;
use crate::resolvconf::Resolvconf;

/// What the programs of this machine read (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where is kept what a tunnel took the place of.
const KEPT: &str = "/var/lib/adit/dns";

/// One of them, with what has to be known to undo what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Resolved,
    NetworkManager,
    Resolvconf(Resolvconf),
    /// With the folder where the file is kept, which tells files apart.
    File(PathBuf),
}

impl Backend {
    /// Finds out who it has to be, and whether that can do it: the backend, and why this one.
    /// Changes nothing.
    pub(super) fn choose(
        link: &str,
        settings: &Settings,
        patience: Duration,
    ) -> io::Result<(Self, &'static str)> {
        if is_of_more_than_this_network(Path::new(RESOLV_CONF)) {
            return Err(io::Error::other(OTHERS_TOO));
        }
        let who = Who::wrote(Path::new(RESOLV_CONF));
        if who == Who::Resolved {
            resolved::check(patience)?;
            return Ok((Self::Resolved, "/etc/resolv.conf leads to it"));
        }
        if names_are_resolved() && resolved::runs(patience) {
            return Err(io::Error::other(TWO_ANSWER));
        }
        if who == Who::NetworkManager && network_manager::writes_resolv_conf(patience)? {
            must_be_default(settings, "NetworkManager")?;
            network_manager::turns(Path::new(KEPT), patience).check()?;
            return Ok((Self::NetworkManager, "it has generated /etc/resolv.conf"));
        }
        if who == Who::Openresolv
            && let Ok(resolvconf) = Resolvconf::find(link)
        {
            must_be_default(settings, "resolvconf")?;
            resolvconf.check(patience).map_err(|error| hangs(&resolvconf, &error))?;
            return Ok((Self::Resolvconf(resolvconf), "it has generated /etc/resolv.conf"));
        }
        must_be_default(settings, RESOLV_CONF)?;
        let file = resolv_conf();
        file.check()?;
        let because = match who {
            Who::List => "it leads to a list that others' servers are in, too",
            _ => "nobody else looks after it",
        };
        Ok((Self::File(file.state().into()), because))
    }

    pub(super) fn apply(&self, link: &str, settings: &Settings) -> io::Result<String> {
        let silently = |()| String::new();
        match self {
            Self::Resolved => resolved::apply(link, settings),
            Self::NetworkManager => network_manager().apply(link, settings).map(silently),
            Self::Resolvconf(resolvconf) => {
                let servers: Vec<_> = settings.servers.iter().map(ToString::to_string).collect();
                let search: Vec<_> = settings.search.iter().map(ToString::to_string).collect();
                resolvconf.set(&servers, &search).map_err(io::Error::other)
            }
            Self::File(_) => resolv_conf().apply(link, settings).map(silently),
        }
    }

    pub(super) fn is_applied(
        &self,
        link: &str,
        settings: &Settings,
        patience: Duration,
    ) -> io::Result<bool> {
        match self {
            Self::Resolved => resolved::is_applied(link, settings, patience),
            Self::NetworkManager => Ok(network_manager::runs(patience)
                && network_manager::turns(Path::new(KEPT), patience).is_applied(link, settings)?),
            Self::Resolvconf(resolvconf) => {
                // Without a record it says that it has failed.
                let servers = resolvconf.servers(patience).unwrap_or_default();
                Ok(settings.servers.iter().map(ToString::to_string).eq(servers))
            }
            Self::File(_) => resolv_conf().is_applied(link, settings),
        }
    }

    pub(super) fn undo(&self, link: &str) -> io::Result<String> {
        match self {
            Self::Resolved => resolved::undo(link).map(|()| String::new()),
            Self::NetworkManager if network_manager::has_gone() => {
                network_manager().leave(link).map(|()| String::new())
            }
            Self::NetworkManager => network_manager().undo(link),
            // Nobody reads its records any more.
            Self::Resolvconf(resolvconf) if !resolvconf.program().exists() => Ok(String::new()),
            Self::Resolvconf(resolvconf) => resolvconf.remove().map_err(io::Error::other),
            Self::File(kept) if resolv_conf().state() != kept => Ok(format!(
                "{RESOLV_CONF} is left alone: it is not the file that was written for {link}, which \
                 is kept in {}",
                kept.display()
            )),
            Self::File(_) => {
                let servers = resolv_conf().stack()?.servers_of(link);
                let said = resolv_conf().undo(link)?;
                let is_resolved = Who::wrote(Path::new(RESOLV_CONF)) == Who::Resolved;
                let remembered = if is_resolved { resolved::remembered(&servers) } else { None };
                let said = Some(said).filter(|said| !said.is_empty());
                Ok(said.into_iter().chain(remembered).collect::<Vec<_>>().join("; "))
            }
        }
    }

    /// Whether it knows nothing of a link any more, without being told.
    pub(super) fn has_forgotten(&self, link: &str) -> bool {
        *self == Self::Resolved && resolved::has_forgotten(link)
    }

    /// What users know it as.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Resolved => "systemd-resolved",
            Self::NetworkManager => "NetworkManager",
            Self::Resolvconf(_) => "resolvconf",
            Self::File(_) => RESOLV_CONF,
        }
    }

    /// What it is called in a record, and what else is written there.
    pub(super) fn to_words(&self) -> (&'static str, String) {
        match self {
            Self::Resolved => ("resolved", String::new()),
            Self::NetworkManager => ("networkmanager", String::new()),
            Self::Resolvconf(it) => {
                ("resolvconf", format!(" {} {}", it.record(), it.program().display()))
            }
            Self::File(kept) => ("file", format!(" {}", kept.display())),
        }
    }

    pub(super) fn from_words(who: &str, rest: Option<&str>) -> Result<Self, NotARecord> {
        match (who, rest) {
            ("resolved", None) => Ok(Self::Resolved),
            ("networkmanager", None) => Ok(Self::NetworkManager),
            ("resolvconf", Some(rest)) => {
                let (record, program) = rest.split_once(' ').ok_or(NotARecord)?;
                Ok(Self::Resolvconf(Resolvconf::new(program.into(), record.into())))
            }
            ("file", Some(kept)) => Ok(Self::File(kept.into())),
            _ => Err(NotARecord),
        }
    }
}

const OTHERS_TOO: &str = "/etc/resolv.conf belongs to the whole machine, but the link only to a network \
                          namespace: mount another file there, as `ip netns exec NAME' does with \
                          /etc/netns/NAME/resolv.conf";
const TWO_ANSWER: &str = "some programs ask systemd-resolved (/etc/nsswitch.conf), others the servers \
                          in /etc/resolv.conf: run `ln -sf /run/systemd/resolve/stub-resolv.conf \
                          /etc/resolv.conf', or take `resolve' out of /etc/nsswitch.conf";

fn resolv_conf() -> Turns<file::File> {
    file::turns(Path::new(RESOLV_CONF), Path::new(KEPT))
}

fn network_manager() -> Turns<network_manager::Global> {
    network_manager::turns(Path::new(KEPT), Patience::Telling.time())
}

fn hangs(resolvconf: &Resolvconf, error: &Error) -> io::Error {
    io::Error::other(format!(
        "/etc/resolv.conf was generated by resolvconf, which does not answer ({}): run `{} -l' to see \
         what it waits for",
        error.cause(),
        resolvconf.program().display()
    ))
}

/// Most can only be told of servers for all names. To tell them so when only some names are wanted
/// would show all others to servers that they are not meant for.
fn must_be_default(settings: &Settings, who: &str) -> io::Result<()> {
    let Some(domain) = settings.routes.first().filter(|_| !settings.default) else {
        return Ok(());
    };
    Err(io::Error::other(format!(
        "{who} cannot send only the names below {domain} into the tunnel: install systemd-resolved \
         and run `ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf', or ask the tunnel \
         for all names by leaving out `~{domain}'"
    )))
}
