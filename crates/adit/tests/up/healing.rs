//! What a keeper puts back, and what becomes of a tunnel whose processes are killed at any moment.

use crate::stage::{OPENRESOLV, Stage};

/// A full tunnel with a keeper that stays, of which names cannot be put back for a `reason`. What is
/// compared is everything but those, and before and after it all but the time of their file.
const BUT_FOR_NAMES: &str = r##"
        quiet() { snapshot | grep -v ' /etc/resolv.conf$'; }
        stable() { snapshot | grep -v 'nameserver\|^search\|^#\|resolv.conf' | sort; }
        kept() { adit status --json wg0 | grep -q '"keeper": {'; }
        up() { "$ADIT" up --foreground wg0 2> said & keeper=$!; await kept; stable > up; }
        back() { diff up <(stable); }
        gone() { check "$@"; await back; }
        lost() { adit status wg0 > told; grep -q "cannot be put back: $reason" told || { cat told; false; }; }
        alive() { adit status wg0 > told; grep -q 'guard on' told && ! grep 'missing: [^D]' told && wg show wg0 peers; }
"##;

#[test]
fn what_others_delete_is_back_within_a_second_and_it_is_known_who_did_it() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        check adit up wg0
        stable() { snapshot | sort; }
        stable > up
        back() { diff up <(stable); }
        # A machine with much else to do may need more, but not each time.
        gone() {
            local try start took
            for try in 1 2 3 4 5; do
                start=${EPOCHREALTIME/./}
                check "$@"
                await back
                took=$((${EPOCHREALTIME/./} - start))
                [ $took -ge 1000000 ] || return 0
            done
            fail "$took us for $*"
        }
        gone nft delete table inet adit-wg0
        gone nft flush ruleset
        gone ip rule del pref 20000
        gone ip -6 rule del pref 20000
        gone ip route flush table 51820
        gone ip addr del 10.9.0.2/24 dev wg0
        gone ip link set wg0 mtu 1280
        gone ip link set wg0 down
        gone sh -c 'echo nameserver 127.0.0.1 > /etc/resolv.conf.new; mv /etc/resolv.conf.new /etc/resolv.conf'
        gone sh -c 'echo nameserver 127.0.0.1 > /etc/resolv.conf'
        repairs() { adit status --json wg0 | grep '"what"'; }
        repairs | grep -q 'nft .*removed.*put back: + packet filter adit-wg0' || fail "$(repairs)"
        repairs | grep -q 'put back: + IPv4 rule 20000' || fail "$(repairs)"
        "##,
    );
}

#[test]
fn to_put_something_back_no_journal_of_another_tunnel_is_read() {
    let Some(stage) = Stage::new() else { return };
    stage.play(&format!(
        "{BUT_FOR_NAMES}{}",
        r##"
        split '' ''
        check adit up wg0
        # Whoever reads this one waits for ever.
        check mkfifo /var/lib/adit/other.journal
        stable > up
        gone ip route del 10.8.0.0/16
        gone ip addr del 10.9.0.2/24 dev wg0
        gone ip link set wg0 mtu 1280
        gone ip link set wg0 down
        # Who else has made a setting is asked when the last who has made it goes.
        rm /var/lib/adit/other.journal
        check adit down wg0
        "##,
    ));
}

