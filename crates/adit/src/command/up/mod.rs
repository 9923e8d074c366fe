//! `adit up`, `adit reload` and `adit down`: a tunnel as its file wants it, whatever there was
//! before (docs/up.md).

mod carrier;
mod endpoints;
mod failure;
mod numbers;
mod sync;
mod tunnel;
mod want;
mod wish;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use config::wg::Settings;
use host::plan::{Item, Machine, Observed, Plan, Wanted};
use lexopt::Arg;
use proto::DeviceState;

use super::say;
use super::wg::interface;
use carrier::{Carrier, End};
use failure::{Failure, Kind, Outcome};
use sync::Found;
use tunnel::{Hooks, Journal, Lock, Note};
use want::Circumstances;
use wish::Wish;

const UP: &str = "\
Usage: adit up [--dry-run] FILE | NAME

Brings a tunnel up as its file wants it, or changes one that is up to what its file wants now. What
is as it should be is left alone; sessions go on. NAME stands for /etc/wireguard/NAME.conf.

  --dry-run   prints what would be done and why, and changes nothing
";
const RELOAD: &str = "\
Usage: adit reload [--dry-run] FILE | NAME

As `adit up' for a tunnel that is up. Every key of the file that has changed is applied; hooks run
again only if they have changed.

  --dry-run   prints what would be done and why, and changes nothing
";
const DOWN: &str = "\
Usage: adit down [--dry-run] FILE | NAME

Takes a tunnel down, and leaves the machine as it was before.

  --dry-run   prints what would be done, and changes nothing
";

/// What a command line asks for.
enum Wanting {
    Help,
    Tunnel { argument: OsString, dry_run: bool },
}

/// Runs `adit up`.
pub fn up(arguments: Vec<OsString>) -> ExitCode {
    run(arguments, UP, |argument, dry_run| converge(argument, dry_run, false))
}

/// Runs `adit reload`.
pub fn reload(arguments: Vec<OsString>) -> ExitCode {
    run(arguments, RELOAD, |argument, dry_run| converge(argument, dry_run, true))
}

/// Runs `adit down`.
pub fn down(arguments: Vec<OsString>) -> ExitCode {
    run(arguments, DOWN, take_down)
}

fn run(
    arguments: Vec<OsString>,
    usage: &str,
    act: impl FnOnce(&OsString, bool) -> Outcome,
) -> ExitCode {
    let outcome = match parse(arguments) {
        Ok(Wanting::Help) => return say(usage),
        Ok(Wanting::Tunnel { argument, dry_run }) => {
            must_be_root().and_then(|()| act(&argument, dry_run))
        }
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn parse(arguments: Vec<OsString>) -> Outcome<Wanting> {
    let mut words = lexopt::Parser::from_args(arguments);
    let (mut dry_run, mut argument) = (false, None);
    while let Some(word) = words.next()? {
        match word {
            Arg::Long("dry-run") => dry_run = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(Wanting::Help),
            Arg::Value(word) if argument.is_none() => argument = Some(word),
            word => return Err(word.unexpected().into()),
        }
    }
    let argument = argument
        .ok_or_else(|| Failure::new(Kind::Usage, "say which tunnel: a file, or its name"))?;
    Ok(Wanting::Tunnel { argument, dry_run })
}

fn must_be_root() -> Outcome {
    if fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        return Ok(());
    }
    Err(Failure::new(Kind::Permission, "only root may change the network: try it with sudo"))
}

/// From whatever there is to what the file wants.
fn converge(argument: &OsString, dry_run: bool, must_run: bool) -> Outcome {
    let name = wish::name(argument)?;
    let lock = if dry_run { None } else { Some(Lock::of(&name)?) };
    let journal = tunnel::journal(&name)?;
    if must_run && journal.is_none() {
        return Err(not_running(&name));
    }
    let wish = Wish::read(argument, journal.as_ref().map(|it| it.note.file.as_path()))?;
    let journal =
        journal.unwrap_or_else(|| Journal::new(tunnel::journal_path(&name), Note::new(&wish)));
    let mut tunnel = Tunnel::look(wish, journal, dry_run)?;
    if dry_run {
        return tunnel.tell();
    }
    let outcome = tunnel.converge();
    if tunnel.journal.entries.is_empty() {
        // The number of a table that nobody uses is free again.
        tunnel.journal.delete()?;
    }
    drop(lock);
    outcome
}

fn not_running(name: &str) -> Failure {
    Failure::new(Kind::NotRunning, format!("{name} is not up: `adit up {name}' brings it up"))
}

