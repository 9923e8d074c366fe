//! Name servers of tunnels, set and taken back by whoever really answers: systemd-resolved,
//! NetworkManager, openresolv or `/etc/resolv.conf` alone, each on a machine of its own, with look-ups
//! of which it is known who was asked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod file;
mod handover;
mod network_manager;
mod resolvconf;
mod resolved;
mod server;
mod stage;
