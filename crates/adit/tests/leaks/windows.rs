//! Moments: coming up, going down, and everything that can happen in between.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use host::nft::{self, Nftables};

use crate::stage::{ENDPOINT, OURS, Program, Stage, join};
use crate::wire::{Leaks, Wire};
use crate::{BOTH, assert_tight};

/// The guard's table.
fn is_up(filters: &mut Nftables) -> bool {
    let wanted = (nft::Family::Inet, "adit-wg0".to_owned());
    filters.tables().unwrap().contains(&wanted)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// When the guard was seen first and last while something was done.
fn seen_during(stage: &mut Stage, act: impl FnOnce(&mut Stage)) -> (Duration, Duration) {
    let mut filters = Nftables::open_in(stage.client.network()).unwrap();
    let (done, is_done) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let (mut first, mut last) = (None, None);
        while is_done.try_recv() == Err(TryRecvError::Empty) {
            let before = now();
            if is_up(&mut filters) {
                first.get_or_insert_with(now);
                last = Some(before);
            }
        }
        first.zip(last)
    });
    act(stage);
    drop(done);
    watch.join().unwrap().expect("there is a guard at some time")
}

#[test]
fn nothing_leaves_from_the_first_moment_to_the_last() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "DNS = 10.9.0.1");
    for _ in 0..3 {
        let (first, frames) =
            stage.frames_during(500, |stage| seen_during(stage, |stage| stage.tunnel("up")).0);
        // What was sent just before may have been on its way for a moment.
        let margin = Duration::from_millis(200);
        let late = |frame: &&crate::wire::Frame| frame.at > first + margin;
        let late: Vec<_> = frames.iter().filter(late).cloned().collect();
        assert!(!late.is_empty());
        let leaks = Leaks::of(&late, &stage.allowed);
        assert_eq!(leaks.count(), 0, "while it came up:\n{leaks}");

        assert_tight(&mut stage, 500, "up");

        let (last, frames) =
            stage.frames_during(500, |stage| seen_during(stage, |stage| stage.tunnel("down")).1);
        let before: Vec<_> = frames.iter().filter(|frame| frame.at < last).cloned().collect();
        let leaks = Leaks::of(&before, &stage.allowed);
        assert_eq!(leaks.count(), 0, "while it went down:\n{leaks}");
        let all = Leaks::of(&frames, &stage.allowed);
        assert!(all.count() > 0, "the probes are seen when the guard has gone");
    }
}

/// As many as are promised, in one life of a tunnel.
#[test]
fn of_ten_thousand_probes_none_leaves() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "DNS = 10.9.0.1");
    stage.tunnel("up");
    let deeds: [(&str, Deed); 5] = [
        ("up", |_| ()),
        ("settings change", |stage| {
            stage.configure(BOTH, "MTU = 1300");
            stage.tunnel("reload");
        }),
        ("everything is killed", |stage| drop(stage.client.run("kill -9 $(pidof adit)"))),
        ("up again", |stage| stage.tunnel("up")),
        ("the peer is lost", |stage| drop(stage.server.run("ip link del wg0"))),
    ];
    for (moment, act) in deeds {
        let leaks = stage.leaks_during(2000, act);
        assert_eq!(leaks.count(), 0, "{moment}:\n{leaks}");
    }
    assert!(stage.probes.count() >= 10_000, "{:?}", stage.probes);
}

#[test]
fn nothing_leaves_when_the_peer_is_lost() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    let leaks = stage.leaks_during(1000, |stage| drop(stage.server.run("ip link del wg0")));
    assert_eq!(leaks.count(), 0, "{leaks}");
    // Nor when it is not even a neighbour of anyone.
    let leaks = stage.leaks_during(500, |stage| drop(stage.router.run("ip link set wan0 down")));
    assert_eq!(leaks.count(), 0, "{leaks}");
}

