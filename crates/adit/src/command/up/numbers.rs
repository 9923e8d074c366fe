//! Numbers that the file leaves open, or that may be somebody else's: the mark and table of a full
//! tunnel, the MTU, the port.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use host::Network;
use host::plan::Machine;
use host::sysctl;

use super::failure::{Failure, Kind, Outcome};
use super::lock::Lock;
use super::sync::Found;
use super::tunnel::{self, Note};
use super::want::{FIRST_TABLE, VALID_MARK, full};
use super::wish::Wish;

/// What a packet grows by on its way through the tunnel: headers of UDP and data messages, and the
/// tag; and that of IPv6 or IPv4.
const MESSAGE: u32 = 8 + 16 + 16;
const OVERHEAD: u32 = 40 + MESSAGE;
const OVERHEAD_OF_V4: u32 = 20 + MESSAGE;
/// What IPv4 needs of every link (RFC 791).
const LEAST: u32 = 68;
/// What no link can have: more than the length in an IPv4 header can say.
const TOO_MUCH: u32 = 1 << 16;
/// What IPv6 needs of every link (RFC 8200 §5): below, the kernel takes it off.
pub const LEAST_OF_V6: u32 = 1280;
/// The tables `default`, `main` and `local` (rtnetlink(7)).
const RESERVED: RangeInclusive<u32> = 253..=255;
/// Of an Ethernet, when nothing better is known.
const USUAL: u32 = 1500;

/// The mark and table of a full tunnel: those that it has, the mark in the file, or free ones. With
/// these comes a lock: until they are in the journal, nobody else may find them free.
pub fn table(
    wish: &Wish,
    machine: &mut Machine,
    note: &Note,
    only_tells: bool,
) -> Outcome<(Option<u32>, Option<Lock>)> {
    if full(wish).is_empty() {
        return Ok((None, None));
    }
    if let Some(mark) = wish.settings.fwmark.filter(|mark| *mark != 0) {
        let text = format!(
            "{}: FwMark = {mark} is the number of a routing table that every machine has, and a tunnel \
             for everything needs one of its own by that number: write for example {FIRST_TABLE}",
            wish.path.display()
        );
        return match RESERVED.contains(&mark) {
            true => Err(Failure::new(Kind::Configuration, text)),
            false => Ok((Some(mark), None)),
        };
    }
    if let Some(table) = note.table.filter(|table| *table >= FIRST_TABLE) {
        return Ok((Some(table), None));
    }
    let lock = if only_tells { None } else { Some(Lock::of_all()?) };
    let others = tunnel::names().into_iter().filter(|name| *name != wish.name);
    let reserved: Vec<u32> =
        others.filter_map(|name| tunnel::journal(&name).ok()??.note.table).collect();
    let rules = machine.network.rules()?;
    let mut free = FIRST_TABLE;
    while reserved.contains(&free)
        || rules.iter().any(|rule| rule.table == free || rule.unless_marked == Some(free))
        || !machine.network.is_empty(free)?
    {
        free += 1;
    }
    Ok((Some(free), lock))
}

/// The MTU that the file wants, else one that fits through the ways to all peers.
pub fn mtu(wish: &Wish, network: &mut Network, found: &Found, mark: Option<u32>) -> Outcome<u32> {
    if let Some(word) = &wish.file.mtu {
        let invalid = |why: &str| {
            let text = format!("{}: MTU = {word} {why}", wish.path.display());
            Failure::new(Kind::Configuration, text)
        };
        return match word.parse() {
            Err(_) | Ok(..LEAST) => Err(invalid("is no number of bytes: write for example 1420")),
            Ok(..LEAST_OF_V6) if wants_v6(wish) => {
                Err(invalid("is too small for IPv6: write 1280 or more, or leave IPv6 out"))
            }
            Ok(TOO_MUCH..) => Err(invalid("is more than a link can have: write for example 1420")),
            Ok(mtu) => Ok(mtu),
        };
    }
    // A peer that cannot be reached now has no say.
    let endpoints = found.values().filter_map(|endpoint| routable(*endpoint));
    let endpoints: BTreeSet<_> = endpoints.collect();
    let paths =
        endpoints.into_iter().filter_map(|to| network.path_of_marked(to, mark.unwrap_or(0)).ok());
    // Through the tunnel itself leads no way to a peer, whatever somebody's route says.
    let paths = paths.filter(|path| path.link != wish.name);
    let narrowest = paths.map(|path| path.mtu).min();
    let mtu = match narrowest {
        Some(mtu) => mtu,
        None => network.default_path()?.map_or(USUAL, |path| path.mtu),
    };
    // A datagram that is too long then is sent in fragments, which is better than no IPv6.
    let least = if wants_v6(wish) { LEAST_OF_V6 } else { 0 };
    Ok(mtu.saturating_sub(OVERHEAD).max(least))
}

/// Whether IPv6 is to go through the tunnel.
fn wants_v6(wish: &Wish) -> bool {
    let mut allowed = wish.settings.peers.iter().flat_map(|peer| &peer.allowed_ips);
    // Only an address of IPv6 has a colon, and what is none is refused elsewhere.
    wish.file.addresses.iter().any(|it| it.contains(':')) || allowed.any(|it| it.address.is_ipv6())
}

/// Makes sure that the datagrams of a tunnel that is not there yet can come in at `port`: a daemon
/// that cannot open it carries nothing. One that was killed a moment ago may still have it.
pub fn await_free(port: u16) -> Outcome {
    const PATIENCE: Duration = Duration::from_secs(2);
    let deadline = Instant::now() + PATIENCE;
    while is_taken(port) {
        if Instant::now() > deadline {
            let text = format!(
                "ListenPort = {port}: another program has this port (`ss -ulnp' names it); end it, \
                 or write another number"
            );
            return Err(Failure::new(Kind::Failed, text));
        }
        // Nobody tells when a port is given back.
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn is_taken(port: u16) -> bool {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let taken = |error: io::Error| error.kind() == io::ErrorKind::AddrInUse;
    port != 0 && any.iter().any(|it| UdpSocket::bind((*it, port)).is_err_and(taken))
}

/// Whether the kernel's settings can be changed.
pub fn may_set() -> bool {
    OpenOptions::new().write(true).open("/proc/sys/net/ipv4/conf/all/send_redirects").is_ok()
}

/// Makes sure that replies to a full tunnel get in where the kernel's settings cannot be changed.
pub fn check_reverse_path() -> Outcome {
    let counts = sysctl::get(VALID_MARK).is_ok_and(|value| value == "1");
    if counts || !sysctl::is_reverse_path_strict() {
        return Ok(());
    }
    let text = "the reverse path filter is strict (rp_filter = 1), and would drop what the peer \
                sends; net.ipv4.conf.all.src_valid_mark cannot be set here, since /proc/sys is \
                read-only: set it to 1 outside, as by `--sysctl' of a container";
    Err(Failure::new(Kind::Failed, text))
}

/// What a packet grows by on its way to this address.
pub fn overhead(to: IpAddr) -> u32 {
    if to.is_ipv4() { OVERHEAD_OF_V4 } else { OVERHEAD }
}

/// The way to a link-local address is not found by its address alone.
pub fn routable(endpoint: SocketAddr) -> Option<IpAddr> {
    match endpoint {
        SocketAddr::V6(endpoint) if endpoint.scope_id() != 0 => None,
        endpoint => Some(endpoint.ip()),
    }
}
