//! The keeper of a tunnel: a process that waits until others change what the tunnel has made, and
//! puts it back; and that looks names up which could not be found when the tunnel came up.
//!
//! Nothing depends on it: without a keeper everything stays as it is. What it does is what `adit up`
//! does, under the same lock.

mod call;
mod names;
mod vigil;
mod voice;

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use config::key::{from_base64, to_base64};
use host::dns;
use host::notice::{Event, Watcher, What};
use host::plan::Item;
use host::signals::{Signal, Signals};
use host::watch::Watch;
use host::{MAIN_TABLE, Prefix};
use proto::PublicKey;
use serde_json::{Map, Value, json};
use sys::clock::realtime;
use sys::poll::Epoll;

use super::attempt;
use super::converge::{Purpose, Tunnel};
use super::down;
use super::failure::{Failure, Outcome};
use super::tunnel::{self, Journal, Lock};
use super::wish::Wish;
use names::Names;
use vigil::Vigil;
use voice::Voice;

use crate::command::wg::interface;

pub use call::{ask, end, ensure, tell_of_silence, tell_others};

/// What an event of epoll is about; anything else is word of a change.
const SIGNALS: u64 = 0;
const CALLER: u64 = 1;
const CHANGE: u64 = 2;
/// How many repairs are remembered.
const MEMORY: usize = 32;
/// Between two attempts to restore what cannot be restored.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What is changed again and again, such as by somebody who fights us, is put back this often.
const BREATH: Duration = Duration::from_millis(100);
/// What programs read to find name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Runs `adit keep NAME`, which `adit up` starts.
pub fn keep(arguments: Vec<OsString>) -> ExitCode {
    let name = arguments.first().map(|name| name.to_string_lossy().into_owned());
    let outcome = Keeper::new(&name.unwrap_or_default(), None).and_then(|keeper| {
        call::tell_starter();
        keeper.stay()
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// Keeps a tunnel in this process, and takes it down when one of these signals asks for it.
pub fn stay(name: &str, signals: Signals) -> Outcome {
    end(name);
    Keeper::new(name, Some(signals))?.stay()
}

/// Something that was put back.
struct Repair {
    /// Seconds since the Unix epoch.
    at: u64,
    what: String,
}

struct Keeper {
    name: String,
    /// When the tunnel came up, which tells it from another of its name.
    since: u64,
    foreground: bool,
    watcher: Watcher,
    /// What was heard while something was put back, which has not been looked at since.
    late: Vec<Event>,
    listener: UnixListener,
    signals: Signals,
    epoll: Epoll,
    /// Of the file that others write over.
    watch: Option<Watch>,
    /// Of the service that was told of name servers.
    service: Option<dns::Watch>,
    voice: Voice,
    /// What this process is called.
    program: Option<String>,
    ways: Ways,
    names: Names,
    vigil: Vigil,
    repairs: VecDeque<Repair>,
    /// Why the last attempt to restore something failed, and when the next one is.
    failure: Option<(String, Duration, Instant)>,
}

/// The routes that matter: where others come and go by the thousand, nobody looks after each.
#[derive(Default)]
struct Ways {
    made: HashSet<(Prefix, u32)>,
    /// Where the peers are: by the ways there the MTU is chosen.
    peers: Vec<IpAddr>,
    /// Of a full tunnel. Which bridges lead out, the main table tells.
    table: Option<u32>,
}

impl Ways {
    fn of(tunnel: &Tunnel) -> Self {
        let routes = tunnel.journal.entries.iter().filter_map(|entry| match &entry.item {
            Item::Route(route) => Some((route.destination, route.table)),
            _ => None,
        });
        let peers = tunnel.present.iter().flat_map(|state| &state.peers);
        Self {
            made: routes.collect(),
            peers: peers.filter_map(|peer| Some(peer.endpoint?.ip())).collect(),
            table: tunnel.journal.note.table,
        }
    }

    fn concern(&self, destination: Prefix, table: u32) -> bool {
        self.made.contains(&(destination, table))
            || self.table == Some(table)
            || self.table.is_some() && table == MAIN_TABLE
            || self.peers.iter().any(|peer| destination.contains(Prefix::host(*peer)))
    }
}

/// Whether there is still something to keep.
#[derive(PartialEq, Eq)]
enum Still {
    Kept,
    Gone,
}

impl Keeper {
    /// In the foreground whoever started it watches signals already.
    fn new(name: &str, signals: Option<Signals>) -> Outcome<Self> {
        let foreground = signals.is_some();
        let fail = |error: io::Error| Failure::io(format!("keep {name}"), &error);
        let path = tunnel::keeper_socket(name);
        // Nobody listens there any more, or nobody would start another.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(fail)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let signals = signals.map_or_else(Signals::new, Ok).map_err(fail)?;
        let epoll = Epoll::new().map_err(fail)?;
        let (watcher, names) = (Watcher::open()?, Names::new().map_err(fail)?);
        let add = |source, token| epoll.add(source, token).map_err(fail);
        use std::os::fd::AsFd;
        add(signals.as_fd(), SIGNALS)?;
        add(listener.as_fd(), CALLER)?;
        add(names.as_fd(), CHANGE)?;
        for descriptor in watcher.descriptors() {
            add(descriptor, CHANGE)?;
        }
        Ok(Self {
            name: name.to_owned(),
            since: 0,
            foreground,
            watcher,
            late: Vec::new(),
            listener,
            signals,
            epoll,
            watch: None,
            service: None,
            voice: Voice::new(name, foreground),
            program: fs::read_to_string("/proc/self/comm").ok().map(|it| it.trim_end().into()),
            ways: Ways::default(),
            names,
            vigil: Vigil::new(),
            repairs: VecDeque::new(),
            failure: None,
        })
    }

    /// Until the tunnel is down, or a signal ends this process.
    fn stay(mut self) -> Outcome {
        let journal = tunnel::journal(&self.name)?;
        self.since = journal.map(|it| it.note.since).unwrap_or_default();
        let mut still = self.look(&[]);
        let mut last_look = Instant::now();
        self.voice.notify("READY=1");
        while still == Still::Kept {
            let events = self.epoll.wait(self.patience());
            let events = events.map_err(|error| Failure::io("wait for changes", &error))?;
            let tokens: Vec<u64> = events.map(|event| event.token).collect();
            if tokens.contains(&SIGNALS)
                && let Some(signal) = self.signals.read()
            {
                still = match self.obey(signal)? {
                    Some(still) => still,
                    None => break,
                };
            }
            if tokens.contains(&CALLER) {
                still = self.answer();
            }
            let word = self.hear();
            if word.iter().any(|event| matches!(event.what, What::Address(..))) {
                self.names.hurry();
            }
            let found = self.names.take();
            let rewritten = self.watch.as_ref().is_some_and(Watch::drain) || self.is_restarted();
            let due = self.failure.as_ref().is_some_and(|(_, _, at)| *at <= Instant::now());
            if self.vigil.is_due() {
                let state = interface::state(self.name.as_ref()).ok();
                for (peer, endpoint) in self.vigil.silent(state.as_ref()) {
                    self.names.ask(peer, endpoint);
                }
            }
            // Whom to ask for names may have changed without a word.
            let due = due || self.names.are_due();
            if still == Still::Kept && (!word.is_empty() || found || rewritten || due) {
                thread::sleep(BREATH.saturating_sub(last_look.elapsed()));
                still = self.look(&word);
                last_look = Instant::now();
            }
            self.names.ask_again();
        }
        let _ = fs::remove_file(tunnel::keeper_socket(&self.name));
        Ok(())
    }

    /// What others have done since the last time.
    fn hear(&mut self) -> Vec<Event> {
        let word = self.watcher.receive().unwrap_or_default();
        let word: Vec<Event> = word.into_iter().filter(|it| self.concerns_us(it)).collect();
        self.late.drain(..).chain(word).collect()
    }

    /// Until something is to be tried again.
    fn patience(&self) -> Option<Duration> {
        if !self.late.is_empty() {
            return Some(Duration::ZERO);
        }
        let failure = self.failure.as_ref().map(|(_, _, at)| *at);
        let next = [failure, self.names.next(), self.vigil.next()].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Whether whoever was told of name servers may have forgotten them.
    fn is_restarted(&mut self) -> bool {
        let heard = self.service.as_mut().map_or(Ok(false), dns::Watch::drain);
        if heard.is_err() {
            self.service = None;
        }
        heard.unwrap_or(true)
    }

    /// None if this process is to end and leave the tunnel up.
    fn obey(&mut self, signal: Signal) -> Outcome<Option<Still>> {
        match (signal, self.foreground) {
            (Signal::Hangup, false) => Ok(Some(Still::Kept)),
            (Signal::Hangup, true) => {
                self.voice.notify("RELOADING=1");
                if let Err(failure) = attempt::reload(&self.name) {
                    self.voice.say(&format!("cannot reload: {failure}"));
                }
                self.voice.notify("READY=1");
                Ok(Some(self.look(&[])))
            }
            (Signal::Interrupt | Signal::Terminate, false) => Ok(None),
            (Signal::Interrupt | Signal::Terminate, true) => {
                self.voice.notify("STOPPING=1");
                // Nobody shall wait for our end who is waited for here.
                let _ = fs::remove_file(tunnel::keeper_socket(&self.name));
                down::down(self.name.as_ref())?;
                Ok(Some(Still::Gone))
            }
        }
    }

    /// Whether something of the tunnel may be different now, by somebody else's hand.
    fn concerns_us(&self, event: &Event) -> bool {
        // In a process namespace of our own, our number is not the one that is told.
        let own = event.by.as_ref().is_some_and(|by| {
            by.number == process::id() || by.name.is_some() && by.name == self.program
        });
        let concerns = match &event.what {
            What::Table(_, name) => *name == host::guard::Guard::table_name(&self.name),
            // Of any link: networks of others are excluded, or are not, and a bridge that gets
            // another port can lead elsewhere.
            What::Link(_) | What::Address(..) | What::Rule(..) | What::Unknown => true,
            What::Route(destination, table) => self.ways.concern(*destination, *table),
        };
        concerns && !own
    }

    /// Looks whether everything is as it should be, and makes it so.
    fn look(&mut self, word: &[Event]) -> Still {
        match self.restore(word) {
            Ok(still) => {
                self.failure = None;
                still
            }
            Err(failure) => {
                let text = failure.to_string();
                let now = Instant::now();
                let (pause, next) = match &self.failure {
                    // What others do meanwhile puts nothing off.
                    Some((_, pause, next)) if *next > now => (*pause, *next),
                    Some((_, pause, _)) => {
                        let pause = LONGEST_PAUSE.min(*pause * 2);
                        (pause, now + pause)
                    }
                    None => (FIRST_PAUSE, now + FIRST_PAUSE),
                };
                if self.failure.as_ref().is_none_or(|(former, _, _)| *former != text) {
                    self.voice.say(&format!("cannot put it back: {text}"));
                }
                self.failure = Some((text, pause, next));
                Still::Kept
            }
        }
    }

    fn restore(&mut self, word: &[Event]) -> Outcome<Still> {
        let _lock = Lock::of(&self.name)?;
        // Where only the link is not in the journal any more, somebody has taken the tunnel down, but
        // not all of it could be taken back.
        let is_kept =
            |it: &Journal| it.note.since == self.since && tunnel::has_link(it, &self.name);
        let Some(journal) = tunnel::journal(&self.name)?.filter(is_kept) else {
            return Ok(Still::Gone);
        };
        self.watch_dns(&journal)?;
        let mut wish = Wish::of(self.name.clone(), tunnel::applied_file(&self.name))?;
        wish.path.clone_from(&journal.note.file);
        let found = self.names.found(&wish);
        let mut tunnel = Tunnel::look(wish, journal, Purpose::Restore(found))?;
        // Somebody may do many things one after the other, the last ones while we look.
        self.late = self.hear();
        let moved = tunnel.restore();
        self.names.outside = tunnel.outside();
        self.names.wait_for(tunnel.waiting());
        self.vigil.watch(&tunnel.wish, tunnel.journal.note.kernel);
        self.ways = Ways::of(&tunnel);
        for line in moved {
            self.remember(line);
        }
        let called =
            tunnel.called.iter().map(|other| format!("~ name {} (was {other})", self.name));
        let steps = tunnel.done.iter().map(ToString::to_string);
        let steps: Vec<_> = called.chain(steps).collect();
        if !steps.is_empty() {
            let who: Vec<String> = word.iter().chain(&self.late).map(ToString::to_string).collect();
            let who = if who.is_empty() { "found missing".to_owned() } else { who.join(", ") };
            self.remember(format!("{who}; put back: {}", steps.join(", ")));
            tell_others(&self.name);
        }
        tunnel.failure().map_or(Ok(Still::Kept), Err)
    }

    /// Listens to what becomes of the name servers that the tunnel has set, if it has.
    fn watch_dns(&mut self, journal: &Journal) -> Outcome {
        let fail = |error: io::Error| Failure::io("watch who answers names", &error);
        let record = journal.entries.iter().find_map(|entry| match &entry.item {
            Item::Dns(_, record) => Some(record),
            _ => None,
        });
        self.watch = record.and_then(|_| Watch::new(RESOLV_CONF).ok());
        if let Some(watch) = &self.watch {
            self.epoll.add(watch, CHANGE).map_err(fail)?;
        }
        self.service = match (record, self.service.take()) {
            (None, _) => None,
            (Some(_), Some(service)) => Some(service),
            (Some(record), None) => {
                // Without a bus there is nobody who could forget anything.
                let service = record.watch().unwrap_or_default();
                if let Some(service) = &service {
                    self.epoll.add(service, CHANGE).map_err(fail)?;
                }
                service
            }
        };
        Ok(())
    }

    fn remember(&mut self, what: String) {
        self.voice.say(&what);
        self.repairs.push_back(Repair { at: realtime().as_secs(), what });
        if self.repairs.len() > MEMORY {
            self.repairs.pop_front();
        }
    }

    /// Looks on behalf of everybody who calls, and tells them what is known.
    fn answer(&mut self) -> Still {
        let mut still = Still::Kept;
        while let Ok((stream, _)) = self.listener.accept() {
            // One that says nothing is not waited for long.
            let word = read_word(&stream).unwrap_or_default();
            if let Some(peer) = word.strip_prefix(call::SILENT) {
                self.hear_of_silence(peer);
                continue;
            }
            if word == call::LOOK {
                still = self.look(&[]);
            }
            if still == Still::Gone {
                // Their connections end with this process.
                break;
            }
            // A caller who has gone needs no answer.
            let _ = writeln!(&stream, "{}", self.state());
        }
        still
    }

    /// A peer does not answer, which has another address, perhaps.
    fn hear_of_silence(&mut self, peer: &str) {
        let Some(peer) = from_base64(peer).map(|key| PublicKey(*key)) else { return };
        if let Some(endpoint) = self.vigil.hear(peer, Instant::now()) {
            self.names.ask(peer, endpoint);
        }
    }

    fn state(&self) -> Value {
        let repairs: Vec<_> =
            self.repairs.iter().map(|it| json!({ "at": it.at, "what": it.what })).collect();
        let called = self.vigil.called();
        let calls: Map<_, _> =
            called.map(|(peer, since)| (to_base64(&peer.0).to_string(), since.into())).collect();
        json!({
            "process": process::id(),
            "repairs": repairs,
            "waitingFor": self.names.waiting(),
            "failure": self.failure.as_ref().map(|(text, _, _)| text),
            "calls": calls,
        })
    }
}

fn read_word(stream: &UnixStream) -> io::Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(FIRST_PAUSE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
