//! Networks that two peers claim, or that a peer is in itself: where does a packet go?

use std::collections::BTreeMap;
use std::net::IpAddr;

use proto::Prefix;

use super::Problems;
use crate::file::Problem;

/// Every entry of every `AllowedIPs`, and every `Endpoint` that is an address.
#[derive(Default)]
pub(super) struct Routes {
    all: Vec<Route>,
    endpoints: Vec<(IpAddr, usize)>,
}

#[derive(Clone, Copy)]
struct Route {
    prefix: Prefix,
    line: usize,
    /// The line of its `[Peer]`.
    peer: usize,
}

impl Routes {
    pub(super) fn add(&mut self, prefix: Prefix, line: usize, peer: usize) {
        self.all.push(Route { prefix, line, peer });
    }

    pub(super) fn add_endpoint(&mut self, address: IpAddr, line: usize) {
        self.endpoints.push((address, line));
    }

    /// Where a peer is that is to be reached through the tunnel itself. A full tunnel has a mark
    /// for its own datagrams.
    pub(super) fn circles(&self, problems: &mut Problems) {
        let routes: BTreeMap<_, _> =
            self.all.iter().map(|route| (route.prefix, route.line)).collect();
        let (full_v4, full_v6) = (self.all_of(true).is_some(), self.all_of(false).is_some());
        for (address, line) in &self.endpoints {
            let (longest, is_full) = match address {
                IpAddr::V4(_) => (32, full_v4),
                IpAddr::V6(_) => (128, full_v6),
            };
            let mut around = (0..=longest).rev().filter_map(|length| {
                let network = Prefix::new(*address, length)?;
                Some((routes.get(&network)?, network))
            });
            let Some((at, network)) = around.next().filter(|_| !is_full) else { continue };
            let what = format!(
                "{network} holds the Endpoint of line {line}, too: the tunnel would carry itself"
            );
            let instead = "leave that address out, unless it has a more specific route already";
            problems.push(Problem::warning(*at, "endpoint-inside", what, instead));
        }
    }

    /// What says that everything of a family goes into the tunnel.
    fn all_of(&self, v4: bool) -> Option<&Route> {
        let mut of_family = self.all.iter().filter(|route| route.prefix.address().is_ipv4() == v4);
        let widest = of_family.find(|route| route.prefix.length() == 0);
        widest.or_else(|| self.both_halves(v4))
    }

    /// All of one family goes through the tunnel, and nothing of the other.
    pub(super) fn full_tunnel(&self, problems: &mut Problems) {
        let everything = |v4: bool| self.all_of(v4).map(|route| route.line);
        let (what, line, missing) = match (everything(true), everything(false)) {
            (Some(line), None) => ("IPv4", line, "::/0"),
            (None, Some(line)) => ("IPv6", line, "0.0.0.0/0"),
            _ => return,
        };
        let other = if what == "IPv4" { "IPv6" } else { "IPv4" };
        let what = format!("all of {what} goes into the tunnel, and {other} passes beside it");
        let instead = format!("add {missing}");
        problems.push(Problem::warning(line, "half-tunnel", what, instead));
    }

    /// The whole of a family in two pieces, as some write it to keep their default route.
    fn both_halves(&self, v4: bool) -> Option<&Route> {
        let half = |upper: bool| {
            self.all.iter().find(|route| {
                let (family, bits) = place(route.prefix.address());
                family == v4 && route.prefix.length() == 1 && (bits >> 127 == 1) == upper
            })
        };
        half(false).and(half(true))
    }

    /// The same network twice, or one inside of another. In order of their addresses, wider first,
    /// every network comes right behind those that it is in.
    pub(super) fn overlaps(self, problems: &mut Problems) {
        let mut routes = self.all;
        routes.sort_by_key(|route| {
            let (v4, bits) = place(route.prefix.address());
            (v4, bits, route.prefix.length(), route.line)
        });
        let mut around: Vec<Route> = Vec::new();
        for route in routes {
            while around.pop_if(|outer| !contains(outer.prefix, route.prefix)).is_some() {}
            if let Some(outer) = around.last() {
                problems.extend(judge(*outer, route));
            }
            around.push(route);
        }
    }
}

/// Two networks, the second inside of the first. That one peer has all the rest is how a default
/// route is meant.
fn judge(outer: Route, inner: Route) -> Option<Problem> {
    let name = format!("{}/{}", inner.prefix.address(), inner.prefix.length());
    let is_same = outer.prefix == inner.prefix;
    let line = inner.line.max(outer.line);
    if is_same && outer.peer == inner.peer {
        let what = format!("{name} is there twice");
        return Some(Problem::warning(line, "allowed-ips-repeated", what, "remove one of them"));
    }
    if is_same {
        let first = outer.line.min(inner.line);
        let what =
            format!("{name} belongs to the peer of line {first} already, which would lose it");
        let instead = "give every network to one peer";
        return Some(Problem::error(line, "allowed-ips-taken", what, instead));
    }
    (outer.peer != inner.peer && outer.prefix.length() > 0).then(|| {
        let outer_name = format!("{}/{}", outer.prefix.address(), outer.prefix.length());
        let what = format!(
            "{name} is in {outer_name} of line {}, whose peer is not sent this part of it",
            outer.line
        );
        let instead = "if that is not meant, make them apart";
        Problem::warning(inner.line, "allowed-ips-shadowed", what, instead)
    })
}

fn contains(outer: Prefix, inner: Prefix) -> bool {
    let ((outer_v4, outer_bits), (inner_v4, inner_bits)) =
        (place(outer.address()), place(inner.address()));
    let rest = 128 - u32::from(outer.length());
    let same = (outer_bits ^ inner_bits).checked_shr(rest).unwrap_or(0) == 0;
    outer_v4 == inner_v4 && outer.length() <= inner.length() && same
}

/// The family, and the bits from the left.
fn place(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (true, u128::from(u32::from(v4)) << 96),
        IpAddr::V6(v6) => (false, u128::from(v6)),
    }
}
