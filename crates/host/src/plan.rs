//! What a tunnel wants of the machine, as a list of items; what has to be done until it is so; and
//! how each step is taken back.
//!
//! Nothing here asks the machine anything: what is there comes in as [`Observed`], what was made
//! before as the entries of a [`Journal`](crate::Journal).

mod apply;
mod observed;

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Prefix, Route, Rule, dns, nft};

pub use apply::{Carrier, Failure, Machine, Noted, OnFailure};
pub use observed::Observed;

/// One thing that the machine has or has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// A packet filter.
    Filter(nft::Table),
    /// A link by its name, whose packets somebody carries: see [`Carrier`].
    Link(String),
    /// A link's largest packet, in bytes.
    Mtu(String, u32),
    /// That a link carries packets.
    Up(String),
    /// An address of a link.
    Address(String, Prefix),
    /// A setting of the kernel below /proc/sys, and its value.
    Setting(String, String),
    /// Which table is asked for some packets.
    Rule(Rule),
    /// A way to a destination.
    Route(Route),
    /// Who is asked for names, and what has to be known to forget them again.
    Dns(dns::Settings, dns::Record),
}

impl Item {
    /// Whether both cannot be there at once: the other is this one with another value.
    fn is_about_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Filter(a), Self::Filter(b)) => (a.family, &a.name) == (b.family, &b.name),
            (Self::Mtu(a, _), Self::Mtu(b, _)) | (Self::Setting(a, _), Self::Setting(b, _)) => {
                a == b
            }
            // Several may have been told of one link, one after the other.
            (Self::Dns(_, a), Self::Dns(_, b)) => a == b,
            _ => self == other,
        }
    }

    /// Whether it is in a file, and therefore still there when the machine starts again.
    pub(crate) fn outlives_the_kernel(&self) -> bool {
        matches!(self, Self::Dns(..))
    }

    /// Whether it is about name servers.
    #[must_use]
    pub fn is_dns(&self) -> bool {
        matches!(self, Self::Dns(..))
    }

    /// Whether it is a link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        matches!(self, Self::Link(_))
    }

    /// The link that it is, or that it is something of.
    fn of_link(&self) -> Option<&str> {
        match self {
            Self::Link(link) | Self::Mtu(link, _) | Self::Up(link) | Self::Address(link, _) => {
                Some(link)
            }
            Self::Route(route) => Some(&route.link),
            Self::Filter(_) | Self::Setting(..) | Self::Rule(_) | Self::Dns(..) => None,
        }
    }

    /// Whether it goes when its link goes.
    #[must_use]
    pub fn goes_with(&self, link: &str) -> bool {
        match self {
            Self::Mtu(on, _) | Self::Up(on) | Self::Address(on, _) => on == link,
            Self::Route(route) => route.link == link,
            // Per link, below `conf` and `neigh`.
            Self::Setting(path, _) => path.split('/').nth(3) == Some(link),
            Self::Filter(_) | Self::Link(_) | Self::Rule(_) | Self::Dns(..) => false,
        }
    }
}

/// Those of a tunnel's items that the machine goes by: of several who were told of name servers, the
/// first answers now.
pub fn in_force<'a>(items: impl IntoIterator<Item = &'a Item>) -> impl Iterator<Item = &'a Item> {
    let mut has_names = false;
    let answers = move |item: &&Item| !item.is_dns() || !std::mem::replace(&mut has_names, true);
    items.into_iter().filter(answers)
}

/// Whether the way to what is wanted depends on what other tunnels have made: settings belong to all
/// of them, and one comes or goes.
#[must_use]
pub fn is_about_shared(wanted: &[Wanted], made: &[Entry]) -> bool {
    fn settings<'a>(items: impl Iterator<Item = &'a Item>) -> BTreeSet<&'a str> {
        let path = |item: &'a Item| match item {
            Item::Setting(path, _) => Some(path.as_str()),
            _ => None,
        };
        items.filter_map(path).collect()
    }
    let wanted = settings(wanted.iter().map(|wanted| &wanted.item));
    wanted != settings(made.iter().map(|entry| &entry.item))
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(table) if table.family == nft::Family::Arp => {
                write!(f, "packet filter {} of ARP", table.name)
            }
            Self::Filter(table) => write!(f, "packet filter {}", table.name),
            Self::Link(link) => write!(f, "link {link}"),
            Self::Mtu(link, bytes) => write!(f, "MTU {bytes} of {link}"),
            Self::Up(link) => write!(f, "{link} up"),
            Self::Address(link, address) => write!(f, "address {address} dev {link}"),
            Self::Setting(path, value) => write!(f, "{} = {value}", path.replace('/', ".")),
            Self::Rule(rule) => match rule.priority {
                Some(priority) => write!(f, "{} rule {priority}: {rule}", rule.family),
                None => write!(f, "{} rule {rule}", rule.family),
            },
            Self::Route(route) => write!(f, "route {route}"),
            Self::Dns(settings, record) => write!(f, "DNS: {settings}, by {}", record.who()),
        }
    }
}

