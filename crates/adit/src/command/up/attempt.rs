//! `adit up` and `adit reload` as they are called: what is said besides the file, and attempts
//! until there is a way to a peer.

use std::ffi::OsStr;
use std::time::Duration;

use host::Network;
use host::dns::{Patience, Plan, Record};
use host::nft::{Expression, Family as Packets, Field, Table};
use host::plan::Item;
use host::signals::{Signal, Signals};
use sys::poll::Epoll;

use super::converge::{Purpose, Tunnel, chosen};
use super::failure::{Failure, Outcome};
use super::lock::{self, Lock};
use super::pauses::Pauses;
use super::tunnel::{self, Journal};
use super::wish::{self, Wish};
use super::{Options, Verb, keep, not_running, told_of_name};

/// Between two attempts to find a way to a peer.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// `adit up`, and `adit reload` for a tunnel that must be up.
pub fn up(options: &Options) -> Outcome {
    let name = wish::name(&options.argument)?;
    // Before anything is made, so that none is missed.
    let signals = Signals::new().map_err(|error| Failure::io("watch signals", &error))?;
    let mut pauses = Pauses::up_to(LONGEST_PAUSE);
    while let Some(lost) = attempt(&name, options, Some(&signals))? {
        if !options.foreground {
            return Err(later(lost));
        }
        if pauses.are_new() {
            eprintln!("adit: {lost}: {name} comes up when one is found");
        }
        // Nothing has been made yet, and nobody else is kept from making it.
        if is_ended_within(pauses.take(), &signals)? {
            return Ok(());
        }
    }
    for other in closed_to(&name, keep::tell_others(&name))? {
        eprintln!(
            "adit: nobody keeps {other}, and its guard lets nothing of {name} out: `adit up {other}' \
             mends that"
        );
    }
    // A keeper looks under the same lock.
    match options.foreground {
        true => keep::stay(&name, &options.argument, signals),
        false => keep::ensure(&name),
    }
}

/// `adit reload` in the process that keeps the tunnel, of the file that it was told of. A signal waits
/// until it is done.
pub fn reload(name: &str, argument: &OsStr) -> Outcome {
    match attempt(name, &Options::new(Verb::Reload, argument.into()), None)? {
        Some(lost) => Err(later(lost)),
        None => {
            keep::tell_others(name);
            Ok(())
        }
    }
}

fn later(lost: Failure) -> Failure {
    lost.with("try again when there is a network")
}

/// Of these tunnels, those whose guard knows nothing of a full tunnel, which carries it or is carried
/// by it.
fn closed_to(name: &str, mut others: Vec<String>) -> Outcome<Vec<String>> {
    let Some(mark) = tunnel::journal(name)?.and_then(|journal| journal.note.table) else {
        return Ok(Vec::new());
    };
    let (into, by) = (Field::OutputLink(name.into()), Field::Mark(mark));
    let is_known =
        |part: &Expression| matches!(part, Expression::Is(it) if [&into, &by].contains(&it));
    let knows = |table: &Table| {
        let rules = table.chains.iter().flat_map(|chain| &chain.rules);
        table.family == Packets::Arp || rules.flatten().any(is_known)
    };
    let is_closed =
        |journal: Journal| tunnel::guard(&journal.entries).any(|(_, table)| !knows(table));
    others.retain(|other| tunnel::journal(other).ok().flatten().is_some_and(is_closed));
    Ok(others)
}

/// What that would do, as in a diff.
pub fn tell(options: &Options) -> Outcome<String> {
    let name = wish::name(&options.argument)?;
    let (wish, journal) = read(&name, options)?;
    if let Some(link) = tunnel::renamed(&mut Network::open()?, &name, &journal)? {
        return Ok(told_of_name(&name, &link));
    }
    Tunnel::look(wish, journal, Purpose::Tell(options))?.tell()
}

/// Waits for so long, unless a signal comes. Whether it has asked for the end.
fn is_ended_within(pause: Duration, signals: &Signals) -> Outcome<bool> {
    let fail = |error| Failure::io("wait", &error);
    let epoll = Epoll::new().map_err(fail)?;
    epoll.add(signals, 0).map_err(fail)?;
    let _ = epoll.wait(Some(pause)).map_err(fail)?;
    Ok(signals.read().is_some_and(|signal| signal != Signal::Hangup))
}

/// Brings it up, unless that would lead nowhere, for this reason.
fn attempt(name: &str, options: &Options, signals: Option<&Signals>) -> Outcome<Option<Failure>> {
    let (wish, _) = read(name, options)?;
    // Whoever does not answer keeps nobody else waiting meanwhile, nor a keeper from its work.
    let patience = if signals.is_some() { Patience::Long } else { Patience::Short };
    let answering = chosen(&wish, patience)?;
    let _lock = Lock::of(name)?;
    lock::await_start(name)?;
    // Meanwhile somebody may have written the file anew, and had it applied.
    let (wish, journal) = read(name, options)?;
    ask_outside(name, &journal, answering.as_ref().map(Plan::record))?;
    let mut tunnel = Tunnel::look(wish, journal, Purpose::Make(options))?;
    for warning in tunnel.wish.warnings() {
        eprintln!("adit: {warning}");
    }
    if options.kernel && !tunnel.journal.note.kernel {
        eprintln!("adit: {name} is carried by adit already: `adit down {name}' first");
    }
    let asked_for = tunnel.journal.note.guard.or(tunnel.wish.extensions.guard);
    if asked_for == Some(true) && tunnel.circumstances.table.is_none() {
        eprintln!("adit: {name} is no full tunnel, and needs no guard: there is none");
    }
    if let Some(other) = &tunnel.called {
        eprintln!("adit: somebody called the link of {name} {other}: it has its name again");
    }
    let lost = match (tunnel.lost(), tunnel.outside()) {
        (Some(lost), Some(_)) => {
            eprintln!("adit: {lost}: {name} is up, and goes on asking");
            None
        }
        (lost, _) => lost,
    };
    let outcome = match lost {
        None => tunnel.make(signals),
        Some(_) => Ok(()),
    };
    if tunnel.journal.entries.is_empty() {
        // The number of a table that nobody uses is free again.
        tunnel.journal.delete()?;
    }
    outcome.map(|()| lost)
}

/// What the file wants, and what has been made of it.
fn read(name: &str, options: &Options) -> Outcome<(Wish, Journal)> {
    let journal = journal(name, options)?;
    let wish = Wish::read(&options.argument, journal.as_ref().map(|it| it.note.file.as_path()))?;
    let journal = journal.unwrap_or_else(|| tunnel::new_journal(&wish));
    Ok((wish, journal))
}

/// What has been made, of what must be up if it is to be reloaded.
fn journal(name: &str, options: &Options) -> Outcome<Option<Journal>> {
    match tunnel::journal(name)? {
        None if options.verb == Verb::Reload => Err(not_running(name)),
        journal => Ok(journal),
    }
}

/// Once the link has gone by itself, as in a power cut, nobody answers for it any more: names of
/// endpoints are asked of those who were asked before it came up. Others than who is answering now may
/// be as they are: the journal goes on telling of them.
fn ask_outside(name: &str, journal: &Journal, answering: Option<&Record>) -> Outcome {
    if Network::open()?.has_link(name)? {
        return Ok(());
    }
    for entry in &journal.entries {
        if let Item::Dns(_, record) = &entry.item {
            let undone = record.undo();
            if answering == Some(record) {
                undone?;
            }
        }
    }
    Ok(())
}