#[test]
fn nothing_leaves_while_settings_change() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    for change in [
        "DNS = 10.9.0.1",
        "#! ExcludeIPs = 198.51.100.0/24",
        "ListenPort = 51999",
        "MTU = 1300",
        "",
    ] {
        stage.configure(BOTH, change);
        let leaks = stage.leaks_during(400, |stage| stage.tunnel("reload"));
        assert_eq!(leaks.count(), 0, "{change}:\n{leaks}");
        assert!(stage.reaches_the_other_end(), "{change}");
    }
}

#[test]
fn nothing_leaves_when_everything_is_killed() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "DNS = 10.9.0.1");
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    for _ in 0..3 {
        let leaks = stage.leaks_during(1000, |stage| {
            drop(stage.client.run("kill -9 $(pidof adit)"));
        });
        assert_eq!(leaks.count(), 0, "killed:\n{leaks}");
        let leaks = stage.leaks_during(300, |stage| stage.tunnel("up"));
        assert_eq!(leaks.count(), 0, "up again:\n{leaks}");
        assert!(stage.reaches_the_other_end());
    }
    stage.client.run("kill -9 $(pidof adit)");
    stage.tunnel("down");
    let left = stage.client.run("nft list ruleset; ip rule; cat /etc/resolv.conf");
    assert!(!left.contains("adit") && !left.contains("fwmark"), "{left}");
    assert!(left.contains("192.168.77.1"), "{left}");
}

/// Whatever a kill leaves behind: where there is a guard, it holds, and what comes next ends well.
#[test]
fn nothing_leaves_when_what_brings_it_up_is_killed_at_any_moment() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "DNS = 10.9.0.1");
    let mut filters = Nftables::open_in(stage.client.network()).unwrap();
    let before = state(&mut stage);
    let mut guarded = 0;
    for moment in 0..12 {
        let delay = f64::from(moment) * 0.02;
        stage.client.run(&format!("{OURS} up wg0 & sleep {delay}; kill -9 $(pidof adit); true"));
        if is_up(&mut filters) {
            guarded += 1;
            assert_tight(&mut stage, 100, &format!("killed after {delay} s"));
        }
        if moment % 2 == 0 {
            stage.tunnel("up");
            assert!(stage.reaches_the_other_end(), "killed after {delay} s");
        }
        if moment % 2 == 0 || guarded > 0 {
            let said = stage.attempt("down");
            assert!([0, 4].contains(&said.code), "killed after {delay} s: {said:?}");
        }
        assert_eq!(state(&mut stage), before, "killed after {delay} s");
    }
    assert!(guarded > 0);
}

/// The LAN is another one, and so is the client's address.
fn move_to(stage: &mut Stage, network: u8) {
    let own = stage.own;
    stage.client.run(&format!(
        "ip address del {own}/24 dev eth0
         ip address add 192.168.{network}.2/24 dev eth0
         ip route replace default via 192.168.{network}.1 dev eth0"
    ));
    stage.own = Ipv4Addr::new(192, 168, network, 2);
}

#[test]
fn nothing_leaves_when_the_network_changes() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.router.run("ip address add 192.168.78.1/24 dev lan0");
    stage.configure(BOTH, "");
    stage.tunnel("up");
    for network in [78, 77] {
        let leaks = stage.leaks_during(1000, |stage| move_to(stage, network));
        assert_eq!(leaks.count(), 0, "{network}:\n{leaks}");
        assert!(stage.reaches_the_other_end(), "{network}");
    }
    let leaks = stage.leaks_during(500, |stage| {
        stage.client.run(
            "ip link set eth0 down
             ip link set eth0 up
             ip address replace 2001:db8:77::2/64 dev eth0 nodad
             ip route replace default via 192.168.77.1 dev eth0
             ip -6 route replace default via 2001:db8:77::1 dev eth0",
        );
    });
    assert_eq!(leaks.count(), 0, "the link came again:\n{leaks}");
    assert!(stage.reaches_the_other_end());
}

