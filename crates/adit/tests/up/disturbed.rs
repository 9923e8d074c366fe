//! A guard in which others change something: that it is noticed, told and put back.

use crate::stage::Stage;

#[test]
fn a_guard_in_which_others_change_a_single_value_is_put_back() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '#! ExcludeIPs = lan' ''
        stable() { snapshot | sed 's/packets [0-9]* bytes [0-9]*//; / adit keep /d' | sort; }
        back() { diff up <(stable); }
        # The rule in a chain that has these words, with others in their place.
        changed() {
            local family=$1 chain=$2 rule from=$3 to=$4 handle
            rule=$(nft -a list chain $family adit-wg0 $chain | grep -m 1 -F "$from") || fail "no $from in $chain"
            handle=${rule##*# handle }
            rule=$(sed 's/ # handle.*//; s/packets [0-9]* bytes [0-9]*//' <<< "$rule")
            check nft replace rule $family adit-wg0 $chain handle $handle "${rule/"$from"/"$to"}"
        }
        healed() { "$@"; await back; }
        mark=0x0000ca6c
        # Without a keeper it is told.
        check adit up wg0
        stable > up
        adit status wg0 | grep -q 'guard on' || fail "$(adit status)"
        pkill -9 -f 'adit keep wg0'
        changed inet refuse 'reject with icmpx admin-prohibited' accept
        adit status wg0 > told
        grep -q 'guard missing' told && grep -q 'missing: packet filter adit-wg0' told || fail "$(cat told)"
        check adit up wg0
        back || fail 'it is not as it was'
        for round in 1 2; do
            healed changed inet spoofed 'drop' 'accept'
            healed changed inet spoofed '!= "wg0"' '!= "wg1"'
            healed changed inet replies "set $mark" 'set 0x00000001'
            healed changed inet output 'oifname "wg0" accept' 'oifname "eth0" accept'
            healed changed inet output "mark $mark udp" 'mark 0x00000000 udp'
            healed changed inet output 'ip saddr 10.9.0.2' 'ip saddr 10.9.0.3'
            healed changed inet forward 'goto beside' 'accept'
            healed changed inet beside '192.168.7.0/24' '0.0.0.0/0'
            healed changed inet beside '192.168.7.0/24' '192.168.6.0/24'
            healed changed inet beside 'udp dport 53 goto refuse' 'udp dport 53 accept'
            healed changed inet refuse 'reject with tcp reset' 'accept'
            healed changed inet shadows 'drop' 'accept'
            healed changed arp input 'drop' 'accept'
            healed changed arp output 'saddr ip 10.9.0.2' 'saddr ip 10.9.0.3'
            for chain in output forward; do
                healed check nft chain inet adit-wg0 $chain '{ policy accept; }'
            done
            healed check nft add table inet adit-wg0 '{ flags dormant; }'
            healed check nft add chain inet adit-wg0 other '{ type filter hook output priority 1; policy drop; }'
        done
        # Nobody writes over what is as it should be.
        number() { nft -a list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'; }
        number > numbers
        for round in {1..20}; do
            ping -c 1 -W 0.1 -I eth0 203.0.113.1 > /dev/null 2>&1
            check adit up wg0
            check ip route add 192.0.3.0/24 dev eth1; check ip route del 192.0.3.0/24 dev eth1
        done
        nft list chain inet adit-wg0 refuse | grep -q 'packets 0 bytes 0 reject with icmpx' && fail 'nothing was counted'
        number | diff numbers - || fail 'it was written anew'
        check adit down wg0
        check adit up --no-guard wg0
        stable > up
        for round in 1 2; do
            healed changed ip preraw drop accept
            healed changed ip postmangle "mark $mark" 'mark 0x00000001'
            healed changed ip renewals "set $mark" 'set 0x00000001'
            healed changed arp input "set $mark" 'set 0x00000001'
            healed changed ip6 preraw fd09::2 fd09::3
        done
        check adit down wg0
        "##,
    );
}

#[test]
fn whoever_changes_a_guard_without_end_is_not_followed_without_end() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        check adit up wg0
        adit status --json wg0 | grep -q 'put back' && fail "$(adit status --json wg0)"
        yes 'chain inet adit-wg0 output { policy accept; }' | timeout 2 nft -i > /dev/null 2>&1
        closed() { nft list chain inet adit-wg0 output | grep -q 'policy drop'; }
        await closed
        adit status --json wg0 | grep 'put back' > told
        # It looks every 100 ms, and not more than once at what it has just put back.
        count=$(wc -l < told)
        [ $count -ge 1 -a $count -le 30 ] || fail "$(cat told)"
        grep '~ packet filter.*~ packet filter' told && fail 'again, and again'
        keeper=$(adit status --json wg0 | sed -n 's/ *"process": \([0-9]*\),/\1/p')
        ticks=$(cut -d ' ' -f 14-15 /proc/$keeper/stat | tr ' ' '+')
        [ $((ticks)) -lt $(($(getconf CLK_TCK))) ] || fail "$((ticks)) ticks of a processor"
        check adit down wg0
        "##,
    );
}

#[test]
fn other_tunnels_are_told_of_what_is_put_back_but_for_packet_filters() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        stable() { snapshot | sort; }
        back() { diff up <(stable); }
        gone() { check "$@"; await back; }
        kept() { adit status --json wg0 | grep -q '"keeper": {'; }
        full '' ''
        check adit up wg0
        # The keeper of another tunnel, which only listens.
        touch /var/lib/adit/other.journal
        python3 - <<'END' &
import socket
told = socket.socket(socket.AF_UNIX)
told.bind('/run/adit/other.sock')
told.listen()
while True:
    with open('/run/told', 'ab') as heard:
        heard.write(told.accept()[0].recv(99) + b'\n')
END
        await test -S /run/adit/other.sock
        say() {
            python3 - <<< "
import socket
one = socket.socket(socket.AF_UNIX)
one.connect('/run/adit/other.sock')
one.send(b'$1')"
            await grep -q "$1" /run/told
        }
        stable > up
        gone nft delete table inet adit-wg0
        gone nft flush ruleset
        # Who answers has told before, and is heard before.
        check kept
        say now
        [ "$(cat /run/told)" = now ] || fail "$(cat /run/told)"
        gone ip addr del 10.9.0.2/24 dev wg0
        await grep -q look /run/told
        "##,
    );
}
