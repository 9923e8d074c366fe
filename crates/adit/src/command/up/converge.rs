//! From whatever there is to what the file wants.

mod look;

use std::collections::BTreeMap;
use std::io::ErrorKind;

use config::wg::{PeerSettings, Settings};
use host::dns::Outside;
use host::plan::{Entry, Item, Machine, Observed, OnFailure, Plan, Step, Wanted};
use host::signals::Signals;
use host::{Route, plan};
use proto::{DeviceState, PublicKey};

use super::carrier::{self, Carrier, End};
use super::failure::{Failure, Kind, Outcome};
use super::sync;
use super::tunnel::{self, Hooks, Journal, Note};
use super::want::{self, Circumstances};
use super::wish::{Endpoint, Wish};
use crate::command::wg::interface;

pub use look::Purpose;

/// A tunnel between what it is and what it ought to be.
pub struct Tunnel {
    /// What its file wants.
    pub wish: Wish,
    /// What it has made.
    pub journal: Journal,
    /// What it has, if its link is there.
    pub present: Option<DeviceState>,
    /// What its journal told before.
    pub(super) former: Note,
    /// What its link was called until now, if it had another name.
    pub called: Option<String>,
    /// What has been done.
    pub done: Vec<Step>,
    /// What a repair could not do.
    left: Vec<Step>,
    /// Why it could not.
    failures: Vec<Failure>,
    on_failure: OnFailure,
    /// Whether nobody can be told of name servers now: what was told is left as it is.
    is_mute: bool,
    machine: Machine,
    pub(super) circumstances: Circumstances,
    wanted: Vec<Wanted>,
    /// All that the interface ought to have.
    settings: Settings,
}

impl Tunnel {
    fn observe(&mut self) -> Outcome<Observed> {
        let wanted = self.wanted.iter().map(|wanted| &wanted.item);
        let made = self.journal.entries.iter().map(|entry| &entry.item);
        let (told, items): (Vec<_>, Vec<_>) =
            wanted.chain(made).partition(|it| self.is_mute && matches!(it, Item::Dns(..)));
        let mut observed = self.machine.observe(items)?;
        observed.dns.extend(told.into_iter().cloned());
        observed.shared = tunnel::made_by_others(&self.wish.name);
        Ok(observed)
    }

    /// What is left to do on the machine.
    pub fn plan(&mut self) -> Outcome<Plan> {
        let observed = self.observe()?;
        Ok(Plan::new(&self.wanted, &self.journal.entries, &observed))
    }

    /// What has to be set on an interface that is there.
    fn change(&self) -> Option<Settings> {
        let present = self.present.as_ref()?;
        let settings = self.settings.clone();
        Some(sync::missing(settings, &self.wish, &self.journal.note, present))
    }

    /// The plan.
    pub(super) fn tell(&mut self) -> Outcome<String> {
        let mut text = self.plan()?.to_string();
        let change = self.change();
        let settings = change.as_ref().unwrap_or(&self.settings);
        let lines = sync::lines(settings, &self.wish, self.present.as_ref());
        let hooks = self.hooks();
        let hooks = hooks.iter().flat_map(|(when, commands)| {
            commands.iter().map(move |it| format!("! {when}: {}", String::from_utf8_lossy(it)))
        });
        for line in lines.into_iter().chain(hooks) {
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }

    /// The hooks that are going to run, in their order.
    fn hooks(&self) -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let (old, new) = (&self.journal.note.hooks, Hooks::from(&self.wish.file.hooks));
        let was_there = tunnel::has_link(&self.journal, &self.wish.name);
        let up = [("PreUp", new.pre_up.clone()), ("PostUp", new.post_up.clone())];
        match (&self.present, was_there) {
            (None, false) => up.into(),
            // The link has gone by itself.
            (None, true) => [("PostDown", old.post_down.clone())].into_iter().chain(up).collect(),
            (Some(_), _) if *old == new => Vec::new(),
            // One often takes back what another has done, whichever they are.
            (Some(_), _) => {
                [("PreDown", old.pre_down.clone()), ("PostDown", old.post_down.clone())]
                    .into_iter()
                    .chain(up)
                    .collect()
            }
        }
    }

