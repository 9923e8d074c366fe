//! What `adit status` tells.

use serde_json::Value;

use crate::stage::Stage;

#[test]
fn status_tells_of_a_tunnel_before_and_after_its_first_packet() {
    let Some(stage) = Stage::new() else { return };
    let said = stage.play(
        r##"
        adit status --json
        far_up
        full '' ''
        sed -i 's|^Endpoint.*|Endpoint = peer.test:51820|' /etc/wireguard/wg0.conf
        check adit up wg0
        echo '--- before'; adit status --json
        await ping -c 3 -i 0.1 -W 1 10.9.0.1
        echo '--- after'; adit status --json wg0
        echo '--- text'; adit status
        [ "$(adit status --json wg0 | sed -n 's/.*"publicKey": "\(.*\)",/\1/p')" = "$OURS" ] || fail 'another key'
        check adit down wg0
        printf '[Interface]\nListenPort = 7777\n' > /etc/wireguard/wg0.conf
        check adit up wg0
        adit status
        "##,
    );
    let parts: Vec<&str> = said.split("--- ").collect();
    let json = |part: &str| -> Value {
        let (_, text) = part.split_once('\n').unwrap_or(("", part));
        serde_json::from_str(text).unwrap()
    };
    assert_eq!(serde_json::from_str::<Value>(parts[0]).unwrap(), serde_json::json!({}));
    for (part, lit) in [(parts[1], false), (parts[2], true)] {
        let tunnel = &json(part)["wg0"];
        let peer = tunnel["peers"].as_object().unwrap().values().next().unwrap();
        for light in ["handshaked", "receives", "isAnswered"] {
            assert_eq!(peer[light], lit, "{light}: {said}");
        }
        assert_eq!((&peer["name"], &peer["endpoint"]), (&"far".into(), &"192.0.2.1:51820".into()));
        assert_eq!(peer["endpointInFile"], "peer.test:51820");
        assert_eq!((&tunnel["guard"], &tunnel["mtu"]), (&"on".into(), &1420.into()));
        assert_eq!(tunnel["dns"], serde_json::json!({ "servers": ["10.9.0.1"], "holds": true }));
        assert_eq!(tunnel["file"], "/etc/wireguard/wg0.conf");
        assert_eq!((&tunnel["up"], &tunnel["backend"]), (&true.into(), &"adit".into()));
        assert!(tunnel["keeper"]["process"].is_u64() && tunnel["missing"] == Value::Array(vec![]));
    }
    for words in [
        "wg0  up ",
        "MTU 1420  guard on  DNS 10.9.0.1",
        "far  at 192.0.2.1:51820",
        "by adit  port 7777  MTU 1420  guard none",
        "it has no private key, without which it reaches nobody",
    ] {
        assert!(parts[3].contains(words), "{words}: {said}");
    }
}

#[test]
fn what_a_daemon_could_not_give_up_is_told() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        told() {
            adit status --json | tr -d ' \n' | grep -qF "\"privileges\":$1" || fail "$(adit status --json)"
            adit status > text
        }
        check adit up wg0
        told '[]'
        ! grep 'has kept' text || fail "$(cat text)"
        check adit down wg0
        check setpriv --bounding-set -setuid "$ADIT" up wg0
        told '["user"]'
        grep -qx "  its daemon has kept root's user" text || fail "$(cat text)"
        check adit down wg0
        "##,
    );
}

#[test]
fn handshakes_alone_light_nothing_more() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        split '' ''
        check adit up wg0
        # Messages of data begin with a four. No answer to one within 15 s: another handshake.
        ip netns exec far nft -f - <<'END'
table inet filter {
    chain input {
        type filter hook input priority 0
        udp dport 51820 @th,64,8 4 drop
    }
}
END
        transferred() { adit status --json wg0 | sed -n 's/.*"transferRx": \([0-9]*\),.*/\1/p'; }
        twice() { ping -c 1 -W 1 10.9.0.1 > /dev/null; [ "$(transferred)" -gt 180 ]; }
        SECONDS=0
        until twice; do [ $SECONDS -lt 40 ] || fail "no second handshake: $(adit status)"; done
        adit status wg0 > told
        grep -q 'handshaked: yes .* receives: no  is answered: no' told || fail "$(cat told)"
        check ip netns exec far nft flush ruleset
        await ping -c 1 -W 1 10.9.0.1
        adit status wg0 > told
        grep -q 'handshaked: yes .* receives: yes  is answered: yes' told || fail "$(cat told)"
        "##,
    );
}