#[test]
fn where_names_cannot_be_put_back_everything_else_is() {
    let Some(stage) = Stage::new() else { return };
    stage.play(&format!(
        "{BUT_FOR_NAMES}{}",
        r##"
        full '' ''
        quiet > before
        up
        # Programs replace it.
        write() { cat > /etc/resolv.conf.new; mv /etc/resolv.conf.new /etc/resolv.conf; }
        # Nobody runs here who answers at this address.
        write <<< 'nameserver 127.0.0.53'
        reason='.*systemd-resolved'
        await lost
        for round in 1 2; do
            gone nft delete table inet adit-wg0
            gone ip rule del pref 20000
            gone ip -6 route flush table 51820
            gone ip addr del 10.9.0.2/24 dev wg0
            gone ip link set wg0 down
        done
        check pkill -9 -f 'adit daemon -- wg0'
        await alive
        check lost
        [ "$(cat /etc/resolv.conf)" = 'nameserver 127.0.0.53' ] || fail "$(cat /etc/resolv.conf)"
        [ $(grep -c 'cannot put it back' said) = 1 ] || fail "$(cat said)"
        grep -q 'put back: .*+ packet filter adit-wg0' said || fail "$(cat said)"
        grep -q 'put back: .*DNS' said && fail "$(cat said)"
        write <<< 'nameserver 127.0.0.1'
        await grep -q 10.9.0.1 /etc/resolv.conf
        healed() { adit status --json wg0 | grep -q '"failure": null'; }
        await healed
        write <<< 'nameserver 127.0.0.53'
        await lost
        write <<< $'nameserver 127.0.0.1\noptions timeout:1 attempts:1'
        await grep -q 10.9.0.1 /etc/resolv.conf
        kill $keeper
        wait $keeper
        diff before <(quiet) || fail 'the machine is not as it was'
        "##,
    ));
}

#[test]
fn a_step_that_fails_keeps_none_of_the_others_from_being_put_back() {
    let Some(stage) = Stage::new() else { return };
    stage.play(&format!(
        "{BUT_FOR_NAMES}{OPENRESOLV}{}",
        r##"
        full 'PostUp = echo up >> /run/hooks' ''
        quiet > before
        up
        touch /run/broken
        resolvconf -d
        reason='set the DNS of wg0: .*not today'
        await lost
        gone nft delete table inet adit-wg0
        gone ip rule del pref 20000
        gone ip route flush table 51820
        gone ip addr del 10.9.0.2/24 dev wg0
        check pkill -9 -f 'adit daemon -- wg0'
        await alive
        hooked() { [ $(wc -l < /run/hooks) = 2 ]; }
        await hooked
        # Also when it dies while the keeper looks.
        touch /run/strike
        check nft delete table inet adit-wg0
        struck() { [ $(wc -l < /run/hooks) = 3 ]; }
        await struck
        await alive
        check lost
        [ $(grep -c 'cannot put it back' said) = 1 ] || fail "$(cat said)"
        grep -q 'taken back' said && fail "$(cat said)"
        grep -q 'put back: .*DNS' said && fail "$(cat said)"
        # By hand it is all or nothing.
        code 1 adit reload wg0
        grep -q 'not today; what was done before has been taken back' errors || fail "$(cat errors)"
        rm /run/broken
        await test -e /run/record
        kill $keeper; wait $keeper
        diff before <(quiet) || fail 'the machine is not as it was'
        # Whoever is killed meanwhile leaves a journal that tells everything.
        RANDOM=7
        for round in {1..20}; do
            check adit up wg0
            touch /run/broken
            resolvconf -d
            nft delete table inet adit-wg0; ip rule del pref 20000; ip route flush table 51820
            [ $((round % 2)) = 0 ] || pkill -9 -f 'adit daemon -- wg0'
            spin=$((RANDOM % 20000))
            while [ $spin -gt 0 ]; do spin=$((spin - 1)); done
            pkill -9 -f 'adit keep wg0'
            rm /run/broken
            check adit down wg0
            settled() { diff before <(quiet); }
            await settled
        done
        "##,
    ));
}

#[test]
fn the_guard_is_put_back_though_the_disk_is_full() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        mkdir -p /var/lib/adit
        mount -t tmpfs -o size=64k none /var/lib/adit
        full '' ''
        sed -i 's/192.0.2.1:51820/peer.test:51820/; /^DNS/d' /etc/wireguard/wg0.conf
        servers() { printf 'nameserver %s\noptions timeout:1 attempts:1\n' $1 > /etc/resolv.conf; }
        servers 192.0.2.53
        check adit up wg0
        cat /dev/zero > /var/lib/adit/full 2> /dev/null
        # The journal could not tell of the guard that it would be now.
        servers 192.0.2.54
        guarded() { nft list table inet adit-wg0; }
        for round in 1 2; do
            check nft flush ruleset
            await guarded
        done
        adit status wg0 | grep -q 'cannot be put back: write .*No space left' || fail "$(adit status wg0)"
        guarded | grep -q 192.0.2.54 && fail 'more was made than is noted'
        rm /var/lib/adit/full
        changed() { guarded | grep 192.0.2.54; }
        await changed
        whole() { adit status --json wg0 | grep '"failure": null'; }
        await whole
        check adit down wg0
        "##,
    );
}

