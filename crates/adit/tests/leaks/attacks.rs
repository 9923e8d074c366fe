//! What whoever runs the LAN can do by handing out addresses and routes, and what a tunnel leaves
//! out.

use crate::stage::{Program, Stage};
use crate::{BOTH, ONLY_V4, assert_tight};

/// What DHCP option 121 and router advertisements can add (CVE-2024-3661): all of the Internet, a
/// part of it, one host.
const ROUTES: &str = "
ip route add 0.0.0.0/1 via 192.168.77.1 dev eth0
ip route add 128.0.0.0/1 via 192.168.77.1 dev eth0
ip route add 8.0.0.0/8 via 192.168.77.1 dev eth0
ip route add 8.8.8.8/32 via 192.168.77.1 dev eth0
ip route add 203.0.113.5/32 via 192.168.77.1 dev eth0
ip -6 route add ::/1 via 2001:db8:77::1 dev eth0
ip -6 route add 2000::/3 via 2001:db8:77::1 dev eth0
ip -6 route add 2001:4860:4860::8844/128 via 2001:db8:77::1 dev eth0";
/// A LAN of public addresses (CVE-2023-36672): their hosts are neighbours now.
const PUBLIC_LAN: &str = "
ip address add 8.8.8.7/24 dev eth0
ip address add 2001:4860:4860::7/64 dev eth0 nodad";

fn rogue_lan(stage: &mut Stage) {
    stage.router.run("ip address add 8.8.8.8/32 dev lan0");
    stage.client.run(PUBLIC_LAN);
}

#[test]
fn routes_that_win_lead_nothing_out_when_they_come_later() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    let leaks = stage.leaks_during(1000, |stage| drop(stage.client.run(ROUTES)));
    assert_eq!(leaks.count(), 0, "{leaks}");
    assert!(stage.reaches_the_other_end());
    assert!(stage.reaches_the_internet(), "routes outside have won");
}

#[test]
fn routes_that_win_lead_nothing_out_when_they_were_there_first() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.client.run(ROUTES);
    stage.tunnel("up");
    assert_tight(&mut stage, 1000, "up");
    assert!(stage.reaches_the_internet(), "routes outside have won");
}

#[test]
fn control_routes_that_win_lead_everything_out_of_wg_quick() {
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    assert!(stage.reaches_the_other_end());
    let leaks = stage.leaks_during(500, |stage| drop(stage.client.run(ROUTES)));
    assert!(leaks.to("8.8.8.8") > 0 && leaks.to("1.1.1.1") > 0, "the control is tight:\n{leaks}");
}

#[test]
fn a_public_address_is_no_neighbour() {
    let Some(mut stage) = Stage::new(Program::Ours) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    let leaks = stage.leaks_during(1000, rogue_lan);
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
    let Some(mut stage) = Stage::new(Program::Theirs) else { return };
    stage.configure(BOTH, "");
    stage.tunnel("up");
    let leaks = stage.leaks_during(500, rogue_lan);
    assert!(leaks.to("8.8.8.8") > 0, "the control is tight:\n{leaks}");
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
