//! What a file wants of the machine's network, item by item, in the order in which it is safe.

use std::collections::BTreeSet;
use std::net::IpAddr;

use config::file::Exclusion;
use config::quick::prefix;
use host::guard::{self, Guard, OnLink};
use host::plan::{Item, Wanted};
use host::{Family, MAIN_TABLE, Origin, Prefix, Route, Rule, dns};

use super::failure::{Failure, Kind, Outcome};
use super::wish::Wish;

/// What the file leaves to the machine.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The MTU, in bytes.
    pub mtu: u32,
    /// The mark and table of a full tunnel.
    pub table: Option<u32>,
    /// Whether nothing may leave beside it.
    pub guard: bool,
    /// The port of the interface, if it is known.
    pub port: Option<u16>,
    /// The other full tunnels.
    pub others: Vec<Other>,
    /// The name servers of the network.
    pub resolvers: Vec<IpAddr>,
    /// The networks that the machine's other links are in.
    pub on_link: Vec<OnLink>,
    /// Who will be asked for names, and how it is told.
    pub dns: Option<dns::Plan>,
    /// Whether the kernel's settings can be changed: in containers they often cannot.
    pub may_set: bool,
}

/// Another full tunnel. The one with the higher number is carried in the other.
#[derive(Clone, Debug)]
pub struct Other {
    /// Its link.
    pub name: String,
    /// Its mark, and table.
    pub mark: u32,
    /// Its port, if it is known.
    pub port: Option<u16>,
}

/// Before the rules of the machine itself (32766 and 32767), behind those of Tailscale (5210 to
/// 5270), whose network stays reachable.
const RULES: u32 = 20_000;
/// The first mark, and table, of a full tunnel: as wg-quick(8) has it.
pub const FIRST_TABLE: u32 = 51820;

/// Whether a strict reverse path filter asks which way a reply's mark would go.
pub const VALID_MARK: &str = "net/ipv4/conf/all/src_valid_mark";

/// The families of which everything goes into the tunnel.
pub fn full(wish: &Wish) -> Vec<Family> {
    match wish.file.table.as_deref() {
        None | Some("auto") => guard::tunnelled(&destinations(wish)),
        Some(_) => Vec::new(),
    }
}

/// Everything that a tunnel needs on the machine.
///
/// # Errors
///
/// That a word of the file cannot be understood.
pub fn wanted(wish: &Wish, circumstances: &Circumstances) -> Outcome<Vec<Wanted>> {
    let addresses = addresses(wish)?;
    let full = full(wish);
    let mut wanted = filters(wish, circumstances, &addresses, &full);
    wanted.extend(link(wish, circumstances, &addresses));
    if let Some(table) = circumstances.table {
        if full.contains(&Family::V4) && circumstances.may_set {
            wanted.push(Wanted {
                item: Item::Setting(VALID_MARK.into(), "1".into()),
                why: "the reverse path of encrypted packets is looked up by their mark",
            });
        }
        wanted.extend(steering(&full, table, &excluded(wish, circumstances)));
        wanted.extend(nesting(&full, table, &circumstances.others));
    }
    wanted.extend(routes(wish, circumstances.table, &addresses, &full)?);
    // Nobody asks servers of the tunnel to which no way leads through it yet, or leads any more.
    wanted.extend(circumstances.dns.as_ref().map(|plan| Wanted {
        item: Item::Dns(plan.settings().clone(), plan.record().clone()),
        why: plan.because(),
    }));
    Ok(wanted)
}