#[test]
fn every_field_of_the_object_is_documented() {
    let Some(stage) = Stage::new() else { return };
    let said = stage.play("full '' ''; check adit up wg0; adit status --json");
    let object: Value = serde_json::from_str(&said).unwrap();
    let page = include_str!("../../../../docs/up.md");
    let (_, page) = page.split_once("## status --json").unwrap();
    let tunnel = object["wg0"].as_object().unwrap();
    let peer = tunnel["peers"].as_object().unwrap().values().next().unwrap();
    let keeper = tunnel["keeper"].as_object().unwrap();
    for field in tunnel.keys().chain(peer.as_object().unwrap().keys()).chain(keeper.keys()) {
        assert!(page.contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn in_the_foreground_a_service_manager_is_told_and_a_signal_ends_everything() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        snapshot > before
        python3 - <<'END' &
import os, socket
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.bind('/run/told')
while True:
    with open('/run/said', 'ab') as said:
        said.write(told.recv(99) + b'\n')
END
        manager=$!
        await test -S /run/told
        NOTIFY_SOCKET=/run/told "$ADIT" up --foreground wg0 & adit=$!
        await grep -q READY=1 /run/said
        descriptors() { ls /proc/$adit/fd | wc -l; }
        await eval 'adit status --json wg0 | grep -q "\"keeper\": {"'
        before=$(descriptors)
        for last in 4 5; do
            sed -i "s|10.9.0.[0-9]*/24\$|10.9.0.$last/24|" /etc/wireguard/wg0.conf
            SECONDS=0
            kill -HUP $adit
            await sh -c "ip addr show wg0 | grep -q 10.9.0.$last"
            # It keeps the tunnel all the time, and waits for nobody, least of all for itself.
            adit status --json wg0 | grep -q '"keeper": {' || fail 'nobody answers'
            [ $SECONDS -lt 5 ] || fail "reloaded after $SECONDS s"
            await eval '[ $(grep -c READY=1 /run/said) = $((last - 2)) ]'
        done
        [ "$(descriptors)" = $before ] || fail "$(ls -l /proc/$adit/fd)"
        # As systemd does, one right after the other.
        kill -STOP $adit; kill -HUP $adit; kill -TERM $adit; kill -CONT $adit
        check wait $adit
        grep -q STOPPING=1 /run/said || fail "$(cat /run/said)"
        kill $manager; wait $manager 2> /dev/null || true
        same before 'after SIGTERM'
        "##,
    );
}

#[test]
fn who_stays_in_the_foreground_keeps_a_tunnel_that_is_up_and_nobody_else_does() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        snapshot > before
        check adit up wg0
        "$ADIT" up --foreground wg0 & adit=$!
        keeps() { adit status --json wg0 | grep -q "\"process\": $1,"; }
        await keeps $adit
        pgrep -xf '[^ ]*adit keep wg0' && fail 'the other one keeps it, too'
        # One that had no time to hear of it leaves the place to whoever has it now.
        kill -STOP $adit
        "$ADIT" keep wg0 & late=$!
        await keeps $late
        kill -STOP $late
        rm /run/adit/wg0.sock
        "$ADIT" keep wg0 & last=$!
        await keeps $last
        kill -TERM $late; kill -CONT $late; wait $late
        check keeps $last
        kill $last; wait $last
        kill -CONT $adit; kill $adit
        check wait $adit
        same before 'after SIGTERM'
        "##,
    );
}