/// An item that ought to be there, and why, as the end of a sentence: "so that ...".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The item.
    pub item: Item,
    /// For whoever reads the plan.
    pub why: &'static str,
}

/// What a tunnel has made, and what was there in its place before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What is there now, or is about to be.
    pub item: Item,
    /// What was there before the tunnel, of what can only change; none if nothing was.
    pub before: Option<Item>,
    /// What the tunnel itself had there, while it is not certain that the item has taken its place.
    pub until_now: Option<Item>,
}

/// One change, which can be taken back by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes what is not there.
    Make(Item),
    /// Puts the second in the place of the first.
    Change(Item, Item),
    /// Removes what is there.
    Remove(Item),
}

impl Step {
    /// What takes it back.
    #[must_use]
    pub fn inverse(&self) -> Self {
        match self {
            Self::Make(item) => Self::Remove(item.clone()),
            Self::Change(from, to) => Self::Change(to.clone(), from.clone()),
            Self::Remove(item) => Self::Make(item.clone()),
        }
    }

    /// What is there when it is taken, or is not any more.
    #[must_use]
    pub fn item(&self) -> &Item {
        match self {
            Self::Make(item) | Self::Change(_, item) | Self::Remove(item) => item,
        }
    }

    /// Whether what it would have taken back, but has not, is this entry, or goes with a link.
    fn leaves(&self, entry: &Entry) -> bool {
        match self {
            Self::Make(_) => false,
            Self::Change(item, _) | Self::Remove(item) => {
                let is_it = entry.item == *item || entry.until_now.as_ref() == Some(item);
                is_it || link(item).is_some_and(|link| entry.item.goes_with(link))
            }
        }
    }

    /// Whether it must not be taken where this one has failed, or would be in vain.
    fn needs(&self, failed: &Self) -> bool {
        match (self, failed.item()) {
            // What keeps everything in goes last.
            (Self::Remove(Item::Filter(_)), _) | (Self::Remove(_), Item::Filter(_)) => true,
            // Nothing is led past a tunnel that nothing keeps in.
            (Self::Make(Item::Rule(rule)), Item::Filter(_)) => rule.unless_marked.is_none(),
            (step, Item::Link(link) | Item::Up(link)) => match step.item() {
                Item::Dns(_, record) => record.link() == link,
                item => item.goes_with(link),
            },
            _ => false,
        }
    }
}

/// As in a diff.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(item) => write!(f, "+ {item}"),
            Self::Change(Item::Filter(_), to) => write!(f, "~ {to}"),
            Self::Change(from, to) => write!(f, "~ {to} (was {from})"),
            Self::Remove(item) => write!(f, "- {item}"),
        }
    }
}

/// Steps in the order in which they are safe, each with its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// None if everything is as it ought to be.
    pub steps: Vec<(Step, &'static str)>,
    /// What the tunnel will have made when all of them are taken.
    pub(crate) entries: Vec<Entry>,
}

impl Plan {
    /// From what is there, and what of it the tunnel has made, to what is wanted. What is wanted
    /// and there already, made by somebody else, stays theirs.
    ///
    /// What is wanted is made in its order, then what is not wanted any more is removed, the latest
    /// first. Whoever was told of name servers and does not answer for them any more stays told, since
    /// it may answer again, and forgets them with the tunnel.
    #[must_use]
    pub fn new(wanted: &[Wanted], made: &[Entry], observed: &Observed) -> Self {
        let mut plan = Self::default();
        let known_of = Places::of(made.iter().map(|entry| (&entry.item, entry)));
        for Wanted { item, why } in wanted {
            let known = known_of.get(item);
            let there = observed.in_place_of(item);
            let step = match &there {
                None => Some(Step::Make(item.clone())),
                Some(Item::Filter(_)) => change_of_filter(item, known, observed),
                Some(there) if there == item => None,
                Some(there) => Some(Step::Change(there.clone(), item.clone())),
            };
            // A setting is remembered even if it is right already: it must stay so.
            if known.is_some() || step.is_some() || matches!(item, Item::Setting(..)) {
                let before = match (known, observed.shared_setting(item)) {
                    (Some(known), _) => known.before.clone(),
                    (None, Some(other)) => other.before.clone(),
                    (None, None) => there.filter(|there| !is_filter(there)),
                };
                plan.entries.push(Entry { item: item.clone(), before, until_now: None });
            }
            plan.steps.extend(step.map(|step| (step, *why)));
        }
        let places = Places::of(wanted.iter().map(|wanted| (&wanted.item, ())));
        let unwanted = made.iter().filter(|entry| places.get(&entry.item).is_none());
        let asks = wanted.iter().any(|wanted| wanted.item.is_dns());
        let (told, rest): (Vec<_>, Vec<_>) = unwanted.partition(|it| asks && it.item.is_dns());
        // The latest is the first.
        plan.entries.extend(told.into_iter().cloned());
        for entry in rest.into_iter().rev() {
            let step = observed.undo(entry);
            plan.steps.extend(step.map(|step| (step, "it is not wanted any more")));
        }
        plan
    }

