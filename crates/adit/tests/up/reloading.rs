//! What a reload changes, and what it leaves alone.

use crate::stage::Stage;

/// Each key is changed while packets flow: the session stays, and none is lost.
#[test]
fn each_key_is_applied_without_a_break() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        wg set far0 peer "$OURS" allowed-ips 10.9.0.0/24,fd09::/64
        split '' 'PersistentKeepalive = 25'
        check adit up wg0
        await ping -c 1 -W 1 10.9.0.1
        session() { wg show wg0 latest-handshakes | grep "$FAR"; }
        handshake=$(session)
        daemon=$(pgrep -f 'adit daemon -- wg0')
        ping -i 0.02 -W 1 -w 60 10.9.0.1 > pings & pings=$!
        reload() {
            check adit reload wg0
            [ -z "$(adit reload --dry-run wg0)" ] || fail "$(adit reload --dry-run wg0)"
            [ "$(session)" = "$handshake" ] || fail "a new session after: $*"
            [ "$(pgrep -f 'adit daemon -- wg0')" = "$daemon" ] || fail "a new daemon after: $*"
        }
        # The one on its way when it ends may have no reply yet; every other has.
        none_lost() {
            kill -INT $pings; wait $pings || true
            replies=$(grep -c icmp_seq= pings)
            [ "$(grep -o 'icmp_seq=[0-9]*' pings | tail -1)" = "icmp_seq=$replies" ] \
                || fail "$replies replies: $(tail -3 pings)"
        }
        edit() { sed -i "$1" /etc/wireguard/wg0.conf; reload "$1"; }
        has() { "${@:2}" | grep -q -- "$1" || fail "no $1 in $*: $("${@:2}")"; }
        lacks() { "${@:2}" | grep -q -- "$1" && fail "$1 in $*" || true; }

        edit 's|^Address.*|Address = 10.9.0.2/24, 10.9.0.3/24, fd09::2/64|'
        has 10.9.0.3 ip addr show wg0
        edit 's|^AllowedIPs.*|AllowedIPs = 10.9.0.0/24, 10.7.0.0/16, fd07::/64|'
        has 10.7.0.0/16 ip route; has fd07:: ip -6 route; lacks 10.8.0.0/16 ip route
        edit 's|^\[Peer\]|MTU = 1300\n[Peer]|'
        has 'mtu 1300' ip link show wg0
        edit 's|^MTU.*|DNS = 10.9.0.1|'
        has 'mtu 1420' ip link show wg0; has 10.9.0.1 cat /etc/resolv.conf
        edit 's|^DNS.*|DNS = 10.9.0.9, lab.example|'
        has 10.9.0.9 cat /etc/resolv.conf; has lab.example cat /etc/resolv.conf
        edit '/^DNS/d'
        has 127.0.0.1 cat /etc/resolv.conf
        edit 's|^PersistentKeepalive.*|PersistentKeepalive = 7|'
        has 7 wg show wg0 persistent-keepalive
        printf '[Peer]\nPublicKey = %s\nAllowedIPs = 10.6.0.0/16\n' "$OTHER" >> /etc/wireguard/wg0.conf
        reload 'a peer more'; has "$OTHER" wg show wg0 peers; has 10.6.0.0/16 ip route
        edit 's|^AllowedIPs = 10.6.0.0/16|AllowedIPs = 10.6.0.0/16\nPresharedKey = '"$PSK"'|'
        has "$PSK" wg show wg0 preshared-keys
        edit '/^PresharedKey/d'; lacks "$PSK" wg show wg0 preshared-keys
        head -n -3 /etc/wireguard/wg0.conf > less; cat less > /etc/wireguard/wg0.conf
        reload 'a peer less'; lacks "$OTHER" wg show wg0 peers; lacks 10.6.0.0/16 ip route
        # The only one that carries the pings; from now on they come from the second.
        none_lost
        edit 's|^Address.*|Address = 10.9.0.3/24|'
        has 10.9.0.3 ip addr show wg0; lacks 10.9.0.2 ip addr show wg0
        check ping -c 1 -W 1 10.9.0.1 > /dev/null
        # Everything, and back.
        ping -i 0.02 -W 1 -w 60 10.9.0.1 > pings & pings=$!
        edit 's|^AllowedIPs.*|AllowedIPs = 0.0.0.0/0, ::/0|'
        has 51820 ip rule; has adit-wg0 nft list tables
        edit 's|^\[Peer\]|#! Guard = off\n[Peer]|'; lacks 'table inet' nft list tables
        edit '/^#!/d'; has 'table inet adit-wg0' nft list tables
        edit 's|^AllowedIPs.*|AllowedIPs = 10.9.0.0/24|'
        lacks 51820 ip rule; lacks adit-wg0 nft list tables
        none_lost
        check adit down wg0
        "##,
    );
}

