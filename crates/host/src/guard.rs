//! The guard of a full tunnel: two tables of packet filters that let nothing leave this machine
//! beside the tunnel, and nobody reach the tunnel's addresses beside it.
//!
//! A packet filter holds where routes do not: a DHCP server can hand out routes that win over the
//! tunnel's (CVE-2024-3661), or make any address a neighbour's (CVE-2023-36672, CVE-2023-36673), and
//! a route says nothing about an IP version that the tunnel does not carry. The tables belong to
//! nobody: they outlive every process of ours.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nft::{
    Base, Chain, Expression, FILTER, Family as Packets, Field, Hook, MANGLE, RAW, Refusal, Rule,
    SOURCE_NAT, Table, Transport, Verdict,
};
use crate::{Error, Family, Link, MAIN_TABLE, Network, Prefix, Route};
use Expression::{Is, IsNot};

/// What a full tunnel is kept in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The name of its link, which need not be there yet.
    pub tunnel: String,
    /// The mark of the datagrams that carry the tunnel.
    pub mark: u32,
    /// The port that they leave from, if it is known yet. Until it is, replies to them can fail a
    /// strict reverse path filter.
    pub port: Option<u16>,
    /// The links of tunnels that are carried in this one.
    pub inner: Vec<String>,
    /// The marks and ports of tunnels that carry this one: all that goes into them beside it is
    /// refused here, too.
    pub outer: Vec<(u32, u16)>,
    /// The link's addresses, each with its network, which is only behind the tunnel whatever a
    /// neighbour says.
    pub addresses: Vec<Prefix>,
    /// The versions of IP of which the tunnel takes everything. One that takes IPv4 keeps IPv6 from
    /// leaving even if it does not carry it; one that only takes IPv6 leaves IPv4 alone.
    pub tunnelled: Vec<Family>,
    /// The networks of other links, as [`on_link`] finds them.
    pub on_link: Vec<OnLink>,
    /// Whether all of them may be reached. Those within this machine may be in any case.
    pub lan: bool,
    /// Networks to be reached beside the tunnel because somebody named them.
    pub excluded: Vec<Prefix>,
    /// The name servers of the tunnel. Queries never go beside it, but to those of them that are in
    /// a network that is excluded by name.
    pub name_servers: Vec<IpAddr>,
    /// The name servers of the network, if the other end has a name: they are asked for it beside
    /// the tunnel, under its mark.
    pub resolvers: Vec<IpAddr>,
}

/// A private network with a link in it that is not the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnLink {
    /// The name of the link.
    pub link: String,
    /// The network.
    pub network: Prefix,
    /// Whether only containers and virtual machines of this machine are in it.
    pub within: bool,
}

/// The private networks (RFC 1918, RFC 3927, RFC 4193, RFC 4291 §2.5.6) of all links but the tunnel
/// and the loopback. A network of public addresses is never among them: whoever runs the LAN chooses
/// its addresses, and could make any host of the Internet a neighbour.
pub fn on_link(network: &mut Network, tunnel: &str) -> Result<Vec<OnLink>, Error> {
    let links = network.links()?;
    let inner = inner_bridges(network, &links)?;
    let mut found = Vec::new();
    for address in network.addresses()? {
        let Some(link) = links.iter().find(|link| link.index == address.link) else { continue };
        let network = address.address.network();
        if link.name == tunnel || !PRIVATE.iter().any(|private| private.contains(network)) {
            continue;
        }
        let within = inner.contains(&link.index);
        let on_link = OnLink { link: link.name.clone(), network, within };
        if !found.contains(&on_link) {
            found.push(on_link);
        }
    }
    Ok(found)
}

