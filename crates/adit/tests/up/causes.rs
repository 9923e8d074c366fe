//! Why a tunnel does not work, as `adit status` tells the owner of either end.

use serde_json::Value;

use crate::stage::Stage;

/// What both ends need: the far one is brought up by its file, too.
const ENDS: &str = r##"
# What is added to the [Interface] and [Peer] of the other end, which is called by a fixed port.
far_file() {
    printf '%s\n' '[Interface]' "PrivateKey = $FAR_KEY" 'Address = 10.9.0.1/24' \
        'ListenPort = 51820' "$1" '[Peer]' '# near' "PublicKey = $OURS" \
        'AllowedIPs = 10.9.0.2/32' "$2" > /etc/wireguard/far0.conf
}
beyond() { ip netns exec far "$@"; }
far_adit() { beyond "$ADIT" "$@"; }
called() { ping -c 1 -W 0.1 10.9.0.1 > /dev/null; }
far_called() { beyond ping -c 1 -W 0.1 10.9.0.2 > /dev/null; }
here() { adit status wg0 > told; grep -qF "$1" told; }
there() { far_adit status far0 > far_told; grep -qF "$1" far_told; }
without() { local is=0; "$@" || is=$?; [ $is = 1 ] || fail "$* $(cat told far_told)"; }
works() { await ping -c 1 -W 1 10.9.0.1; }
# What the control socket says, as any client of it hears it.
socket() {
    python3 - $1 <<'END'
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(f'/run/wireguard/{sys.argv[1]}.sock')
client.sendall(b'get=1\n\n')
said = b''
while not said.endswith(b'\n\n'):
    said += client.recv(65536)
print(said.decode(), end='')
END
}
"##;

fn play(script: &str) -> Option<String> {
    Some(Stage::new()?.play(&format!("{ENDS}\n{script}")))
}

#[test]
fn a_wrong_public_key_is_told_on_both_sides_with_the_right_one() {
    let said = play(
        r##"
        split 'ListenPort = 51821' ''
        sed -i "s|^PublicKey.*|PublicKey = $OTHER|" /etc/wireguard/wg0.conf
        far_file '' 'Endpoint = 192.0.2.2:51821'
        check adit up wg0; check far_adit up far0
        called; far_called
        await here "with a key that is in no [Peer] here: $FAR"
        here 'if that is far, its PublicKey is to be this one in /etc/wireguard/wg0.conf; then `adit reload wg0'"'" || fail "$(cat told)"
        await there 'call from 192.0.2.2:51821'
        there 'for another key than ours' || fail "$(cat far_told)"
        there "if that is near, its PublicKey for this machine is wrong: ours is $FAR" || fail "$(cat far_told)"
        without here 'check that it listens'
        far_adit status --json far0
        socket wg0 > said
        grep -q "^refused_key=$(base64 -d <<< $FAR | od -An -vtx1 | tr -d ' \n')$" said || fail "$(cat said)"
        for line in refused=unknown_peer refused_from=192.0.2.1:51820 'refused_count=[1-9]' \
            "refused_time_sec=$(date +%s | cut -c -6)...." last_discard=unknown_peer; do
            [ $(grep -c "^$line" said) = 1 ] || fail "$line: $(cat said)"
        done
        # Neither Debian's reader nor our own of the same words minds.
        check wg show wg0 dump > theirs; adit wg show wg0 dump | diff - theirs || fail 'read otherwise'
        # It is a peer, and no stranger any more; and what it was refused for before is over.
        sed -i "s|^PublicKey.*|PublicKey = $FAR|" /etc/wireguard/wg0.conf
        check adit reload wg0
        without here 'refused'
        works
        without there 'refused'
        check adit down wg0; check far_adit down far0
        "##,
    );
    let Some(said) = said else { return };
    let status: Value = serde_json::from_str(&said).unwrap();
    let refused = &status["far0"]["refused"][0];
    assert_eq!(
        (&refused["reason"], &refused["from"]),
        (&"bad_mac".into(), &"192.0.2.2:51821".into())
    );
    assert_eq!(refused["publicKey"], Value::Null);
    assert!(refused["count"].as_u64() > Some(0) && refused["last"].as_u64() > Some(1_000_000_000));
}

