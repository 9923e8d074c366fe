//! What a keeper hears: of the network, of name servers, of signals and of callers.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use host::dns;
use host::notice::{Event, Watcher};
use host::signals::{Signal, Signals};
use host::watch::Watch;
use sys::poll::Epoll;

use super::concerns::Concerns;
use crate::command::up::failure::{Failure, Outcome};
use crate::command::up::tunnel;

/// What an event of epoll is about. Whatever else is heard of is asked for each time.
const CALLER: u64 = 0;
const ANYTHING: u64 = 1;
/// What programs read to find name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Listens for one tunnel.
pub struct Ears {
    epoll: Epoll,
    signals: Signals,
    listener: UnixListener,
    /// Where others find it, and which file that is.
    door: (PathBuf, Option<Identity>),
    watcher: Watcher,
    /// What was heard, and has not been looked at since.
    late: Vec<Event>,
    /// Of the file that others write over.
    file: Option<Watch>,
    /// Of the services that may be told of name servers.
    service: Option<dns::Watch>,
    /// Whether there is a reason to look that nobody tells of.
    again: bool,
}

impl Ears {
    /// Begins to listen, also to whoever rings `bell`. In the foreground whoever started it watches
    /// signals already.
    pub fn open(name: &str, signals: Option<Signals>, bell: &impl AsFd) -> Outcome<Self> {
        let fail = |error: io::Error| Failure::io(format!("keep {name}"), &error);
        let path = tunnel::keeper_socket(name);
        // Nobody listens there any more, or nobody would start another.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(fail)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let identity = identity(&path);
        let signals = signals.map_or_else(Signals::new, Ok).map_err(fail)?;
        let (epoll, watcher) = (Epoll::new().map_err(fail)?, Watcher::open()?);
        epoll.add(&listener, CALLER).map_err(fail)?;
        epoll.add(&signals, ANYTHING).map_err(fail)?;
        epoll.add(bell, ANYTHING).map_err(fail)?;
        for descriptor in watcher.descriptors() {
            epoll.add(descriptor, ANYTHING).map_err(fail)?;
        }
        Ok(Self {
            epoll,
            signals,
            listener,
            door: (path, identity),
            watcher,
            late: Vec::new(),
            file: None,
            service: None,
            again: false,
        })
    }

    /// Whether who calls the keeper of this tunnel calls here. Another may have taken the place by now.
    pub fn are_found(&self) -> bool {
        let (path, own) = &self.door;
        identity(path) == *own
    }

    /// Lets nobody call any more.
    pub fn close(&self) {
        if self.are_found() {
            let _ = fs::remove_file(&self.door.0);
        }
    }

    /// Waits until there is something, or for so long. Whether somebody calls.
    pub fn wait(&mut self, patience: Option<Duration>) -> Outcome<bool> {
        let is_late = self.again || !self.late.is_empty();
        let patience = if is_late { Some(Duration::ZERO) } else { patience };
        let events = self.epoll.wait(patience);
        let mut events = events.map_err(|error| Failure::io("wait for changes", &error))?;
        Ok(events.any(|token| token == CALLER))
    }

    /// A signal that has come.
    pub fn signal(&self) -> Option<Signal> {
        self.signals.read()
    }

    /// Somebody who calls.
    pub fn caller(&self) -> Option<UnixStream> {
        const PAUSE: Duration = Duration::from_secs(1);
        match self.listener.accept() {
            Ok((caller, _)) => Some(caller),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => {
                // There is no descriptor left; who calls waits at the door, and so must we.
                thread::sleep(PAUSE);
                None
            }
        }
    }

    /// What others have done since the last time.
    pub fn word(&mut self, concerns: &Concerns) -> Vec<Event> {
        self.hear_more(concerns);
        std::mem::take(&mut self.late)
    }

    /// The same, which is handed over at the next time, and at once.
    pub fn hear_more(&mut self, concerns: &Concerns) -> &[Event] {
        let word = self.watcher.receive().unwrap_or_default();
        self.late.extend(word.into_iter().filter(|event| concerns.include(event)));
        &self.late
    }

    /// Listens to what becomes of the file in which a tunnel has set name servers, if it has.
    pub fn follow_file(&mut self, has_set: bool) -> Outcome {
        self.file = if has_set { Watch::new(RESOLV_CONF).ok() } else { None };
        self.file.as_ref().map_or(Ok(()), |file| self.add(file))
    }

    /// The same where there was no file, and a repair has made one: what happened to that before it was
    /// listened to is looked at again.
    pub fn follow_new_file(&mut self, has_set: bool) -> Outcome {
        if self.file.is_some() {
            return Ok(());
        }
        self.follow_file(has_set)?;
        self.again |= self.file.is_some();
        Ok(())
    }

    /// Listens to who comes and goes that may answer names, if a tunnel has set any. The bus may be
    /// slow to take that up: it comes last, and what has happened meanwhile is looked at again.
    pub fn follow_services(&mut self, has_set: bool) -> Outcome {
        if self.service.is_some() == has_set {
            return Ok(());
        }
        // Without a bus there is nobody who could forget anything.
        self.service = if has_set { dns::Watch::new().ok() } else { None };
        let Some(service) = &self.service else { return Ok(()) };
        self.again = true;
        self.add(service)
    }

    fn add(&self, source: impl AsFd) -> Outcome {
        let added = self.epoll.add(source, ANYTHING);
        added.map_err(|error| Failure::io("watch who answers names", &error))
    }

    /// Whether others may have written over name servers, or forgotten them.
    pub fn names_are_disturbed(&mut self) -> bool {
        let is_rewritten = self.file.as_ref().is_some_and(Watch::drain);
        let heard = self.service.as_mut().map_or(Ok(false), dns::Watch::drain);
        if heard.is_err() {
            self.service = None;
        }
        std::mem::take(&mut self.again) || is_rewritten || heard.unwrap_or(true)
    }
}

/// What tells a file from others that come to have its name: device and number.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|it| (it.dev(), it.ino()))
}