/// The indices of bridges that lead nowhere but to containers and virtual machines: each port has
/// its other end there, and no way to elsewhere goes through them.
fn inner_bridges(network: &mut Network, links: &[Link]) -> Result<Vec<u32>, Error> {
    let leads_out = |bridge: &Link| {
        let mut ports = links.iter().filter(|it| it.bridge == Some(bridge.index));
        ports.any(|port| !["veth", "tun"].contains(&port.kind.as_str()))
    };
    let mut bridges: Vec<&Link> = links.iter().filter(|it| it.kind == "bridge").collect();
    bridges.retain(|bridge| !leads_out(bridge));
    if !bridges.is_empty() {
        let routes = network.routes_of(MAIN_TABLE)?;
        let is_way =
            |route: &Route, bridge: &Link| route.gateway.is_some() && route.link == bridge.name;
        bridges.retain(|bridge| !routes.iter().any(|route| is_way(route, bridge)));
    }
    Ok(bridges.iter().map(|bridge| bridge.index).collect())
}

/// The versions of IP of which these prefixes leave no address out.
pub fn tunnelled(allowed: &[Prefix]) -> Vec<Family> {
    let whole = |family: &Family| {
        let all = Prefix { address: family.unspecified(), length: 0 };
        covered(all, allowed)
    };
    [Family::V4, Family::V6].into_iter().filter(whole).collect()
}

/// Whether every address of `wanted` is of one of the prefixes.
fn covered(wanted: Prefix, prefixes: &[Prefix]) -> bool {
    if prefixes.iter().any(|prefix| prefix.contains(wanted)) {
        return true;
    }
    // Halves of what nobody has a part of are not covered either.
    let parts: Vec<_> = prefixes.iter().copied().filter(|it| wanted.contains(*it)).collect();
    !parts.is_empty()
        && wanted.halves().is_some_and(|halves| halves.iter().all(|it| covered(*it, &parts)))
}

/// The tables of a full tunnel without a guard: nobody reaches its addresses beside it, and what is
/// sent to the machine's others is heard. `outermost` is the mark of what leaves the machine.
pub fn without(
    tunnel: &str,
    tunnelled: &[Family],
    addresses: &[IpAddr],
    mark: u32,
    outermost: u32,
) -> Vec<Table> {
    let name = Guard::table_name(tunnel);
    let table = |family| Table::of_tunnel(name.clone(), tunnel, family, addresses, mark);
    let mut tables: Vec<_> = tunnelled.iter().map(|family| table(*family)).collect();
    if let Some(table) = tables.iter_mut().find(|table| table.family == Packets::Ip) {
        let marked =
            base("renewals", Hook::Prerouting, MANGLE + 1, vec![renewals(tunnel, outermost)]);
        table.chains.push(marked);
        let chains = vec![base("input", Hook::Input, FILTER, vec![questions(outermost)])];
        tables.push(Table { family: Packets::Arp, name, chains });
    }
    tables
}

/// The mark of what leaves this machine: ours, or that of the tunnel which carries all others. Whoever
/// carries another has the lesser one.
pub fn outermost(mark: u32, others: impl Iterator<Item = u32>) -> u32 {
    others.fold(mark, u32::min)
}

/// A chain that lets pass what none of its rules judges.
fn base(name: &str, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    let base = Some(Base { hook, priority, policy: Verdict::Accept });
    Chain { name: name.into(), base, rules }
}

/// Who asks for an address of this machine (ARP) is looked for where unmarked packets do not go any
/// more: a strict reverse path filter would not have a router answered that has forgotten us.
fn questions(mark: u32) -> Rule {
    vec![Expression::SetMark(mark)]
}

/// So is whoever renews an address (RFC 2131 §4.4.5).
fn renewals(tunnel: &str, mark: u32) -> Rule {
    vec![
        IsNot(Field::InputLink(tunnel.into())),
        Is(Field::SourcePort(Transport::Udp, DHCP_SERVER)),
        Is(Field::DestinationPort(Transport::Udp, DHCP_CLIENT)),
        Is(Field::LocalDestination),
        Expression::SetMark(mark),
    ]
}

