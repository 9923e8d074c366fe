//! A machine: a network namespace, and the end of the cable in it.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use host::namespace;
use host::{Change, Network, Prefix};

use crate::Outcome;

/// The name of a machine's end of the cable.
pub const CABLE: &str = "eth0";

/// One of two.
pub struct Machine {
    /// Its address on the cable.
    pub outside: Ipv4Addr,
    /// Its address in the tunnel; the same if there is no tunnel.
    pub inside: Ipv4Addr,
    pub network: Network,
    namespace: OwnedFd,
}

impl Machine {
    /// Machine `number`, 10.0.0.`number` outside and 10.1.0.`number` inside. It vanishes when it
    /// is dropped and nothing runs in it any more.
    pub fn new(number: u8) -> Outcome<Self> {
        let namespace = namespace::create()?;
        Ok(Self {
            outside: Ipv4Addr::new(10, 0, 0, number),
            inside: Ipv4Addr::new(10, 1, 0, number),
            network: Network::open_in(namespace.as_fd())?,
            namespace,
        })
    }

    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Runs `work` on a thread inside the machine: the sockets and children that it makes stay
    /// there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Outcome<T> {
        Ok(namespace::within(self.namespace(), work)?)
    }
}

/// Plugs a cable into both machines, with an MTU of 1500 bytes.
pub fn join(one: &mut Machine, other: &mut Machine) -> Outcome<()> {
    const FAR_END: &str = "eth1";
    one.network.apply_all(&[
        Change::CreateVeth(CABLE, FAR_END),
        Change::MoveLink(FAR_END, other.namespace()),
    ])?;
    other.network.apply(Change::RenameLink(FAR_END, CABLE))?;
    for machine in [one, other] {
        machine.network.apply_all(&[
            Change::AddAddress(CABLE, Prefix::v4(machine.outside, 24)),
            Change::SetUp(CABLE),
        ])?;
    }
    Ok(())
}
