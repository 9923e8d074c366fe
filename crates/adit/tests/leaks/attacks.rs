//! What whoever runs the LAN can do by handing out addresses and routes, and what a tunnel leaves
//! out.

use std::net::Ipv6Addr;

use crate::lan::{HONEST, Lease};
use crate::stage::{Program, Stage};
use crate::{BOTH, ONLY_V4, assert_tight};

/// Ways that win over any other (CVE-2024-3661): to all of the Internet, a part of it, one host, and
/// a host that is said to be a neighbour.
const WAYS: Lease = Lease {
    routes: "0.0.0.0/1 192.168.77.1, 128.0.0.0/1 192.168.77.1, 8.0.0.0/8 192.168.77.1, \
             8.8.8.8/32 192.168.77.1, 203.0.113.5/32 192.168.77.1, 192.0.2.99/32 0.0.0.0, \
             0.0.0.0/0 192.168.77.1",
    ..HONEST
};
const WAYS_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::UNSPECIFIED, 1),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3),
    (Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844), 128),
];
/// A LAN of public addresses (CVE-2023-36672): their hosts are neighbours now.
const PUBLIC_LAN: Lease =
    Lease { address: "8.8.8.7", router: "8.8.8.8", routes: "0.0.0.0/0 8.8.8.8", ..HONEST };
const PUBLIC_LAN_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0), 64);
/// One that has the tunnel's own address.
const INSIDE_LAN: Lease =
    Lease { address: "10.9.0.2", router: "10.9.0.1", routes: "0.0.0.0/0 10.9.0.1", ..HONEST };

/// A client that has all that it knows from the LAN, and believes all of it.
fn a_believer(program: Program) -> Option<Stage> {
    let mut stage = Stage::new(program)?;
    stage.client.run("sysctl -q net.ipv6.conf.eth0.accept_ra_rt_info_max_plen=128");
    stage.offer(&HONEST);
    stage.obtain_lease();
    Some(stage)
}

fn ways_that_win(stage: &mut Stage) {
    stage.offer(&WAYS);
    stage.renew_lease();
    stage.advertise(&[], &WAYS_V6);
    stage.await_on_client("ip route | grep -q ^128.0.0.0/1");
    stage.await_on_client("ip -6 route | grep -q ^2000::/3");
}

/// The lease is another one, which needs a new address.
fn a_public_lan(stage: &mut Stage) {
    stage.router.run("ip address add 8.8.8.8/32 dev lan0");
    stage.offer(&PUBLIC_LAN);
    stage.renew_lease();
    stage.own = PUBLIC_LAN.address.parse().unwrap();
    stage.advertise(&[PUBLIC_LAN_V6], &[]);
    stage.await_on_client("ip route | grep -q ^8.8.8.0/24");
    stage.await_on_client("ip -6 route | grep -q ^2001:4860:4860::/64");
}

#[test]
fn routes_that_win_lead_nothing_out_when_they_come_with_a_renewal() {
    let Some(mut stage) = a_believer(Program::Ours) else { return };
    stage.configure(BOTH, "DNS = 10.9.0.1");
    stage.tunnel("up");
    let leaks = stage.leaks_during(1000, ways_that_win);
    assert_eq!(leaks.count(), 0, "{leaks}");
    assert!(stage.reaches_the_other_end());
    assert!(stage.reaches_the_internet(), "routes outside have won");
}

#[test]
fn routes_that_win_lead_nothing_out_when_they_were_there_first() {
    let Some(mut stage) = a_believer(Program::Ours) else { return };
    stage.configure(BOTH, "");
    ways_that_win(&mut stage);
    stage.tunnel("up");
    assert_tight(&mut stage, 1000, "up");
    assert!(stage.reaches_the_internet(), "routes outside have won");
}

#[test]
fn control_routes_that_win_lead_everything_out_of_wg_quick() {
    let Some(mut stage) = a_believer(Program::Theirs) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    let leaks = stage.leaks_during(500, ways_that_win);
    for to in ["8.8.8.8", "1.1.1.1", "2001:4860:4860::8844"] {
        assert!(leaks.to(to) > 0, "the control is tight:\n{leaks}");
    }
}