#[test]
fn a_machine_that_nobody_has_added_is_told_with_its_key() {
    play(
        r##"
        split 'ListenPort = 51821' ''
        far_file '' ''
        sed -i "s|^PublicKey.*|PublicKey = $OTHER|" /etc/wireguard/far0.conf
        check adit up wg0; check far_adit up far0
        called
        await there "a call from 192.0.2.2:51821, "
        there "with a key that is in no [Peer] here: $OURS" || fail "$(cat far_told)"
        there 'if that is a machine of yours, it lacks a [Peer] with this PublicKey in /etc/wireguard/far0.conf; then `adit reload far0'"'" || fail "$(cat far_told)"
        # It calls again.
        await there '2 calls from 192.0.2.2:51821, last '
        check adit down wg0; check far_adit down far0
        "##,
    );
}

#[test]
fn a_failure_of_a_peer_is_told_with_its_time_and_place() {
    let said = play(
        r##"
        split 'ListenPort = 51821' "PresharedKey = $PSK"
        far_file '' ''
        check adit up wg0; check far_adit up far0
        called
        await here '2 times, last '
        grep -q 'last failure: 2 times, last [0-9]* s ago, from 192.0.2.1:51820: .*PresharedKey' told || fail "$(cat told)"
        adit status --json wg0
        socket wg0 > said
        for line in last_discard=bad_response last_discard_from=192.0.2.1:51820 \
            last_discard_count=2 last_discard_time_sec=1; do
            grep -q "^$line" said || fail "$line: $(cat said)"
        done
        # The other side knows only that it is not heard.
        there 'it calls, and goes on as if nobody answered (' || fail "$(cat far_told)"
        there 'check that UDP from here gets to 192.0.2.2:51821, and that the PresharedKey is' || fail "$(cat far_told)"
        socket far0 > said
        grep -q '^unheard_count=[2-9]' said && grep -q '^unheard_time_sec=1' said || fail "$(cat said)"
        sed -i /PresharedKey/d /etc/wireguard/wg0.conf
        check adit reload wg0
        works
        socket wg0 > said
        grep -q last_discard_ said && fail "$(cat said)"
        without there 'it calls'
        check adit down wg0; check far_adit down far0
        "##,
    );
    let Some(said) = said else { return };
    let status: Value = serde_json::from_str(&said).unwrap();
    let peer = status["wg0"]["peers"].as_object().unwrap().values().next().unwrap();
    assert_eq!(peer["failed"]["from"], "192.0.2.1:51820");
    assert_eq!(peer["failed"]["count"], 2);
}

#[test]
fn whoever_says_that_a_peer_cannot_be_reached_is_told() {
    play(
        r##"
        # A router without a route; an address that nobody has; rejections of each kind.
        sysctl -qw net.ipv4.ip_forward=1
        beyond sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratelimit=0 \
            net.ipv6.conf.all.forwarding=1
        beyond ip route add unreachable 198.51.100.1
        beyond ip route add prohibit 198.51.100.2
        mapfile -t kinds <<'END'
icmp type host-unreachable
icmp type net-unreachable
icmp type prot-unreachable
icmp type port-unreachable
icmp type net-prohibited
icmp type host-prohibited
icmp type admin-prohibited
icmpv6 type no-route
icmpv6 type admin-prohibited
icmpv6 type addr-unreachable
icmpv6 type port-unreachable
END
        printf '%s\n' '[Interface]' "PrivateKey = $OUR_KEY" 'ListenPort = 51821' > /etc/wireguard/wg0.conf
        number=0
        peer() {
            number=$((number + 1))
            printf '%s\n' '[Peer]' "# $1" "PublicKey = $(wg genkey | wg pubkey)" \
                "AllowedIPs = 10.7.$number.0/24" "Endpoint = $2" 'PersistentKeepalive = 25' >> /etc/wireguard/wg0.conf
        }
        peer closed4 192.0.2.1:51820
        peer closed6 '[2001:db8::1]:51820'
        peer nobody4 192.0.2.99:51820
        peer nobody6 '[2001:db8::99]:51820'
        peer noroute4 203.0.113.1:51820
        peer noroute6 '[2001:db8:99::1]:51820'
        peer unreachable 198.51.100.1:51820
        peer prohibit 198.51.100.2:51820
        peer own 192.0.2.2:9
        peer kept 192.0.2.1:600
        {
            echo 'table inet filter {'; echo 'chain input {'; echo 'type filter hook input priority 0'
            for n in ${!kinds[@]}; do echo "udp dport $((1000 + n)) reject with ${kinds[n]}"; done
            echo 'udp dport 600 drop'
            echo '}'; echo '}'
        } > rules
        check beyond nft -f rules
        for n in ${!kinds[@]}; do
            case ${kinds[n]} in
                icmpv6*) peer "kind$n" "[2001:db8::1]:$((1000 + n))" ;;
                *) peer "kind$n" "192.0.2.1:$((1000 + n))" ;;
            esac
        done
        check nft -f - <<'END'