    /// Whom to ask for names while the tunnel carries everything, itself included.
    pub fn outside(&self) -> Option<Outside> {
        let servers = self.circumstances.resolvers.clone();
        let mark = self.circumstances.table.filter(|_| !servers.is_empty())?;
        Some(Outside { servers, mark })
    }

    /// Endpoints that nobody has found yet.
    pub fn waiting(&self) -> BTreeMap<PublicKey, Endpoint> {
        let peers = self.settings.peers.iter().filter(|peer| peer.endpoint.is_none());
        let peers = peers.filter_map(|peer| {
            let endpoint = self.wish.endpoints.get(&peer.public_key)?;
            Some((peer.public_key, endpoint.clone()))
        });
        peers.collect()
    }

    /// Why a tunnel that is not up yet must not come up: once everything goes into it, nobody but
    /// those outside can be asked any more where its other end is.
    pub(super) fn lost(&self) -> Option<Failure> {
        let is_new = self.present.is_none() && self.journal.entries.is_empty();
        let mut peers = self.settings.peers.iter();
        if !is_new || want::full(&self.wish).is_empty() || peers.any(|it| it.endpoint.is_some()) {
            return None;
        }
        let names: Vec<_> = self.wish.endpoints.values().map(|it| it.host.as_str()).collect();
        let text = format!("nobody knows yet where {} is", names.join(" or "));
        (!names.is_empty()).then(|| Failure::new(Kind::Failed, text))
    }

    /// Brings it up, or to what its file wants now. A signal keeps the next step from being taken.
    pub(super) fn make(&mut self, signals: Option<&Signals>) -> Outcome {
        // Where there is no room for it, nobody could keep the tunnel.
        let new = tunnel::prepare_file(&self.wish)?;
        let was_up = !self.journal.entries.is_empty();
        let outcome = self.converge(signals);
        let Err(failure) = outcome else {
            tunnel::keep_file(&self.wish.name, &new);
            return Ok(());
        };
        tunnel::drop_file(&new);
        if was_up {
            // It goes on as it was, with the mark that it had.
            self.journal.note = self.former.clone();
            self.journal.write()?;
        }
        Err(failure)
    }

    /// Puts back what others have changed, keys and peers apart, and tells peers' endpoints that
    /// have been found, which are told. Hooks run only if the link itself has gone. What fails does
    /// not keep the rest.
    pub fn restore(&mut self) -> Outcome<Vec<String>> {
        if self.present.is_none() {
            return self.converge(None).map(|()| Vec::new());
        }
        let present = self.present.as_ref().map(sync::by_key).unwrap_or_default();
        let is_elsewhere = |peer: &PeerSettings| {
            present.get(&peer.public_key).is_some_and(|known| known.endpoint != peer.endpoint)
        };
        let found = self.settings.peers.iter().filter(|it| it.endpoint.is_some());
        let found = found
            .filter(|it| is_elsewhere(it))
            .map(|it| PeerSettings { endpoint: it.endpoint, ..PeerSettings::new(it.public_key) });
        let peers: Vec<_> = found.collect();
        let told = peers.iter().filter_map(|peer| {
            let written = &self.wish.endpoints.get(&peer.public_key)?.text;
            let name = self.wish.name_of(&peer.public_key);
            Some(format!("found {name} at {}, which is {written}", peer.endpoint?))
        });
        let mut told: Vec<_> = told.collect();
        if !peers.is_empty() {
            match self.set(&Settings { peers, ..Settings::default() }) {
                Ok(()) => {
                    self.journal.note.follow(&self.wish, &self.settings);
                    self.journal.write()?;
                }
                Err(failure) => {
                    told.clear();
                    self.failures.push(failure);
                }
            }
        }
        match self.mark_again() {
            Ok(marked) => told.extend(marked),
            Err(failure) => self.failures.push(failure),
        }
        self.apply(None)?;
        Ok(told)
    }

