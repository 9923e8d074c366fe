//! Interfaces of the kernel, by the family `wireguard` of generic netlink (linux/wireguard.h).

mod detour;
mod read;
mod write;

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;

use config::wg::Settings;
use host::Network;
use host::generic::{DUMP, Generic};
use proto::{DeviceState, PublicKey};

use super::interface::short;

const FAMILY: &str = "wireguard";
const VERSION: u8 = 1;
const WG_CMD_GET_DEVICE: u8 = 0;
const WG_CMD_SET_DEVICE: u8 = 1;

/// Of an interface: its name, ended by a zero byte.
const WGDEVICE_A_IFNAME: u16 = 2;
const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_FLAGS: u16 = 5;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_FWMARK: u16 = 7;
const WGDEVICE_A_PEERS: u16 = 8;

const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_PRESHARED_KEY: u16 = 2;
const WGPEER_A_FLAGS: u16 = 3;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
const WGPEER_A_RX_BYTES: u16 = 7;
const WGPEER_A_TX_BYTES: u16 = 8;
const WGPEER_A_ALLOWEDIPS: u16 = 9;

const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;
const WGALLOWEDIP_A_FLAGS: u16 = 4;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The kind of link that such an interface is.
pub(in crate::command) const KIND: &str = "wireguard";
/// There if the kernel has WireGuard, as a module that is loaded or as a part of itself.
pub(in crate::command) const MODULE: &str = "/sys/module/wireguard";

/// All interfaces of this network namespace, as the kernel lists them.
pub(super) fn names() -> io::Result<Vec<OsString>> {
    let links = Network::open().and_then(|mut network| network.links());
    let links = links.map_err(|error| same(error.cause()))?;
    let ours = links.into_iter().filter(|link| link.kind == KIND);
    Ok(ours.map(|link| link.name.into()).collect())
}

/// All about one interface.
///
/// # Errors
///
/// The kernel's own: ENODEV if there is none, EOPNOTSUPP if it is of another kind, EPERM;
/// EPROTONOSUPPORT if the kernel does not know WireGuard, but ENAMETOOLONG, as `wg` says without
/// asking it, for what it could not know.
pub(super) fn state(name: &OsStr) -> io::Result<DeviceState> {
    const ENAMETOOLONG: i32 = 36;
    if name != short(name) {
        return Err(io::Error::from_raw_os_error(ENAMETOOLONG));
    }
    let mut family = open()?;
    let request = family.command(WG_CMD_GET_DEVICE, DUMP);
    let request = request.with(WGDEVICE_A_IFNAME, &terminated(name));
    let mut state = DeviceState::default();
    // A large interface comes in several messages, which each continue the one before.
    family.request(&request, |attributes| read::interface(&mut state, attributes))?;
    Ok(state)
}

/// Applies settings to an interface, in as many requests as they need. What comes before a request
/// that the kernel refuses stays.
///
/// # Errors
///
/// As for [`state`].
pub(super) fn configure(name: &OsStr, settings: &Settings) -> io::Result<()> {
    const EINVAL: i32 = 22;
    match send(name, settings) {
        Err(error) if error.raw_os_error() == Some(EINVAL) && detour::is_needed(settings) => {
            let mut stranger = PublicKey([0; 32]);
            sys::random::fill(&mut stranger.0);
            send(name, &detour::around(settings, &state(name)?, stranger))
        }
        outcome => outcome,
    }
}

fn send(name: &OsStr, settings: &Settings) -> io::Result<()> {
    let mut family = open()?;
    for part in write::parts(settings) {
        let request = family.command(WG_CMD_SET_DEVICE, 0);
        let request = request.with(WGDEVICE_A_IFNAME, &terminated(name));
        family.request(&part.write(request), |_| Some(()))?;
    }
    Ok(())
}

fn open() -> io::Result<Generic> {
    const EPROTONOSUPPORT: i32 = 93;
    Generic::open(FAMILY, VERSION).map_err(|error| match error.kind() {
        ErrorKind::NotFound => io::Error::from_raw_os_error(EPROTONOSUPPORT),
        _ => error,
    })
}

fn terminated(name: &OsStr) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

/// The same error, to keep.
fn same(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or(error.kind().into(), io::Error::from_raw_os_error)
}
