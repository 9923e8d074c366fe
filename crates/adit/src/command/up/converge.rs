//! From whatever there is to what the file wants.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use config::wg::Settings;
use host::dns::{Outside, Patience};
use host::plan::{Entry, Item, Machine, Noted, Observed, OnFailure, Plan, Step, Wanted};
use host::signals::Signals;
use host::{Route, plan};
use proto::{DeviceState, PublicKey};

use super::carrier::{self, Carrier, End};
use super::endpoints::has_lost_its_link;
use super::failure::{Failure, Failures, Kind, Outcome};
use super::sync;
use super::tunnel::{self, Due, Hooks, Journal, NewFile, Note};
use super::want::{self, Circumstances};
use super::wish::{Endpoint, Wish};
use crate::command::wg::interface;

pub use look::{Purpose, chosen};

/// A tunnel between what it is and what it ought to be.
pub struct Tunnel {
    /// What its file wants.
    pub wish: Wish,
    /// What it has made.
    pub journal: Journal,
    /// What it has, if its link is there.
    pub present: Option<DeviceState>,
    /// What its journal told before.
    former: Note,
    /// What its link was called until now, if it had another name.
    pub called: Option<String>,
    /// Which peers are called elsewhere now, and why.
    pub moved: Vec<String>,
    /// What has been done.
    pub done: Vec<Step>,
    /// What a repair could not do.
    left: Vec<Step>,
    /// Why it could not.
    failures: Failures,
    resolver: Resolver,
    /// Why a repair could not find that out.
    pub mute: Option<Failure>,
    machine: Machine,
    pub(super) circumstances: Circumstances,
    wanted: Vec<Wanted>,
    /// All that the interface ought to have.
    settings: Settings,
}

/// Whether it is known who is to be told of name servers. If not, what was told is left as it is.
#[derive(PartialEq, Eq)]
enum Resolver {
    Known,
    /// A repair asks last: whoever hangs keeps nothing else from being put back.
    Unasked,
    Unknown,
}