    /// Gives the datagrams of a full tunnel their mark back, without which it carries itself.
    fn mark_again(&self) -> Outcome<Option<String>> {
        let is_lost = |mark: &u32| self.present.as_ref().is_some_and(|it| it.fwmark != *mark);
        let Some(mark) = self.circumstances.table.filter(is_lost) else { return Ok(None) };
        self.set(&Settings { fwmark: Some(mark), ..Settings::default() })?;
        Ok(Some(format!("somebody took the mark of its datagrams; put back: mark {mark:#x}")))
    }

    /// Why a repair is not complete, if it is not.
    pub fn failure(&mut self) -> Option<Failure> {
        let mut failures = self.failures.drain(..);
        let first = failures.next()?;
        Some(failures.fold(first, |all, failure| all.with(&failure.to_string())))
    }

    /// What fails does not stop a repair, but is told.
    fn endure(&mut self, outcome: Outcome) -> Outcome {
        match (outcome, self.on_failure) {
            (Err(failure), OnFailure::GoOn) => self.failures.push(failure),
            (outcome, _) => return outcome,
        }
        Ok(())
    }

    /// Makes it so, or leaves everything as it was.
    pub fn converge(&mut self, signals: Option<&Signals>) -> Outcome {
        let entries = self.journal.entries.clone();
        let hooks = self.hooks();
        // A new link's own are run when it is made.
        let was_there = self.present.is_some();
        let is_early = |when: &str| if was_there { when != "PostUp" } else { when == "PostDown" };
        for (when, commands) in hooks.iter().filter(|(when, _)| is_early(when)) {
            let ran = carrier::hooks(when, commands, &self.wish.name);
            self.endure(ran.map_err(Failure::from))?;
        }
        let mut change = self.change();
        // Until the rule and the guard of a full tunnel are gone, datagrams need its mark.
        let unmarked = change.as_mut().and_then(|it| it.fwmark.take_if(|mark| *mark == 0));
        if let Some(change) = &change {
            self.set(change)?;
        }
        let late = hooks.iter().filter(|(when, _)| *when == "PostUp");
        let late: Vec<_> = late.flat_map(|(_, commands)| commands.clone()).collect();
        let outcome = self.apply(signals).and_then(|()| {
            if self.left.iter().any(|step| step.item().is_link()) {
                return Ok(());
            }
            if let Some(fwmark) = unmarked {
                self.set(&Settings { fwmark: Some(fwmark), ..Settings::default() })?;
            }
            self.journal.note.follow(&self.wish, &self.settings);
            self.journal.write()?;
            let ran = carrier::hooks("PostUp", &late, &self.wish.name);
            self.endure(ran.map_err(|error| self.with_way_back(error.into())))
        });
        tunnel::tell_remarks(&mut self.machine);
        let Err(failure) = outcome else { return Ok(()) };
        if entries.is_empty() {
            tunnel::undo(&mut self.machine, &mut self.journal)?;
        } else if let (Some(change), Some(present)) = (change, self.present.clone()) {
            let mut back = sync::inverse(&change, &present);
            back.fwmark = back.fwmark.or(unmarked.map(|_| present.fwmark));
            self.go_back(back, entries)?;
        }
        Err(failure)
    }

    /// Back to a tunnel that had made this, after a reload that failed.
    fn go_back(&mut self, mut settings: Settings, entries: Vec<Entry>) -> Outcome {
        let unmarked = settings.fwmark.take_if(|mark| *mark == 0);
        self.set(&settings)?;
        let why = "it was so before";
        self.wanted = entries.into_iter().map(|it| Wanted { item: it.item, why }).collect();
        let plan = self.plan()?;
        self.machine
            .apply(&plan, &mut self.journal, &mut End, OnFailure::GoBack)
            .map_err(|failure| self.told(failure, &plan))?;
        match unmarked {
            Some(_) => self.set(&Settings { fwmark: unmarked, ..Settings::default() }),
            None => Ok(()),
        }
    }