const PRIVATE: [Prefix; 6] = [
    Prefix::v4(Ipv4Addr::new(10, 0, 0, 0), 8),
    Prefix::v4(Ipv4Addr::new(172, 16, 0, 0), 12),
    Prefix::v4(Ipv4Addr::new(192, 168, 0, 0), 16),
    Prefix::v4(Ipv4Addr::new(169, 254, 0, 0), 16),
    Prefix::v6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    LINK_LOCAL,
];
const LINK_LOCAL: Prefix = Prefix::v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
/// All that does not leave the link (RFC 4291 §2.7).
const NEIGHBOURS: Prefix = Prefix::v6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);
/// What the neighbours of a LAN are called by: broadcast, multicast that no router passes on (RFC
/// 5771 §4), and the search for devices (SSDP).
const CALLS: [Prefix; 5] = [
    Prefix::v4(Ipv4Addr::BROADCAST, 32),
    Prefix::v4(Ipv4Addr::new(224, 0, 0, 0), 24),
    Prefix::v4(Ipv4Addr::new(239, 255, 255, 250), 32),
    NEIGHBOURS,
    LINK_LOCAL,
];
const DNS: u16 = 53;
/// And DNS over TLS or QUIC (RFC 7858, RFC 9250).
const DNS_PORTS: [u16; 2] = [DNS, 853];
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const LOOPBACK: &str = "lo";
/// The chains of what may stay within this machine, of what is about to leave beside the tunnel, and
/// of what must not.
const WITHIN: &str = "within";
const BESIDE: &str = "beside";
const REFUSE: &str = "refuse";
const TCP: u8 = Transport::Tcp as u8;
const UDP: u8 = Transport::Udp as u8;
const ACCEPT: Expression = Expression::Verdict(Verdict::Accept);
const DROP: Expression = Expression::Verdict(Verdict::Drop);

impl Guard {
    /// The name of its tables.
    pub fn table_name(tunnel: &str) -> String {
        format!("adit-{tunnel}")
    }