#[test]
fn an_attempt_to_bring_a_dead_tunnel_back_leaves_nothing_half_alive() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full $'PreUp = echo preup >> /run/hooks\nPostUp = [ ! -e /run/refuse ]' ''
        snapshot > before
        check adit up wg0
        pkill -9 -f 'adit keep wg0'; pkill -9 -f 'adit daemon -- wg0'
        await eval '! ip link show wg0'
        touch /run/refuse
        code 1 adit up wg0
        grep -q 'PostUp hook of wg0: .*; what was done before has been taken back' errors || fail "$(cat errors)"
        ip link show wg0 > /dev/null 2>&1 && fail "$(adit status wg0)"
        nft list table inet adit-wg0 > /dev/null || fail 'it opened'
        rm /run/refuse
        # The hooks are made up for.
        check adit up wg0
        [ $(wc -l < /run/hooks) = 3 ] || fail "$(cat /run/hooks)"
        adit status wg0 | grep 'nobody keeps it' && fail 'nobody keeps it'
        check adit down wg0
        same before 'after all'
        "##,
    );
}

#[test]
fn a_daemon_that_was_killed_is_started_again_and_nothing_opens() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full 'PostUp = echo up >> /run/hooks' 'PersistentKeepalive = 25'
        check adit up wg0
        await ping -c 1 -W 1 10.9.0.1
        for round in 1 2 3; do
            pkill -9 -f 'adit daemon -- wg0'
            # Beside the tunnel nothing leaves, with a link or without.
            ping -c 1 -W 1 192.0.2.1 > /dev/null 2>&1 && fail 'a packet left' || true
            await ping -c 1 -W 1 10.9.0.1
        done
        check adit down wg0
        "##,
    );
}

#[test]
fn a_link_that_a_hook_kept_from_coming_back_is_whole_when_it_does() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full $'PreUp = [ ! -e /run/refuse ]\nPostUp = echo up >> /run/hooks\nPostDown = false' ''
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1
        touch /run/refuse
        pkill -9 -f 'adit daemon -- wg0'
        refused() { adit status wg0 > told; grep 'cannot be put back: .*PostDown.*PreUp' told; }
        await refused
        check nft delete table inet adit-wg0
        guarded() { nft list table inet adit-wg0; }
        await guarded
        # But for a moment while it is tried again.
        absent() { ! ip link show wg0; }
        await absent
        [ "$(cat /run/hooks)" = up ] || fail "$(cat /run/hooks)"
        rm /run/refuse
        await ping -c 1 -W 1 10.9.0.1
        hooked() { [ $(wc -l < /run/hooks) = 2 ]; }
        await hooked
        "##,
    );
}

#[test]
fn whatever_is_killed_whenever_the_next_command_heals() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        RANDOM=7
        full '' ''
        snapshot > before
        # Kills a process of the tunnel, or the command itself, at some moment of it.
        killed() {
            "$ADIT" "$@" > /dev/null 2>&1 & local command=$! spin=$((RANDOM % 4000))
            while [ $spin -gt 0 ]; do spin=$((spin - 1)); done
            case $((RANDOM % 3)) in
                0) kill -9 $command ;;
                # The one that serves, not the one that waits until it does.
                1) pkill -9 -n -f 'adit daemon -- wg0' ;;
                2) pkill -9 -f 'adit keep wg0' ;;
            esac
            wait $command 2> /dev/null
        }
        for round in {1..100}; do
            killed up wg0 || true
            if [ $((RANDOM % 2)) = 0 ]; then killed down wg0 || true; fi
            if [ $((RANDOM % 2)) = 0 ]; then
                check adit up wg0
                # Whoever was killed before may die only now, and is replaced.
                healed() { [ -z "$(adit up --dry-run wg0)" ]; }
                await healed
                check adit status wg0 > /dev/null
            fi
            code=0; adit down wg0 2> errors || code=$?
            [ $code = 0 ] || [ $code = 4 ] || fail "$round: down: $(cat errors)"
            # The wounded may take a moment to die.
            settled() { diff before <(snapshot); }
            await settled
        done
        "##,
    );
}

