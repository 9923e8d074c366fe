//! Routes to everything that the peers may send from, and what a default route takes besides (spec
//! §4.3 step 9, §4.4.1).

use std::cmp::Reverse;
use std::io::ErrorKind;

use config::wg::Settings;
use host::nft::{self, Nftables};
use host::{Change, Family, Network, Origin, Prefix, Route, Rule, TablesLock, sysctl};

use super::{Failure, Outcome, Quick, Transcript, down};
use crate::command::wg::interface;

/// The first mark, and table, that a default route tries.
const FIRST_TABLE: u32 = 51820;
/// Lets the reverse path of an encrypted packet be judged with its mark, as its way out is.
const VALID_MARK: &str = "net/ipv4/conf/all/src_valid_mark";

/// Adds them all, the longest prefix first, so that what it covers is not cut off meanwhile.
pub(super) fn add_all(quick: &Quick, network: &mut Network, transcript: &Transcript) -> Outcome {
    let table = quick.file.table.as_deref().filter(|table| *table != "auto");
    if table == Some("off") {
        return Ok(());
    }
    let covered = network.destinations(&quick.interface)?;
    let mut routes = Routes { name: &quick.interface, network, transcript, covered };
    // Another tunnel that comes up now must not find the same table free.
    let _alone = TablesLock::take()?;
    for destination in destinations(&quick.interface)? {
        match table {
            Some(table) => routes.add_to(table, destination)?,
            None if destination.length == 0 => routes.add_default(destination)?,
            None => routes.add(destination)?,
        }
    }
    Ok(())
}

/// What the peers may send from, in wg-quick's order.
fn destinations(name: &str) -> Outcome<Vec<Prefix>> {
    let state =
        interface::state(name.as_ref()).map_err(|error| Failure::unreadable(name, &error))?;
    let allowed = state.peers.iter().flat_map(|peer| &peer.allowed_ips);
    let mut destinations: Vec<_> = allowed
        .map(|allowed| Prefix { address: allowed.address(), length: allowed.length() })
        .collect();
    destinations.sort_by_cached_key(|prefix| Reverse((prefix.length, prefix.to_string())));
    // Two peers cannot have the same, but the program that carries the packets may say so.
    destinations.dedup();
    Ok(destinations)
}

struct Routes<'a> {
    name: &'a str,
    network: &'a mut Network,
    transcript: &'a Transcript,
    /// Where the main table's routes through the interface lead already. Those that are added cover
    /// none of the others, which come in order of their length.
    covered: Vec<Prefix>,
}

impl Routes<'_> {
    /// Unless a route through the interface leads there already.
    fn add(&mut self, destination: Prefix) -> Outcome {
        if self.covered.iter().any(|covered| covered.contains(destination)) {
            return Ok(());
        }
        let (family, name) = (family(destination), self.name);
        self.transcript.step(format!("ip {family} route add {destination} dev {name}"))?;
        self.apply(destination, host::MAIN_TABLE)
    }

    fn add_to(&mut self, table: &str, destination: Prefix) -> Outcome {
        let (family, name) = (family(destination), self.name);
        let text = format!("ip {family} route add {destination} dev {name} table {table}");
        self.transcript.step(text)?;
        let number = host::table_number(table)
            .ok_or_else(|| Failure::new(format!("`{table}' is not a routing table")))?;
        self.apply(destination, number)
    }

    fn apply(&mut self, destination: Prefix, table: u32) -> Outcome {
        let link = self.name.to_owned();
        Ok(self.network.apply(Change::AddRoute(&Route {
            destination,
            gateway: None,
            link,
            table,
            origin: Origin::BOOT,
        }))?)
    }

    /// A default route that leaves the machine's own in place: it is in a table of its own, which
    /// everything uses but packets that the tunnel itself sends, and what a more specific route
    /// leads elsewhere.
    fn add_default(&mut self, destination: Prefix) -> Outcome {
        let (option, name) = (family(destination), self.name);
        let family = Family::of(destination.address);
        let table = self.mark()?;
        // The rules come first: a route without them would take packets that nobody meant for it.
        self.transcript.step(format!("ip {option} rule add not fwmark {table} table {table}"))?;
        self.network.apply(Change::AddRule(&Rule::unless_marked(family, table, table)))?;
        self.transcript.step(format!("ip {option} rule add table main suppress_prefixlength 0"))?;
        self.network.apply(Change::AddRule(&Rule::main_without_default(family)))?;
        let text = format!("ip {option} route add {destination} dev {name} table {table}");
        self.transcript.step(text)?;
        self.apply(destination, table)?;
        if family == Family::V4 {
            self.let_marks_count()?;
        }
        self.protect(family, table)
    }

    /// The mark of the tunnel's own packets, which is also the number of its table.
    fn mark(&mut self) -> Outcome<u32> {
        let unreadable = |error| Failure::unreadable(self.name, &error);
        let mark = interface::state(self.name.as_ref()).map_err(unreadable)?.fwmark;
        if mark != 0 {
            return Ok(mark);
        }
        let mut free = FIRST_TABLE;
        while !self.network.is_empty(free)? {
            free += 1;
        }
        self.transcript.step(format!("wg set {} fwmark {free}", self.name))?;
        let settings = Settings { fwmark: Some(free), ..Settings::default() };
        interface::configure(self.name.as_ref(), &settings).map_err(unreadable)?;
        Ok(free)
    }

    /// In containers the setting often can only be read, and is right already or not needed.
    fn let_marks_count(&self) -> Outcome {
        if sysctl::get(VALID_MARK).is_ok_and(|value| value == "1") {
            return Ok(());
        }
        self.transcript.step("sysctl -q net.ipv4.conf.all.src_valid_mark=1")?;
        let Err(error) = sysctl::set(VALID_MARK, "1") else { return Ok(()) };
        let kind = error.cause().kind();
        if !matches!(kind, ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) {
            return Err(error.into());
        }
        if !sysctl::is_reverse_path_strict() {
            return Ok(());
        }
        let failure = Failure::from(error);
        let outside = "set it outside, as by `--sysctl net.ipv4.conf.all.src_valid_mark=1' of a \
                       container";
        let text = failure.text.map(|text| format!("{text}: {outside}"));
        Err(Failure { text, ..failure })
    }

    /// Keeps others on the same network from reaching the addresses of the tunnel beside it.
    fn protect(&mut self, family: Family, mark: u32) -> Outcome {
        let addresses = self.network.addresses_of(self.name)?;
        let addresses: Vec<_> = addresses.iter().map(|prefix| prefix.address).collect();
        let name = down::firewall(self.name);
        let table = nft::Table::of_tunnel(name, self.name, family, &addresses, mark);
        self.transcript.step("nft -f /dev/fd/63")?;
        Ok(Nftables::open()?.apply(&[nft::Change::SetTable(&table)])?)
    }
}

/// As an option of ip(8).
fn family(prefix: Prefix) -> &'static str {
    if prefix.address.is_ipv4() { "-4" } else { "-6" }
}