table inet own {
    chain output {
        type filter hook output priority 0
        udp dport 600 drop
        udp dport 601 reject
    }
}
END
        peer rejected 192.0.2.1:601
        check adit up wg0
        said() {
            adit status wg0 > told
            sed -n "/^  $1  at/,/^  [^ ]/p" told | grep -qF "    $2 ("
        }
        filtered='a packet filter of 192.0.2.1 rejects what is sent to its port'
        filtered6='a packet filter of 2001:db8::1 rejects what is sent to its port'
        closed='start the tunnel there, mend the port in Endpoint, or look at its packet filter'
        await said closed4 "192.0.2.1 answers that nothing listens on its port 51820: $closed"
        await said closed6 "2001:db8::1 answers that nothing listens on its port 51820: $closed"
        await said nobody4 "nobody on this machine's network has the address 192.0.2.99"
        await said nobody6 "nobody on this machine's network has the address 2001:db8::99"
        await said noroute4 '192.0.2.1, on the way, knows no route to 203.0.113.1'
        await said noroute6 '2001:db8::1, on the way, knows no route to 2001:db8:99::1'
        await said unreachable '192.0.2.1, on the way, finds nobody at 198.51.100.1'
        await said prohibit 'a packet filter of 192.0.2.1, on the way, rejects what is sent to 198.51.100.2:51820'
        await said kind0 "$filtered 1000"
        await said kind1 "$filtered 1001"
        await said kind2 "$filtered 1002"
        await said kind3 "192.0.2.1 answers that nothing listens on its port 1003: $closed"
        await said kind4 "$filtered 1004"
        await said kind5 "$filtered 1005"
        await said kind6 "$filtered 1006"
        await said kind7 "$filtered6 1007"
        await said kind8 "$filtered6 1008"
        await said kind9 "$filtered6 1009"
        await said kind10 "2001:db8::1 answers that nothing listens on its port 1010: $closed"
        await said kept "this machine's own packet filter lets nothing out to 192.0.2.1:600"
        adit status wg0 | sed -n '/^  kept  at/,/^  [^ ]/p' | grep -q 'nothing to send' && fail 'there was'
        await said rejected "this machine's own packet filter rejects what is sent to 192.0.2.1:601"
        await said own 'nothing listens on port 9 of this machine itself, where Endpoint leads'
        adit status --json wg0 | grep -A4 '"unreachable": {' | grep -q '"by": "192.0.2.1"' || fail "$(adit status --json)"
        check wg show wg0 dump > theirs; adit wg show wg0 dump | diff - theirs || fail 'read otherwise'
        socket wg0 > said
        for line in unreachable=port unreachable=host unreachable=network unreachable=prohibited \
            unreachable_from=192.0.2.1 unreachable_from=2001:db8::1 unreachable_time_sec=1; do
            grep -q "^$line" said || fail "$line: $(cat said)"
        done
        check adit down wg0
        "##,
    );
}

#[test]
fn a_daemon_that_died_is_told_and_forgotten_when_it_is_back() {
    play(
        r##"
        fast
        split 'ListenPort = 51821' ''
        far_file '' ''
        check adit up wg0; check far_adit up far0
        works
        beyond ls /run/wireguard/far0.sock > /dev/null || fail 'it is elsewhere'
        pkill -9 -f 'adit keep far0'; pkill -9 -f 'adit daemon -- far0'
        # A packet without an answer makes a call, after 15 s. What is sent meanwhile takes ICMP's rate.
        ping -i 0.1 10.9.0.1 > /dev/null & pinging=$!
        SECONDS=0
        until here 'answers that nothing listens'; do
            [ $SECONDS -lt 45 ] || fail "$(cat told)"
            read -t 0.2 < /dev/zero || true
        done
        kill $pinging
        check adit down wg0; check adit up wg0
        called
        await here '192.0.2.1 answers that nothing listens on its port 51820'
        here 'handshaked: no' || fail "$(cat told)"
        check far_adit up far0
        works
        without here 'answers that'
        socket wg0 > said
        grep -q unreachable said && fail "$(cat said)"
        check adit down wg0; check far_adit down far0
        "##,
    );
}

