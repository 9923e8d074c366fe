//! `adit down`: from whatever there is to nothing.

use std::ffi::OsStr;

use host::plan::{Machine, Plan};

use super::failure::Outcome;
use super::tunnel::{self, Lock};
use super::{carrier, keep, not_running, wish};
use crate::command::say;
use crate::command::wg::interface;

/// Takes a tunnel down. A hook that fails keeps nothing up, but is told.
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
        say(&Plan::undo(&journal.entries, &observed).to_string());
        return Ok(());
    }
    let hooks = journal.note.hooks.clone();
    let mut failures = Vec::new();
    if machine.network.has_link(&name)? {
        failures.extend(carrier::hooks("PreDown", &hooks.pre_down, &name).err());
    }
    tunnel::undo(&mut machine, &mut journal)?;
    failures.extend(carrier::hooks("PostDown", &hooks.post_down, &name).err());
    drop(lock);
    sweep(&name);
    match failures.into_iter().next() {
        Some(error) => Err(error.into()),
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