    /// Back to what was before the tunnel, as far as what it has made is still there as it made it:
    /// the latest first.
    #[must_use]
    pub fn undo(made: &[Entry], observed: &Observed) -> Self {
        let links: Vec<&str> = made.iter().filter_map(|entry| link(&entry.item)).collect();
        let alone =
            made.iter().filter(|entry| !links.iter().any(|link| entry.item.goes_with(link)));
        let steps = alone.rev().filter_map(|entry| observed.undo(entry));
        let steps = steps.map(|step| (step, "the tunnel goes down")).collect();
        Self { steps, entries: Vec::new() }
    }

    /// What takes back the first so many steps, the latest first. What was only put back, since it
    /// had been made before, stays: a repair is never worse than none.
    pub(crate) fn way_back(&self, taken: usize, made: &[Entry]) -> Vec<Step> {
        let is_repair = |step: &&Step| match step {
            Step::Make(item) | Step::Change(_, item) => made.iter().any(|it| it.item == *item),
            Step::Remove(_) => false,
        };
        let steps = self.steps.iter().take(taken).map(|(step, _)| step);
        let mut back: Vec<_> = steps.filter(|it| !is_repair(it)).map(Step::inverse).collect();
        back.reverse();
        back
    }

    /// What the journal says while the steps are taken: everything that may be there.
    pub(crate) fn under_way(&self, made: &[Entry]) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        let known_of = Places::of(made.iter().map(|entry| (&entry.item, entry)));
        let place_of = Places::of(self.entries.iter().map(|it| &it.item).zip(0..));
        for (step, _) in &self.steps {
            let known = known_of.get(step.item());
            let entry = place_of.get(step.item()).and_then(|place: usize| entries.get_mut(place));
            match (step, known, entry) {
                // Not wanted any more.
                (_, Some(known), None) => entries.push(known.clone()),
                (Step::Change(from, to), Some(known), Some(entry)) if from != to => {
                    let ours = [Some(&known.item), known.until_now.as_ref()];
                    entry.until_now = ours.contains(&Some(from)).then(|| from.clone());
                }
                // Nothing new to tell, so that a full disk does not keep it from being put back.
                (Step::Make(_), Some(known), Some(entry)) => {
                    entry.until_now.clone_from(&known.until_now);
                }
                _ => {}
            }
        }
        entries
    }
}

/// What makes of a filter that is there what it ought to be. What exactly is in it, only the journal
/// tells; in the place of ours nobody else's is left.
fn change_of_filter(item: &Item, known: Option<&Entry>, observed: &Observed) -> Option<Step> {
    let from = match known {
        Some(known) => known.until_now.as_ref().unwrap_or(&known.item),
        None => item,
    };
    let is_certain = known.is_some_and(|known| known.until_now.is_none());
    let is_right = is_certain && from == item && !observed.is_disturbed(item);
    (!is_right).then(|| Step::Change(from.clone(), item.clone()))
}

/// Values by the places of items, of which only one can be there at once. Of routes there can be very
/// many, of everything else there are few.
struct Places<'a, T> {
    routes: HashMap<&'a Route, T>,
    rest: Vec<(&'a Item, T)>,
}

impl<'a, T: Copy> Places<'a, T> {
    fn of(items: impl Iterator<Item = (&'a Item, T)>) -> Self {
        let mut places = Self { routes: HashMap::new(), rest: Vec::new() };
        for (item, value) in items {
            match item {
                Item::Route(route) => drop(places.routes.insert(route, value)),
                _ => places.rest.push((item, value)),
            }
        }
        places
    }

    fn get(&self, item: &Item) -> Option<T> {
        match item {
            Item::Route(route) => self.routes.get(route).copied(),
            _ => self.rest.iter().find(|(it, _)| it.is_about_the_same(item)).map(|(_, it)| *it),
        }
    }
}

fn is_filter(item: &Item) -> bool {
    matches!(item, Item::Filter(_))
}

fn link(item: &Item) -> Option<&str> {
    match item {
        Item::Link(link) => Some(link),
        _ => None,
    }
}

/// A line per step, its reason behind it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.steps.iter().map(|(step, why)| (step.to_string(), why)).collect();
        let width = lines.iter().map(|(line, _)| line.len().min(WIDEST)).max().unwrap_or(0);
        lines.iter().try_for_each(|(line, why)| writeln!(f, "{line:width$}  # {why}"))
    }
}

/// A line that is longer does not move the reasons of the others further away.
const WIDEST: usize = 60;

#[cfg(test)]
mod tests;
