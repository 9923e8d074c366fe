//! The parts of adit by themselves: what a look-up, a segment or a handshake costs, stable enough to
//! compare commits.

mod callgrind;
mod catalogue;
mod control;
mod harness;
mod options;
mod outcome;
mod packets;
mod routes;
mod sessions;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::Outcome;
use options::{Against, Options, Role, USAGE};
use outcome::Build;

/// Everything behind the word `parts` on the command line.
pub fn main(words: impl Iterator<Item = OsString>) -> Outcome<ExitCode> {
    let Some(options) = Options::parse(words)? else {
        print!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    match options.role {
        Role::Times => harness::print_times(&options.only)?,
        Role::Counts => harness::let_count(&options.only)?,
        Role::Measures => measure(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(options: &Options) -> Outcome<()> {
    let this = Build::new(env::current_exe()?);
    let (measured, other) = match &options.against {
        Some(Against::Build(path)) => {
            let [measured, other] = Build::measure([this, Build::new(path.clone())], options)?;
            (measured, Some(other))
        }
        against => {
            let [measured] = Build::measure([this], options)?;
            (measured, against.as_ref().and_then(Against::former))
        }
    };
    let table = measured.beside(other.as_ref());
    if options.json {
        eprint!("{table}");
        println!("{}", measured.to_json());
    } else {
        print!("{table}");
    }
    Ok(())
}
