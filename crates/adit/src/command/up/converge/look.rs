//! What a tunnel is, and what it ought to be.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use host::dns::Patience;
use host::news::{Bell, News};
use host::plan::{Carrier as _, Item, Machine, OnFailure};
use host::{Family, Link, Network, dns, forwarding, guard};
use proto::{DeviceState, PublicKey};
use sys::clock::realtime;
use sys::poll::Epoll;

use super::{Resolver, Tunnel};
use crate::command::up::carrier::{self, End};
use crate::command::up::endpoints::{self, Answers, has_lost_its_link};
use crate::command::up::failure::{Failure, Failures, Kind, Outcome};
use crate::command::up::sync::{self, Found};
use crate::command::up::tunnel::{self, Journal, Note};
use crate::command::up::want::{self, Circumstances};
use crate::command::up::wish::Wish;
use crate::command::up::{Options, numbers};
use crate::command::wg::interface;

/// What a look at a tunnel is for.
pub enum Purpose<'a> {
    /// To bring it up, or to reload it, as a command line wants it.
    Make(&'a Options),
    /// To tell what that would do.
    Tell(&'a Options),
    /// To put back what others have changed, with the names that have been found meanwhile. Nobody
    /// is asked for others. Nor is anybody told of name servers now, if for this reason nobody could
    /// be until now.
    Restore(Answers, Option<Failure>),
}

impl Purpose<'_> {
    fn on_failure(&self) -> OnFailure {
        match self {
            Self::Make(_) | Self::Tell(_) => OnFailure::GoBack,
            Self::Restore(..) => OnFailure::GoOn,
        }
    }
}

impl Tunnel {
    /// Looks at everything, and changes nothing but the name of its link, if somebody else has, and
    /// the journal, where the number of a table is reserved.
    pub fn look(wish: Wish, mut journal: Journal, purpose: Purpose<'_>) -> Outcome<Self> {
        let mut failures = Failures::new(purpose.on_failure());
        let mut machine = Machine::open()?;
        let former = journal.note.clone();
        let name = wish.name.as_str();
        if let Purpose::Make(options) | Purpose::Tell(options) = purpose {
            follow(options, &mut journal);
        }
        let only_tells = matches!(purpose, Purpose::Tell(_));
        let called = match only_tells {
            true => None,
            false => tunnel::call_back(&mut machine.network, name, &journal)?,
        };
        let present = present(name, &journal, &mut machine, only_tells)?;
        let mut mute = None;
        let (dns, resolver) = match &purpose {
            Purpose::Restore(_, reason) if wish.dns.is_some() => {
                let told = tunnel::dns(&journal.entries);
                let told = told.map(|(settings, record)| dns::Plan::again(settings, record));
                mute.clone_from(reason);
                failures.endure(reason.clone().map_or(Ok(()), Err))?;
                (told, if mute.is_some() { Resolver::Unknown } else { Resolver::Unasked })
            }
            // Checked before anything is touched. To make it, somebody holds the lock, and who may have
            // to be started was waited for before.
            Purpose::Tell(_) => (chosen(&wish, Patience::Long)?, Resolver::Known),
            _ => (chosen(&wish, Patience::Short)?, Resolver::Known),
        };
        let port = wish.settings.listen_port.filter(|port| *port != 0);
        if let (Purpose::Make(_), None, Some(port)) = (&purpose, &present, port) {
            numbers::await_free(port)?;
        }
        let may_set = numbers::may_set();
        if !may_set && want::full(&wish).contains(&Family::V4) {
            failures.endure(numbers::check_reverse_path())?;
        }
        let found = found(&wish, &journal.note, present.as_ref(), purpose);
        let noted = journal.note.clone();
        let (table, lock) = numbers::table(&wish, &mut machine, &journal.note, only_tells)?;
        journal.note.table = table;
        remember_resolvers(&wish, &mut journal);
        let settings = sync::everything(&wish, &found, table);
        // Only a full tunnel has to do with other tunnels and with the neighbours.
        let (others, on_link) = match table {
            Some(_) => (others(name), guard::on_link(&mut machine.network, name)?),
            None => Default::default(),
        };
        let circumstances = Circumstances {
            mtu: numbers::mtu(&wish, &mut machine.network, &found, table)
                .map_err(|failure| wish.with_line(failure))?,
            table,
            guard: journal.note.guard.or(wish.extensions.guard).unwrap_or(true),
            port: port.or(present.as_ref().map(|it| it.listen_port)),
            others,
            resolvers: journal.note.resolvers.clone(),
            on_link,
            dns,
            may_set,
        };
        let wanted =
            want::wanted(&wish, &circumstances).map_err(|failure| wish.with_line(failure))?;
        if !only_tells && journal.note != noted {
            failures.endure(journal.write())?;
        }
        drop(lock);
        Ok(Self {
            wish,
            journal,
            present,
            former,
            called,
            moved: Vec::new(),
            done: Vec::new(),
            left: Vec::new(),
            resolver,
            mute,
            failures,
            machine,
            circumstances,
            wanted,
            settings,
        })
    }
}

/// What was said besides the file.
fn follow(options: &Options, journal: &mut Journal) {
    // What an earlier start of the machine has left is no tunnel any more, nor is what could not be
    // taken back of one.
    if !journal.entries.iter().any(|entry| entry.item.is_link()) {
        journal.note.guard = None;
        journal.note.kernel = options.kernel;
        journal.note.since = realtime().as_secs();
        journal.note.dropped = forwarding::dropped();
    }
    journal.note.guard = options.guard.or(journal.note.guard);
}

