//! `adit down`: from whatever there is to nothing.

use std::ffi::OsStr;

use host::plan::{Machine, Plan};

use super::failure::{Failure, Outcome};
use super::tunnel::{self, Lock};
use super::{carrier, keep, not_running, save, wish};
use crate::command::say;
use crate::command::wg::interface;

/// Takes a tunnel down. A hook that fails keeps nothing up, but is told, and so is a file that cannot
/// be saved.
pub fn down(argument: &OsStr, dry_run: bool) -> Outcome {
    let name = wish::name(argument)?;
    let lock = if dry_run { None } else { Some(Lock::of(&name)?) };
    if !dry_run {
        tunnel::await_start(&name)?;
    }
    let Some(mut journal) = tunnel::journal(&name)? else {
        drop(lock);
        if !dry_run {
            sweep(&name);
        }
        return Err(not_running(&name));
    };
    let mut machine = Machine::open()?;
    if dry_run {
        let mut observed = machine.observe(journal.entries.iter().map(|entry| &entry.item))?;
        observed.shared = tunnel::made_by_others(&name);
        let mut text = Plan::undo(&journal.entries, &observed).to_string();
        if machine.network.has_link(&name)? && save::pending(&name, &journal.note)?.is_some() {
            text += &format!("~ keys and peers in {}\n", journal.note.file.display());
        }
        say(&text);
        return Ok(());
    }
    let hooks = journal.note.hooks.clone();
    let mut failures: Vec<Failure> = Vec::new();
    if machine.network.has_link(&name)? {
        let hooks = carrier::hooks("PreDown", &hooks.pre_down, &name);
        failures.extend(hooks.err().map(Failure::from));
        failures.extend(save::save(&name, &journal.note).err());
    }
    tunnel::undo(&mut machine, &mut journal)?;
    let hooks = carrier::hooks("PostDown", &hooks.post_down, &name);
    failures.extend(hooks.err().map(Failure::from));
    drop(lock);
    sweep(&name);
    keep::tell_others(&name);
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Lets the keeper go, and removes what processes that were killed have left behind.
fn sweep(name: &str) {
    tunnel::forget_file(name);
    // The socket of a daemon goes when it is tried and nobody is there.
    let _ = interface::connect(name.as_ref());
    keep::end(name);
}