impl Tunnel {
    /// What would be done, as in a diff.
    pub fn tell(&mut self) -> Outcome<String> {
        let mut text = self.plan()?.to_string();
        let change = self.change();
        let settings = change.as_ref().unwrap_or(&self.settings);
        let lines = sync::lines(settings, &self.wish, self.present.as_ref());
        let hooks = self.hooks();
        let hooks = hooks.all().flat_map(|(when, commands)| {
            commands.iter().map(move |it| format!("! {when}: {}", String::from_utf8_lossy(it)))
        });
        for line in lines.into_iter().chain(hooks) {
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }

    /// Brings it up, or to what its file wants now. A signal keeps the next step from being taken.
    pub fn make(&mut self, signals: Option<&Signals>) -> Outcome {
        // Where there is no room for it, nobody could keep the tunnel.
        let new = NewFile::write(&self.wish)?;
        let outcome = self.converge(signals);
        let Err(failure) = outcome else {
            new.keep(&self.wish.name);
            return Ok(());
        };
        if self.journal.entries.is_empty() {
            return Err(failure);
        }
        // It goes on as it was, with the mark that it had.
        self.journal.note = self.former.clone();
        match self.journal.write() {
            Ok(()) => Err(failure),
            Err(error) => Err(failure.with(&error.to_string())),
        }
    }

    /// Puts back what others have changed, keys and peers apart, and tells peers' endpoints that
    /// have been found. What it says of the mark is told. Hooks run only if the link itself has gone. What fails does
    /// not keep the rest: see [`Self::failure`].
    pub fn restore(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        let repaired = self.repair(&mut told);
        self.failures.keep(repaired);
        told
    }

    /// Why a repair is not complete, if it is not.
    pub fn failure(&mut self) -> Option<Failure> {
        self.failures.take()
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
    pub fn lost(&self) -> Option<Failure> {
        let is_new = self.present.is_none() && self.journal.entries.is_empty();
        let mut peers = self.settings.peers.iter();
        if !is_new || want::full(&self.wish).is_empty() || peers.any(|it| it.endpoint.is_some()) {
            return None;
        }
        let names: Vec<_> = self.wish.endpoints.values().map(|it| it.host.as_str()).collect();
        let text = format!("nobody knows yet where {} is", names.join(" or "));
        (!names.is_empty()).then(|| Failure::new(Kind::Failed, text))
    }

    fn repair(&mut self, told: &mut Vec<String>) -> Outcome {
        if self.present.is_none() {
            return self.converge(None);
        }
        let moved = self.call_where_found();
        self.moved = self.failures.endure(moved)?.unwrap_or_default();
        let marked = self.mark_again();
        told.extend(self.failures.endure(marked)?.flatten());
        self.apply(None)
    }

    /// Tells the interface where peers have been found, those that are elsewhere by now.
    fn call_where_found(&mut self) -> Outcome<Vec<String>> {
        let present = self.present.iter();
        let peers: Vec<_> =
            present.clone().flat_map(|it| sync::moved(&self.settings, it)).collect();
        if peers.is_empty() {
            return Ok(Vec::new());
        }
        let lost = present.flat_map(|it| &it.peers);
        let lost = lost.filter(|it| it.endpoint.is_some_and(has_lost_its_link));
        let lost: BTreeSet<_> = lost.map(|peer| peer.public_key).collect();
        let told = peers.iter().filter_map(|peer| {
            let written = self.wish.endpoints.get(&peer.public_key)?;
            let name = self.wish.name_of(&peer.public_key);
            Some(match written.is_address() {
                true if lost.contains(&peer.public_key) => {
                    format!("the link to {name} is another one by now: calling it there")
                }
                true => format!(
                    "{name} does not answer where it has moved to: looking for it at {} \
                                 again, where the file has it",
                    peer.endpoint?
                ),
                false => format!("found {name} at {}, which is {}", peer.endpoint?, written.text),
            })
        });
        let told = told.collect();
        self.set(&Settings { peers, ..Settings::default() })?;
        self.journal.note.follow(&self.wish, &self.settings);
        self.failures.endure(self.journal.write())?;
        Ok(told)
    }

    /// Gives the datagrams of a full tunnel their mark back, without which it carries itself.
    fn mark_again(&self) -> Outcome<Option<String>> {
        let mark =
            self.present.as_ref().and_then(|it| sync::lost_mark(self.circumstances.table, it));
        let Some(mark) = mark else { return Ok(None) };
        self.set(&Settings { fwmark: Some(mark), ..Settings::default() })?;
        Ok(Some(format!("somebody took the mark of its datagrams; put back: mark {mark:#x}")))
    }

    fn hooks(&self) -> Coming {
        let (old, new) = (self.journal.note.hooks.clone(), Hooks::from(&self.wish.file.hooks));
        let was_there = tunnel::has_link(&self.journal, &self.wish.name);
        let (before, pre_up) = match (&self.present, was_there, self.journal.note.due) {
            (Some(_), _, Due::Nothing) if old == new => return Coming::default(),
            // One often takes back what another has done, whichever they are.
            (Some(_), _, Due::Nothing) => {
                let before =
                    [("PreDown", old.pre_down), ("PostDown", old.post_down), ("PreUp", new.pre_up)];
                (before.into(), Vec::new())
            }
            // Whoever brought it up was killed meanwhile. What has not come up is not taken down.
            (Some(_), _, Due::PostUp) if old.pre_up == new.pre_up => (Vec::new(), Vec::new()),
            (Some(_), ..) => (vec![("PreUp", new.pre_up)], Vec::new()),
            // The link has gone by itself.
            (None, true, Due::Nothing) => (vec![("PostDown", old.post_down)], new.pre_up),
            (None, ..) => (Vec::new(), new.pre_up),
        };
        Coming { before, pre_up, post_up: new.post_up }
    }

    /// Makes it so, or leaves everything as it was.
    fn converge(&mut self, signals: Option<&Signals>) -> Outcome {
        let made = self.journal.entries.clone();
        let hooks = self.hooks();
        for (when, commands) in &hooks.before {
            self.failures.endure(carrier::hooks(when, commands, &self.wish.name))?;
        }
        if self.present.is_none() && !(hooks.pre_up.is_empty() && hooks.post_up.is_empty()) {
            self.note_due(Due::PreUp)?;
        }
        let change = self.change();
        let outcome = self.take_every_step(change.clone(), &hooks.post_up, signals);
        tunnel::tell_remarks(&mut self.machine);
        outcome.map_err(|failure| match self.failures.on_failure() {
            OnFailure::GoOn => failure,
            OnFailure::GoBack => match self.go_back(change, made) {
                Err(more) if more != failure => failure.with(&more.to_string()),
                // What fails in the same way again was not there before either.
                _ => failure.with("what was done before has been taken back"),
            },
        })
    }

    /// Writes down which hooks have yet to run, for whoever comes after this process was killed.
    fn note_due(&mut self, due: Due) -> Outcome {
        if std::mem::replace(&mut self.journal.note.due, due) == due {
            return Ok(());
        }
        self.failures.endure(self.journal.write()).map(drop)
    }

    fn take_every_step(
        &mut self,
        change: Option<Settings>,
        post_up: &[Vec<u8>],
        signals: Option<&Signals>,
    ) -> Outcome {
        self.set_around(change, |it| it.apply(signals))?;
        if self.left.iter().any(|step| step.item().is_link()) {
            return self.note_due(Due::Nothing);
        }
        self.journal.note.follow(&self.wish, &self.settings);
        self.journal.note.due = if post_up.is_empty() { Due::Nothing } else { Due::PostUp };
        self.failures.endure(self.journal.write())?;
        self.failures.endure(carrier::hooks("PostUp", post_up, &self.wish.name))?;
        self.note_due(Due::Nothing)
    }

    /// Back to a tunnel that had made this.
    fn go_back(&mut self, change: Option<Settings>, made: Vec<Entry>) -> Outcome {
        let (name, link) = (&self.wish.name, Item::Link(self.wish.name.clone()));
        if !made.iter().any(|entry| entry.item == link) {
            return tunnel::undo(&mut self.machine, &mut self.journal);
        }
        if let Some((change, present)) = change.zip(self.present.as_ref()) {
            let back = sync::inverse(&change, present);
            self.want_again(&made);
            return self.set_around(Some(back), Self::apply_again);
        }
        // Its link had gone by itself, and goes again, with name servers that are behind it. What
        // keeps everything in stays, and the next attempt finds all of it in the journal.
        let goes = |item: &Item| *item == link || item.goes_with(name) || item.is_dns();
        let rest: Vec<_> = made.iter().filter(|entry| !goes(&entry.item)).cloned().collect();
        self.want_again(&rest);
        let back = self.apply_again();
        let left = std::mem::replace(&mut self.journal.entries, made);
        if back.is_err() {
            // What is there all the same nobody else tells of.
            let made = &mut self.journal.entries;
            for entry in left {
                match made.iter_mut().find(|it| it.item == entry.item) {
                    Some(known) => *known = entry,
                    None => made.push(entry),
                }
            }
        }
        back
    }

    /// Wants what there was before, and nothing else.
    fn want_again(&mut self, entries: &[Entry]) {
        let why = "it was so before";
        let items = plan::in_force(entries.iter().map(|entry| &entry.item)).cloned();
        self.wanted = items.map(|item| Wanted { item, why }).collect();
    }

    fn apply_again(&mut self) -> Outcome {
        let plan = self.plan()?;
        let noted = plan.note(&mut self.journal)?;
        let applied = self.machine.apply(noted, &mut self.journal, &mut End, OnFailure::GoOn);
        applied.map_err(|failure| self.explain(failure, &plan))
    }

    /// Sets this before some steps are taken; but until the rule and the guard of a full tunnel are
    /// gone, datagrams need its mark.
    fn set_around(
        &mut self,
        change: Option<Settings>,
        take_steps: impl FnOnce(&mut Self) -> Outcome,
    ) -> Outcome {
        let Some(mut change) = change else { return take_steps(self) };
        let unmarked = change.fwmark.take_if(|mark| *mark == 0);
        self.set(&change)?;
        take_steps(self)?;
        match unmarked {
            Some(_) => self.set(&Settings { fwmark: unmarked, ..Settings::default() }),
            None => Ok(()),
        }
    }

    fn set(&self, settings: &Settings) -> Outcome {
        let name = &self.wish.name;
        interface::configure(name.as_ref(), settings)
            .map_err(|error| Failure::io(format!("set keys and peers of {name}"), &error))
    }

    fn explain(&mut self, failure: plan::Failure, plan: &Plan) -> Failure {
        let is_there = failure.cause.cause().kind() == ErrorKind::AlreadyExists;
        let in_the_way = if is_there { self.in_the_way(plan) } else { None };
        let told = Failure::from_step(failure.cause, &failure.others);
        in_the_way.into_iter().fold(told, |told, why| told.with(&why))
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

    /// What has to be set on an interface that is there.
    fn change(&self) -> Option<Settings> {
        let present = self.present.as_ref()?;
        let settings = self.settings.clone();
        Some(sync::missing(settings, &self.wish, &self.journal.note, present))
    }

    /// Everything that is wanted, name servers last if it is a repair.
    fn apply(&mut self, signals: Option<&Signals>) -> Outcome {
        self.apply_wanted(signals)?;
        let has_link = !self.left.iter().any(|step| step.item().is_link());
        if !has_link || self.resolver != Resolver::Unasked {
            return Ok(());
        }
        self.resolver = Resolver::Unknown;
        match chosen(&self.wish, Patience::Short) {
            Ok(dns) => self.circumstances.dns = dns,
            Err(failure) => {
                self.mute = Some(failure.clone());
                return self.failures.endure(Err::<(), _>(failure)).map(drop);
            }
        }
        self.resolver = Resolver::Known;
        self.wanted = want::wanted(&self.wish, &self.circumstances)?;
        self.apply_wanted(signals)
    }

    /// Until nothing is left to do, or nothing but what has failed just now: the kernel takes some
    /// things along with others, and the port of a new interface is known when it is there.
    fn apply_wanted(&mut self, signals: Option<&Signals>) -> Outcome {
        const ROUNDS: usize = 4;
        let link = Step::Make(Item::Link(self.wish.name.clone()));
        let mut outcome = Ok(());
        for _ in 0..ROUNDS {
            let plan = self.plan()?;
            let is_over = |step: &Step| self.left.contains(step) || self.was_put_back(step);
            if plan.steps.iter().all(|(step, _)| is_over(step)) {
                if plan.steps.is_empty() {
                    // Who answers names now may know already what there is to be told.
                    self.failures.endure(plan.note(&mut self.journal))?;
                }
                break;
            }
            if plan.steps.iter().any(|(step, _)| *step == link) {
                let is_repair = self.failures.on_failure() == OnFailure::GoOn;
                if is_repair && self.present.take().is_some() {
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
            let Some(noted) = self.failures.endure(plan.note(&mut self.journal))? else {
                // What nobody could take back is not made; what the journal tells of is put back.
                self.want_again(&self.journal.entries.clone());
                continue;
            };
            outcome = self.carry_out(noted, &plan, signals);
            let is_over =
                self.failures.on_failure() == OnFailure::GoBack || self.left.contains(&link);
            if outcome.is_err() && is_over {
                return self.failures.endure(outcome).map(drop);
            }
            self.look_for_port()?;
        }
        self.failures.endure(outcome)?;
        let link = self.machine.network.link(&self.wish.name)?.index;
        if self.journal.note.link.replace(link) != Some(link) {
            self.failures.endure(self.journal.write())?;
        }
        Ok(())
    }

    /// Whether it is a packet filter that has been put back already. If it is not as it should be all the
    /// same, somebody changes it again, and is heard of; whoever is faster than we are needs no hurry.
    fn was_put_back(&self, step: &Step) -> bool {
        matches!(step, Step::Change(Item::Filter(from), Item::Filter(to)) if from == to)
            && self.done.contains(step)
    }

    /// What is left to do on the machine.
    fn plan(&mut self) -> Outcome<Plan> {
        let observed = self.observe()?;
        Ok(Plan::new(&self.wanted, &self.journal.entries, &observed))
    }

    fn observe(&mut self) -> Outcome<Observed> {
        let wanted = self.wanted.iter().map(|wanted| &wanted.item);
        let made = self.journal.entries.iter().map(|entry| &entry.item);
        let (told, items): (Vec<_>, Vec<_>) =
            wanted.chain(made).partition(|it| it.is_dns() && self.resolver != Resolver::Known);
        let mut observed = self.machine.observe(items)?;
        observed.dns.extend(told.into_iter().cloned());
        if plan::is_about_shared(&self.wanted, &self.journal.entries) {
            observed.shared = tunnel::made_by_others(&self.wish.name);
        }
        Ok(observed)
    }

    fn carry_out(&mut self, noted: Noted<'_>, plan: &Plan, signals: Option<&Signals>) -> Outcome {
        let mut carrier = Carrier {
            settings: &self.settings,
            pre_up: &self.wish.file.hooks.pre_up,
            kernel: self.journal.note.kernel,
            signals,
            foreign: false,
        };
        let on_failure = self.failures.on_failure();
        let applied = self.machine.apply(noted, &mut self.journal, &mut carrier, on_failure);
        self.left.clear();
        let outcome = applied.map_err(|mut failure| {
            self.left = std::mem::take(&mut failure.left);
            self.explain(failure, plan)
        });
        let taken = plan.steps.iter().map(|(step, _)| step);
        self.done.extend(taken.filter(|step| !self.left.contains(step)).cloned());
        outcome
    }

    /// The guard goes by it.
    fn look_for_port(&mut self) -> Outcome {
        let state = interface::state(self.wish.name.as_ref()).ok();
        let port = state.map(|it| it.listen_port).filter(|port| *port != 0);
        if self.circumstances.port != port {
            self.circumstances.port = port;
            self.wanted = want::wanted(&self.wish, &self.circumstances)?;
        }
        Ok(())
    }
}

/// Hooks that are going to run.
#[derive(Default)]
struct Coming {
    /// Before anything else, in their order, by their names.
    before: Vec<(&'static str, Vec<Vec<u8>>)>,
    /// When there is a new link.
    pre_up: Vec<Vec<u8>>,
    /// When everything is there.
    post_up: Vec<Vec<u8>>,
}

impl Coming {
    /// In their order.
    fn all(&self) -> impl Iterator<Item = (&'static str, &Vec<Vec<u8>>)> {
        let before = self.before.iter().map(|(when, commands)| (*when, commands));
        before.chain([("PreUp", &self.pre_up), ("PostUp", &self.post_up)])
    }
}