#[test]
fn a_peer_that_has_moved_is_not_called_back() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        check adit up wg0
        wg set wg0 peer "$FAR" endpoint 192.0.2.99:7
        sed -i 's|^Address.*|Address = 10.9.0.7/24|' /etc/wireguard/wg0.conf
        check adit reload wg0
        wg show wg0 endpoints | grep -q 192.0.2.99:7 || fail "$(wg show wg0 endpoints)"
        sed -i 's|^Endpoint.*|Endpoint = 192.0.2.1:8|' /etc/wireguard/wg0.conf
        check adit up wg0
        wg show wg0 endpoints | grep -q 192.0.2.1:8 || fail "$(wg show wg0 endpoints)"
        "##,
    );
}

#[test]
fn hooks_run_again_only_when_one_has_changed() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        hooks() {
            split "PreUp = echo preup $1 >> /run/hooks
PostUp = echo postup $1 %i >> /run/hooks
PreDown = echo predown $1 >> /run/hooks
PostDown = echo postdown $1 >> /run/hooks" "PersistentKeepalive = $2"
        }
        expect() {
            [ "$(cat /run/hooks | tr '\n' ' ')" = "$1" ] || fail "$(cat /run/hooks)"
            : > /run/hooks
        }
        : > /run/hooks
        hooks 1 5; check adit up wg0; expect 'preup 1 postup 1 wg0 '
        hooks 1 6; check adit reload wg0; expect ''
        hooks 2 6; check adit reload wg0
        expect 'predown 1 postdown 1 preup 2 postup 2 wg0 '
        hooks 3 6; check adit down wg0; expect 'predown 2 postdown 2 '
        "##,
    );
}

#[test]
fn a_reload_that_fails_leaves_everything_as_it_was() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        check adit up wg0
        snapshot > up; wg showconf wg0 > conf
        ip route add 10.5.0.0/16 dev eth1
        sed -i 's|^AllowedIPs.*|AllowedIPs = 10.5.0.0/16, 10.4.0.0/16|; s|10.9.0.2|10.9.0.5|' /etc/wireguard/wg0.conf
        printf 'PersistentKeepalive = 3\n[Peer]\nPublicKey = %s\n' "$OTHER" >> /etc/wireguard/wg0.conf
        code 1 adit reload wg0
        grep -q 'add route 10.5.0.0/16 dev wg0: File exists' errors || fail "$(cat errors)"
        ip route del 10.5.0.0/16 dev eth1
        same up 'after a reload that failed'
        diff conf <(wg showconf wg0) || fail 'peers'
        check adit reload wg0
        snapshot > up; wg showconf wg0 > conf
        # The last step of all is a hook. The mark comes and goes in another order than the rest.
        for tunnel in full split full; do
            $tunnel $'PostUp = exit 3\nMTU = 1300' 'PersistentKeepalive = 7'
            code 1 adit reload wg0
            grep -q 'PostUp hook of wg0: it ended with status 3; .* taken back' errors || fail "$(cat errors)"
            same up "after the hook of a $tunnel tunnel failed"
            diff conf <(wg showconf wg0) || fail 'peers'
            sed -i '/PostUp/d' /etc/wireguard/wg0.conf
            check adit reload wg0
            snapshot > up; wg showconf wg0 > conf
        done
        # Nor has a hook that fails at first forgotten anything.
        full 'PreDown = exit 4' ''
        check adit reload wg0
        snapshot > up
        split 'PreDown = true' ''
        code 1 adit reload --no-guard wg0
        grep -q 'PreDown hook' errors || fail "$(cat errors)"
        # A keeper that looks would do what the journal tells.
        adit status --json wg0 > /dev/null; ip route add 10.44.0.0/16 dev eth1; ip route del 10.44.0.0/16 dev eth1
        full 'PreDown = exit 4' ''
        [ -z "$(adit up --dry-run wg0)" ] || fail "$(adit up --dry-run wg0)"
        same up 'after a hook failed at first'
        "##,
    );
}

