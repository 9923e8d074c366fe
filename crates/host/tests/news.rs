//! Word of what changes on the machine, and where an interface is.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use host::namespace;
use host::news::{Bell, Follower, News, Sight};
use support::*;
use sys::tun::Tun;

fn ip(place: &OwnedFd, arguments: &str) {
    said(place, &format!("ip {arguments}")).expect("`ip' is there");
}

/// Once for whatever has happened.
fn rang(bell: &Bell) -> bool {
    let rings = bell.rings();
    bell.drain();
    assert!(!bell.rings());
    rings
}

fn within<T: Send>(place: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    namespace::within(place.as_fd(), work).unwrap()
}

#[test]
fn news_of_a_link_or_a_path_is_heard_once() {
    let Some(here) = a_namespace() else { return };
    let _tun = within(&here, || Tun::create("tun0", 1).unwrap());
    let open = || [News::Links, News::Paths].map(|news| Bell::open(news).unwrap());
    let [links, paths] = within(&here, open);
    assert!(!rang(&links) && !rang(&paths));
    ip(&here, "link set tun0 mtu 1280");
    assert!(rang(&links) && !rang(&paths));
    ip(&here, "link set tun0 up");
    links.drain();
    paths.drain();
    ip(&here, "address add 192.0.2.1/24 dev tun0");
    assert!(!rang(&links) && rang(&paths));
    let [odd, even] = [1281, 1280].map(|mtu| format!("link set tun0 mtu {mtu}\n"));
    within(&here, || {
        let mut ip =
            Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        ip.stdin.take().unwrap().write_all((odd + &even).repeat(1000).as_bytes()).unwrap();
        assert!(ip.wait().unwrap().success());
    });
    assert!(rang(&links), "more than there is room for is heard, too");
}

/// An interface of that place, and who follows it from there.
fn followed(place: &OwnedFd) -> (Tun, Follower) {
    within(place, || {
        let tun = Tun::create("tun0", 1).unwrap().remove(0);
        let follower = Follower::new(&tun).unwrap();
        (tun, follower)
    })
}

/// A process that is there until nobody holds its stdin: `ip` moves an interface to one.
fn resident(place: &OwnedFd) -> Child {
    within(place, || {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    })
}

#[test]
fn an_interface_is_followed_from_namespace_to_namespace() {
    let (Some(here), Some(there)) = (a_namespace(), a_namespace()) else { return };
    let (tun, mut follower) = followed(&here);
    let mut look = || within(&here, || follower.look(&tun)).unwrap().0;
    let sight = |up, mtu, moved| Sight { up, mtu: Some(mtu), moved };
    assert_eq!(look(), sight(false, 1500, false));
    let mut resident = resident(&there);
    ip(&here, &format!("link set tun0 netns {}", resident.id()));
    assert_eq!(look(), sight(false, 1500, true));
    drop(resident.stdin.take());
    resident.wait().unwrap();
    for (change, expected) in [
        ("mtu 1280", sight(false, 1280, false)),
        ("up", sight(true, 1280, false)),
        ("name tun1", sight(true, 1280, false)),
        ("down", sight(false, 1280, false)),
    ] {
        let name = if change == "down" { "tun1" } else { "tun0" };
        ip(&there, &format!("link set {name} {change}"));
        assert_eq!(look(), expected, "{change}");
    }
    follower.bell().drain();
    ip(&there, "link set tun1 mtu 1300");
    assert!(follower.bell().rings(), "it is heard of from afar");
    ip(&there, "link del tun1");
    assert!(within(&here, || follower.look(&tun)).is_err());
}

#[test]
fn coming_home_leaves_no_trace_at_home() {
    let (Some(here), Some(there)) = (a_namespace(), a_namespace()) else { return };
    let (tun, mut follower) = followed(&here);
    let mut residents = [resident(&here), resident(&there)];
    let [at_home, abroad] =
        residents.each_ref().map(|it| format!("link set tun0 netns {}", it.id()));
    for (place, command) in [(&here, abroad), (&there, at_home)] {
        ip(place, &command);
        assert!(within(&here, || follower.look(&tun)).unwrap().0.moved);
    }
    ip(&here, "link set tun0 mtu 1280");
    assert!(follower.bell().rings());
    assert_eq!(within(&here, || follower.look(&tun)).unwrap().0.mtu, Some(1280));
    // A namespace has a number where it is listened to from afar.
    let numbers = said(&here, "ip netns list-id").expect("`ip' is there");
    assert_eq!(numbers.lines().filter(|line| line.starts_with("nsid")).count(), 1, "{numbers}");
    for resident in &mut residents {
        drop(resident.stdin.take());
        resident.wait().unwrap();
    }
}