/// A tunnel between what it is and what it ought to be.
struct Tunnel {
    wish: Wish,
    journal: Journal,
    machine: Machine,
    wanted: Vec<Wanted>,
    /// All that the interface ought to have.
    settings: Settings,
    /// What it has, if it is there.
    present: Option<DeviceState>,
}

impl Tunnel {
    /// Looks at everything, and changes nothing but the journal, where the number of a table is
    /// reserved.
    fn look(wish: Wish, mut journal: Journal, dry_run: bool) -> Outcome<Self> {
        let mut machine = Machine::open()?;
        let name = wish.name.as_str();
        let is_there = machine.network.has_link(name)?;
        let is_ours = journal.entries.iter().any(|it| it.item == Item::Link(name.to_owned()));
        if is_there && !is_ours {
            let text = format!(
                "{name} is there already, and not by `adit up': end it first, by `wg-quick down \
                 {name}' or `ip link delete {name}'"
            );
            return Err(Failure::new(Kind::Failed, text));
        }
        let present = match is_there {
            true => Some(interface::state(name.as_ref()).map_err(|error| {
                Failure::io(format!("ask the daemon of {name} for its state"), &error)
            })?),
            false => None,
        };
        journal.note.table = numbers::table(&wish, &mut machine, &mut journal, dry_run)?;
        let table = journal.note.table;
        let found = found(&wish, &journal.note, present.as_ref());
        let mtu = numbers::mtu(&wish, &mut machine.network, &found, table)?;
        let wanted = want::wanted(&wish, &Circumstances { mtu, table })?;
        let settings = sync::everything(&wish, &found, table);
        Ok(Self { wish, journal, machine, wanted, settings, present })
    }

    fn observe(&mut self) -> Outcome<Observed> {
        let wanted = self.wanted.iter().map(|wanted| &wanted.item);
        let made = self.journal.entries.iter().map(|entry| &entry.item);
        Ok(self.machine.observe(wanted.chain(made))?)
    }

    fn plan(&mut self) -> Outcome<Plan> {
        let observed = self.observe()?;
        Ok(Plan::new(&self.wanted, &self.journal.entries, &observed))
    }

    /// What has to be set on an interface that is there.
    fn change(&self) -> Option<Settings> {
        let present = self.present.as_ref()?;
        let settings = self.settings.clone();
        Some(sync::missing(settings, &self.wish, &self.journal.note, present))
    }

    /// Prints the plan.
    fn tell(&mut self) -> Outcome {
        let mut text = self.plan()?.to_string();
        let change = self.change();
        let settings = change.as_ref().unwrap_or(&self.settings);
        for line in sync::lines(settings, &self.wish, self.present.as_ref()) {
            text.push_str(&line);
            text.push('\n');
        }
        for (when, commands) in self.hooks() {
            for command in commands {
                text.push_str(&format!("! {when} {}\n", String::from_utf8_lossy(&command)));
            }
        }
        say(&text);
        Ok(())
    }

