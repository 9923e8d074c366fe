//! `wg set`, `setconf`, `addconf` and `syncconf`.

use std::ffi::OsStr;
use std::path::Path;

use config::wg::{Mode, Settings, from_arguments, from_file, keep_sessions};

use super::machine::Here;
use super::{Call, Failure, Outcome, interface, source};

const SET_USAGE: &str = "<interface> [listen-port <port>] [fwmark <mark>] \
    [private-key <file path>] [peer <base64 public key> [remove] [preshared-key <file path>] \
    [endpoint <ip>:<port>] [persistent-keepalive <interval seconds>] \
    [allowed-ips [+|-]<ip1>/<cidr1>[,[+|-]<ip2>/<cidr2>]...] ]...";
const FILE_USAGE: &str = "<interface> <configuration filename>";

/// `wg set INTERFACE SETTING...`.
pub(super) fn set(call: &Call<'_>) -> Outcome {
    let [name, words @ ..] = call.words else {
        return Err(call.usage(SET_USAGE));
    };
    if words.is_empty() {
        return Err(call.usage(SET_USAGE));
    }
    let words: Vec<_> = words.iter().map(|word| word.as_encoded_bytes()).collect();
    let settings = from_arguments(&words, &mut Here { interface: name });
    apply(name, &settings.map_err(|refusal| Failure::line(refusal.into_text()))?)
}

/// `wg setconf INTERFACE FILE`.
pub(super) fn setconf(call: &Call<'_>) -> Outcome {
    let (name, settings) = read(call, Mode::Replace)?;
    apply(name, &settings)
}

/// `wg addconf INTERFACE FILE`.
pub(super) fn addconf(call: &Call<'_>) -> Outcome {
    let (name, settings) = read(call, Mode::Append)?;
    apply(name, &settings)
}

/// `wg syncconf INTERFACE FILE`.
pub(super) fn syncconf(call: &Call<'_>) -> Outcome {
    let (name, mut settings) = read(call, Mode::Replace)?;
    // What is there matters only to peers.
    if !settings.peers.is_empty() {
        let state = interface::state(interface::short(name)).map_err(|error| {
            Failure::because("Unable to retrieve current interface configuration", &error)
        })?;
        keep_sessions(&mut settings, &state);
    }
    apply(name, &settings)
}

fn read<'a>(call: &Call<'a>, mode: Mode) -> Result<(&'a OsStr, Settings), Failure> {
    let [name, path] = call.words else {
        return Err(call.usage(FILE_USAGE));
    };
    let content = source::content(Path::new(path));
    let content = content.map_err(|error| Failure::because("fopen", &error))?;
    let settings =
        from_file(&content, mode, &mut Here { interface: name }).map_err(Failure::line)?;
    Ok((name, settings))
}

fn apply(name: &OsStr, settings: &Settings) -> Outcome {
    interface::configure(name, settings)
        .map_err(|error| Failure::because("Unable to modify interface", &error))
}