/// What keeps everything in that goes into the tunnel, before there is one.
fn filters(
    wish: &Wish,
    circumstances: &Circumstances,
    addresses: &[Prefix],
    full: &[Family],
) -> Vec<Wanted> {
    let Some(mark) = circumstances.table else { return Vec::new() };
    if circumstances.guard {
        let (inner, outer): (Vec<&Other>, Vec<&Other>) =
            circumstances.others.iter().partition(|other| other.mark > mark);
        let guard = Guard {
            tunnel: wish.name.clone(),
            mark,
            port: circumstances.port,
            inner: inner.iter().map(|other| other.name.clone()).collect(),
            outer: outer.iter().filter_map(|other| Some((other.mark, other.port?))).collect(),
            addresses: addresses.to_vec(),
            tunnelled: full.to_vec(),
            on_link: circumstances.on_link.clone(),
            lan: wish.extensions.exclude_ips.contains(&Exclusion::Lan),
            excluded: named(wish),
            name_servers: wish.dns.iter().flat_map(|dns| dns.servers.clone()).collect(),
            resolvers: circumstances.resolvers.clone(),
        };
        let why = "nothing leaves beside the tunnel, whatever becomes of it";
        return guard.tables().map(|table| Wanted { item: Item::Filter(table), why }).into();
    }
    let addresses: Vec<_> = addresses.iter().map(|prefix| prefix.address).collect();
    let outermost = guard::outermost(mark, circumstances.others.iter().map(|other| other.mark));
    let tables = guard::without(&wish.name, full, &addresses, mark, outermost);
    let why = "nobody reaches the tunnel's addresses beside it";
    tables.into_iter().map(|table| Wanted { item: Item::Filter(table), why }).collect()
}

/// The link and what is on it.
fn link(wish: &Wish, circumstances: &Circumstances, addresses: &[Prefix]) -> Vec<Wanted> {
    let link = || wish.name.clone();
    let setting = |path: String, value: &str| Item::Setting(path, value.into());
    let mut wanted = Vec::new();
    if circumstances.may_set {
        wanted.push(Wanted {
            item: setting("net/ipv4/conf/all/send_redirects".into(), "0"),
            why: "peers cannot reach each other beside this machine",
        });
    }
    wanted.push(Wanted { item: Item::Link(link()), why: "somebody has to carry the packets" });
    if circumstances.may_set {
        wanted.push(Wanted {
            item: setting(format!("net/ipv4/conf/{}/promote_secondaries", wish.name), "1"),
            why: "an address can be replaced without taking its neighbours along",
        });
    }
    wanted.extend(addresses.iter().map(|address| Wanted {
        item: Item::Address(link(), *address),
        why: "Address in the file",
    }));
    let why = match wish.file.mtu {
        Some(_) => "MTU in the file",
        None => "it fits through the ways to all peers",
    };
    wanted.push(Wanted { item: Item::Mtu(link(), circumstances.mtu), why });
    wanted.push(Wanted { item: Item::Up(link()), why: "it is to carry packets" });
    wanted
}

/// What leads everything into the tunnel but its own packets, and what is excluded. The rules stand
/// before that of the main table, so that no route there can lead anything past the tunnel, however
/// specific it is: whoever answers DHCP can add such routes (CVE-2024-3661, TunnelVision).
fn steering(full: &[Family], table: u32, excluded: &[Prefix]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let priority = priority(table);
    let ours = excluded.iter().filter(|it| full.contains(&Family::of(it.address)));
    wanted.extend(ours.map(|destination| Wanted {
        item: rule(Rule::to(*destination, MAIN_TABLE), priority - 1),
        why: "ExcludeIPs in the file, or a network of containers",
    }));
    wanted.extend(full.iter().map(|family| Wanted {
        item: rule(Rule::unless_marked(*family, table, table), priority),
        why: "everything goes into the tunnel but its own packets",
    }));
    wanted
}

/// What lets the datagrams of tunnels that carry this one pass, which would have to carry them else:
/// each into the one that carries it, as far as that has a way, and else out.
fn nesting<'a>(
    full: &'a [Family],
    table: u32,
    others: &'a [Other],
) -> impl Iterator<Item = Wanted> + 'a {
    let outer = others.iter().map(|other| other.mark).filter(move |mark| *mark < table);
    outer.clone().flat_map(move |mark| {
        let carrier = outer.clone().filter(|other| *other < mark).max();
        let ways = [carrier.map(|carrier| (carrier, 2)), Some((MAIN_TABLE, 1))];
        let ways = ways.into_iter().flatten();
        ways.flat_map(move |(way, before)| {
            full.iter().map(move |family| Wanted {
                item: rule(Rule::marked(*family, mark, way), priority(table) - before),
                why: "another tunnel carries this one",
            })
        })
    })
}