#[test]
fn a_daemon_that_was_killed_while_it_opened_its_socket_leaves_nothing_behind() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        snapshot > before
        leave() { mkdir -p /run/wireguard/.wg0; touch /run/wireguard/.wg0/sock; }
        check adit up wg0
        leave
        check adit down wg0
        same before 'after down'
        leave
        code 4 adit down wg0
        same before 'after nothing was up'
        "##,
    );
}

#[test]
fn the_link_of_one_who_has_just_died_is_waited_for_and_no_other() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        # A link of a process that ends in so many seconds.
        link() {
            python3 -c 'import fcntl, os, struct, sys, time
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", b"wg0", 0x1001))
time.sleep(float(sys.argv[1]))' $1 & process=$!
            await ip link show wg0
        }
        link 0.5
        check adit up wg0
        check adit down wg0
        link 60
        code 1 adit up wg0
        grep -q 'wg0 is there already, and not by `adit up' errors || fail "$(cat errors)"
        kill $process
        "##,
    );
}

#[test]
fn three_hundred_times_up_and_down_leave_nothing() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        snapshot > before
        for round in {1..300}; do
            check adit up wg0
            check adit down wg0
        done
        same before 'after 300 times'
        "##,
    );
}

#[test]
fn after_a_power_cut_the_file_that_was_changed_is_given_back() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        cp /etc/resolv.conf before
        # All that the kernel knew is gone, and what is on the disk is not.
        power_cut() {
            pkill -9 -f 'adit keep wg0'; pkill -9 -f 'adit daemon -- wg0'
            nft flush ruleset; ip rule del pref 20000; ip -6 rule del pref 20000
            sysctl -q net.ipv4.conf.all.src_valid_mark=0 net.ipv4.conf.all.send_redirects=1
            await eval '! ip link show wg0'
            rm -rf /run/adit /run/wireguard
            sed -i 's/"boot":"[^"]*"/"boot":"another"/; s/"since":[0-9]*/"since":1/' /var/lib/adit/wg0.journal
            cmp -s before /etc/resolv.conf && fail 'it was not changed'
        }
        check adit up wg0
        power_cut
        adit status wg0 | grep -q '^wg0  down, though nobody took it down' || fail "$(adit status)"
        adit status --json wg0 | grep -q '"up": false' || fail "$(adit status --json)"
        check adit up wg0
        # It has not been up all the time.
        adit status wg0 | grep -q '^wg0  up [0-9]* s ' || fail "$(adit status)"
        power_cut
        check adit down wg0
        check cmp before /etc/resolv.conf
        code 4 adit down wg0 2> errors
        "##,
    );
}

#[test]
fn a_name_that_nobody_knows_yet_is_found_later() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        split '' ''
        sed -i 's/192.0.2.1:51820/later.test:51820/; s/^DNS.*//' /etc/wireguard/wg0.conf
        check adit up wg0
        adit status wg0 | grep -q 'later.test:51820, which nobody has found yet' || fail "$(adit status)"
        adit status --json wg0 | tr -d ' \n' | grep -q '"waitingFor":\["later.test:51820"\]' ||
            fail "$(adit status --json)"
        echo '192.0.2.1 later.test' >> /etc/hosts
        await ping -c 1 -W 1 10.9.0.1
        adit status wg0 | grep -q 'far  at 192.0.2.1:51820' || fail "$(adit status)"
        "##,
    );
}