/// A telephone is plugged in, and its link is the better way to everywhere.
#[test]
fn nothing_leaves_on_a_link_that_comes_later() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    join(&stage.router, "lan1", &stage.client, "eth1");
    stage.router.run(
        "ip link set lan1 up
         ip address add 192.168.79.1/24 dev lan1
         ip address add 2001:db8:79::1/64 dev lan1 nodad",
    );
    let mut second = Wire::capture(&stage.router, "lan1");
    let leaks = stage.leaks_during(1000, |stage| {
        stage.client.run(
            "ip link set eth1 address 02:00:00:00:00:77 up
             ip address add 192.168.79.2/24 dev eth1
             ip address add 2001:db8:79::2/64 dev eth1 nodad
             ip route delete default
             ip route add default via 192.168.79.1
             ip -6 route delete default
             ip -6 route add default via 2001:db8:79::1",
        );
    });
    assert_eq!(leaks.count(), 0, "{leaks}");
    assert!(stage.reaches_the_other_end());
    let frames = second.frames(&stage.client, Ipv4Addr::new(192, 168, 79, 2));
    let leaks = Leaks::of(&frames, &stage.allowed);
    assert_eq!(leaks.count(), 0, "{leaks}");
    assert!(frames.iter().any(|frame| frame.session().is_some()), "the tunnel is not there");
}

#[test]
fn what_was_open_before_does_not_go_on_beside_the_tunnel() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    let listener = stage.server.within(|| TcpListener::bind((ENDPOINT, 4444))).unwrap();
    let mut here = stage.client.within(|| TcpStream::connect((ENDPOINT, 4444))).unwrap();
    let (mut there, _) = listener.accept().unwrap();
    let datagrams = stage.client.within(|| UdpSocket::bind((stage.own, 0))).unwrap();
    datagrams.connect((ENDPOINT, 53)).unwrap();
    let mut speak = |stage: &mut Stage| {
        stage.forget();
        for _ in 0..50 {
            // That it is refused is what is wanted.
            let _ = (here.write(b"still here"), there.write(b"still there"));
            let _ = datagrams.send(b"still here");
        }
        stage.leaks()
    };
    assert!(speak(&mut stage).to("203.0.113.5") > 50, "nobody speaks");
    stage.configure(BOTH, "");
    stage.tunnel("up");
    let leaks = speak(&mut stage);
    assert_eq!(leaks.count(), 0, "{leaks}");
}

/// What happens at a moment.
type Deed = fn(&mut Stage);

/// With wg-quick something leaves at each of them.
#[test]
fn control_something_leaves_beside_wg_quick_at_every_moment() {
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    stage.router.run("ip address add 192.168.78.1/24 dev lan0");
    stage.configure(BOTH, "");
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    let moments: [(&str, Deed); 5] = [
        ("up", |_| ()),
        ("settings change", |stage| {
            stage.client.run("wg syncconf wg0 <(wg-quick strip wg0)");
        }),
        ("the network changes", |stage| move_to(stage, 78)),
        ("the peer is lost", |stage| drop(stage.server.run("ip link del wg0"))),
        ("everything is killed", |stage| drop(stage.client.run("kill -9 $(pidof wireguard-go)"))),
    ];
    for (moment, act) in moments {
        let leaks = stage.leaks_during(200, act);
        println!("{moment}: {} frames", leaks.count());
        assert!(leaks.to("8.8.8.8") > 0 && leaks.to("2001:4860:") > 0, "{moment} is tight");
    }
}