/// The latest tunnel comes first, since it has the highest number. Up to two more are before that of
/// each tunnel.
fn priority(table: u32) -> u32 {
    RULES.saturating_sub(4 * table.saturating_sub(FIRST_TABLE).min(RULES / 8))
}

fn rule(rule: Rule, priority: u32) -> Item {
    Item::Rule(Rule { priority: Some(priority), origin: Origin::KERNEL, ..rule })
}

/// What stays outside of a full tunnel.
fn excluded(wish: &Wish, circumstances: &Circumstances) -> Vec<Prefix> {
    let lan = wish.extensions.exclude_ips.contains(&Exclusion::Lan);
    let neighbours = circumstances.on_link.iter().filter(|it| lan || it.within);
    let excluded = named(wish).into_iter().chain(neighbours.map(|it| it.network));
    let mut once = Vec::new();
    for prefix in excluded {
        if !once.contains(&prefix) {
            once.push(prefix);
        }
    }
    once
}

/// The networks that are excluded by their prefix.
fn named(wish: &Wish) -> Vec<Prefix> {
    let prefixes = wish.extensions.exclude_ips.iter().filter_map(|it| match it {
        Exclusion::Lan => None,
        Exclusion::Prefix(address, length) => Some(Prefix { address: *address, length: *length }),
    });
    prefixes.collect()
}

/// The ways to all that the peers may send from. Those of a full tunnel have a table of their own,
/// which has no route of anybody else.
fn routes(
    wish: &Wish,
    own: Option<u32>,
    addresses: &[Prefix],
    full: &[Family],
) -> Outcome<Vec<Wanted>> {
    let given = match wish.file.table.as_deref() {
        Some("off") => return Ok(Vec::new()),
        None | Some("auto") => MAIN_TABLE,
        Some(table) => host::table_number(table).ok_or_else(|| {
            let text = format!(
                "{}: `{table}' is no routing table: write off, auto, a number, or a name in \
                 /etc/iproute2/rt_tables",
                wish.place_of("Table")
            );
            Failure::new(Kind::Configuration, text)
        })?,
    };
    let table = |it: &Prefix| own.filter(|_| full.contains(&Family::of(it.address)));
    let is_covered = |it: &Prefix| {
        let main = table(it).is_none() && given == MAIN_TABLE;
        main && addresses.iter().any(|address| address.network().contains(*it))
    };
    let routes = destinations(wish).into_iter().filter(|it| !is_covered(it));
    let route = |destination| Route {
        destination,
        gateway: None,
        link: wish.name.clone(),
        table: table(&destination).unwrap_or(given),
        origin: Origin::ADIT,
    };
    let why = "AllowedIPs of a peer";
    Ok(routes.map(|it| Wanted { item: Item::Route(route(it)), why }).collect())
}

fn addresses(wish: &Wish) -> Outcome<Vec<Prefix>> {
    let mut addresses = Vec::new();
    for word in &wish.file.addresses {
        let (address, length) = prefix(word).ok_or_else(|| {
            let text = format!(
                "{}: Address = {word} is no address: write for example 10.0.0.2/24",
                wish.path.display()
            );
            Failure::new(Kind::Configuration, text)
        })?;
        let address = Prefix { address, length };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// What the peers may send from, each once, the longest prefix first.
fn destinations(wish: &Wish) -> Vec<Prefix> {
    let allowed = wish.settings.peers.iter().flat_map(|peer| &peer.allowed_ips);
    let prefixes = allowed.filter_map(|it| proto::Prefix::new(it.address, it.length));
    // Ordered by length first, so that what a shorter one covers is not cut off meanwhile.
    let ordered: BTreeSet<_> = prefixes.map(|it| (u8::MAX - it.length(), it.address())).collect();
    ordered.into_iter().map(|(rest, address)| Prefix { address, length: u8::MAX - rest }).collect()
}