#[test]
fn when_the_network_changes_names_are_asked_for_soon() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        split '' ''
        sed -i 's/192.0.2.1:51820/later.test:51820/; s/^DNS.*//' /etc/wireguard/wg0.conf
        check adit up wg0
        # Asked for after 0, 1, 3, 7 and 15 seconds, each time a while for an answer, and then rarely.
        mkfifo /run/nothing; exec 9<> /run/nothing
        read -t 18 <&9
        echo '192.0.2.1 later.test' >> /etc/hosts
        SECONDS=0
        ip addr add 192.168.7.3/24 dev eth1
        found() { adit status wg0 | grep -q 'far  at 192.0.2.1:51820'; }
        await found
        [ $SECONDS -lt 6 ] || fail "found after $SECONDS s"
        check adit down wg0
        "##,
    );
}

#[test]
fn a_tunnel_that_died_finds_its_peer_where_it_was_though_nobody_can_be_asked() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full '' ''
        sed -i 's/192.0.2.1:51820/peer.test:51820/' /etc/wireguard/wg0.conf
        check adit up wg0
        check ping -c 1 -W 5 -I wg0 10.9.0.1 > /dev/null
        sed -i '/peer.test/d' /etc/hosts
        pkill -9 -f 'adit daemon -- wg0'
        await ping -c 1 -W 1 -I wg0 10.9.0.1
        pkill -9 -f 'adit keep wg0'; pkill -9 -f 'adit daemon -- wg0'
        await eval '! ip link show wg0'
        check adit up wg0
        check ping -c 1 -W 5 -I wg0 10.9.0.1 > /dev/null
        # Written in another way, it is another one.
        sed -i 's/peer.test/other.test/' /etc/wireguard/wg0.conf
        pkill -9 -f 'adit keep wg0'; pkill -9 -f 'adit daemon -- wg0'
        await eval '! ip link show wg0'
        check adit up wg0
        adit status wg0 | grep -q 'other.test:51820, which nobody has found yet' || fail "$(adit status)"
        check adit down wg0
        "##,
    );
}

#[test]
fn the_guard_lets_out_what_comes_from_another_port_that_was_set_meanwhile() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full '' ''
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        wg set wg0 listen-port 5555
        lets_out() { nft list table inet adit-wg0 | grep -q 'udp sport 5555 accept'; }
        await lets_out
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        adit status --json wg0 | grep -q 'the tunnel follows: ~ packet filter adit-wg0' || fail "$(adit status --json)"
        check adit down wg0
        "##,
    );
}

#[test]
fn the_mark_of_a_full_tunnel_is_put_back_when_its_file_is_synchronized() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full '' ''
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        mark=$(wg show wg0 fwmark)
        # A file for `wg' knows nothing of the mark.
        wg syncconf wg0 <("$ADIT" wg-quick strip wg0)
        marked() { [ "$(wg show wg0 fwmark)" = "$mark" ]; }
        await marked
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        adit status --json wg0 | grep -q "put back: mark $mark" || fail "$(adit status --json)"
        check adit down wg0
        "##,
    );
}

#[test]
fn a_peer_that_falls_silent_is_told_of_and_looked_for_where_its_name_leads_now() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        split '' ''
        sed -i 's/192.0.2.1:51820/peer.test:51820/' /etc/wireguard/wg0.conf
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        ip -n far addr del 192.0.2.1/24 dev eth0
        SECONDS=0
        silent() {
            ping -c 1 -W 1 10.9.0.1 > /dev/null
            adit status wg0 > told
            grep -q 'has not answered since' told
        }
        until silent; do [ $SECONDS -lt 45 ] || fail "nobody tells: $(cat told)"; done
        grep -q 'handshaked: yes .* is answered: no' told || fail "$(cat told)"
        grep -q "check that it listens at 192.0.2.1:51820 .* its key is $FAR, .* has our $OURS" told ||
            fail "$(cat told)"
        adit status --json wg0 | grep -q '"unansweredSince": [0-9]' || fail "$(adit status --json)"
        ip -n far addr add 192.0.2.9/24 dev eth0
        sed -i 's/.*peer.test/192.0.2.9 peer.test/' /etc/hosts
        SECONDS=0
        until ping -c 1 -W 1 10.9.0.1 > /dev/null; do
            [ $SECONDS -lt 25 ] || fail "nobody looks: $(adit status)"
        done
        adit status wg0 > told
        grep -q 'is answered: yes' told || fail "$(cat told)"
        grep -q 'has not answered' told && fail "$(cat told)"
        check adit down wg0
        "##,
    );
}

