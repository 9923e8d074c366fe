//! Plans carried out: all of a plan or nothing of it, or as much as can be; and a journal that tells
//! at every moment what there may be to take back.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;

use rustix::io::Errno;
use serde::Serialize;

use super::{Entry, Item, Observed, Plan, Step, in_force};
use crate::nft::{self, Nftables};
use crate::{Change, Error, Journal, Network, dns, sysctl};

/// The network of this machine, in the calling thread's network namespace.
#[derive(Debug)]
pub struct Machine {
    /// Links, addresses, routes and rules.
    pub network: Network,
    filters: Nftables,
    /// What has to be known of the steps that were taken, usually nothing.
    pub remarks: Vec<String>,
}

/// Whoever carries the packets of links, which takes more than the kernel to make.
pub trait Carrier {
    /// Makes a link of this name that is ready for addresses.
    ///
    /// # Errors
    ///
    /// Why there is none now, or not as it should be: what there is of it is ended then.
    fn start(&mut self, link: &str) -> Result<(), Error>;

    /// Asked before each step; a signal may have come.
    ///
    /// # Errors
    ///
    /// That nothing more is to be done.
    fn may_go_on(&self) -> Result<(), Error>;

    /// Deletes the link, and returns when nobody carries its packets any more.
    ///
    /// # Errors
    ///
    /// Why it may still be there.
    fn end(&mut self, link: &str, network: &mut Network) -> Result<(), Error>;
}

/// A plan that the journal tells of, on the disk, with its inverse: only such a one is carried out.
#[derive(Debug)]
pub struct Noted<'a> {
    plan: &'a Plan,
    /// What was made before.
    made: Vec<Entry>,
}

impl Plan {
    /// Writes down what there may be while it is carried out.
    ///
    /// # Errors
    ///
    /// Why the journal is as it was. Whatever it tells of can still be put back.
    pub fn note<N: Serialize>(&self, journal: &mut Journal<N>) -> Result<Noted<'_>, Error> {
        let made = journal.entries.clone();
        match write(journal, self.under_way(&made)) {
            Ok(()) => Ok(Noted { plan: self, made }),
            Err(error) => {
                journal.entries = made;
                Err(error)
            }
        }
    }
}

/// What becomes of a plan when one of its steps fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The steps before it are taken back, the latest first.
    GoBack,
    /// Those behind it are taken all the same, but for what needs it.
    GoOn,
}

/// Why a plan was not carried out, or not all of it.
#[derive(Debug)]
pub struct Failure {
    /// The first step that failed.
    pub cause: Error,
    /// What else could not be done, or be taken back, and is in the journal therefore.
    pub others: Vec<Error>,
    /// The steps that were not taken, if the others were.
    pub left: Vec<Step>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        self.others.iter().try_for_each(|error| write!(f, "; then could not {error}"))
    }
}