    /// The tables that it is made of: one for IP, one for ARP.
    pub fn tables(&self) -> [Table; 2] {
        let name = Self::table_name(&self.tunnel);
        let strict = |name: &str, hook, rules| {
            let base = Some(Base { hook, priority: FILTER, policy: Verdict::Drop });
            Chain { name: name.into(), base, rules }
        };
        let rest = |name: &str, rules| Chain { name: name.into(), base: None, rules };
        let ip = vec![
            base("spoofed", Hook::Prerouting, RAW, self.spoofed()),
            base("replies", Hook::Prerouting, MANGLE, self.replies()),
            strict("output", Hook::Output, self.output()),
            strict("forward", Hook::Forward, self.forward()),
            base("shadows", Hook::Postrouting, SOURCE_NAT + 1, self.shadows()),
            rest(WITHIN, self.within()),
            rest(BESIDE, self.beside()),
            rest(REFUSE, refuse()),
        ];
        let v4 = self.addresses.iter().filter_map(|prefix| match prefix.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let [mut asked, said] = [Field::ArpTarget, Field::ArpSender]
            .map(|field| v4.clone().map(|it| vec![Is(field(it)), DROP]).collect::<Vec<Rule>>());
        asked.extend(self.takes_v4().then(|| questions(self.outermost())));
        let arp = vec![
            base("input", Hook::Input, FILTER, asked),
            base("output", Hook::Output, FILTER, said),
        ];
        [
            Table { family: Packets::Inet, name: name.clone(), chains: ip },
            Table { family: Packets::Arp, name, chains: arp },
        ]
    }

    /// What comes to an address of the tunnel, and not out of it (CVE-2019-14899). Unlike the source
    /// address, the link that it came on cannot be forged.
    fn spoofed(&self) -> Vec<Rule> {
        let addresses = self.global_addresses();
        addresses
            .map(|address| {
                vec![
                    IsNot(Field::InputLink(LOOPBACK.into())),
                    IsNot(Field::InputLink(self.tunnel.clone())),
                    Is(Field::Destination(address)),
                    DROP,
                ]
            })
            .collect()
    }

    /// Replies to the tunnel's datagrams, to questions where its other end is, and to whoever renews
    /// an address get the mark of what leaves, so that a strict reverse path filter looks for the way
    /// back where their own way is (`src_valid_mark`).
    fn replies(&self) -> Vec<Rule> {
        let rule = |port| {
            vec![
                IsNot(Field::InputLink(self.tunnel.clone())),
                Is(Field::DestinationPort(Transport::Udp, port)),
                Is(Field::LocalDestination),
                Expression::SetMark(self.mark),
            ]
        };
        let answer = |from: &IpAddr| {
            vec![
                IsNot(Field::InputLink(self.tunnel.clone())),
                Is(Field::Source(*from)),
                Is(Field::SourcePort(Transport::Udp, DNS)),
                Is(Field::LocalDestination),
                Expression::SetMark(self.mark),
            ]
        };
        let renewals = self.takes_v4().then(|| renewals(&self.tunnel, self.outermost()));
        let answers = self.resolvers.iter().map(answer);
        self.port.map(rule).into_iter().chain(answers).chain(renewals).collect()
    }

    /// The mark of what leaves this machine: ours, or that of the tunnel which carries all others.
    fn outermost(&self) -> u32 {
        outermost(self.mark, self.outer.iter().map(|(mark, _)| *mark))
    }

    /// What this machine sends.
    fn output(&self) -> Vec<Rule> {
        let mut rules = vec![vec![Is(Field::OutputLink(LOOPBACK.into())), ACCEPT]];
        for tunnel in self.tunnels() {
            let into_tunnel = Is(Field::OutputLink(tunnel.clone()));
            // A route to the other end through the tunnel itself would have it carry its own
            // datagrams, without an end.
            rules.push(vec![into_tunnel.clone(), Is(Field::Mark(self.mark)), DROP]);
            rules.push(vec![into_tunnel, ACCEPT]);
        }
        rules.extend(self.left_alone());
        let datagram = match self.port {
            Some(port) => Field::SourcePort(Transport::Udp, port),
            None => Field::Protocol(UDP),
        };
        rules.push(vec![Is(Field::Mark(self.mark)), Is(datagram), ACCEPT]);
        rules.extend(self.outer.iter().map(|(mark, port)| {
            let datagram = Field::SourcePort(Transport::Udp, *port);
            vec![Is(Field::Mark(*mark)), Is(datagram), ACCEPT]
        }));
        rules.extend(self.resolvers.iter().map(|server| {
            let query = Is(Field::DestinationPort(Transport::Udp, DNS));
            vec![Is(Field::Mark(self.mark)), Is(Field::Destination(*server)), query, ACCEPT]
        }));
        // Nobody outside is to learn of them.
        rules.extend(self.global_addresses().map(|it| vec![Is(Field::Source(it)), goto(REFUSE)]));
        rules.extend(housekeeping());
        rules.push(vec![goto(WITHIN)]);
        rules
    }

    /// What others send through this machine: containers, virtual machines, a network behind it.
    fn forward(&self) -> Vec<Rule> {
        let into = |tunnel: &String| vec![Is(Field::OutputLink(tunnel.clone())), ACCEPT];
        let mut rules: Vec<Rule> = self.tunnels().map(into).collect();
        rules.extend(self.left_alone());
        for tunnel in self.tunnels() {
            rules.extend(self.on_link.iter().map(|it| {
                let mut rule = vec![Is(Field::InputLink(tunnel.clone()))];
                // The other end has no business with containers, but to answer them.
                rule.extend((it.within && !self.lan).then_some(Is(Field::Reply)));
                rule.extend(to(it));
                rule
            }));
        }
        let inner = links(self.on_link.iter().filter(|it| it.within));
        rules.extend(inner.map(|link| vec![Is(Field::InputLink(link)), goto(WITHIN)]));
        rules.push(vec![goto(BESIDE)]);
        rules
    }

    /// This one, and those within it.
    fn tunnels(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.tunnel).chain(&self.inner)
    }