#[test]
fn a_public_address_is_no_neighbour() {
    let Some(mut stage) = a_believer(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    let leaks = stage.leaks_during(1000, a_public_lan);
    assert_eq!(leaks.count(), 0, "{leaks}");
    // Nor when neighbours may be reached.
    stage.configure(BOTH, "#! ExcludeIPs = lan");
    let leaks = stage.leaks_during(1000, |stage| stage.tunnel("reload"));
    for public in ["8.8.8.", "1.1.1.1", "192.0.2.99", "203.0.113.5", "2001:4860", "2606:"] {
        assert_eq!(leaks.to(public), 0, "{leaks}");
    }
}

#[test]
fn control_a_public_address_is_a_neighbour_of_wg_quick() {
    let Some(mut stage) = a_believer(Program::Theirs) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    let leaks = stage.leaks_during(500, a_public_lan);
    for to in ["8.8.8.8", "2001:4860:4860::8844"] {
        assert!(leaks.to(to) > 0, "the control is tight:\n{leaks}");
    }
}

#[test]
fn a_lan_that_hands_out_the_address_of_the_tunnel_learns_nothing() {
    let Some(mut stage) = a_believer(Program::Ours) else { return };
    stage.configure(BOTH, "#! ExcludeIPs = lan");
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    stage.router.run("ip address add 10.9.0.1/24 dev lan0");
    // One to end the capture by.
    stage.client.run("ip address add 172.31.0.2/32 dev eth0");
    stage.own = "172.31.0.2".parse().unwrap();
    stage.offer(&INSIDE_LAN);
    stage.renew_lease();
    stage.advertise(&[(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 0), 64)], &[]);
    stage.await_on_client("ip address show dev eth0 | grep -q 'inet 10.9.0.2/24'");
    stage.await_on_client("ip address show dev eth0 | grep -q 'inet6 fd00:9:'");
    let leaks = stage.leaks_during(1000, |stage| {
        for to in ["10.9.0.1", "10.9.0.7", "fd00:9::1", "fd00:9::7"] {
            for insist in ["", "-I eth0"] {
                stage.client.attempt(&format!("ping -n -q -f -c 3 -W 0.1 {insist} {to}"));
            }
        }
    });
    let lan = leaks.to("192.168.77.1") + leaks.to("224.0.0.251");
    assert_eq!(leaks.count(), lan, "{leaks}");
    stage.offer(&HONEST);
    stage.renew_lease();
    assert!(stage.reaches_the_other_end(), "it does not recover");
}

#[test]
fn a_lan_that_is_excluded_is_reached_but_for_its_name_server() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "DNS = 10.9.0.1\n#! ExcludeIPs = lan");
    stage.tunnel("up");
    let leaks = stage.leaks_during(1000, |_| ());
    let lan = leaks.to("192.168.77.1") + leaks.to("224.0.0.251");
    assert!(leaks.to("192.168.77.1") > 0, "the LAN cannot be reached:\n{leaks}");
    assert_eq!(leaks.count(), lan, "{leaks}");
    assert_eq!(leaks.to_port(53) + leaks.to_port(853), 0, "{leaks}");
}

#[test]
fn to_the_endpoint_goes_only_what_is_ours() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.client.run("printf '203.0.113.5 vpn.test\\n' >> /etc/hosts");
    stage.configure(BOTH, "");
    stage.client.run("sed -i 's/203.0.113.5:/vpn.test:/' /etc/wireguard/wg0.conf");
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    // The mark alone is not enough either.
    let leaks = stage.leaks_during(1000, |stage| {
        let mark = stage.client.run("wg show wg0 fwmark").trim().to_owned();
        let mark = u32::from_str_radix(mark.trim_start_matches("0x"), 16).unwrap();
        stage.client.attempt(&format!("ping -n -q -c 20 -i 0.01 -w 1 -m {mark} 203.0.113.5"));
    });
    assert_eq!(leaks.count(), 0, "{leaks}");
}

#[test]
fn control_whoever_bears_the_mark_leaves_beside_wg_quick() {
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    stage.forget();
    stage.client.attempt("ping -n -q -c 3 -i 0.1 -w 1 -m 51820 203.0.113.5");
    let leaks = stage.leaks();
    assert!(leaks.to("203.0.113.5") > 0, "the control is tight:\n{leaks}");
}

/// Whatever carries the tunnel, and however its networks are written.
#[test]
fn nothing_leaves_beside_a_tunnel_over_ipv6() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure("0.0.0.0/1, 128.0.0.0/1, ::/1, 8000::/1", "");
    stage.client.run("sed -i 's/203.0.113.5:/[2001:db8::5]:/' /etc/wireguard/wg0.conf");
    stage.allowed.endpoints = vec![("2001:db8::5".parse().unwrap(), 51820)];
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    assert_tight(&mut stage, 1000, "up");
}

#[test]
fn of_ipv6_nothing_leaves_where_the_tunnel_has_only_ipv4() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(ONLY_V4, "");
    stage.tunnel("up");
    assert_tight(&mut stage, 1000, "up");
    assert!(stage.reaches_the_other_end());
}

#[test]
fn control_ipv6_leaves_beside_wg_quick() {
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    stage.configure(ONLY_V4, "");
    stage.tunnel("up");
    let leaks = stage.leaks_during(500, |_| ());
    assert!(leaks.to("2001:4860:") > 0, "the control is tight:\n{leaks}");
}