/// What an editor, or a disk that is full, has made empty.
#[test]
fn a_file_without_an_interface_takes_no_guard_away() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        snapshot > before
        check adit up wg0
        snapshot > up; wg showconf wg0 > conf
        cp /etc/wireguard/wg0.conf written
        for emptied in '' '# nothing' "$(sed 's/^/#/' written)" "$(sed -n '/Peer/,$p' written)"; do
            printf '%s\n' "$emptied" > /etc/wireguard/wg0.conf
            for command in reload up; do
                code 3 adit $command wg0
                grep -q "^adit: /etc/wireguard/wg0.conf:1: no .Interface.; write" errors || fail "$(cat errors)"
                same up "$command with: $emptied"
                diff conf <(wg showconf wg0) || fail 'peers'
            done
        done
        check adit down wg0
        code 3 adit up wg0
        same before 'after down'
        "##,
    );
}

#[test]
fn what_was_changed_while_it_was_up_is_saved_if_the_file_wants_that() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        FILE=/etc/wireguard/wg0.conf
        is() { diff "$1" $FILE > difference || fail "$2: $(cat difference)"; }
        split 'SaveConfig = true' 'PersistentKeepalive = 25'
        sed -i 's/192.0.2.1:51820/peer.test:51820/' $FILE
        chmod 640 $FILE
        cp $FILE written
        check adit up wg0
        check adit down wg0
        is written 'nothing was changed'

        check adit up wg0
        wg set wg0 peer "$FAR" persistent-keepalive 7 peer "$OTHER" allowed-ips 10.9.0.7/32
        adit down --dry-run wg0 | grep -q "^~ keys and peers in $FILE" || fail "$(adit down --dry-run wg0)"
        is written 'nothing was done yet'
        check adit down wg0
        sed 's/Keepalive = 25/Keepalive = 7/' written > expected
        printf '\n[Peer]\nPublicKey = %s\nAllowedIPs = 10.9.0.7/32\n' "$OTHER" >> expected
        is expected 'with what was changed'
        [ "$(stat -c %a $FILE)" = 640 ] || fail "another mode: $(ls -l $FILE)"

        # The file is what a reload takes.
        check adit up wg0
        wg set wg0 peer "$OTHER" remove
        check adit reload wg0
        check adit down wg0
        is expected 'reloaded'

        # Nobody's edits are written over.
        check adit up wg0
        wg set wg0 peer "$OTHER" remove
        echo '# edited' >> $FILE; cp $FILE edited
        code 1 adit down wg0
        grep -q 'was edited since' errors || fail "$(cat errors)"
        is edited 'edited'
        code 4 adit status wg0
        "##,
    );
}

#[test]
fn a_reload_that_waits_for_another_applies_the_file_as_it_is_then() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        check adit up wg0
        # Whoever had it takes its file away.
        has_lock() { exec 9> /run/adit/wg0.lock; flock -n 9 && [ /proc/self/fd/9 -ef /run/adit/wg0.lock ]; }
        await has_lock
        "$ADIT" reload wg0 9>&- & reload=$!
        # It has nothing else to wait for.
        waits() { [ /proc/$reload/exe -ef "$ADIT" ] && grep -q '^State:.S' /proc/$reload/status; }
        await waits
        sed -i 's/10.9.0.2/10.9.0.3/' /etc/wireguard/wg0.conf
        exec 9>&-
        check wait $reload
        ip addr show wg0 | grep -q 10.9.0.3/24 || fail "$(ip addr show wg0)"
        check adit down wg0
        "##,
    );
}

#[test]
fn a_tunnel_is_reloaded_from_its_own_file_and_from_no_other_of_that_name() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        has() { ip addr show wg0 | grep -q "$1"; }
        address() { sed "s|^Address.*|Address = $1|"; }
        split '' ''
        mv /etc/wireguard/wg0.conf .
        check adit up ./wg0.conf
        # Where a command is given, there may be anything.
        address 10.9.0.7/24 < wg0.conf > wg0
        check adit reload wg0
        has 10.9.0.7 && fail 'reloaded from another file'
        check adit down wg0
        code 3 adit up wg0
        grep -q 'there is no file /etc/wireguard/wg0.conf' errors || fail "$(cat errors)"
        "$ADIT" up --foreground ./wg0.conf & adit=$!
        await eval 'adit status --json wg0 | grep -q "\"keeper\": {"'
        address 10.9.0.8/24 < wg0.conf > /etc/wireguard/wg0.conf
        address 10.9.0.9/24 < wg0.conf > new
        mv new wg0.conf
        kill -HUP $adit
        await has 10.9.0.9
        has 10.9.0.8 && fail 'SIGHUP takes another file'
        kill $adit
        check wait $adit
        "##,
    );
}
