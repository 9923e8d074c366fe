//! Whoever answers for names hangs, or what it reads is taken away; and nobody asks servers of a tunnel
//! beside it.

use crate::stage::{self, OPENRESOLV, Stage};

#[test]
fn a_systemd_resolved_that_hangs_keeps_nothing_else_waiting() {
    let Some(stage) = Stage::new() else { return };
    let Some(resolved) = stage::resolved() else { return };
    stage.play(&format!(
        "{resolved}{}",
        r##"
        start_resolved
        ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
        full '' ''
        snapshot > before
        check adit up wg0
        # The guard counts what it has rejected.
        stable() { snapshot | sed '/adit reload/d; s/packets [0-9]* bytes [0-9]*//' | sort; }
        stable > up
        back() { diff up <(stable); }
        # Far from fifteen seconds, but more than a look takes on a machine that is busy.
        gone() {
            SECONDS=0
            check "$@"
            await back
            [ $SECONDS -lt 5 ] || fail "slow: $SECONDS s for $*"
        }
        lost() { adit status wg0 > told; grep 'cannot be put back: .*does not answer (no answer in 2 seconds)' told; }
        for who in $bus $resolved; do
            kill -STOP $who
            gone nft delete table inet adit-wg0
            gone ip rule del pref 20000
            gone ip addr del 10.9.0.2/24 dev wg0
            await lost
            kill -CONT $who
            check adit reload wg0
            healed() { adit status --json wg0 | grep -q '"failure": null'; }
            await healed
        done
        kill -STOP $resolved
        # By hand it is waited for, and nothing else waits meanwhile.
        "$ADIT" reload wg0 2> errors & reload=$!
        gone nft delete table inet adit-wg0
        gone ip -6 rule del pref 20000
        wait $reload && fail 'it was reloaded'
        grep -q 'does not answer (no answer in 15 seconds)' errors || fail "$(cat errors)"
        SECONDS=0
        check adit down wg0
        [ $SECONDS -lt 10 ] || fail "down took $SECONDS s"
        kill -CONT $resolved
        same before 'after all'
        "##,
    ));
}

/// Wherever there is no systemd-resolved to hang, too.
#[test]
fn a_bus_that_hangs_keeps_nothing_else_from_being_put_back() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        lost() { adit status wg0 | grep 'cannot be put back: .*systemd-resolved'; }
        # It lets callers in and says nothing, or has so many at the door that the next one waits.
        for callers in 100 0; do
            check adit up wg0
            keeper=$(adit status --json wg0 | sed -n 's/.*"process": \([0-9]*\),.*/\1/p')
            mkdir /run/dbus
            python3 -c 'import os, socket, sys, time
bus, caller = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
bus.bind("/run/dbus/new")
bus.listen(int(sys.argv[1]))
caller.connect("/run/dbus/new")
os.rename("/run/dbus/new", "/run/dbus/system_bus_socket")
time.sleep(60)' $callers & bus=$!
            await test -S /run/dbus/system_bus_socket
            # Both at once, however long that takes.
            kill -STOP $keeper
            echo nameserver 127.0.0.53 > /etc/resolv.conf
            nft flush ruleset
            SECONDS=0
            kill -CONT $keeper
            await nft list table inet adit-wg0
            [ $SECONDS -lt 5 ] || fail "put back after $SECONDS s"
            await lost
            SECONDS=0
            check adit down wg0
            [ $SECONDS -lt 10 ] || fail "down took $SECONDS s"
            kill $bus
            rm -r /run/dbus
            echo nameserver 127.0.0.1 > /etc/resolv.conf
        done
        "##,
    );
}

#[test]
fn a_resolvconf_that_hangs_keeps_nothing_else_waiting() {
    let Some(stage) = Stage::new() else { return };
    stage.play(&format!(
        "{OPENRESOLV}{}",
        r##"
        begins '[ -e /run/hang ] && exec sleep 600'
        full '' ''
        # What it generates is of that moment.
        quiet() { snapshot | grep -v ' /etc/resolv.conf$'; }
        quiet > before
        check adit up wg0
        stable() { snapshot | sed '/adit reload/d; s/packets [0-9]* bytes [0-9]*//' | sort; }
        stable > up
        back() { diff up <(stable); }
        # Far from the fifteen seconds that it may take to set servers.
        soon() {
            SECONDS=0
            check "$@"
            await back
            [ $SECONDS -lt 6 ] || fail "slow: $SECONDS s for $*"
        }
        # The keeper sleeps.
        for look in 1 2; do await eval 'adit status --json wg0 | grep -q "\"failure\": null"'; done
        touch /run/hang
        soon nft delete table inet adit-wg0
        soon ip rule del pref 20000
        soon ip addr del 10.9.0.2/24 dev wg0
        lost() { adit status wg0 > told; grep 'cannot be put back: .*resolvconf, which does not answer (no answer in 2 sec' told; }
        await lost
        soon adit status wg0
        # By hand it is waited for, and nothing else waits meanwhile.
        "$ADIT" reload wg0 2> errors & reload=$!
        soon nft delete table inet adit-wg0
        wait $reload && fail 'it was reloaded'
        grep -q "does not answer (no answer in 15 seconds): run .*/resolvconf -l' to see" errors || fail "$(cat errors)"
        rm /run/hang
        check adit reload wg0
        await eval 'adit status --json wg0 | grep -q "\"failure\": null"'
        check adit down wg0
        diff before <(quiet) || fail 'the machine is not as it was'
        "##,
    ));
}

#[test]
fn a_list_of_servers_that_was_removed_is_looked_after_again() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        check adit up wg0
        # It has looked once, and sleeps.
        await eval 'adit status --json wg0 | grep -q "\"keeper\": {"'
        is_ours() { grep -q 'nameserver 10.9.0.1' /etc/resolv.conf; }
        for round in 1 2 3; do
            rm /etc/resolv.conf
            await is_ours
            await eval 'adit status --json wg0 | grep -q "\"failure\": null"'
            echo nameserver 192.0.2.53 > /etc/resolv.conf
            await is_ours
        done
        check adit down wg0
        "##,
    );
}

/// While they stand where programs read them, the way to them leads into the tunnel.
#[test]
fn servers_of_a_tunnel_are_known_only_while_the_way_to_them_leads_through_it() {
    let Some(stage) = Stage::new() else { return };
    stage.play(&format!(
        "{OPENRESOLV}{}",
        r##"
        begins '[ $1 = -l ] || echo "$1 $(ip -o route get 10.8.0.53)" >> /run/ways'
        inside() {
            [ "$(cut -c1-2 /run/ways | tr '\n' ' ')" = "$1" ] || fail "$2: $(cat /run/ways)"
            grep -v 'dev wg0' /run/ways && fail "$2: beside the tunnel"
            rm /run/ways
        }
        split 'DNS = 10.8.0.53' ''
        check adit up wg0
        check adit down wg0
        inside '-a -d ' 'a split tunnel'
        check adit up wg0
        sed -i '/^DNS/d; s|, 10.8.0.0/16||' /etc/wireguard/wg0.conf
        check adit reload wg0
        inside '-a -d ' 'one that has become narrower'
        check adit down wg0
        full '' ''
        sed -i 's/^DNS.*/DNS = 10.8.0.53/' /etc/wireguard/wg0.conf
        check adit up --no-guard wg0
        check adit down wg0
        inside '-a -d ' 'a full tunnel without a guard'
        "##,
    ));
}
