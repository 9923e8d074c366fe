//! `adit down`: from whatever there is to nothing.

use std::ffi::OsStr;

use host::plan::{Machine, OnFailure, Plan};

use super::failure::{Failures, Outcome};
use super::lock::{self, Lock};
use super::{carrier, keep, not_running, save, told_of_name, tunnel, wish};
use crate::command::daemon;
use crate::command::wg::interface;

/// What taking a tunnel down would do, as in a diff.
pub fn tell(argument: &OsStr) -> Outcome<String> {
    let name = wish::name(argument)?;
    let journal = tunnel::journal(&name)?.ok_or_else(|| not_running(&name))?;
    let mut machine = Machine::open()?;
    let mut observed = machine.observe(journal.entries.iter().map(|entry| &entry.item))?;
    observed.shared = tunnel::made_by_others(&name);
    if let Some(link) = tunnel::renamed(&mut machine.network, &name, &journal)? {
        return Ok(told_of_name(&name, &link));
    }
    let is_there = machine.network.has_link(&name)?;
    let hooks = |which: &str, commands: &[Vec<u8>]| -> String {
        let lines = commands.iter().map(|it| String::from_utf8_lossy(it));
        lines.map(|line| format!("! {which}: {line}\n")).collect()
    };
    let mut text = String::new();
    if is_there {
        text += &hooks("PreDown", &journal.note.hooks.pre_down);
    }
    text += &Plan::undo(&journal.entries, &observed).to_string();
    text += &hooks("PostDown", &journal.note.hooks.post_down);
    if is_there && save::pending(&name, &journal.note)?.is_some() {
        text += &format!("~ keys and peers in {}\n", journal.note.file.display());
    }
    Ok(text)
}

/// Takes a tunnel down. A hook that fails keeps nothing up, but is told, and so is a file that cannot
/// be saved. Of what cannot be taken back the journal goes on telling, and nobody puts the rest back.
pub fn down(argument: &OsStr) -> Outcome {
    let name = wish::name(argument)?;
    let lock = Lock::of(&name)?;
    lock::await_start(&name)?;
    let Some(mut journal) = tunnel::journal(&name)? else {
        daemon::sweep(&name);
        sweep(&name, lock);
        return Err(not_running(&name));
    };
    let mut machine = Machine::open()?;
    tunnel::call_back(&mut machine.network, &name, &journal)?;
    let hooks = journal.note.hooks.clone();
    let mut failures = Failures::new(OnFailure::GoOn);
    if machine.network.has_link(&name)? {
        failures.keep(carrier::hooks("PreDown", &hooks.pre_down, &name));
        failures.keep(save::save(&name, &journal.note));
    }
    let is_ours = tunnel::has_link(&journal, &name) && !journal.note.kernel;
    let undone = tunnel::undo(&mut machine, &mut journal);
    if undone.is_ok() {
        if is_ours {
            // Its link may be in another network namespace by now.
            carrier::dismiss(&name);
        }
        failures.keep(carrier::hooks("PostDown", &hooks.post_down, &name));
        daemon::sweep(&name);
    }
    if tunnel::has_link(&journal, &name) {
        return undone;
    }
    sweep(&name, lock);
    keep::tell_others(&name);
    undone?;
    match failures.take() {
        Some(failure) => Err(failure.with(&format!("{name} is down all the same"))),
        None => Ok(()),
    }
}

/// Lets the keeper go, and removes what processes that were killed have left behind.
fn sweep(name: &str, lock: Lock) {
    tunnel::forget_file(name);
    // The socket of a daemon goes when it is tried and nobody is there.
    let _ = interface::connect(name.as_ref());
    // Whoever waits for it brings the tunnel up again, with a file of its own. The keeper needs it, too.
    drop(lock);
    keep::end(name);
}
