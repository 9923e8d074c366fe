//! Plans carried out: all of a plan or nothing of it, and a journal that tells at every moment what
//! there may be to take back.

use std::fmt;
use std::io::ErrorKind;

use rustix::io::Errno;
use serde::Serialize;

use super::{Item, Observed, Plan, Step};
use crate::nft::{self, Nftables};
use crate::{Change, Error, Journal, Network, sysctl};

/// The network of this machine, in the calling thread's network namespace.
#[derive(Debug)]
pub struct Machine {
    /// Links, addresses, routes and rules.
    pub network: Network,
    filters: Nftables,
}

/// Whoever carries the packets of links, which takes more than the kernel to make.
pub trait Carrier {
    /// Makes a link of this name that is ready for addresses.
    ///
    /// # Errors
    ///
    /// Why there is none now, or not as it should be: what there is of it will be ended.
    fn start(&mut self, link: &str) -> Result<(), Error>;

    /// Deletes the link, and returns when nobody carries its packets any more.
    ///
    /// # Errors
    ///
    /// Why it may still be there.
    fn end(&mut self, link: &str, network: &mut Network) -> Result<(), Error>;
}

/// Why a plan was not carried out, and whether everything was taken back.
#[derive(Debug)]
pub struct Failure {
    /// The step that failed.
    pub cause: Error,
    /// What could not be taken back, and is in the journal therefore.
    pub left: Vec<Error>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        self.left.iter().try_for_each(|error| write!(f, "; then could not {error}"))
    }
}

impl Machine {
    /// Of the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { network: Network::open()?, filters: Nftables::open()? })
    }

    /// What is there now, of what these items are about.
    pub fn observe<'a>(
        &mut self,
        items: impl IntoIterator<Item = &'a Item>,
    ) -> Result<Observed, Error> {
        let settings = items.into_iter().filter_map(|item| match item {
            Item::Setting(path, _) => Some((path.clone(), sysctl::get(path).ok()?)),
            _ => None,
        });
        Ok(Observed {
            settings: settings.collect(),
            links: self.network.links()?,
            addresses: self.network.addresses()?,
            routes: self.network.routes()?,
            rules: self.network.rules()?,
            // A kernel without nftables has none.
            filters: self.filters.tables().unwrap_or_default(),
        })
    }

    /// Carries out a plan. Its inverse is in the journal, on the disk, before the first step is
    /// taken. When a step fails, those before it are taken back, the latest first.
    pub fn apply<N: Serialize>(
        &mut self,
        plan: &Plan,
        journal: &mut Journal<N>,
        carrier: &mut dyn Carrier,
    ) -> Result<(), Failure> {
        let made = std::mem::take(&mut journal.entries);
        journal.entries = plan.under_way(&made);
        let fail = |cause| Failure { cause, left: Vec::new() };
        journal.write().map_err(fail)?;
        for (number, (step, _)) in (1..).zip(&plan.steps) {
            if let Err(cause) = self.take(step, carrier) {
                let taken = plan.steps.iter().take(number).rev();
                let inverses: Vec<Step> = taken.map(|(step, _)| step.inverse()).collect();
                let left = self.take_all(&inverses, carrier);
                if left.is_empty() {
                    journal.entries = made;
                }
                let written =
                    if journal.entries.is_empty() { journal.delete() } else { journal.write() };
                return Err(Failure {
                    cause,
                    left: left.into_iter().chain(written.err()).collect(),
                });
            }
        }
        journal.entries = plan.entries.clone();
        journal.write().map_err(fail)
    }

    /// Takes everything back that a journal tells of and that is still as it was made, and then
    /// deletes the journal. What fails does not keep the rest, but the journal.
    pub fn undo<N: Serialize>(
        &mut self,
        journal: &mut Journal<N>,
        carrier: &mut dyn Carrier,
    ) -> Result<(), Vec<Error>> {
        let observed = self
            .observe(journal.entries.iter().map(|entry| &entry.item))
            .map_err(|error| vec![error])?;
        let plan = Plan::undo(&journal.entries, &observed);
        let steps: Vec<Step> = plan.steps.into_iter().map(|(step, _)| step).collect();
        let left = self.take_all(&steps, carrier);
        if left.is_empty() { journal.delete().map_err(|error| vec![error]) } else { Err(left) }
    }

    /// Takes every step, and tells which failed.
    fn take_all(&mut self, steps: &[Step], carrier: &mut dyn Carrier) -> Vec<Error> {
        steps.iter().filter_map(|step| self.take(step, carrier).err()).collect()
    }

    fn take(&mut self, step: &Step, carrier: &mut dyn Carrier) -> Result<(), Error> {
        match step {
            Step::Make(item) | Step::Change(_, item) => self.make(item, carrier),
            Step::Remove(item) => match self.remove(item, carrier) {
                Err(error) if is_gone(&error) => Ok(()),
                outcome => outcome,
            },
        }
    }

    fn make(&mut self, item: &Item, carrier: &mut dyn Carrier) -> Result<(), Error> {
        match item {
            Item::Filter(table) => self.filters.apply(&[nft::Change::SetTable(table)]),
            Item::Link(link) => carrier.start(link),
            Item::Mtu(link, bytes) => self.network.apply(Change::SetMtu(link, *bytes)),
            Item::Up(link) => self.network.apply(Change::SetUp(link)),
            Item::Address(link, address) => self.network.apply(Change::AddAddress(link, *address)),
            Item::Setting(path, value) => sysctl::set(path, value),
            Item::Rule(rule) => self.network.apply(Change::AddRule(rule)),
            Item::Route(route) => self.network.apply(Change::AddRoute(route)),
        }
    }

    fn remove(&mut self, item: &Item, carrier: &mut dyn Carrier) -> Result<(), Error> {
        match item {
            Item::Filter(table) => {
                self.filters.apply(&[nft::Change::DeleteTable(table.family, &table.name)])
            }
            Item::Link(link) => carrier.end(link, &mut self.network),
            // A link has always some, and nobody knows which it would have without us.
            Item::Mtu(..) | Item::Setting(..) => Ok(()),
            Item::Up(link) => self.network.apply(Change::SetDown(link)),
            Item::Address(link, address) => {
                self.network.apply(Change::RemoveAddress(link, *address))
            }
            Item::Rule(rule) => self.network.apply(Change::RemoveRule(rule)),
            Item::Route(route) => self.network.apply(Change::RemoveRoute(route)),
        }
    }
}

/// Somebody else, or the end of what it was a part of, was faster.
fn is_gone(error: &Error) -> bool {
    let cause = error.cause();
    cause.kind() == ErrorKind::NotFound
        || [Errno::NODEV, Errno::SRCH, Errno::ADDRNOTAVAIL, Errno::NOENT]
            .iter()
            .any(|errno| cause.raw_os_error() == Some(errno.raw_os_error()))
}