/// That they can be seen.
#[test]
fn control_every_kind_of_probe_leaves_where_there_is_no_tunnel() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    let leaks = stage.leaks_during(500, |_| ());
    for (to, kinds) in [
        (
            "8.8.8.8",
            [
                "protocol 17, port 53",
                "protocol 17, port 9999",
                "protocol 6, port 443",
                "protocol 1, type 8",
            ],
        ),
        (
            "2001:4860:4860::8844",
            [
                "protocol 17, port 53",
                "protocol 17, port 9999",
                "protocol 6, port 443",
                "protocol 58, type 128",
            ],
        ),
    ] {
        for kind in kinds {
            let seen = leaks.of_kind(&format!(" to {to}, {kind}"));
            assert!(seen > 0, "{to}, {kind}:\n{leaks}");
        }
    }
}

#[test]
fn what_others_delete_is_put_back() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    let before = state(&mut stage);
    for deed in [
        "nft flush ruleset",
        "nft delete table inet adit-wg0",
        "nft flush table inet adit-wg0",
        "ip rule del table 51820 && ip -6 rule del table 51820",
        "ip route flush table 51820 && ip -6 route flush table 51820",
    ] {
        // Without the filters there are still the routes, and the other way round.
        stage.insist = !deed.starts_with("nft");
        let leaks = stage.leaks_during(100, |stage| {
            stage.client.run(deed);
            let begin = Instant::now();
            while state(stage) != before {
                assert!(begin.elapsed() < Duration::from_secs(10), "{deed} was not undone");
            }
            println!("{deed}: undone after {:?}", begin.elapsed());
        });
        assert_eq!(leaks.count(), 0, "{deed}:\n{leaks}");
    }
    stage.insist = true;
    let told = stage.client.run(&format!("{OURS} status --json wg0"));
    assert!(
        told.contains("nft (process ") && told.contains("removed nftables table inet"),
        "{told}"
    );
    assert_tight(&mut stage, 500, "all is back");
    assert!(stage.reaches_the_other_end());
}

/// Filters, rules and routes, without what counts, as a heap of lines.
fn state(stage: &mut Stage) -> BTreeSet<String> {
    let words = "nft list ruleset; ip rule; ip -6 rule; ip route show table all";
    let said = stage.client.run(words);
    let lines = said.lines().map(|line| line.split("counter").next().unwrap_or_default());
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn no_query_leaves_whatever_answers_names() {
    let resolvconf = "#!/bin/sh
        case $1 in
            -a) cat > /run/resolvconf.now; cp /run/resolvconf.now /etc/resolv.conf ;;
            -d) echo nameserver 192.168.77.1 > /etc/resolv.conf ;;
        esac";
    for helper in [None, Some(resolvconf)] {
        let Some(mut stage) = Stage::new(Program::Ours) else { return };
        if let Some(script) = helper {
            stage.client.run(&format!(
                "cat > /run/bin/resolvconf <<'END'\n{script}\nEND\nchmod +x /run/bin/resolvconf"
            ));
        }
        let ask = "getent ahosts a.example; getent ahosts b.example; true";
        stage.forget();
        stage.client.run(ask);
        assert!(stage.leaks().to_port(53) > 0, "nobody asks");
        stage.configure(BOTH, "DNS = 10.9.0.1\n#! ExcludeIPs = lan");
        stage.tunnel("up");
        stage.forget();
        stage.client.run(ask);
        stage.client.run("kill -9 $(pidof adit)");
        stage.client.run(ask);
        // Even if somebody writes the name server of the LAN there.
        stage.client.run(&format!("echo nameserver 192.168.77.1 > /etc/resolv.conf; {ask}"));
        let leaks = stage.leaks();
        assert_eq!(leaks.to_port(53) + leaks.to_port(853), 0, "{leaks}");
    }
}

#[test]
fn control_queries_leave_beside_wg_quick_when_somebody_writes_a_name_server_down() {
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    stage.client.run("echo nameserver 192.168.77.1 > /etc/resolv.conf");
    stage.forget();
    stage.client.run("getent ahosts a.example; true");
    let leaks = stage.leaks();
    assert!(leaks.to_port(53) > 0, "the control is tight:\n{leaks}");
}
