//! `wg-quick save` (spec §4.7).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use config::quick::Live;
use config::wg::{Names, View};
use host::Network;
use host::resolve::interface_name;
use zeroize::Zeroizing;

use super::{Failure, Outcome, Quick, Transcript, dns, down, words};
use crate::command::wg::interface;

/// Writes what is live over the file.
pub(super) fn save(quick: &Quick) -> Outcome {
    down::must_be_wireguard(quick)?;
    write(quick, &mut Network::open()?, &Transcript::new())
}

/// The same for an interface that is known to be one of WireGuard.
pub(super) fn write(quick: &Quick, network: &mut Network, transcript: &Transcript) -> Outcome {
    let name = &quick.interface;
    let addresses = network.addresses_of(name)?;
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let mtu = network.link(name)?.mtu;
    let servers = dns::servers(quick);
    transcript.step(format!("wg showconf {name}"))?;
    let state =
        interface::state(name.as_ref()).map_err(|error| Failure::unreadable(name, &error))?;
    let view = View { name, state: &state, zone: interface_name, names: &Names::new() };
    let configuration = Zeroizing::new(view.configuration());
    let live =
        Live { addresses: &addresses, servers: &servers, mtu, configuration: &configuration };
    replace(quick, &quick.file.saved(&live)).map_err(|error| {
        Failure::new(format!("Could not write configuration file: {}", words(&error)))
    })
}

/// For root only from its first byte, and never in part.
fn replace(quick: &Quick, content: &[u8]) -> io::Result<()> {
    let mut path = quick.path.clone().into_os_string();
    path.push(".tmp");
    // Whatever was left behind may have another mode.
    let _ = fs::remove_file(&path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&path, &quick.path));
    written.inspect_err(|_| drop(fs::remove_file(&path)))
}