#[test]
fn nobody_looks_after_a_peer_that_is_well() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        split '' 'PersistentKeepalive = 1'
        sed -i 's/192.0.2.1:51820/peer.test:51820/' /etc/wireguard/wg0.conf
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        keeper=$(adit status --json wg0 | sed -n 's/.*"process": \([0-9]*\),.*/\1/p')
        # What others have asked of it has been answered; what the kernel says of a new link comes soon.
        woken() { grep ^voluntary /proc/$keeper/status; }
        rests() { woken > woken; read -t 24 < /run/nothing; woken | diff woken -; }
        mkfifo /run/nothing; exec 9<> /run/nothing
        rests || rests || fail "it was woken: $(woken)"
        "##,
    );
}

#[test]
fn routes_that_lead_elsewhere_are_nobodys_business() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        check adit up wg0
        keeper=$(adit status --json wg0 | sed -n 's/.*"process": \([0-9]*\),.*/\1/p')
        # A look reads the journal, which is long; who did something is read, too, which is short.
        read_so_far() { sed -n 's/^rchar: //p' /proc/$keeper/io; }
        come_and_go() {
            local before=$(read_so_far)
            for n in {1..20}; do ip route add 10.77.$n.0/24 dev eth1; ip route del 10.77.$n.0/24 dev eth1; done
            # It has heard of all that came before this question.
            adit status --json wg0 > /dev/null
            read=$(($(read_so_far) - before))
            [ $read -lt $(stat -c %s /var/lib/adit/wg0.journal) ]
        }
        come_and_go || come_and_go || fail "it looked: $read"
        # The way to the peer is narrower now.
        ip route add 192.0.2.1/32 dev eth0 mtu 1400
        narrow() { ip link show wg0 | grep -q 'mtu 1320 '; }
        await narrow
        check ip route del 10.8.0.0/16 dev wg0
        back() { ip route | grep -q 10.8.0.0/16; }
        await back
        "##,
    );
}

#[test]
fn a_full_tunnel_does_not_shut_itself_off_from_whoever_knows_its_peer() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full '' ''
        sed -i 's/192.0.2.1:51820/later.test:51820/' /etc/wireguard/wg0.conf
        snapshot > before
        code 1 adit up wg0
        grep -q 'nobody knows yet where later.test is' errors || fail "$(cat errors)"
        same before 'after an attempt'
        "$ADIT" up --foreground wg0 2> waiting & pid=$!
        await grep -q 'comes up when one is found' waiting
        # Others may try meanwhile.
        code 4 adit down wg0
        echo '192.0.2.1 later.test' >> /etc/hosts
        await ping -c 1 -W 1 -I wg0 10.9.0.1
        kill $pid; wait $pid
        same before 'after all'
        # It goes at once when there is nothing to wait for any more.
        sed -i '/later.test/d' /etc/hosts
        "$ADIT" up --foreground wg0 2> again & pid=$!
        await grep -q 'comes up when one is found' again
        kill $pid; wait $pid || fail "it ended with $?"
        same before 'after all'
        "##,
    );
}

#[test]
fn a_gateway_is_looked_for_among_neighbours_and_not_in_the_tunnel() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full '' ''
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1
        check ip route replace default via 192.0.2.1
        ip route show default | grep -q 'dev eth0' || fail "$(ip route show default)"
        check ip -6 route replace default via 2001:db8::1
        ip -6 route show default | grep -q 'dev eth0' || fail "$(ip -6 route show default)"
        check ping -c 1 -W 5 10.9.0.1
        ip route get 8.8.8.8 | grep -q 'dev wg0' || fail "$(ip route get 8.8.8.8)"
        check adit down wg0
        [ -z "$(ip route show table 51820 2> /dev/null)" ] || fail 'a route was left'
        "##,
    );
}
