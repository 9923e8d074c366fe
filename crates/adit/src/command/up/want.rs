//! What a file wants of the machine's network, item by item, in the order in which it is safe.

use std::collections::BTreeSet;

use config::quick::prefix;
use host::plan::{Item, Wanted};
use host::{Family, MAIN_TABLE, Origin, Prefix, Route, Rule};

use super::failure::{Failure, Kind, Outcome};
use super::wish::Wish;

/// What the file leaves to the machine.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The MTU, in bytes.
    pub mtu: u32,
    /// The mark and table of a full tunnel.
    pub table: Option<u32>,
}

/// Before the rules of the machine itself (32766 and 32767), behind those of Tailscale (5210 to
/// 5270), whose network stays reachable.
const RULES: u32 = 20_000;
/// The first mark, and table, of a full tunnel: as wg-quick(8) has it.
pub const FIRST_TABLE: u32 = 51820;

/// The families of which everything goes into the tunnel.
pub fn full(wish: &Wish) -> Vec<Family> {
    if wish.file.table.as_ref().is_some_and(|table| table != "auto") {
        return Vec::new();
    }
    let destinations = destinations(wish);
    let is_full = |family: &Family| {
        destinations.iter().any(|it| it.length == 0 && Family::of(it.address) == *family)
    };
    [Family::V4, Family::V6].into_iter().filter(is_full).collect()
}

/// Everything that a tunnel needs on the machine.
///
/// # Errors
///
/// That a word of the file cannot be understood.
pub fn wanted(wish: &Wish, circumstances: &Circumstances) -> Outcome<Vec<Wanted>> {
    let link = || wish.name.clone();
    let mut wanted = vec![
        Wanted {
            item: Item::Setting("net/ipv4/conf/all/send_redirects".into(), "0".into()),
            why: "peers cannot reach each other beside this machine",
        },
        Wanted { item: Item::Link(link()), why: "somebody has to carry the packets" },
        Wanted {
            item: Item::Setting(
                format!("net/ipv4/conf/{}/promote_secondaries", wish.name),
                "1".into(),
            ),
            why: "an address can be replaced without taking its neighbours along",
        },
    ];
    let addresses = addresses(wish)?;
    wanted.extend(addresses.iter().map(|address| Wanted {
        item: Item::Address(link(), *address),
        why: "Address in the file",
    }));
    let why = if wish.file.mtu.is_some() {
        "MTU in the file"
    } else {
        "it fits through the ways to all peers"
    };
    wanted.push(Wanted { item: Item::Mtu(link(), circumstances.mtu), why });
    wanted.push(Wanted { item: Item::Up(link()), why: "it is to carry packets" });
    let full = full(wish);
    if let Some(table) = circumstances.table {
        wanted.extend(steering(wish, &full, table));
    }
    let table = match wish.file.table.as_deref() {
        Some("off") => return Ok(wanted),
        None | Some("auto") => MAIN_TABLE,
        Some(table) => host::table_number(table).ok_or_else(|| {
            let text = format!(
                "{}: `{table}' is no routing table: write off, auto, a number, or a name in \
                 /etc/iproute2/rt_tables",
                wish.path.display()
            );
            Failure::new(Kind::Configuration, text)
        })?,
    };
    let covered = |it: &Prefix| {
        full.contains(&Family::of(it.address))
            || table == MAIN_TABLE && addresses.iter().any(|address| address.contains(*it))
    };
    let routes = destinations(wish).into_iter().filter(|it| !covered(it));
    wanted.extend(routes.map(|destination| Wanted {
        item: Item::Route(Route {
            destination,
            gateway: None,
            link: link(),
            table,
            origin: Origin::ADIT,
        }),
        why: "AllowedIPs of a peer",
    }));
    Ok(wanted)
}

/// What leads everything into the tunnel but its own packets. The rule stands before that of the
/// main table, so that no route there can lead anything past the tunnel, however specific it is:
/// whoever answers DHCP can add such routes (CVE-2024-3661, TunnelVision).
fn steering(wish: &Wish, full: &[Family], table: u32) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    if full.contains(&Family::V4) {
        wanted.push(Wanted {
            item: Item::Setting("net/ipv4/conf/all/src_valid_mark".into(), "1".into()),
            why: "the reverse path of encrypted packets is looked up by their mark",
        });
    }
    // The latest tunnel comes first, since it has the highest number.
    let priority = RULES.saturating_sub(2 * table.saturating_sub(FIRST_TABLE).min(RULES / 4));
    for family in full {
        wanted.push(Wanted {
            item: Item::Rule(Rule {
                priority: Some(priority),
                origin: Origin::KERNEL,
                ..Rule::unless_marked(*family, table, table)
            }),
            why: "everything goes into the tunnel but its own packets",
        });
        let destination = match family {
            Family::V4 => Prefix::DEFAULT,
            Family::V6 => Prefix { address: std::net::Ipv6Addr::UNSPECIFIED.into(), length: 0 },
        };
        wanted.push(Wanted {
            item: Item::Route(Route {
                destination,
                gateway: None,
                link: wish.name.clone(),
                table,
                origin: Origin::ADIT,
            }),
            why: "the only way in the tunnel's own table",
        });
    }
    wanted
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
