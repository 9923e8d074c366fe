//! Name servers, by resolvconf(8) (spec §4.5).

use host::resolvconf::{PATIENCE, Resolvconf};

use super::{Outcome, Quick, Transcript};

/// Puts the name servers of the file on record. Domains alone do nothing.
pub(super) fn set(quick: &Quick, transcript: &Transcript) -> Outcome {
    if quick.file.servers.is_empty() {
        return Ok(());
    }
    let resolvconf = Resolvconf::find(&quick.interface)?;
    transcript.step(format!("resolvconf -a {} -m 0 -x", resolvconf.record()))?;
    repeat(&resolvconf.set(&quick.file.servers, &quick.file.search)?);
    Ok(())
}

/// Takes them off again.
pub(super) fn unset(quick: &Quick, transcript: &Transcript) -> Outcome {
    if quick.file.servers.is_empty() {
        return Ok(());
    }
    let resolvconf = Resolvconf::find(&quick.interface)?;
    transcript.step(format!("resolvconf -d {} -f", resolvconf.record()))?;
    repeat(&resolvconf.remove()?);
    Ok(())
}

/// Those on record; none if nobody knows.
pub(super) fn servers(quick: &Quick) -> Vec<String> {
    let listed =
        Resolvconf::find(&quick.interface).and_then(|resolvconf| resolvconf.servers(PATIENCE));
    listed.unwrap_or_default()
}

/// What the program has warned of.
fn repeat(warnings: &str) {
    if !warnings.is_empty() {
        eprintln!("{warnings}");
    }
}