#[test]
fn forged_reports_inform_and_change_nothing() {
    play(
        r##"
        fast
        split 'ListenPort = 51821' ''
        far_file '' ''
        check adit up wg0; check far_adit up far0
        cat > forge.py <<'END'
import socket, struct, sys
# That a datagram from our port to that of the peer did not arrive, said by somebody else.
length = int(sys.argv[1])
inner = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + length, 0, 0, 64, 17, 0,
                    socket.inet_aton('192.0.2.2'), socket.inet_aton('192.0.2.1'))
inner += struct.pack('!HHHH', 51821, 51820, length, 0)
message = struct.pack('!BBHI', 3, 3, 0, 0) + inner
message += b'\0' * (len(message) % 2)
total = sum(struct.unpack('!%dH' % (len(message) // 2), message))
total = (total & 0xffff) + (total >> 16)
total = ~(total + (total >> 16)) & 0xffff
message = message[:2] + struct.pack('!H', total) + message[4:]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
for _ in range(int(sys.argv[2])):
    raw.sendto(message, ('192.0.2.2', 0))
END
        forge() { beyond python3 forge.py "$@"; }
        # While all is well nobody listens.
        works
        forge 156 10000
        ping -c 1 -W 5 10.9.0.1 > /dev/null || fail "$(adit status)"
        without here 'answers that'
        # While the peer is silent it is told, and called as before.
        check adit down wg0
        check beyond nft -f - <<'END'
table inet filter {
    chain input {
        type filter hook input priority 0
        udp dport 51820 drop
    }
    chain output {
        type filter hook output priority 0
        udp sport 51820 drop
    }
}
END
        check adit up wg0
        called
        said() { forge $1 $2; here 'answers that nothing listens on its port 51820'; }
        await said 156 1
        check adit down wg0; check adit up wg0
        called
        silent() { adit status --json wg0 | grep -q '"unansweredSince": [0-9]'; }
        await silent
        # Of other datagrams than calls nothing is told.
        without said 100 1
        said 156 10000
        check beyond nft flush ruleset
        works
        without here 'answers that'
        check adit down wg0; check far_adit down far0
        "##,
    );
}

#[test]
fn an_endpoint_that_leads_to_this_machine_is_told() {
    play(
        r##"
        split 'ListenPort = 51820' ''
        sed -i 's/^Endpoint.*/Endpoint = 192.0.2.2:51820/' /etc/wireguard/wg0.conf
        check adit up wg0
        called
        refused() { adit status --json wg0 | grep -q '"reason": "bad_mac"'; }
        await refused
        here 'its Endpoint is this tunnel itself' || fail "$(cat told)"
        without here 'refused'
        check adit down wg0
        sed -i '/^Endpoint/d' /etc/wireguard/wg0.conf
        check adit up wg0
        here 'at nowhere yet: without an Endpoint here it has to call first' || fail "$(cat told)"
        check adit down wg0
        "##,
    );
}

#[test]
fn a_way_that_has_gone_is_told_while_there_is_a_session_when_the_peer_calls() {
    play(
        r##"
        split 'ListenPort = 51821' ''
        far_file '' ''
        check adit up wg0; check far_adit up far0
        works
        check ip route del default
        check ip route del 192.0.2.0/24 dev eth0
        # We send nothing; it does, and calls.
        vain() { far_called; here 'this machine knows no way to 192.0.2.1: Network is unreachable'; }
        SECONDS=0
        until vain; do [ $SECONDS -lt 40 ] || fail "$(cat told)"; done
        grep -q 'handshaked: yes' told || fail "$(cat told)"
        grep -q 'it calls, and' told && fail "$(cat told)"
        check adit down wg0; check far_adit down far0
        "##,
    );
}

#[test]
fn that_nothing_ever_comes_out_is_told_though_handshakes_succeed() {
    play(
        r##"
        none=' packets went in and none has come out, though calls are answered: look at the AllowedIPs that'
        split '' ''
        far_file '' ''
        check adit up wg0; check far_adit up far0
        works
        without here 'none has come out'
        check adit down wg0; check far_adit down far0
        # The other side does not know our address; or nothing may come out of the tunnel there.
        sed -i 's|^AllowedIPs.*|AllowedIPs = 10.9.0.77/32|' /etc/wireguard/far0.conf
        check adit up wg0; check far_adit up far0
        vain() { ping -c 3 -i 0.05 -W 0.1 10.9.0.1 > /dev/null; here "$none"; }
        await vain
        there 'last failure: the peer sent a packet from an address that does not belong to it; check its AllowedIPs on this machine: 10.9.0.2 is not in 10.9.0.77/32' || fail "$(cat far_told)"
        socket far0 | grep -q '^last_discard_source=10.9.0.2$' || fail "$(socket far0)"
        far_adit status --json far0 | grep -q '"refusedSource": "10.9.0.2"' || fail "$(cat far_told)"
        check far_adit down far0; check adit down wg0
        far_file '' ''
        check beyond nft -f - <<'END'
table inet filter {
    chain input {
        type filter hook input priority 0
        iifname far0 drop
    }
}
END
        check adit up wg0; check far_adit up far0
        await vain
        here 'handshaked: yes' || fail "$(cat told)"
        check beyond nft flush ruleset
        works
        without here 'none has come out'
        check adit down wg0; check far_adit down far0
        # Whoever goes when it has answered the call gets none of them.
        check adit up wg0; check far_adit up far0
        handshaked() { ping -c 1 -W 0.1 10.9.0.77 > /dev/null; here 'handshaked: yes'; }
        await handshaked
        check far_adit down far0
        for n in {1..7}; do ping -c 1 -W 1 10.9.0.77 > /dev/null; done
        without here 'none has come out'
        check adit down wg0
        "##,
    );
}

#[test]
fn a_clock_that_has_gone_back_is_told() {
    play(
        r##"
        split '' ''
        check adit up wg0
        without here 'clock'
        touch -d '+1 hour' /etc/wireguard/wg0.conf
        here "if this machine's clock has gone back, nobody answers who has heard of a later time" || fail "$(cat told)"
        check adit down wg0
        "##,
    );
}

#[test]
fn two_machines_with_one_key_are_told_where_both_call() {
    play(
        r##"
        # Another machine, beside the far one, with our own key and address.
        ip netns add twin
        ip link add twin type veth peer name eth0 netns twin
        ip link set twin up; ip -n twin link set eth0 up
        ip addr add 192.0.3.2/24 dev twin
        ip -n twin addr add 192.0.3.1/24 dev eth0
        ip -n twin route add default via 192.0.3.2
        sysctl -qw net.ipv4.ip_forward=1
        beyond ip route add 192.0.3.0/24 via 192.0.2.2
        split 'ListenPort = 51821' ''
        sed 's/51821/51822/' /etc/wireguard/wg0.conf > /etc/wireguard/twin0.conf
        far_file '' ''
        check far_adit up far0
        check adit up wg0
        works
        without there 'in turn'
        check ip netns exec twin "$ADIT" up twin0
        # Each calls again when it hears no answer, which then the other misses.
        flap() {
            ip netns exec twin ping -c 1 -W 1 10.9.0.1 > /dev/null
            ping -c 1 -W 1 10.9.0.1 > /dev/null
            there 'in turn ('
        }
        tries=0
        until flap; do tries=$((tries + 1)); [ $tries -lt 40 ] || fail "$(cat far_told)"; done
        there ', as two machines with one key do' || fail "$(cat far_told)"
        socket far0 > said
        grep -q '^turns_with=192.0.[23].[12]:5182[12]$' said || fail "$(cat said)"
        check ip netns exec twin "$ADIT" down twin0
        check adit down wg0; check far_adit down far0
        "##,
    );
}

#[test]
fn a_peer_that_is_only_looked_for_elsewhere_is_no_second_machine() {
    play(
        r##"
        split 'ListenPort = 51821' ''
        far_file '' ''
        check adit up wg0; check far_adit up far0
        works
        far=$(adit wg show wg0 peers)
        for address in 9 1 9 1 9 1 9 1; do
            check adit wg set wg0 peer "$far" endpoint 192.0.2.$address:51820
        done
        works
        without here 'in turn'
        socket wg0 > said
        grep -q turns said && fail "$(cat said)"
        check adit down wg0; check far_adit down far0
        "##,
    );
}

#[test]
fn a_peer_behind_nat_that_has_forgotten_it_is_told_with_the_remedy() {
    play(
        r##"
        split 'ListenPort = 51821' ''
        far_file '' ''
        check adit up wg0; check far_adit up far0
        works
        # What was let out is let in no more.
        pkill -9 -f 'adit keep wg0'; pkill -9 -f 'adit daemon -- wg0'
        check nft -f - <<'END'
table inet nat {
    chain input {
        type filter hook input priority 0
        udp dport 51821 drop
    }
}
END
        told_nat() { far_called; there 'behind NAT it is there only while it speaks, as PersistentKeepalive = 25'; }
        tries=0
        until told_nat; do
            tries=$((tries + 1)); [ $tries -lt 500 ] || fail "$(cat far_told)"
        done
        check adit down wg0; check far_adit down far0
        "##,
    );
}

#[test]
fn packets_for_others_that_this_machine_drops_are_told_and_nothing_where_none_come() {
    let said = play(
        r##"
        # The server of several peers, of which one is there.
        hub() {
            printf '%s\n' '[Interface]' "PrivateKey = $OUR_KEY" 'Address = 10.9.0.2/24, fd09::2/64' \
                'ListenPort = 51821' "$1" '[Peer]' "PublicKey = $FAR" 'AllowedIPs = 10.9.0.1/32, fd09::1/128' \
                "$2" > /etc/wireguard/wg0.conf
        }
        second="[Peer]
PublicKey = $OTHER
AllowedIPs = 10.9.0.3/32, fd09::3/128"
        forward() { sysctl -qw net.ipv4.ip_forward=$1 net.ipv6.conf.all.forwarding=$1; }
        sends() { for to in "$@"; do beyond ping -c 3 -i 0.05 -W 0.2 $to > /dev/null; done; }
        # Its session goes on only where there is another tunnel.
        again() { check far_adit down far0; quiet; check far_adit up far0; }
        quiet() { check adit up wg0 2> errors; [ ! -s errors ] || fail "$(cat errors)"; }
        far_file '' 'Endpoint = 192.0.2.2:51821'
        sed -i 's|^Address.*|Address = 10.9.0.1/24, fd09::1/64|; s|^AllowedIPs.*|AllowedIPs = 10.9.0.0/24, fd09::/64|' \
            /etc/wireguard/far0.conf
        check far_adit up far0
        forward 0
        # Of one peer that sends elsewhere nobody knows what it wants.
        hub '' ''
        quiet
        sends 10.9.0.2 fd09::2 10.9.0.3
        without here 'sysctl'
        check adit down wg0
        # Peers that are served by this machine alone.
        hub '' "$second"
        again
        sends 10.9.0.2 fd09::2
        without here 'sysctl'
        adit status --json wg0 | grep -q '"strays": \[\]' || fail "$(adit status --json)"
        # And those that call each other.
        sends 10.9.0.3 fd09::3
        here '3 packets for others came to this machine and were dropped, as net.ipv4.ip_forward is 0: if' ||
            fail "$(cat told)"
        here '3 packets for others came to this machine and were dropped, as net.ipv6.conf.all.forwarding is 0: if' ||
            fail "$(cat told)"
        here '`sysctl -w net.ipv4.ip_forward=1'"'"' lets them pass' || fail "$(cat told)"
        adit status --json wg0
        forward 1
        without here 'sysctl'
        sysctl -qw net.ipv4.conf.wg0.forwarding=0
        here 'net.ipv4.conf.wg0.forwarding is 0' || fail "$(cat told)"
        check adit down wg0
        # Hooks that want packets to pass: at once, and by `up' as well.
        forward 0
        let_pass='its hooks let packets pass to others, but this machine passes none on while net.ipv4.ip_forward is 0'
        hub 'PostUp = true iptables -A FORWARD -i %i -j ACCEPT' ''
        check adit up wg0 2> errors
        grep -qF "adit: wg0: $let_pass: " errors || fail "$(cat errors)"
        grep -q net.ipv6 errors && fail "$(cat errors)"
        here "$let_pass" || fail "$(cat told)"
        check adit down wg0
        for hook in 'true iptables -A FORWARD -i %i -j DROP' \
            'true iptables -A FORWARD -i %i -j ACCEPT; sysctl -qw net.ipv4.ip_forward=1'; do
            forward 0
            hub "PostUp = $hook" ''
            check adit up wg0 2> errors
            grep 'none on' errors && fail "$hook"
            without here 'sysctl'
            check adit down wg0
        done
        check far_adit down far0
        "##,
    );
    let Some(said) = said else { return };
    let status: Value = serde_json::from_str(&said).unwrap();
    let strays = status["wg0"]["strays"].as_array().unwrap();
    assert_eq!(strays.len(), 2, "{strays:?}");
    let first = serde_json::json!({
        "setting": "net.ipv4.ip_forward", "dropped": 3, "hooks": false
    });
    assert_eq!(strays[0], first);
}
