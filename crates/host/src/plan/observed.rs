//! What is there, of what a plan is about.

use std::collections::{BTreeMap, HashSet};

use super::{Entry, Item, Step};
use crate::{Address, Link, Prefix, Route, Rule, nft};

/// The machine at one moment, as far as somebody asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The links that a plan is about. A machine can have very many, with very many routes.
    pub links: Vec<Link>,
    /// All of their addresses.
    pub addresses: Vec<Address>,
    /// The unicast routes through them, of all tables, if it is about any.
    pub routes: HashSet<Route>,
    /// Every rule that can be described, if it is about any.
    pub rules: Vec<Rule>,
    /// Every packet filter by its name.
    pub filters: Vec<(nft::Family, String)>,
    /// Those of the filters that a plan is about whose rules are not as it has them.
    pub disturbed: Vec<(nft::Family, String)>,
    /// The settings that a plan is about.
    pub settings: BTreeMap<String, String>,
    /// The DNS that a plan is about, as far as it holds.
    pub dns: Vec<Item>,
    /// What other tunnels have made: settings belong to all of them, and are put back by the last.
    pub shared: Vec<Entry>,
}

impl Observed {
    /// Whether an item is there as it is.
    #[must_use]
    pub fn has(&self, item: &Item) -> bool {
        self.in_place_of(item).as_ref() == Some(item) && !self.is_disturbed(item)
    }

    /// Whether an item is a filter that somebody has changed.
    pub(super) fn is_disturbed(&self, item: &Item) -> bool {
        let Item::Filter(table) = item else { return false };
        self.disturbed.iter().any(|(family, name)| (*family, name) == (table.family, &table.name))
    }

    /// What is there that has the place of an item, perhaps with another value.
    pub(super) fn in_place_of(&self, item: &Item) -> Option<Item> {
        let is_there = match item {
            Item::Filter(table) => {
                self.filters.iter().any(|found| *found == (table.family, table.name.clone()))
            }
            Item::Link(link) => self.link(link).is_some(),
            Item::Mtu(link, _) => {
                return self.link(link).map(|found| Item::Mtu(link.clone(), found.mtu));
            }
            Item::Up(link) => self.link(link).is_some_and(|link| link.up),
            Item::Address(link, address) => self.has_address(link, *address),
            Item::Setting(path, _) => {
                let value = self.settings.get(path)?;
                return Some(Item::Setting(path.clone(), value.clone()));
            }
            Item::Rule(rule) => self.rules.contains(rule),
            Item::Route(route) => self.routes.contains(route),
            Item::Dns(..) => self.dns.contains(item),
        };
        is_there.then(|| item.clone())
    }

    /// What takes an entry back: nothing if it is not there any more, or somebody has changed it
    /// since.
    pub(super) fn undo(&self, entry: &Entry) -> Option<Step> {
        if let Item::Dns(..) = entry.item {
            // Its record knows best what is left of it.
            return Some(Step::Remove(entry.item.clone()));
        }
        if self.shared_setting(&entry.item).is_some() {
            return None;
        }
        let there = self.in_place_of(&entry.item)?;
        let ours = |item: &&Item| matches!(item, Item::Filter(_)) || **item == there;
        let item = [Some(&entry.item), entry.until_now.as_ref()];
        let item = item.into_iter().flatten().find(ours)?.clone();
        match &entry.before {
            Some(before) if *before == there => None,
            Some(before) => Some(Step::Change(item, before.clone())),
            // A link has always had some MTU, and is up or not.
            None => Some(Step::Remove(item)),
        }
    }

    /// A setting that another tunnel has made, too.
    pub(super) fn shared_setting(&self, item: &Item) -> Option<&Entry> {
        if !matches!(item, Item::Setting(..)) {
            return None;
        }
        self.shared.iter().find(|other| other.item.is_about_the_same(item))
    }

    fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    fn has_address(&self, link: &str, address: Prefix) -> bool {
        let index = self.link(link).map(|link| link.index);
        self.addresses.iter().any(|it| Some(it.link) == index && it.address == address)
    }
}