/// It takes ten seconds each until nobody waits for it any more.
#[test]
fn a_keeper_that_had_no_time_keeps_the_tunnel_that_came_meanwhile() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        check adit up wg0
        keeper=$(pgrep -xf '[^ ]*adit keep wg0')
        kill -STOP $keeper
        check adit down wg0
        check adit up wg0
        kill -CONT $keeper
        check ip addr del 10.9.0.2/24 dev wg0
        back() { ip addr show wg0 | grep -q 10.9.0.2; }
        await back
        adit status --json wg0 | grep -q "\"process\": $keeper," || fail "$(adit status wg0)"
        check adit down wg0
        ended() { ! pgrep -xf '[^ ]*adit keep wg0'; }
        await ended
        "##,
    );
}

#[test]
fn a_daemon_that_hangs_does_not_hold_anybody_up_for_ever() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        snapshot > before
        check adit up wg0
        check adit up --kernel wg0 2> errors
        grep -q 'wg0 is carried by adit already' errors || fail "$(cat errors)"
        pkill -STOP -f 'adit daemon -- wg0'
        timeout 20 "$ADIT" wg set wg0 fwmark 1 2> refused & set=$!
        code 1 timeout 20 "$ADIT" wg show wg0
        grep -q ': Connection timed out$' errors || fail "$(cat errors)"
        check timeout 20 "$ADIT" status wg0 > told
        code 1 wait $set
        grep -q 'Unable to modify interface: Connection timed out' refused || fail "$(cat refused)"
        grep -q 'whoever carries its packets does not answer' told || fail "$(cat told)"
        check timeout 20 "$ADIT" down wg0
        pkill -CONT -f 'adit daemon -- wg0'
        settled() { diff before <(snapshot); }
        await settled
        "##,
    );
}

#[test]
fn a_tunnel_that_somebody_else_has_brought_up_is_not_said_to_be_down() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        [ "$(adit status)" = 'nothing is up' ] || fail "$(adit status)"
        split '' ''
        check adit wg-quick up wg0 2> errors
        [ "$(adit status)" = "nothing is up by \`adit up'; \`wg show' shows wg0" ] || fail "$(adit status)"
        for command in status down reload; do
            code 4 adit $command wg0
            grep -q "^adit: wg0 is up, but not by .adit up': .wg show wg0.*wg-quick down wg0' or" errors ||
                fail "$(cat errors)"
        done
        check adit wg-quick down wg0 2> errors
        code 4 adit down wg0
        grep -q "^adit: wg0 is not up: .adit up wg0' brings it up" errors || fail "$(cat errors)"
        "##,
    );
}

#[test]
fn what_keeps_a_peer_from_being_reached_is_told_where_this_machine_knows_it() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        told() { adit status wg0 > told; grep -q "$1" told || fail "$1: $(cat told)"; }
        far_up
        split '' ''
        check adit up wg0
        told 'handshaked: no (never, as there was nothing to send)'
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        grep -q 'way to' <(adit status wg0) && fail "$(adit status)"
        check adit down wg0
        # The network of the peer itself is to be reached through it.
        sed -i 's|^AllowedIPs.*|&, 192.0.2.1/32|' /etc/wireguard/wg0.conf
        check adit up wg0 2> errors
        [ "$(cat errors)" = 'adit: the way to 192.0.2.1 leads into the tunnel itself: take that network out of AllowedIPs' ] ||
            fail "$(cat errors)"
        told 'the way to 192.0.2.1 leads into the tunnel itself: take that network out of AllowedIPs'
        check adit down wg0
        split '' ''
        sed -i 's|^Endpoint.*|Endpoint = 203.0.113.1:1|' /etc/wireguard/wg0.conf
        ip route add unreachable 203.0.113.1
        check adit up wg0
        told 'this machine knows no way to 203.0.113.1: No route to host; look at'
        check adit down wg0
        # A full tunnel to what is behind another one, whose datagrams it would carry.
        split '' ''
        check adit up wg0
        sed 's|^Address.*|Address = 10.7.0.2/24|; s|^AllowedIPs.*|AllowedIPs = 0.0.0.0/0|; s|^Endpoint.*|Endpoint = 10.9.0.1:51821|' \
            /etc/wireguard/wg0.conf > /etc/wireguard/wg1.conf
        ring="the way to 10.9.0.1 leads through wg0, whose own way to 192.0.2.1 leads back into this tunnel: write \`#! ExcludeIPs = 192.0.2.1' in its file"
        check adit up wg1 2> errors
        [ "$(head -1 errors)" = "adit: $ring" ] || fail "$(cat errors)"
        adit status wg1 | grep -qF "$ring" || fail "$(adit status)"
        told "the way to 192.0.2.1 leads through wg1, whose own way to 10.9.0.1 leads back into this tunnel: write .#! ExcludeIPs = 192.0.2.1' in the file of wg1"
        sed -i 's|^Address|#! ExcludeIPs = 192.0.2.1\n&|' /etc/wireguard/wg1.conf
        check adit reload wg1
        adit status | grep 'leads back' && fail "$(adit status)"
        check adit down wg1; check adit down wg0
        # Whoever sets everything sets the mark, too, and nobody puts it back.
        full '' ''
        check adit up wg0
        pkill -9 -f 'adit keep wg0'
        [[ $(adit status wg0) == *missing* ]] && fail "$(adit status)"
        wg set wg0 fwmark 0
        told 'missing: mark 0xca6c of its datagrams'
        told "leads into the tunnel itself: .adit up wg0' gives its datagrams their mark again"
        check adit up wg0
        [[ $(adit status wg0) == *missing* ]] && fail "$(adit status)"
        check adit down wg0
        "##,
    );
}