    /// A version of IP that is none of the tunnel's business.
    fn left_alone(&self) -> Option<Rule> {
        (!self.takes_v4()).then(|| vec![Is(Field::Version(Family::V4)), ACCEPT])
    }

    fn takes_v4(&self) -> bool {
        self.tunnelled.contains(&Family::V4)
    }

    /// What may leave beside the tunnel, and what is said to the rest.
    fn beside(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        let named =
            |it: &&IpAddr| self.excluded.iter().any(|named| named.contains(Prefix::host(**it)));
        for server in self.name_servers.iter().filter(named) {
            rules.extend(
                queries().map(|query| vec![Is(Field::Destination(*server)), query, ACCEPT]),
            );
        }
        rules.extend(queries().map(|query| vec![query, goto(REFUSE)]));
        rules.extend(self.excluded.iter().map(|it| vec![Is(Field::DestinationIn(*it)), ACCEPT]));
        if self.lan {
            rules.extend(self.neighbours(|_| true));
        }
        rules.push(vec![goto(REFUSE)]);
        rules
    }

    /// What this machine and those within it send each other, queries too: what comes of them has
    /// to leave through the tunnel all the same.
    fn within(&self) -> Vec<Rule> {
        let mut rules = self.neighbours(|it| it.within);
        rules.push(vec![goto(BESIDE)]);
        rules
    }

    /// What goes to networks of other links, and how neighbours find each other there.
    fn neighbours(&self, are_meant: impl Fn(&OnLink) -> bool) -> Vec<Rule> {
        let networks: Vec<_> = self.on_link.iter().filter(|it| are_meant(it)).collect();
        if networks.is_empty() {
            return Vec::new();
        }
        let inside = self.addresses.iter().map(|address| address.network());
        let inside = inside.filter(|network| !LINK_LOCAL.contains(*network));
        let inside = inside.map(|it| vec![Is(Field::DestinationIn(it)), goto(REFUSE)]);
        let call = |link: &String, to| {
            vec![Is(Field::OutputLink(link.clone())), Is(Field::DestinationIn(to)), ACCEPT]
        };
        let calls = links(networks.iter().copied());
        let calls = calls.flat_map(|link| CALLS.map(|to| call(&link, to)));
        inside.chain(networks.iter().copied().map(to)).chain(calls).collect()
    }

    /// Nobody else's datagram leaves from our port: whoever else is translated to it (NAT) would
    /// have the replies to ours ("port shadow", CVE-2021-3773).
    fn shadows(&self) -> Vec<Rule> {
        let rule = |port| {
            vec![
                IsNot(Field::OutputLink(self.tunnel.clone())),
                IsNot(Field::Mark(self.mark)),
                Is(Field::SourcePort(Transport::Udp, port)),
                DROP,
            ]
        };
        self.port.map(rule).into_iter().collect()
    }

    /// Its addresses, but for those that another link may have as well.
    fn global_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let global = |it: &&Prefix| !LINK_LOCAL.contains(Prefix::host(it.address));
        self.addresses.iter().filter(global).map(|it| it.address)
    }
}

/// The links of these networks, each once.
fn links<'a>(networks: impl Iterator<Item = &'a OnLink>) -> impl Iterator<Item = String> {
    networks.map(|it| it.link.clone()).collect::<BTreeSet<_>>().into_iter()
}

/// To a network of another link, through that link.
fn to(on_link: &OnLink) -> Rule {
    let OnLink { link, network, .. } = on_link;
    vec![Is(Field::OutputLink(link.clone())), Is(Field::DestinationIn(*network)), ACCEPT]
}

