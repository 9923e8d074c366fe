//! `SaveConfig`: what was changed of a tunnel's keys and peers while it was up stays.

use config::file::follow;
use config::quick;
use host::resolve::interface_name;
use zeroize::Zeroizing;

use super::failure::{Failure, Kind, Outcome};
use super::tunnel::{self, Note};
use crate::command::source;
use crate::command::wg::interface;

/// What is to stand in the file of a tunnel that is up, if that is not there already, and wanted.
///
/// # Errors
///
/// Nobody knows what the tunnel has now, or somebody has edited the file since it was applied.
pub fn pending(name: &str, note: &Note) -> Outcome<Option<Zeroizing<Vec<u8>>>> {
    let applied = tunnel::applied_file(name);
    // It is not there after a crash of the machine, nor is the tunnel.
    let Ok(applied) = source::content(&applied) else { return Ok(None) };
    if !quick::File::parse(&applied).is_ok_and(|file| file.save) {
        return Ok(None);
    }
    let fail = |error| Failure::io(note.file.display(), &error);
    let state = interface::state(name.as_ref()).map_err(fail)?;
    let Some(text) = follow(&applied, &state, interface_name) else { return Ok(None) };
    let content = source::content(&note.file).map_err(fail)?;
    if content == applied {
        return Ok(Some(text));
    }
    let text = format!(
        "{} was edited since {name} came up, and stays as it is: SaveConfig would write other \
         changes over yours; `adit reload {name}' first, next time",
        note.file.display()
    );
    Err(Failure::new(Kind::Failed, text))
}

/// Writes it.
///
/// # Errors
///
/// As those of [`pending`], or the file cannot be written.
pub fn save(name: &str, note: &Note) -> Outcome {
    let Some(text) = pending(name, note)? else { return Ok(()) };
    source::replace(&note.file, &text)
        .map_err(|error| Failure::io(format!("write {}", note.file.display()), &error))
}
