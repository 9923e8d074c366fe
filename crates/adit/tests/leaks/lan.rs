//! What a LAN hands out: addresses, routes and name servers by DHCP (RFC 2131, RFC 3442), and
//! networks and routes in router advertisements (RFC 4861, RFC 4191). The server and the client are
//! those of busybox.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sockopt};

use crate::stage::Stage;

/// A lease for the client.
pub struct Lease {
    pub address: &'static str,
    pub netmask: &'static str,
    pub router: &'static str,
    /// What goes into option 121.
    pub routes: &'static str,
}

/// As it should be.
pub const HONEST: Lease = Lease {
    address: "192.168.77.2",
    netmask: "255.255.255.0",
    router: "192.168.77.1",
    routes: "0.0.0.0/0 192.168.77.1",
};

/// What a client does with a lease (RFC 3442: with option 121, there is no other router), with the
/// name servers as well, and tells whoever waits for it.
const SCRIPT: &str = r#"#!/bin/bash
case $1 in
deconfig)
    [ ! -e /run/lease.now ] || ip address del $(cat /run/lease.now) dev $interface
    rm -f /run/lease.now ;;
bound|renew)
    ip address replace $ip/$mask dev $interface
    echo $ip/$mask > /run/lease.now
    [ -n "$staticroutes" ] || staticroutes="0.0.0.0/0 $router"
    set -- $1 $staticroutes
    while [ $# -ge 3 ]; do
        if [ $3 = 0.0.0.0 ]; then ip route replace $2 dev $interface
        else ip route replace $2 via $3 dev $interface onlink; fi
        set -- $1 "${@:4}"
    done
    printf "nameserver %s\noptions timeout:1 attempts:1\n" $dns > /etc/resolv.conf
    echo "$1 $ip" > /run/leased ;;
esac
"#;

impl Stage {
    /// The LAN has this lease for the client from now on.
    pub fn offer(&mut self, lease: &Lease) {
        let Lease { address, netmask, router, routes } = lease;
        self.router.write(
            "/run/udhcpd.conf",
            &format!(
                "interface lan0\nlease_file /run/udhcpd.leases\nstart {address}\nend {address}\n\
                 static_lease 02:00:00:00:00:77 {address}\noption subnet {netmask}\n\
                 option router {router}\noption dns 192.168.77.1\noption lease 600\n\
                 option staticroutes {routes}\n"
            ),
        );
        self.router.run(
            "[ ! -e /run/udhcpd.pid ] || kill -9 $(cat /run/udhcpd.pid)
             touch /run/udhcpd.leases
             busybox udhcpd -f /run/udhcpd.conf > /dev/null 2>&1 &
             echo $! > /run/udhcpd.pid",
        );
    }

    /// The client has its address by DHCP from now on.
    pub fn obtain_lease(&mut self) {
        self.client.write("/run/lease.script", SCRIPT);
        self.client.run(
            "chmod +x /run/lease.script
             mkfifo /run/leased
             ip -4 address flush dev eth0
             rm /etc/resolv.conf
             busybox udhcpc -f -t 100 -T 1 -i eth0 -s /run/lease.script -O staticroutes \
                -p /run/udhcpc.pid > /dev/null 2>&1 &",
        );
        self.client.run("read line < /run/leased; [ ${line%% *} = bound ]");
    }

    /// The client asks for its lease again, and gets what there is now.
    pub fn renew_lease(&mut self) {
        self.client.run("kill -USR1 $(cat /run/udhcpc.pid); read line < /run/leased");
    }

    /// Waits until lines of bash succeed on the client.
    #[track_caller]
    pub fn await_on_client(&mut self, script: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.client.attempt(script).code != 0 {
            assert!(Instant::now() < deadline, "waited in vain for {script}");
        }
    }

    /// The router tells all its neighbours of networks that are on the link, whose addresses are
    /// theirs, and of ways that lead through it.
    pub fn advertise(&mut self, on_link: &[(Ipv6Addr, u8)], ways: &[(Ipv6Addr, u8)]) {
        const FOREVER: [u8; 4] = [0xff; 4];
        // A router of the highest preference for half an hour; no word of the rest.
        let mut message = vec![134, 0, 0, 0, 64, 0x08, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        for (prefix, length) in on_link {
            message.extend([3, 4, *length, 0xc0]);
            message.extend([FOREVER, FOREVER, [0; 4]].concat());
            message.extend(prefix.octets());
        }
        for (prefix, length) in ways {
            message.extend([24, 3, *length, 0x08]);
            message.extend(FOREVER);
            message.extend(prefix.octets());
        }
        self.router.within(|| {
            let socket =
                rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))
                    .unwrap();
            sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
            let link = name_to_index(&socket, "lan0").unwrap();
            let all = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, link);
            rustix::net::sendto(&socket, &message, SendFlags::empty(), &all).unwrap();
        });
    }
}