/// What is sent to a name server.
fn queries() -> impl Iterator<Item = Expression> {
    let to = |port| move |transport| Is(Field::DestinationPort(transport, port));
    DNS_PORTS.into_iter().flat_map(move |port| [Transport::Udp, Transport::Tcp].map(to(port)))
}

/// What a link needs to be of use at all, and what carries nothing of ours: an address (RFC 2131
/// §4.1, RFC 8415 §7), routers and neighbours (RFC 4861), and which of their calls are for us (RFC
/// 2710, RFC 3810). Nobody without privileges can send any of it. It is of no use behind a router, but
/// for the renewal of an address with the server that gave it.
fn housekeeping() -> Vec<Rule> {
    const ROUTER_SOLICITATION: u8 = 133;
    const NEIGHBOUR_SOLICITATION: u8 = 135;
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const LISTENER_REPORT: u8 = 131;
    const LISTENER_DONE: u8 = 132;
    const LISTENER_REPORT_2: u8 = 143;
    let ports = |from, to| {
        [Field::SourcePort(Transport::Udp, from), Field::DestinationPort(Transport::Udp, to)]
            .map(Is)
    };
    let rule = |parts: &[&[Expression]]| [parts.concat(), vec![ACCEPT]].concat();
    let mut rules =
        vec![rule(&[&[Is(Field::Version(Family::V4))], &ports(DHCP_CLIENT, DHCP_SERVER)])];
    for server in [NEIGHBOURS, LINK_LOCAL] {
        rules.push(rule(&[&[Is(Field::DestinationIn(server))], &ports(546, 547)]));
    }
    for kind in [ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
        rules.push(rule(&[&[Is(Field::HopLimit(255)), Is(Field::Icmp6(kind))]]));
    }
    for kind in [LISTENER_REPORT, LISTENER_DONE, LISTENER_REPORT_2] {
        rules.push(rule(&[&[Is(Field::DestinationIn(NEIGHBOURS)), Is(Field::Icmp6(kind))]]));
    }
    rules
}

/// What a program is told, so that it learns of it at once: while it connects, TCP takes only a
/// reset as final.
fn refuse() -> Vec<Rule> {
    vec![
        vec![Is(Field::Protocol(TCP)), Expression::Count, Expression::Refuse(Refusal::Reset)],
        vec![Expression::Count, Expression::Refuse(Refusal::Prohibited)],
    ]
}

fn goto(chain: &str) -> Expression {
    Expression::Goto(chain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').expect("a prefix");
        let (address, length) = (address.parse().expect("an address"), length.parse());
        Prefix { address, length: length.expect("a length") }
    }

    #[test]
    fn a_tunnel_is_full_for_a_version_that_it_leaves_nothing_of() {
        for (allowed, full) in [
            ("0.0.0.0/0", &[Family::V4][..]),
            ("0.0.0.0/0 ::/0", &[Family::V4, Family::V6]),
            ("0.0.0.0/1 128.0.0.0/1", &[Family::V4]),
            ("::/2 64::/10 8000::/1 4000::/2", &[Family::V6]),
            ("0.0.0.0/1 128.0.0.0/2 192.0.0.0/3", &[]),
            ("10.0.0.0/8", &[]),
            ("", &[]),
        ] {
            let prefixes: Vec<_> = allowed.split_whitespace().map(prefix).collect();
            assert_eq!(tunnelled(&prefixes), full, "{allowed}");
        }
    }

    #[test]
    fn covering_by_every_single_address_is_found_without_looking_at_all_others() {
        let hosts: Vec<_> = (0..=255).map(|last| prefix(&format!("192.0.2.{last}/32"))).collect();
        assert!(covered(prefix("192.0.2.0/24"), &hosts));
        assert!(!covered(prefix("192.0.2.0/23"), &hosts));
        assert!(tunnelled(&hosts).is_empty());
    }
}
