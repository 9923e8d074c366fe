//! `wg-quick down` (spec §4.6), and what it shares with an `up` that fails.

use std::ffi::OsStr;
use std::io::Read;
use std::time::Duration;

use host::nft::{self, Nftables};
use host::{Change, Family, Network, Rule, TablesLock};

use super::{Failure, Outcome, Quick, Transcript, dns, save};
use crate::command::up::has_made;
use crate::command::wg::interface;

/// Takes the tunnel down. A hook that fails before anything else leaves it up.
pub(super) fn down(quick: &Quick) -> Outcome {
    let Quick { interface, file, .. } = quick;
    let transcript = &Transcript::new();
    must_be_wireguard(quick)?;
    if has_made(interface) {
        let text = format!(
            "`{interface}' was brought up by `adit up', whose keeper would put it back: `adit down \
             {interface}' takes it down"
        );
        return Err(Failure::new(text));
    }
    let mut network = Network::open()?;
    transcript.hooks(&file.hooks.pre_down, interface)?;
    if file.save {
        save::write(quick, &mut network, transcript)?;
    }
    remove_rules(quick, &mut network, transcript)?;
    delete_link(quick, &mut network, transcript)?;
    // The tunnel is gone; what cannot be removed now must not keep the rest.
    for outcome in [dns::unset(quick, transcript), remove_firewall(quick, transcript)] {
        if let Err(failure) = outcome {
            failure.tell();
        }
    }
    transcript.hooks(&file.hooks.post_down, interface)
}

/// Fails unless the interface is one of WireGuard.
pub(super) fn must_be_wireguard(quick: &Quick) -> Outcome {
    let name = &quick.interface;
    let is_one =
        interface::names().is_ok_and(|names| names.iter().any(|found| found == OsStr::new(name)));
    if is_one {
        Ok(())
    } else {
        Err(Failure::new(format!("`{name}' is not a WireGuard interface")))
    }
}

/// Removes the rules for a default route, if the interface has one.
pub(super) fn remove_rules(
    quick: &Quick,
    network: &mut Network,
    transcript: &Transcript,
) -> Outcome {
    if quick.file.table.as_ref().is_some_and(|table| table != "auto") {
        return Ok(());
    }
    // Without an interface nobody knows its mark, and there is nothing to remove.
    let Ok(state) = interface::state(quick.interface.as_ref()) else { return Ok(()) };
    let has_default = |peer: &proto::PeerState| peer.allowed_ips.iter().any(|ip| ip.length() == 0);
    if state.fwmark == 0 || !state.peers.iter().any(has_default) {
        return Ok(());
    }
    // Which rules belong to another tunnel can only be told while that does not change.
    let _alone = TablesLock::take()?;
    for (family, option) in [(Family::V4, "-4"), (Family::V6, "-6")] {
        let mut rules = network.rules()?;
        rules.retain(|rule| rule.family == family);
        for rule in ours(&rules, state.fwmark) {
            let which = match rule.suppress_prefix_length {
                None => format!("table {}", rule.table),
                Some(length) => format!("table main suppress_prefixlength {length}"),
            };
            transcript.step(format!("ip {option} rule delete {which}"))?;
            network.apply(Change::RemoveRule(rule))?;
        }
    }
    Ok(())
}

/// Of all rules of one family, those that belong to the tunnel with this mark: the rules for its
/// table, then those that keep the default route of the main table out. Another tunnel that is
/// still up keeps its own of the latter, which stands just before the rule for its table.
fn ours(rules: &[Rule], mark: u32) -> Vec<&Rule> {
    let is_default =
        |rule: &&Rule| rule.table == host::MAIN_TABLE && rule.suppress_prefix_length == Some(0);
    let (tables, others): (Vec<&Rule>, Vec<&Rule>) =
        rules.iter().partition(|rule| rule.table == mark && rule.unless_marked == Some(mark));
    let another = others.iter().any(|rule| rule.unless_marked == Some(rule.table));
    let partner = |rule: &&Rule| {
        let before = others.iter().copied().filter(is_default);
        before.filter(|other| other.priority < rule.priority).max_by_key(|other| other.priority)
    };
    let suppressors: Vec<_> = if another {
        tables.iter().filter_map(partner).collect()
    } else {
        others.iter().copied().filter(|rule| is_default(rule)).collect()
    };
    tables.into_iter().chain(suppressors).collect()
}

/// Deletes the interface, and waits until whoever carried its packets has gone, so that it can come
/// up again at once.
pub(super) fn delete_link(
    quick: &Quick,
    network: &mut Network,
    transcript: &Transcript,
) -> Outcome {
    const PATIENCE: Duration = Duration::from_secs(5);
    let name = &quick.interface;
    let carrier = interface::connect(name.as_ref()).ok().flatten();
    transcript.step(format!("ip link delete dev {name}"))?;
    network.apply(Change::DeleteLink(name))?;
    if let Some(mut carrier) = carrier {
        // It says nothing unasked, so that this ends when the other side does.
        let _ = carrier.set_read_timeout(Some(PATIENCE));
        let _ = carrier.read(&mut [0]);
    }
    Ok(())
}

/// The name of the table that protects an interface.
pub(super) fn firewall(interface: &str) -> String {
    format!("wg-quick-{interface}")
}

/// Removes what keeps others from the addresses of the tunnel, if it is there.
pub(super) fn remove_firewall(quick: &Quick, transcript: &Transcript) -> Outcome {
    let name = firewall(&quick.interface);
    // A kernel without nftables has no table.
    let Ok(mut nftables) = Nftables::open() else { return Ok(()) };
    let tables = nftables.tables().unwrap_or_default();
    // One of both families at once is somebody else's.
    let ours = |family| matches!(family, nft::Family::Ip | nft::Family::Ip6);
    let changes: Vec<_> = tables
        .iter()
        .filter(|(family, table)| *table == name && ours(*family))
        .map(|(family, table)| nft::Change::DeleteTable(*family, table))
        .collect();
    if changes.is_empty() {
        return Ok(());
    }
    transcript.step("nft -f /dev/fd/63")?;
    Ok(nftables.apply(&changes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(rule: Rule, priority: u32) -> Rule {
        Rule { priority: Some(priority), ..rule }
    }

    fn table(mark: u32, priority: u32) -> Rule {
        rule(Rule::unless_marked(Family::V4, mark, mark), priority)
    }

    fn suppressor(priority: u32) -> Rule {
        rule(Rule::main_without_default(Family::V4), priority)
    }

    #[test]
    fn the_last_default_route_takes_every_rule_with_it() {
        let rules = [suppressor(1), suppressor(2), table(7, 3), table(7, 4)];
        assert_eq!(ours(&rules, 7), [&rules[2], &rules[3], &rules[0], &rules[1]]);
        assert!(ours(&rules[2..], 8).is_empty());
    }

    #[test]
    fn each_of_two_default_routes_keeps_its_rules() {
        let rules = [suppressor(1), table(8, 2), suppressor(3), table(7, 4)];
        assert_eq!(ours(&rules, 7), [&rules[3], &rules[2]]);
        assert_eq!(ours(&rules, 8), [&rules[1], &rules[0]]);
    }
}