/// Who will be asked for names, if the file wants that.
pub fn chosen(wish: &Wish, patience: Patience) -> Outcome<Option<dns::Plan>> {
    let settings = wish.dns.as_ref();
    Ok(settings.map(|it| dns::choose(&wish.name, it, patience)).transpose()?)
}

/// The other full tunnels that are up.
fn others(name: &str) -> Vec<want::Other> {
    let names = tunnel::names().into_iter().filter(|other| other != name);
    let others = names.filter_map(|name| {
        let journal = tunnel::journal(&name).ok()??;
        let mark = journal.note.table.filter(|_| !journal.entries.is_empty())?;
        let state = interface::state(name.as_ref()).ok();
        let port = state.map(|it| it.listen_port).filter(|port| *port != 0);
        Some(want::Other { name, mark, port })
    });
    others.collect()
}

/// Takes note of whom the network has to ask for names, if a full tunnel has to ask for any. When it
/// is up, the files may tell of its own servers alone.
fn remember_resolvers(wish: &Wish, journal: &mut Journal) {
    let mut resolvers = Vec::new();
    if journal.note.table.is_some() && wish.endpoints.values().any(|it| !it.is_address()) {
        let made = journal.entries.iter().cloned().chain(tunnel::made_by_others(&wish.name));
        let of_tunnels = made.filter_map(|entry| match entry.item {
            Item::Dns(settings, _) => Some(settings.servers),
            _ => None,
        });
        let wanted = wish.dns.iter().map(|settings| settings.servers.clone());
        let own: Vec<IpAddr> = of_tunnels.chain(wanted).flatten().collect();
        resolvers = dns::servers_besides(&own);
        if resolvers.is_empty() {
            resolvers = std::mem::take(&mut journal.note.resolvers);
        }
    }
    journal.note.resolvers = resolvers;
}

/// The interface as it is now; none if it is not there.
fn present(
    name: &str,
    journal: &Journal,
    machine: &mut Machine,
    only_tells: bool,
) -> Outcome<Option<DeviceState>> {
    let is_made = tunnel::has_link(journal, name);
    if !machine.network.has_link(name)? {
        if is_made && !journal.note.kernel && carrier::serves_elsewhere(name) {
            let text = format!(
                "the link {name} is in another network namespace, and goes on there: `adit down \
                 {name}' ends it"
            );
            return Err(Failure::new(Kind::Failed, text));
        }
        return Ok(None);
    }
    if !is_made {
        let link = machine.network.link(name)?;
        if !only_tells && is_dying(&link, &mut machine.network)? {
            return Ok(None);
        }
        let instead = match link.is_tunnel() {
            true => format!("end it first, by `wg-quick down {name}' or `ip link delete {name}'"),
            false => "it is no tunnel: give the file another name".to_owned(),
        };
        let text = format!("{name} is there already, and not by `adit up': {instead}");
        return Err(Failure::new(Kind::Failed, text));
    }
    match (interface::state(name.as_ref()), only_tells) {
        (Ok(state), _) => Ok(Some(state)),
        (Err(error), true) => Err(Failure::io(
            format!("ask {name} for its state (`adit up {name}' heals it)"),
            &error,
        )),
        // Its daemon is dead or dying, and the link goes with it.
        (Err(_), false) => match End.end(name, &mut machine.network) {
            Err(error) if machine.network.has_link(name)? => Err(error.into()),
            _ => Ok(None),
        },
    }
}

/// Whether a link goes by itself in a moment: that of a daemon that has been killed outlives it.
fn is_dying(link: &Link, network: &mut Network) -> Outcome<bool> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let is_served = interface::connect(link.name.as_ref()).is_ok_and(|daemon| daemon.is_some());
    if link.kind != "tun" || is_served {
        return Ok(false);
    }
    let fail = |error| Failure::io(format!("wait for the end of {}", link.name), &error);
    let (bell, epoll) = (Bell::open(News::Links).map_err(fail)?, Epoll::new().map_err(fail)?);
    epoll.add(&bell, 0).map_err(fail)?;
    let deadline = Instant::now() + PATIENCE;
    while network.has_link(&link.name)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let _ = epoll.wait(Some(left)).map_err(fail)?;
        bell.drain();
    }
    Ok(true)
}

/// The addresses of the endpoints that are to be set.
fn found(wish: &Wish, note: &Note, present: Option<&DeviceState>, purpose: Purpose<'_>) -> Found {
    let present = present.map(sync::by_key).unwrap_or_default();
    let stays = |peer: &PublicKey, text: &str| {
        let known = present.get(peer).and_then(|it| it.endpoint);
        known.filter(|it| note.endpoint(peer) == Some(text) && !has_lost_its_link(*it))
    };
    let unknown = wish.endpoints.iter().filter(|(peer, it)| stays(peer, &it.text).is_none());
    let (mut found, news) = match purpose {
        Purpose::Make(_) | Purpose::Tell(_) => (endpoints::find(unknown), Answers::new()),
        Purpose::Restore(news, _) => {
            (endpoints::find(unknown.filter(|(_, it)| it.is_address())), news)
        }
    };
    for (peer, endpoint) in &wish.endpoints {
        let known = stays(peer, &endpoint.text).or_else(|| match found.contains_key(peer) {
            true => None,
            false => note.found(peer, &endpoint.text),
        });
        found.extend(known.map(|address| (*peer, address)));
    }
    for (peer, answer) in news {
        let choice = answer.choice(present.get(&peer).copied());
        found.extend(choice.map(|address| (peer, address)));
    }
    found
}
