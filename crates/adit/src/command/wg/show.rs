//! `wg show` and `wg showconf`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::time::{SystemTime, UNIX_EPOCH};

use config::wg::{Look, View};
use proto::DeviceState;
use sys::resolve::interface_name;

use super::{Call, Failure, Outcome, complain, interface};

const USAGE: &str = "{ <interface> | all | interfaces } [public-key | private-key | listen-port | \
    fwmark | peers | preshared-keys | endpoints | allowed-ips | latest-handshakes | transfer | \
    persistent-keepalive | dump]";

/// `wg show [INTERFACE | all | interfaces] [PARAMETER]`.
pub(super) fn show(call: &Call<'_>) -> Outcome {
    let is = |word: &OsString, names: &[&str]| names.iter().any(|name| word == name);
    match call.words {
        [] => all(call, None),
        [which, parameter @ ..] if is(which, &["all"]) && parameter.len() <= 1 => {
            all(call, parameter.first())
        }
        [which] if is(which, &["interfaces"]) => interfaces(call),
        [which] if is(which, &["-h", "--help", "help"]) => {
            let Failure(usage) = call.usage(USAGE);
            complain(&usage);
            Ok(())
        }
        [which, parameter @ ..] if !is(which, &["interfaces"]) && parameter.len() <= 1 => {
            let state = interface::state(which).map_err(no_access)?;
            one(call, which, &state, parameter.first(), false)
        }
        _ => Err(call.usage(USAGE)),
    }
}

/// `wg showconf INTERFACE`.
pub(super) fn showconf(call: &Call<'_>) -> Outcome {
    let [name] = call.words else {
        return Err(call.usage("<interface>"));
    };
    let state = interface::state(name).map_err(no_access)?;
    call.print(&View { name: "", state: &state, zone: interface_name }.configuration())
}

fn interfaces(call: &Call<'_>) -> Outcome {
    let names = names()?;
    let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
    if names.is_empty() { Ok(()) } else { call.print(&(names.join(" ") + "\n")) }
}

/// One that cannot be shown does not keep the others from being shown.
fn all(call: &Call<'_>, parameter: Option<&OsString>) -> Outcome {
    let names = names()?;
    let mut shown = names.is_empty();
    let mut names = names.iter().peekable();
    while let Some(name) = names.next() {
        match interface::state(name) {
            Ok(state) => {
                one(call, name, &state, parameter, true)?;
                if parameter.is_none() && names.peek().is_some() {
                    call.print("\n")?;
                }
                shown = true;
            }
            Err(error) => {
                let what = format!("Unable to access interface {}", name.display());
                complain(&Failure::because(&what, &error).0);
            }
        }
    }
    if shown { Ok(()) } else { Err(Failure(Vec::new())) }
}

fn one(
    call: &Call<'_>,
    name: &OsStr,
    state: &DeviceState,
    parameter: Option<&OsString>,
    named: bool,
) -> Outcome {
    let name = interface::short(name).to_string_lossy();
    let view = View { name: &name, state, zone: interface_name };
    let Some(parameter) = parameter else {
        return call.print(&view.pretty(look()));
    };
    match parameter.to_str().and_then(|parameter| view.script(parameter, named)) {
        Some(lines) => call.print(&lines),
        None => {
            let Failure(usage) = call.usage(USAGE);
            let invalid = [b"Invalid parameter: `", parameter.as_encoded_bytes(), b"'\n"].concat();
            Err(Failure([invalid, usage].concat()))
        }
    }
}

fn names() -> Result<Vec<OsString>, Failure> {
    interface::names().map_err(|error| Failure::because("Unable to list interfaces", &error))
}

fn no_access(error: io::Error) -> Failure {
    Failure::because("Unable to access interface", &error)
}

/// As the environment wants it.
fn look() -> Look {
    let colours = match env::var("WG_COLOR_MODE").as_deref() {
        Ok("always") => true,
        Ok("never") => false,
        _ => io::stdout().is_terminal(),
    };
    let secrets = env::var("WG_HIDE_KEYS").as_deref() == Ok("never");
    // A clock before the epoch is as wrong as one that shows it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Look { colours, secrets, now }
}
