//! Docker, which has a bridge and packet filters of its own.

use crate::machine::{await_sh, beside, installed, sh, write_wg0};

/// A container speaks with everybody, in every way, whether that is answered or not.
fn talk() {
    sh("for command in 'ping -c 3 -W 1 192.0.2.1' 'nslookup container.test 192.0.2.1' \
            'timeout 2 nc -w 1 192.0.2.1 443'; do
            docker exec box /bin/busybox $command < /dev/null || true
        done");
}

#[test]
#[ignore = "in a guest"]
fn containers_of_docker_reach_the_world_through_the_tunnel_only() {
    installed();
    write_wg0("DNS = 10.9.0.1");
    sh("systemctl start adit@wg0");
    let leaked = beside();
    // It comes when the tunnel is up, with all that it does to the packet filters.
    sh("systemctl start docker");
    sh("mkdir -p /tmp/box/bin && cp /adit/busybox /tmp/box/bin/ && chmod +x /tmp/box/bin/busybox
        tar -C /tmp/box -c . | docker import - box
        docker run -d --name box box /bin/busybox sleep 100000");
    await_sh("docker exec box /bin/busybox ping -c 1 -W 5 10.9.0.1");
    sh("ip -4 address show dev docker0; iptables -t nat -S | grep MASQUERADE");
    talk();
    // It makes all that again, and the container too.
    sh("systemctl restart docker; docker start box");
    await_sh("docker exec box /bin/busybox ping -c 1 -W 5 10.9.0.1");
    talk();
    sh("nft list chain inet adit-wg0 output | grep 'policy drop'");
    assert_eq!(beside(), leaked, "something left beside the tunnel");
    // What empties the packet filters is told of, and what it has taken from us is there again.
    sh("nft flush ruleset");
    await_sh("nft list chain inet adit-wg0 output | grep -q 'policy drop'");
    await_sh("journalctl --no-pager -u adit@wg0 | grep -q 'nft (process .*removed nftables table'");
    sh("systemctl restart docker; docker start box");
    await_sh("docker exec box /bin/busybox ping -c 1 -W 5 10.9.0.1");
    talk();
    assert_eq!(beside(), leaked, "something left beside the tunnel");
    sh("systemctl stop adit@wg0");
    talk();
    assert!(beside() > leaked, "it does not even leave without a tunnel");
    sh("systemctl stop docker docker.socket containerd");
}