impl Machine {
    /// Of the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { network: Network::open()?, filters: Nftables::open()?, remarks: Vec::new() })
    }

    /// What is there now, of what these items are about.
    pub fn observe<'a>(
        &mut self,
        items: impl IntoIterator<Item = &'a Item>,
    ) -> Result<Observed, Error> {
        let (mut settings, mut dns, mut disturbed) = (BTreeMap::new(), Vec::new(), Vec::new());
        // Whether routes through them are asked for.
        let mut links = BTreeMap::new();
        let (mut has_rules, mut has_filters) = (false, false);
        for item in in_force(items) {
            has_rules |= matches!(item, Item::Rule(_));
            has_filters |= matches!(item, Item::Filter(_));
            if let Some(link) = item.of_link() {
                *links.entry(link).or_default() |= matches!(item, Item::Route(_));
            }
            match item {
                Item::Setting(path, _) => {
                    settings.extend(sysctl::get(path).ok().map(|value| (path.clone(), value)));
                }
                Item::Dns(wanted, record) => {
                    // Whoever does not answer holds nothing.
                    let holds = dns::Plan::again(wanted, record).is_applied().unwrap_or(false);
                    dns.extend(holds.then(|| item.clone()));
                }
                Item::Filter(table) if !self.filters.is_intact(table).unwrap_or(true) => {
                    disturbed.push((table.family, table.name.clone()));
                }
                _ => {}
            }
        }
        let mut observed = Observed { disturbed, settings, dns, ..Observed::default() };
        if has_rules {
            observed.rules = self.network.rules()?;
        }
        if has_filters {
            // A kernel without nftables has none.
            observed.filters = self.filters.tables().unwrap_or_default();
        }
        for (name, is_routed) in links {
            let Some(link) = self.network.find_link(name)? else { continue };
            observed.addresses.extend(self.network.addresses_on(&link)?);
            if is_routed {
                observed.routes.extend(self.network.routes_through(&link)?);
            }
            observed.links.push(link);
        }
        Ok(observed)
    }

    /// Carries out a plan that this journal tells of.
    pub fn apply<N: Serialize>(
        &mut self,
        Noted { plan, made }: Noted<'_>,
        journal: &mut Journal<N>,
        carrier: &mut dyn Carrier,
        on_failure: OnFailure,
    ) -> Result<(), Failure> {
        let mut left = Plan { steps: Vec::new(), entries: plan.entries.clone() };
        let mut errors = Vec::new();
        for (number, (step, why)) in (1..).zip(&plan.steps) {
            let in_vain = left.steps.iter().any(|(failed, _)| step.needs(failed));
            if !in_vain {
                let taken = carrier.may_go_on().and_then(|()| self.take(step, carrier));
                let Err(cause) = taken else { continue };
                if on_failure == OnFailure::GoBack {
                    let others = self.go_back(plan.way_back(number, &made), made, journal, carrier);
                    return Err(Failure { cause, others, left: Vec::new() });
                }
                errors.push(cause);
            }
            left.steps.push((step.clone(), why));
        }
        errors.extend(write(journal, left.under_way(&made)).err());
        let mut errors = errors.into_iter();
        let Some(cause) = errors.next() else { return Ok(()) };
        let left = left.steps.into_iter().map(|(step, _)| step).collect();
        Err(Failure { cause, others: errors.collect(), left })
    }

    /// To what was made before, which is in the journal again unless this fails. What did fail.
    fn go_back<N: Serialize>(
        &mut self,
        way: Vec<Step>,
        made: Vec<Entry>,
        journal: &mut Journal<N>,
        carrier: &mut dyn Carrier,
    ) -> Vec<Error> {
        let failed = self.take_all(&way, carrier);
        let mut errors: Vec<_> = failed.into_iter().map(|(_, error)| error).collect();
        if errors.is_empty() {
            journal.entries = made;
        }
        let written = if journal.entries.is_empty() { journal.delete() } else { journal.write() };
        errors.extend(written.err());
        errors
    }

    /// Takes everything back that a journal tells of and that is still as it was made, and then
    /// deletes the journal. What other tunnels have made, too (`shared`), stays. What fails does not
    /// keep the rest, and is all that the journal tells of then.
    pub fn undo<N: Serialize>(
        &mut self,
        journal: &mut Journal<N>,
        shared: Vec<Entry>,
        carrier: &mut dyn Carrier,
    ) -> Result<(), Vec<Error>> {
        let items = journal.entries.iter().map(|entry| &entry.item);
        // Who is told of name servers is not asked whether they hold.
        let mut observed =
            self.observe(items.filter(|item| !item.is_dns())).map_err(|error| vec![error])?;
        observed.shared = shared;
        let plan = Plan::undo(&journal.entries, &observed);
        let steps: Vec<Step> = plan.steps.into_iter().map(|(step, _)| step).collect();
        let failed = self.take_all(&steps, carrier);
        if failed.is_empty() {
            return journal.delete().map_err(|error| vec![error]);
        }
        journal.entries.retain(|entry| failed.iter().any(|(step, _)| step.leaves(entry)));
        let written = journal.write().err();
        Err(failed.into_iter().map(|(_, error)| error).chain(written).collect())
    }

    /// Takes every step, and tells which failed.
    fn take_all<'a>(
        &mut self,
        steps: &'a [Step],
        carrier: &mut dyn Carrier,
    ) -> Vec<(&'a Step, Error)> {
        let take = |step| Some((step, self.take(step, carrier).err()?));
        let mut failed: Vec<_> = steps.iter().filter_map(take).collect();
        // The link of name servers goes after them, and takes along what was not answered.
        failed.retain(|(step, _)| match step {
            Step::Remove(Item::Dns(_, record)) => !record.is_forgotten(),
            _ => true,
        });
        failed
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

    fn tell(&mut self, remark: String) {
        self.remarks.extend(Some(remark).filter(|remark| !remark.is_empty()));
    }

    fn make(&mut self, item: &Item, carrier: &mut dyn Carrier) -> Result<(), Error> {
        match item {
            Item::Filter(table) => self.filters.apply(&[nft::Change::SetTable(table)]),
            Item::Link(link) => carrier.start(link).inspect_err(|_| {
                // What is not whole carries nothing. The next attempt finds what cannot be ended.
                let _ = carrier.end(link, &mut self.network);
            }),
            Item::Mtu(link, bytes) => self.network.apply(Change::SetMtu(link, *bytes)),
            Item::Up(link) => self.network.apply(Change::SetUp(link)),
            Item::Address(link, address) => self.network.apply(Change::AddAddress(link, *address)),
            Item::Setting(path, value) => sysctl::set(path, value),
            Item::Rule(rule) => self.network.apply(Change::AddRule(rule)),
            Item::Route(route) => self.network.apply(Change::AddRoute(route)),
            Item::Dns(settings, record) => {
                let said = dns::Plan::again(settings, record).apply()?;
                self.tell(said);
                Ok(())
            }
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
            Item::Dns(_, record) => {
                let said = record.undo()?;
                self.tell(said);
                Ok(())
            }
        }
    }
}

/// Writes down what there may be, if that is something else than before: a full disk keeps nothing
/// from being put back.
fn write<N: Serialize>(journal: &mut Journal<N>, entries: Vec<Entry>) -> Result<(), Error> {
    if journal.entries == entries {
        return Ok(());
    }
    journal.entries = entries;
    journal.write()
}

/// Somebody else, or the end of what it was a part of, was faster.
fn is_gone(error: &Error) -> bool {
    let cause = error.cause();
    cause.kind() == ErrorKind::NotFound
        || [Errno::NODEV, Errno::SRCH, Errno::ADDRNOTAVAIL, Errno::NOENT]
            .iter()
            .any(|errno| cause.raw_os_error() == Some(errno.raw_os_error()))
}