    fn with_way_back(&self, failure: Failure) -> Failure {
        match self.on_failure {
            OnFailure::GoBack => failure.with("what was done before has been taken back"),
            OnFailure::GoOn => failure,
        }
    }

    fn told(&mut self, failure: plan::Failure, plan: &Plan) -> Failure {
        let is_there = failure.cause.cause().kind() == ErrorKind::AlreadyExists;
        let in_the_way = self.in_the_way(plan).filter(|_| is_there);
        let is_back = failure.others.is_empty();
        let told = Failure::from_step(failure.cause, &failure.others);
        let told = in_the_way.into_iter().fold(told, |told, why| told.with(&why));
        if is_back { self.with_way_back(told) } else { told }
    }

    fn set(&self, settings: &Settings) -> Outcome {
        let name = &self.wish.name;
        interface::configure(name.as_ref(), settings)
            .map_err(|error| Failure::io(format!("set keys and peers of {name}"), &error))
    }

    /// A route of another link that has the place of one in this plan.
    fn in_the_way(&mut self, plan: &Plan) -> Option<String> {
        let there = self.machine.network.routes().ok()?;
        let steps = plan.steps.iter().map(|(step, _)| step);
        steps.into_iter().find_map(|step| {
            let Step::Make(Item::Route(route)) = step else { return None };
            let place = (route.destination, route.table);
            let is_other =
                |it: &&Route| (it.destination, it.table) == place && it.link != route.link;
            let other = there.iter().find(is_other)?;
            Some(format!(
                "{} leads through {} already: remove that route, or take {} out of AllowedIPs, or \
                 write `Table = off'",
                route.destination, other.link, route.destination
            ))
        })
    }

    /// Until nothing is left to do, or nothing but what has failed just now: the kernel takes some
    /// things along with others, and the port of a new interface is known when it is there.
    fn apply(&mut self, signals: Option<&Signals>) -> Outcome {
        const ROUNDS: usize = 4;
        let mut outcome = Ok(());
        for _ in 0..ROUNDS {
            let plan = self.plan()?;
            if plan.steps.iter().all(|(step, _)| self.left.contains(step)) {
                break;
            }
            let link = Step::Make(Item::Link(self.wish.name.clone()));
            if plan.steps.iter().any(|(step, _)| *step == link) {
                if self.on_failure == OnFailure::GoOn && self.present.take().is_some() {
                    // It went a moment ago, and hooks go with it.
                    return self.converge(None);
                }
                // Perhaps somebody has given it another name since it was looked for.
                let network = &mut self.machine.network;
                if let Some(other) = tunnel::call_back(network, &self.wish.name, &self.journal)? {
                    self.called = Some(other);
                    continue;
                }
            }
            let mut carrier = Carrier {
                settings: &self.settings,
                hooks: &Hooks::from(&self.wish.file.hooks),
                kernel: self.journal.note.kernel,
                signals,
                foreign: false,
            };
            let applied =
                self.machine.apply(&plan, &mut self.journal, &mut carrier, self.on_failure);
            self.left.clear();
            outcome = applied.map_err(|mut failure| {
                self.left = std::mem::take(&mut failure.left);
                self.told(failure, &plan)
            });
            let taken = plan.steps.iter().map(|(step, _)| step);
            self.done.extend(taken.filter(|step| !self.left.contains(step)).cloned());
            let is_over = self.on_failure == OnFailure::GoBack || self.left.contains(&link);
            if outcome.is_err() && is_over {
                return self.endure(outcome);
            }
            let state = interface::state(self.wish.name.as_ref());
            self.circumstances.port = state.ok().map(|it| it.listen_port).filter(|it| *it != 0);
            self.wanted = want::wanted(&self.wish, &self.circumstances)?;
        }
        self.endure(outcome)?;
        let link = self.machine.network.link(&self.wish.name)?.index;
        if self.journal.note.link.replace(link) != Some(link) {
            self.journal.write()?;
        }
        Ok(())
    }
}