    /// The hooks that are going to run, in their order.
    fn hooks(&self) -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let (old, new) = (&self.journal.note.hooks, Hooks::from(&self.wish.file.hooks));
        let Some(_) = self.present else {
            return vec![("PreUp", new.pre_up), ("PostUp", new.post_up)];
        };
        // One often takes back what another has done, whichever they are.
        if *old == new {
            return Vec::new();
        }
        vec![
            ("PreDown", old.pre_down.clone()),
            ("PostDown", old.post_down.clone()),
            ("PreUp", new.pre_up),
            ("PostUp", new.post_up),
        ]
    }

    /// Makes it so, or leaves everything as it was.
    fn converge(&mut self) -> Outcome {
        let hooks = self.hooks();
        let (before, after): (Vec<_>, Vec<_>) =
            hooks.into_iter().partition(|(when, _)| *when != "PostUp");
        if self.present.is_some() {
            for (when, commands) in &before {
                carrier::hooks(when, commands, &self.wish.name)?;
            }
        }
        let change = self.change();
        if let Some(change) = &change {
            self.set(change)?;
        }
        let fresh = self.present.is_none();
        if let Err(failure) = self.apply() {
            if let (Some(change), Some(present)) = (&change, &self.present) {
                self.set(&sync::inverse(change, present))?;
            }
            return Err(failure);
        }
        self.journal.note.follow(&self.wish);
        self.journal.write()?;
        for (when, commands) in &after {
            if let Err(error) = carrier::hooks(when, commands, &self.wish.name) {
                if fresh {
                    self.undo()?;
                }
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn set(&self, settings: &Settings) -> Outcome {
        let name = &self.wish.name;
        interface::configure(name.as_ref(), settings)
            .map_err(|error| Failure::io(format!("set keys and peers of {name}"), &error))
    }

    /// Until nothing is left to do: the kernel takes some things along with others.
    fn apply(&mut self) -> Outcome {
        const ROUNDS: usize = 3;
        for _ in 0..ROUNDS {
            let plan = self.plan()?;
            if plan.steps.is_empty() {
                break;
            }
            let hooks = Hooks::from(&self.wish.file.hooks);
            let mut carrier = Carrier { settings: &self.settings, hooks: &hooks };
            self.machine.apply(&plan, &mut self.journal, &mut carrier).map_err(|failure| {
                let text = format!("{failure}; {} is as it was before", self.wish.name);
                Failure::new(Kind::Failed, text)
            })?;
        }
        Ok(())
    }

    fn undo(&mut self) -> Outcome {
        undo(&mut self.machine, &mut self.journal)
    }
}

/// The addresses of the endpoints that are to be set.
fn found(wish: &Wish, note: &Note, present: Option<&DeviceState>) -> Found {
    let stays = |peer: &proto::PublicKey, text: &str| {
        let known = present.and_then(|it| it.peers.iter().find(|it| it.public_key == *peer));
        let known = known.and_then(|it| it.endpoint);
        known.filter(|_| note.endpoint(peer) == Some(text))
    };
    let mut found =
        endpoints::find(wish.endpoints.iter().filter(|(peer, it)| stays(peer, &it.text).is_none()));
    for (peer, endpoint) in &wish.endpoints {
        found.extend(stays(peer, &endpoint.text).map(|address| (*peer, address)));
    }
    found
}

fn undo(machine: &mut Machine, journal: &mut Journal) -> Outcome {
    machine.undo(journal, &mut End).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::new(Kind::Failed, errors.join("; "))
    })
}

/// From whatever there is to nothing.
fn take_down(argument: &OsString, dry_run: bool) -> Outcome {
    let name = wish::name(argument)?;
    let _lock = if dry_run { None } else { Some(Lock::of(&name)?) };
    let mut journal = tunnel::journal(&name)?.ok_or_else(|| not_running(&name))?;
    let mut machine = Machine::open()?;
    let is_there = machine.network.has_link(&name)?;
    if dry_run {
        let observed = machine.observe(journal.entries.iter().map(|entry| &entry.item))?;
        say(&Plan::undo(&journal.entries, &observed).to_string());
        return Ok(());
    }
    let hooks = journal.note.hooks.clone();
    let mut failures = Vec::new();
    if is_there {
        failures.extend(carrier::hooks("PreDown", &hooks.pre_down, &name).err());
    }
    undo(&mut machine, &mut journal)?;
    failures.extend(carrier::hooks("PostDown", &hooks.post_down, &name).err());
    match failures.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