#[test]
fn a_peer_that_has_moved_is_told_with_the_place_in_the_file() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        split '' ''
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        adit status wg0 | grep -q 'far  at 192.0.2.1:51820$' || fail "$(adit status)"
        # Written as one of IPv6 it is the same address.
        sed -i 's|^Endpoint.*|Endpoint = [::ffff:192.0.2.1]:51820|' /etc/wireguard/wg0.conf
        check adit reload wg0
        adit status wg0 | grep -q 'far  at 192.0.2.1:51820$' || fail "$(adit status)"
        split '' ''
        check adit reload wg0
        ip -n far addr add 192.0.2.9/24 dev eth0
        ip -n far addr del 192.0.2.1/24 dev eth0
        ip -n far addr add 192.0.2.9/24 dev eth0 2> /dev/null || true
        moved() { adit status wg0 | grep -q 'at 192.0.2.9:51820, though the file says 192.0.2.1:51820$'; }
        says() { ip netns exec far ping -c 1 -W 1 -I 10.9.0.1 10.9.0.2; moved; }
        await says
        check adit down wg0
        "##,
    );
}

#[test]
fn a_peer_on_the_link_is_told_with_the_name_of_the_link() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        ip addr add fe80::2/64 dev eth0 nodad
        ip -n far addr add fe80::1/64 dev eth0 nodad
        far_up
        split '' ''
        sed -i 's|^Endpoint.*|Endpoint = [fe80::1%eth0]:51820|' /etc/wireguard/wg0.conf
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        adit status wg0 | grep -q 'far  at \[fe80::1%eth0\]:51820$' || fail "$(adit status)"
        adit status --json wg0 | grep -q '"endpoint": "\[fe80::1%eth0\]:51820"' || fail "$(adit status --json)"
        check adit down wg0
        "##,
    );
}

#[test]
fn what_was_wrong_with_a_peer_is_not_told_any_more_when_it_is_well() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        split '' "PresharedKey = $PSK"
        check adit up wg0
        failed() { ping -c 1 -W 1 10.9.0.1; adit status wg0 | grep 'last failure: .*PresharedKey'; }
        await failed
        [ $(adit status wg0 | grep -c PresharedKey) = 1 ] || fail "told twice: $(adit status)"
        split '' ''
        check adit reload wg0
        await ping -c 1 -W 1 10.9.0.1
        [[ $(adit status wg0) == *PresharedKey* ]] && fail "$(adit status)"
        adit status --json wg0 | grep -q '"lastFailure": "bad_response"' || fail "$(adit status --json)"
        check adit down wg0
        "##,
    );
}
