//! The keeper of a tunnel: a process that waits until others change what the tunnel has made, and
//! puts it back; and that looks names up which could not be found when the tunnel came up.
//!
//! Nothing depends on it: without a keeper everything stays as it is. What it does is what `adit up`
//! does, under the same lock.

mod call;
mod concerns;
mod ears;
mod known;
mod names;
mod vigil;
mod voice;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use config::key::{from_base64, to_base64};
use host::notice::{Event, What};
use host::plan::{Item, Step};
use host::signals::{Signal, Signals};
use proto::PublicKey;
use sys::clock::realtime;

use super::converge::{Purpose, Tunnel};
use super::failure::{Failure, Outcome};
use super::lock::Lock;
use super::pauses::Pauses;
use super::tunnel::{self, Journal};
use super::wish::Wish;
use super::{attempt, down};
use concerns::Concerns;
use ears::Ears;
use known::Repair;
use names::Names;
use vigil::Vigil;
use voice::Voice;

use crate::command::inherited;
use crate::command::wg::interface;

pub use call::{ask, end, ensure, tell, tell_of_silence, tell_others};
pub use known::{Keeper as Kept, Known};

/// How many repairs are remembered.
const MEMORY: usize = 32;
/// Between two attempts to restore what cannot be restored.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What is changed again and again, such as by somebody who fights us, is put back this often.
const BREATH: Duration = Duration::from_millis(100);
/// Where a peer is looked for is said this often.
const LATELY: Duration = Duration::from_secs(3600);
/// For whoever calls and says nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs `adit keep NAME`, which `adit up` starts.
pub fn keep(arguments: Vec<OsString>) -> ExitCode {
    let name = arguments.first().map(|name| name.to_string_lossy().into_owned());
    // It lives as long as the tunnel does. Without /proc, it has what it has.
    let _ = inherited::close();
    let outcome = Keeper::new(&name.unwrap_or_default(), None).and_then(|keeper| {
        call::tell_starter();
        keeper.stay()
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// Keeps a tunnel in this process, and takes it down, or reloads what the command line means by this
/// argument, when one of these signals asks for it.
pub fn stay(name: &str, argument: &OsStr, signals: Signals) -> Outcome {
    call::relieve(name);
    Keeper::new(name, Some((argument.to_owned(), signals)))?.stay()
}

struct Keeper {
    name: String,
    /// When the tunnel came up, which tells it from another of its name.
    since: u64,
    /// The file, as the command line has it, of a tunnel that goes when this process is asked to.
    foreground: Option<OsString>,
    ears: Ears,
    voice: Voice,
    concerns: Concerns,
    names: Names,
    vigil: Vigil,
    repairs: VecDeque<Repair>,
    retry: Option<Retry>,
    /// Why nobody could be told of name servers at the last attempt.
    mute: Option<Failure>,
}

/// Something that cannot be put back now.
struct Retry {
    why: String,
    /// When it is tried again.
    again: Instant,
    pauses: Pauses,
}

impl Retry {
    fn is_due(&self) -> bool {
        self.again <= Instant::now()
    }
}

/// Whether this process goes on.
#[derive(PartialEq, Eq)]
enum Still {
    Keeps,
    /// The tunnel is down, or it stays without a keeper.
    Ends,
}

impl Keeper {
    /// In the foreground whoever started it watches signals already.
    fn new(name: &str, foreground: Option<(OsString, Signals)>) -> Outcome<Self> {
        let (foreground, signals) = foreground.unzip();
        let journal = tunnel::journal(name)?;
        let names = Names::new().map_err(|error| Failure::io(format!("keep {name}"), &error))?;
        let ears = Ears::open(name, signals, &names)?;
        Ok(Self {
            name: name.to_owned(),
            since: journal.map(|it| it.note.since).unwrap_or_default(),
            ears,
            voice: Voice::new(name, foreground.is_some()),
            foreground,
            concerns: Concerns::of(name),
            names,
            vigil: Vigil::new(),
            repairs: VecDeque::new(),
            retry: None,
            mute: None,
        })
    }

    /// Until the tunnel is down, or a signal ends this process.
    fn stay(mut self) -> Outcome {
        let mut still = self.look(&[]);
        let mut last_look = Instant::now();
        self.voice.notify("READY=1");
        while still == Still::Keeps {
            let is_called = self.ears.wait(self.patience())?;
            if let Some(signal) = self.ears.signal()
                && self.obey(signal)? == Still::Ends
            {
                break;
            }
            if is_called && self.answer() == Still::Ends {
                break;
            }
            let word = self.ears.word(&self.concerns);
            if self.may_be_different(&word) {
                thread::sleep(BREATH.saturating_sub(last_look.elapsed()));
                still = self.look(&word);
                last_look = Instant::now();
            }
            self.names.ask_again();
        }
        self.ears.close();
        Ok(())
    }

    /// Until something is to be tried again.
    fn patience(&self) -> Option<Duration> {
        let retry = self.retry.as_ref().map(|retry| retry.again);
        let next = [retry, self.names.next(), self.vigil.next()].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Takes note of all that has come or is due; whether it is a reason to look.
    fn may_be_different(&mut self, word: &[Event]) -> bool {
        if word.iter().any(|event| matches!(event.what, What::Address(..))) {
            self.names.hurry();
        }
        let mut is_renumbered = false;
        if self.vigil.is_due() {
            let state = interface::state(self.name.as_ref()).ok();
            is_renumbered = self.vigil.is_renumbered(state.as_ref());
            if is_renumbered {
                tell_others(&self.name);
            }
            for (peer, endpoint) in self.vigil.silent(state.as_ref()) {
                self.names.ask(peer, endpoint);
            }
        }
        let is_found = self.names.take();
        let is_disturbed = self.ears.names_are_disturbed();
        let is_due = self.retry.as_ref().is_some_and(Retry::is_due);
        if is_disturbed || is_due {
            // Else whoever did not answer is not waited for again so soon.
            self.mute = None;
        }
        // Whom to ask for names may have changed without a word.
        let is_due = is_due || is_renumbered || self.names.are_due();
        !word.is_empty() || is_found || is_disturbed || is_due
    }

    fn obey(&mut self, signal: Signal) -> Outcome<Still> {
        match (signal, &self.foreground) {
            (Signal::Hangup, None) => Ok(Still::Keeps),
            (Signal::Hangup, Some(argument)) => {
                self.voice.notify("RELOADING=1");
                if let Err(failure) = attempt::reload(&self.name, argument) {
                    self.voice.say(&format!("cannot reload: {failure}"));
                }
                self.voice.notify("READY=1");
                self.mute = None;
                Ok(self.look(&[]))
            }
            (Signal::Interrupt | Signal::Terminate, None) => Ok(Still::Ends),
            (Signal::Interrupt | Signal::Terminate, Some(_)) => {
                self.voice.notify("STOPPING=1");
                // Nobody shall wait for our end who is waited for here.
                self.ears.close();
                down::down(self.name.as_ref())?;
                Ok(Still::Ends)
            }
        }
    }

    /// Looks whether everything is as it should be, and makes it so.
    fn look(&mut self, word: &[Event]) -> Still {
        match self.restore(word) {
            Ok(still) => {
                self.retry = None;
                still
            }
            Err(failure) => {
                self.tell_of_failure(failure.to_string());
                Still::Keeps
            }
        }
    }

    /// Once, as long as it is the same; and when to try again.
    fn tell_of_failure(&mut self, why: String) {
        if self.retry.as_ref().is_none_or(|former| former.why != why) {
            self.voice.say(&format!("cannot put it back: {why}"));
        }
        let (again, pauses) = (Instant::now(), Pauses::up_to(LONGEST_PAUSE));
        let retry = self.retry.get_or_insert(Retry { why: String::new(), again, pauses });
        // What others do meanwhile puts nothing off.
        if retry.is_due() {
            retry.again = Instant::now() + retry.pauses.take();
        }
        retry.why = why;
    }

    fn restore(&mut self, word: &[Event]) -> Outcome<Still> {
        let _lock = Lock::of(&self.name)?;
        // Whoever had no time while its tunnel went and another came is told to look by that one, which
        // has no other keeper then.
        let is_ours = |it: &Journal| {
            it.note.since == self.since || self.foreground.is_none() && self.ears.are_found()
        };
        // Where only the link is not in the journal any more, somebody has taken the tunnel down, but
        // not all of it could be taken back.
        let is_kept = |it: &Journal| is_ours(it) && tunnel::has_link(it, &self.name);
        let Some(journal) = tunnel::journal(&self.name)?.filter(is_kept) else {
            return Ok(Still::Ends);
        };
        self.since = journal.note.since;
        let asks = self.mute.is_none();
        let watched = self.ears.follow_file(tunnel::dns(&journal.entries).is_some());
        let mut wish = Wish::of(self.name.clone(), tunnel::applied_file(&self.name))?;
        wish.path.clone_from(&journal.note.file);
        let made: Vec<Item> = journal.entries.iter().map(|entry| entry.item.clone()).collect();
        let found = self.names.found(&wish);
        let mut tunnel = Tunnel::look(wish, journal, Purpose::Restore(found, self.mute.clone()))?;
        let told = tunnel.restore();
        // Somebody may do many things one after the other, the last ones while we put back the first.
        let word = word.iter().chain(self.ears.hear_more(&self.concerns));
        let mut who: Vec<String> = Vec::new();
        for event in word.map(ToString::to_string) {
            if !who.contains(&event) {
                who.push(event);
            }
        }
        self.mute.clone_from(&tunnel.mute);
        self.names.follow(&tunnel);
        let is_renumbered = self.vigil.follow(&tunnel);
        self.concerns.follow(&tunnel);
        for line in told {
            self.remember(line);
        }
        // While a peer with several addresses is away, it is looked for at one after the other.
        for line in tunnel.moved.drain(..) {
            if !self.was_said_lately(&line) {
                self.remember(line);
            }
        }
        let called =
            tunnel.called.iter().map(|other| format!("~ name {} (was {other})", self.name));
        let (repairs, others): (Vec<_>, Vec<_>) =
            tunnel.done.iter().partition(|step| is_repair(step, &made));
        let repairs: Vec<_> = called.chain(repairs.into_iter().map(ToString::to_string)).collect();
        let others: Vec<_> = others.into_iter().map(ToString::to_string).collect();
        let who = |nobody: &str| if who.is_empty() { nobody.to_owned() } else { who.join(", ") };
        if !repairs.is_empty() {
            self.remember(format!("{}; put back: {}", who("found missing"), repairs.join(", ")));
        }
        if !others.is_empty() {
            let others = others.join(", ");
            self.remember(format!("{}; the tunnel follows: {others}", who("found changed")));
        }
        // The packet filters of a tunnel are no matter for another one. Its port is: the filters of one
        // that it carries, or that carries it, have that in them.
        let is_for_others = |step: &Step| !matches!(step.item(), Item::Filter(_));
        if tunnel.done.iter().any(is_for_others) || tunnel.called.is_some() || is_renumbered {
            tell_others(&self.name);
        }
        let has_set = tunnel::dns(&tunnel.journal.entries).is_some();
        let watched = watched.and_then(|()| self.ears.follow_new_file(has_set));
        let watched = watched.and_then(|()| match asks {
            true => self.ears.follow_services(has_set),
            false => Ok(()),
        });
        match tunnel.failure() {
            Some(failure) => Err(failure),
            None => watched.map(|()| Still::Keeps),
        }
    }

    fn was_said_lately(&self, what: &str) -> bool {
        let lately = realtime().saturating_sub(LATELY).as_secs();
        self.repairs.iter().any(|repair| repair.what == what && repair.at > lately)
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
        let (mut callers, mut must_look, mut is_relieved) = (Vec::new(), false, false);
        while let Some(caller) = self.ears.caller() {
            // One that says nothing is not waited for long.
            let word = read_word(&caller).unwrap_or_default();
            match word.strip_prefix(call::SILENT) {
                Some(peer) => self.hear_of_silence(peer),
                None => callers.push(caller),
            }
            must_look |= word == call::LOOK;
            is_relieved |= word == call::LEAVE && self.foreground.is_none();
        }
        if is_relieved {
            return Still::Ends;
        }
        if must_look {
            self.mute = None;
        }
        if must_look && self.look(&[]) == Still::Ends {
            // Their connections end with this process.
            return Still::Ends;
        }
        let known = serde_json::to_string(&self.known()).unwrap_or_default();
        for mut caller in callers {
            // One who has gone needs no answer.
            let _ = writeln!(caller, "{known}");
        }
        Still::Keeps
    }

    /// A peer does not answer, which has another address, perhaps.
    fn hear_of_silence(&mut self, peer: &str) {
        let Some(peer) = from_base64(peer).map(|key| PublicKey(*key)) else { return };
        if let Some(endpoint) = self.vigil.hear(peer, Instant::now()) {
            self.names.ask(peer, endpoint);
        }
    }

    fn known(&self) -> Known {
        let calls = self.vigil.called();
        Known {
            keeper: Kept {
                process: process::id(),
                repairs: self.repairs.clone(),
                waiting_for: self.names.waiting(),
                failure: self.retry.as_ref().map(|retry| retry.why.clone()),
            },
            calls: calls.map(|(peer, since)| (to_base64(&peer.0).to_string(), since)).collect(),
        }
    }
}

/// Whether a step puts back what the tunnel had made before. Else the network around the tunnel has
/// become another one, and it is not as it was.
fn is_repair(step: &Step, made: &[Item]) -> bool {
    match step {
        Step::Remove(_) => false,
        // What is routed stands in the file, and there can be very much of it.
        Step::Make(Item::Route(_)) => true,
        Step::Make(item) | Step::Change(_, item) => made.contains(item),
    }
}

fn read_word(caller: &UnixStream) -> io::Result<String> {
    caller.set_nonblocking(false)?;
    caller.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(caller).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
