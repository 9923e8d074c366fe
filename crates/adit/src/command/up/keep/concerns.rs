//! What of all that happens on a machine may be about one tunnel.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::process;

use host::guard::Guard;
use host::notice::{Event, What};
use host::plan::Item;
use host::{MAIN_TABLE, Prefix};

use crate::command::up::converge::Tunnel;

/// Where others come and go by the thousand, nobody looks after each.
pub struct Concerns {
    /// The name of its packet filters.
    filter: String,
    /// What this process is called.
    program: Option<String>,
    /// The routes that it has made, each with its table.
    routes: HashSet<(Prefix, u32)>,
    /// Where the peers are: by the ways there the MTU is chosen.
    peers: Vec<IpAddr>,
    /// Of a full tunnel. Which bridges lead out, the main table tells.
    table: Option<u32>,
}

impl Concerns {
    /// Of a tunnel that nobody has looked at yet.
    pub fn of(name: &str) -> Self {
        let program = fs::read_to_string("/proc/self/comm").ok();
        Self {
            filter: Guard::table_name(name),
            program: program.map(|it| it.trim_end().into()),
            routes: HashSet::new(),
            peers: Vec::new(),
            table: None,
        }
    }

    /// As a tunnel is now.
    pub fn follow(&mut self, tunnel: &Tunnel) {
        let routes = tunnel.journal.entries.iter().filter_map(|entry| match &entry.item {
            Item::Route(route) => Some((route.destination, route.table)),
            _ => None,
        });
        self.routes = routes.collect();
        let peers = tunnel.present.iter().flat_map(|state| &state.peers);
        self.peers = peers.filter_map(|peer| Some(peer.endpoint?.ip())).collect();
        self.table = tunnel.journal.note.table;
    }

    /// Whether something of the tunnel may be different now, by somebody else's hand.
    pub fn include(&self, event: &Event) -> bool {
        let concerns = match &event.what {
            What::Table(_, name) => *name == self.filter,
            // Of any link: networks of others are excluded, or are not, and a bridge that gets
            // another port can lead elsewhere.
            What::Link(_) | What::Address(..) | What::Rule(..) | What::Unknown => true,
            What::Route(destination, table) => self.include_route(*destination, *table),
        };
        concerns && !self.are_own(event)
    }

    fn include_route(&self, destination: Prefix, table: u32) -> bool {
        self.routes.contains(&(destination, table))
            || self.table == Some(table)
            || self.table.is_some() && table == MAIN_TABLE
            || self.peers.iter().any(|peer| destination.contains(Prefix::host(*peer)))
    }

    /// In a process namespace of our own, our number is not the one that is told.
    fn are_own(&self, event: &Event) -> bool {
        event.by.as_ref().is_some_and(|by| {
            by.number == process::id() || by.name.is_some() && by.name == self.program
        })
    }
}
