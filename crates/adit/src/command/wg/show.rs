//! `wg show` and `wg showconf`.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::time::{SystemTime, UNIX_EPOCH};

use config::wg::{Look, Names, View, parameters};
use host::resolve::interface_name;
use proto::DeviceState;

use super::{Call, Failure, Outcome, complain, interface, names};

/// `wg show [INTERFACE | all | interfaces] [PARAMETER]`, and ours: `wg show [INTERFACE] --json`.
pub(super) fn show(call: &Call<'_>) -> Outcome {
    let is = |word: &OsString, names: &[&str]| names.iter().any(|name| word == name);
    match call.words {
        [] => all(call, None),
        // For `wg` this would be a parameter or an interface that it does not know.
        [which @ .., option] if option == "--json" && which.len() <= 1 => {
            json(call, which.first().filter(|which| *which != "all"))
        }
        [which, parameter @ ..] if is(which, &["all"]) && parameter.len() <= 1 => {
            all(call, parameter.first())
        }
        [which] if is(which, &["interfaces"]) => interfaces(call),
        [which] if is(which, &["-h", "--help", "help"]) => {
            complain(&usage(call).lines);
            Ok(())
        }
        [which, parameter @ ..] if !is(which, &["interfaces"]) && parameter.len() <= 1 => {
            let state = interface::state(which).map_err(no_access)?;
            one(call, which, &state, parameter.first(), false)
        }
        _ => Err(usage(call)),
    }
}

/// `wg showconf INTERFACE`.
pub(super) fn showconf(call: &Call<'_>) -> Outcome {
    let [name] = call.words else {
        return Err(call.usage("<interface>"));
    };
    let state = interface::state(name).map_err(no_access)?;
    call.print(&view("", &state, &Names::new()).configuration())
}

fn usage(call: &Call<'_>) -> Failure {
    let parameters: Vec<_> = parameters().collect();
    call.usage(&format!("{{ <interface> | all | interfaces }} [{}]", parameters.join(" | ")))
}

fn interfaces(call: &Call<'_>) -> Outcome {
    let names = present()?;
    let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
    if names.is_empty() { Ok(()) } else { call.print(&(names.join(" ") + "\n")) }
}

/// One that cannot be shown does not keep the others from being shown.
fn all(call: &Call<'_>, parameter: Option<&OsString>) -> Outcome {
    let names = present()?;
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
                complain(&no_access_to(name, &error).lines);
            }
        }
    }
    if shown { Ok(()) } else { Err(Failure::new(Vec::new())) }
}

fn one(
    call: &Call<'_>,
    name: &OsStr,
    state: &DeviceState,
    parameter: Option<&OsString>,
    named: bool,
) -> Outcome {
    let name = interface::short(name).to_string_lossy();
    let names = if env::var("WG_SHOW_NAMES").as_deref() == Ok("1") {
        names::of(&name)
    } else {
        Names::new()
    };
    let view = view(&name, state, &names);
    let Some(parameter) = parameter else {
        return call.print(&view.pretty(look()));
    };
    match parameter.to_str().and_then(|parameter| view.script(parameter, named)) {
        Some(lines) => call.print(&lines),
        None => {
            let usage = usage(call).lines;
            let invalid = [b"Invalid parameter: `", parameter.as_encoded_bytes(), b"'\n"].concat();
            Err(Failure::new([invalid, usage].concat()))
        }
    }
}

/// One, or all of those that can be shown.
fn json(call: &Call<'_>, which: Option<&OsString>) -> Outcome {
    let mut interfaces = BTreeMap::new();
    let names = which.map_or_else(present, |name| Ok(vec![name.clone()]))?;
    for name in &names {
        let state = match interface::state(name) {
            Ok(state) => state,
            Err(error) if which.is_some() => return Err(no_access(error)),
            Err(error) => {
                complain(&no_access_to(name, &error).lines);
                continue;
            }
        };
        let name = interface::short(name).to_string_lossy().into_owned();
        let json = view(&name, &state, &names::of(&name)).json();
        interfaces.insert(name, json);
    }
    if interfaces.is_empty() && !names.is_empty() {
        return Err(Failure::new(Vec::new()));
    }
    call.print(&format!("{:#}\n", serde_json::json!(interfaces)))
}

fn view<'a>(name: &'a str, state: &'a DeviceState, names: &'a Names) -> View<'a> {
    View { name, state, names, zone: interface_name }
}

fn present() -> Result<Vec<OsString>, Failure> {
    interface::names().map_err(|error| Failure::because("Unable to list interfaces", &error))
}

fn no_access(error: io::Error) -> Failure {
    Failure::because("Unable to access interface", &error)
}

fn no_access_to(name: &OsStr, error: &io::Error) -> Failure {
    Failure::because(&format!("Unable to access interface {}", name.display()), error)
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
