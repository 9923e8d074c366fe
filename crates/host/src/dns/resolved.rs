//! systemd-resolved, which sends every name to the servers of the links whose domains fit it best
//! (org.freedesktop.resolve1(5)). It forgets a link that goes.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::resolve::{interface_index, interface_name};

use super::dbus::{Bus, Failure, Object, Value};
use super::{Domain, Patience, Settings};

pub(super) const SERVICE: &str = "org.freedesktop.resolve1";
const MANAGER: Object<'static> = Object {
    service: SERVICE,
    path: "/org/freedesktop/resolve1",
    interface: "org.freedesktop.resolve1.Manager",
};
/// systemd-networkd, where a file of its own says something of the link: then that tells
/// systemd-resolved, and nobody else may.
const NETWORKD: Object<'static> = Object {
    service: "org.freedesktop.network1",
    path: "/org/freedesktop/network1",
    interface: "org.freedesktop.network1.Manager",
};
const IS_MANAGED: &str = "org.freedesktop.resolve1.LinkBusy";
const LINK: &str = "org.freedesktop.resolve1.Link";
/// Every name is below the root.
const ROOT: &str = ".";

/// Whether it runs; nobody starts it. Without a bus there is none.
pub(super) fn runs(patience: Duration) -> bool {
    Bus::connect_to(SERVICE, patience).is_some()
}

/// Whether it has forgotten a link, since that has gone.
pub(super) fn has_forgotten(link: &str) -> bool {
    interface_index(link).is_none()
}

/// Finds out whether it answers; it is started if it can be.
pub(super) fn check(patience: Duration) -> io::Result<()> {
    let answer = Bus::connect_for(patience).and_then(|mut bus| bus.get(MANAGER, "Domains"));
    answer.map(drop).map_err(|failure| {
        io::Error::other(format!(
            "/etc/resolv.conf leads to systemd-resolved, which does not answer ({failure}): run \
             `systemctl restart systemd-resolved'"
        ))
    })
}

/// Gives a link its servers and domains. Says who else is asked for all names, if all are wanted.
pub(super) fn apply(link: &str, settings: &Settings) -> io::Result<String> {
    let bus = &mut Bus::connect()?;
    let index = Value::Int(index_of(link)?);
    let of_link = |value| [index.clone(), value];
    tell(bus, ["SetLinkDNS"; 2], &of_link(servers(settings)))?;
    tell(bus, ["SetLinkDomains"; 2], &of_link(domains(settings)))?;
    tell(bus, ["SetLinkDefaultRoute"; 2], &of_link(Value::Bool(settings.default)))?;
    match settings.default {
        true => others(bus, &index),
        false => Ok(String::new()),
    }
}

/// Whether the link has just these servers and domains.
pub(super) fn is_applied(link: &str, settings: &Settings, patience: Duration) -> io::Result<bool> {
    let Some((mut bus, index)) = both(link, patience) else { return Ok(false) };
    let found = bus.call(MANAGER, "GetLink", &[index])?;
    let path = found.first().and_then(Value::as_str).unwrap_or_default();
    let object = Object { path, interface: LINK, ..MANAGER };
    let wanted = [
        ("DNS", servers(settings)),
        ("Domains", domains(settings)),
        ("DefaultRoute", Value::Bool(settings.default)),
    ];
    for (property, value) in wanted {
        if bus.get(object, property)? != value {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes it forget what it was told of a link, if both are still there.
pub(super) fn undo(link: &str) -> io::Result<()> {
    let Some((mut bus, index)) = both(link, Patience::Telling.time()) else { return Ok(()) };
    Ok(tell(&mut bus, ["RevertLink", "RevertLinkDNS"], &[index])?)
}

/// The way to it, and the number of a link, if both are there.
fn both(link: &str, patience: Duration) -> Option<(Bus, Value)> {
    let index = interface_index(link)?;
    Some((Bus::connect_to(SERVICE, patience)?, Value::Int(index.cast_signed())))
}

/// Which of these servers it has read in a file that was not its own, if any: it asks them also when
/// the file is its own again.
pub(super) fn remembered(servers: &[IpAddr]) -> Option<String> {
    let known = Bus::connect().and_then(|mut bus| bus.get(MANAGER, "DNS")).ok()?;
    let is_known = |server: &&IpAddr| {
        let (family, octets) = crate::change::octets(**server);
        let octets = Value::array("y", octets.into_iter().map(Value::Byte));
        let of_no_link = [Value::Int(0), Value::Int(family.into()), octets];
        known.items().iter().any(|it| it.items() == of_no_link)
    };
    let server = servers.iter().find(is_known)?;
    Some(format!(
        "systemd-resolved has read {server} in /etc/resolv.conf, and asks it until you run `systemctl \
         restart systemd-resolved'"
    ))
}

/// Tells systemd-resolved something of a link, or else systemd-networkd, by the methods of each.
fn tell(bus: &mut Bus, methods: [&str; 2], arguments: &[Value]) -> Result<(), Failure> {
    let [of_resolved, of_networkd] = methods;
    let answer = match bus.call(MANAGER, of_resolved, arguments) {
        Err(Failure::Refused(name, _)) if name == IS_MANAGED => {
            bus.call(NETWORKD, of_networkd, arguments)
        }
        answer => answer,
    };
    answer.map(drop)
}

fn index_of(link: &str) -> io::Result<i32> {
    let index = interface_index(link).ok_or(rustix::io::Errno::NODEV);
    Ok(index.map_err(io::Error::from)?.cast_signed())
}

/// `a(iay)`: family and address of each.
fn servers(settings: &Settings) -> Value {
    let server = |address: &IpAddr| {
        let (family, octets) = crate::change::octets(*address);
        let octets = octets.into_iter().map(Value::Byte);
        Value::Struct(vec![Value::Int(family.into()), Value::array("y", octets)])
    };
    Value::array("(iay)", settings.servers.iter().map(server))
}

/// `a(sb)`: each domain, and whether it only says whose names are asked here.
fn domains(settings: &Settings) -> Value {
    let root = settings.default.then_some((ROOT, true));
    let search = settings.search.iter().map(|domain| (domain.as_str(), false));
    let only_routed = |domain: &&Domain| !settings.search.contains(domain);
    let routes = settings.routes.iter().filter(only_routed).map(|domain| (domain.as_str(), true));
    let domain =
        |(name, only_routed)| Value::Struct(vec![Value::text(name), Value::Bool(only_routed)]);
    Value::array("(sb)", search.chain(routes).chain(root).map(domain))
}

/// Other links that are to be asked for all names: they are asked as well.
fn others(bus: &mut Bus, own: &Value) -> io::Result<String> {
    let all = bus.get(MANAGER, "Domains")?;
    let mut remarks = Vec::new();
    for entry in all.items() {
        let [index, Value::Text(name), _] = entry.items() else { continue };
        let &Value::Int(number) = index else { continue };
        if name != ROOT || index == own {
            continue;
        }
        let link = u32::try_from(number).ok().and_then(interface_name);
        remarks.push(match link {
            Some(link) => format!(
                "all names are also asked of the servers of {link}: to end that, run `resolvectl \
                 domain {link} \"\"'"
            ),
            None => "all names are also asked of the servers in resolved.conf, where `Domains=' \
                     has `~.'"
                .into(),
        });
    }
    Ok(remarks.join("; "))
}
