//! Plans, carried out or not: everything, or nothing.

use crate::stage::{OPENRESOLV, Stage};

#[test]
fn a_dry_run_tells_everything_and_changes_nothing() {
    let Some(stage) = Stage::new() else { return };
    let said = stage.play(
        r##"
        full $'#! ExcludeIPs = lan, 100.64.0.0/10\nPostUp = touch /run/hook\nPreDown = touch /run/hook' ''
        snapshot > before
        check adit up --dry-run wg0
        same before 'after a dry run'
        [ ! -e /run/hook ] || fail 'a hook ran'
        check adit up wg0 > /dev/null
        rm /run/hook
        snapshot > up
        echo '--- again'
        check adit up --dry-run wg0
        check adit up wg0
        same up 'after a second up'
        echo '--- down'
        check adit down --dry-run wg0
        same up 'after a dry run of down'
        [ ! -e /run/hook ] || fail 'a hook ran'
        "##,
    );
    let (first, rest) = said.split_once("--- again\n").unwrap();
    let (again, down) = rest.split_once("--- down\n").unwrap();
    for line in [
        "+ packet filter adit-wg0 ",
        "+ packet filter adit-wg0 of ARP ",
        "+ link wg0",
        "+ address 10.9.0.2/24 dev wg0",
        "+ MTU 1420 of wg0",
        "+ DNS: ask 10.9.0.1 for all names, search in corp.example",
        "+ IPv4 rule 19999: from all to 192.168.7.0/24 lookup main",
        "+ IPv4 rule 19999: from all to 100.64.0.0/10 lookup main",
        "+ IPv4 rule 20000: not from all fwmark 0xca6c lookup 51820",
        "+ route ::/0 dev wg0 table 51820",
        "+ peer far",
        "! PostUp: touch /run/hook",
    ] {
        assert!(first.lines().any(|it| it.starts_with(line)), "{line}:\n{first}");
    }
    assert!(first.lines().filter(|it| it.starts_with(['+', '~'])).count() > 15, "{first}");
    assert_eq!(again, "", "a tunnel that is up needs nothing");
    let (hook, steps) = down.split_once('\n').unwrap();
    assert_eq!(hook, "! PreDown: touch /run/hook");
    assert!(steps.lines().all(|it| it.starts_with(['-', '~'])) && !steps.is_empty(), "{down}");
}

#[test]
fn a_plan_that_cannot_be_written_is_a_failure() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        unread() {
            local is=0
            "$ADIT" $1 --dry-run wg0 2> errors > /dev/full || is=$?
            [ $is = 1 ] || fail "$1: $is, not 1"
            [ "$(cat errors)" = 'adit: cannot write to stdout: No space left on device' ] ||
                fail "$1: $(cat errors)"
        }
        unread up
        check adit up wg0
        full 'MTU = 1300' ''
        unread reload
        unread down
        "##,
    );
}

#[test]
fn the_machine_is_the_same_after_up_and_down() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        snapshot > before
        for tunnel in full split; do
            for more in '' 'Table = 7' 'Table = off' '#! Guard = off' 'MTU = 1300' \
                '#! ExcludeIPs = lan' 'FwMark = 0x99'; do
                $tunnel "$more" 'PersistentKeepalive = 25'
                check adit up wg0
                check ip link show wg0 > /dev/null
                check adit down wg0
                same before "$tunnel $more"
            done
        done
        "##,
    );
}

/// A script may hold a lock while it brings a tunnel up. It is free when the script is done, and not
/// only when the tunnel is.
#[test]
fn what_a_script_has_open_stays_its_own() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        (
            flock 9
            check adit up wg0
        ) 9> lock
        flock -n 9 9> lock || fail 'somebody still holds the lock'
        check adit down wg0
        "##,
    );
}

#[test]
fn a_step_that_fails_takes_all_others_back() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        try() {
            snapshot > before
            code 1 adit up wg0
            [ $(grep -c '^adit:' errors) = 1 ] || fail "not one line: $(cat errors)"
            grep -q "$2" errors || fail "$1: $(cat errors)"
            same before "$1"
        }
        # Another has the route.
        split '' ''
        ip route add 10.8.0.0/16 dev eth1
        try 'a route' 'add route 10.8.0.0/16 dev wg0: File exists; 10.8.0.0/16 leads through eth1 already'
        ip route del 10.8.0.0/16 dev eth1
        # Another has the port.
        adit daemon other
        cp /etc/wireguard/wg0.conf /etc/wireguard/other.conf
        code 1 adit up other
        grep -q 'other is there already, .*`ip link delete other' errors || fail "$(cat errors)"
        wg set other listen-port 5000
        ip link set other up
        split 'ListenPort = 5000' ''
        try 'a port' 'ListenPort = 5000: another program'
        ip link del other
        # The kernel does not take the last address.
        full 'Address = ff02::5/64' ''
        try 'an address' 'add address ff02::5/64'
        # Hooks, first and last.
        full 'PreUp = exit 3' ''
        try 'PreUp' 'PreUp hook'
        full 'PostUp = exit 3' ''
        try 'PostUp' 'PostUp hook.*; what was done before has been taken back'
        full '' ''
        # A link that somebody else has made stays.
        ip link add wg0 type veth peer name wg0far
        try 'a link' 'wg0 is there already, .*: it is no tunnel: give the file another name'
        ip link del wg0
        check adit up wg0
        check adit down wg0
        # The daemon cannot start, and its reason is the whole reason.
        mkdir -p /run/wireguard/wg0.sock/x
        try 'a daemon' 'start a daemon for wg0: cannot create /var/run/wireguard/wg0.sock'
        "##,
    );
}

#[test]
fn a_signal_takes_back_what_was_done() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        snapshot > before
        for signal in INT TERM HUP; do
            full "PreUp = kill -$signal \$PPID" ''
            code 1 adit up wg0
            grep -q 'a signal came' errors || fail "$(cat errors)"
            same before $signal
        done
        "##,
    );
}

#[test]
fn a_narrow_way_leaves_ipv6_the_mtu_that_it_needs() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        ip link set eth0 mtu 1340; ip -n far link set eth0 mtu 1340
        mtu() { ip link show wg0 | grep -q "mtu $1 " || fail "$(ip link show wg0)"; }
        full '' ''
        check adit up wg0
        mtu 1280
        ip -6 addr show wg0 | grep -q fd09::2 || fail "$(ip addr show wg0)"
        # Also what does not fit in one datagram.
        ip -n far addr add fd09::1/64 dev far0 nodad
        check ping -c 1 -W 5 -s 1232 fd09::1 > /dev/null
        [ -z "$(adit up --dry-run wg0)" ] || fail "$(adit up --dry-run wg0)"
        check adit down wg0
        split '' ''
        check adit up wg0
        mtu 1260
        check adit down wg0
        full 'MTU = 1279' ''
        code 3 adit up wg0
        grep -q 'MTU = 1279 is too small for IPv6: write 1280' errors || fail "$(cat errors)"
        full 'FwMark = 254' ''
        code 3 adit up wg0
        grep -q 'FwMark = 254 is the number of a routing table .*: write for example 51820' errors ||
            fail "$(cat errors)"
        "##,
    );
}

#[test]
fn what_others_have_changed_is_not_overwritten() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        check adit up wg0
        pkill -9 -f 'adit keep wg0'
        sysctl -q net.ipv4.conf.all.src_valid_mark=2
        echo 'nameserver 192.168.7.53' > /etc/resolv.conf
        check adit down wg0 2> errors
        grep -q 'resolv.conf.*/var/lib/adit/dns' errors || fail "nobody says where the former one is: $(cat errors)"
        [ $(sysctl -n net.ipv4.conf.all.src_valid_mark) = 2 ] || fail 'the setting of another is gone'
        [ "$(cat /etc/resolv.conf)" = 'nameserver 192.168.7.53' ] || fail "$(cat /etc/resolv.conf)"
        "##,
    );
}

#[test]
fn two_tunnels_at_once_have_numbers_of_their_own_and_share_settings() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full 'FwMark = off' ''
        sed 's/10.9.0.2/10.10.0.2/; s/fd09/fd10/; /^DNS/d' /etc/wireguard/wg0.conf > /etc/wireguard/wg1.conf
        snapshot > before
        for round in 1 2 3 4 5; do
            adit up wg0 & first=$!
            adit up wg1 & second=$!
            check wait $first; check wait $second
            marks=$(wg show wg0 fwmark; wg show wg1 fwmark)
            [ "$(sort <<< "$marks" | tr '\n' ' ')" = '0xca6c 0xca6d ' ] || fail "$marks"
            for name in wg0 wg1; do
                table=$(($(wg show $name fwmark)))
                [ "$(ip route show table $table)" = "default dev $name proto 173 " ] ||
                    fail "$(ip route show table $table)"
            done
            check adit down wg0
            [ $(sysctl -n net.ipv4.conf.all.src_valid_mark) = 1 ] || fail 'wg1 needs it still'
            check adit down wg1
            same before 'two tunnels'
        done
        "##,
    );
}

#[test]
fn the_last_of_tunnels_that_go_at_once_takes_back_what_they_shared() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        for name in wg1 wg2; do
            sed "s/10.9.0.2/10.1${name#wg}.0.2/; s/fd09/fd1${name#wg}/; /^DNS/d" \
                /etc/wireguard/wg0.conf > /etc/wireguard/$name.conf
        done
        snapshot > before
        for round in 1 2 3 4 5 6 7 8; do
            for name in wg0 wg1 wg2; do check adit up $name; done
            going=()
            for name in wg0 wg1 wg2; do adit down $name & going+=($!); done
            for each in "${going[@]}"; do check wait $each; done
            same before "round $round"
        done
        "##,
    );
}

#[test]
fn a_hook_that_fails_keeps_nothing_up() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full $'PreDown = exit 4\nPostDown = exit 5' ''
        snapshot > before
        check adit up wg0
        code 1 adit down wg0
        grep -q 'PreDown hook of wg0: .*4; .*PostDown hook of wg0: .*5; wg0 is down all the same' errors ||
            fail "$(cat errors)"
        same before 'after a hook failed'
        "##,
    );
}

/// Ends the keeper and the daemon of a tunnel, as in a power cut.
const KILL: &str = r#"
        kill_both() {
            kill -9 $(adit status --json wg0 | sed -n 's/.*"process": \([0-9]*\),.*/\1/p')
            pkill -9 -f 'adit daemon -- wg0'
            gone() { ! ip link show wg0; }
            await gone
        }
"#;

#[test]
fn what_cannot_be_taken_back_does_not_bring_the_rest_back() {
    let Some(stage) = Stage::new() else { return };
    stage.play(&format!(
        "{OPENRESOLV}{}",
        r##"
        full 'PostDown = touch /run/gone' ''
        snapshot > before
        check adit up wg0
        touch /run/stuck
        code 1 adit down wg0
        grep -q 'undo the DNS of wg0: .*not today; what is left will be tried again by .adit down' errors ||
            fail "$(cat errors)"
        left() { grep -v '^nameserver\|^search\|resolv.conf\|wg0.journal$' "$1"; }
        # Also if others do something that a keeper would hear of.
        for n in {1..10}; do
            ip addr add 192.168.7.$((n + 2))/24 dev eth1; ip addr del 192.168.7.$((n + 2))/24 dev eth1
            diff <(left before) <(snapshot | left -) || fail 'somebody put something back'
        done
        [ ! -e /run/gone ] || fail 'not everything is gone'
        code 1 adit down wg0
        rm /run/stuck
        check adit down wg0
        [ -e /run/gone ] || fail 'PostDown did not run'
        diff <(grep -v ' /etc/resolv.conf$' before) <(snapshot | grep -v ' /etc/resolv.conf$') || fail 'something is left'
        # Or it comes up again, and takes back all the rest when it goes.
        check adit up wg0
        touch /run/stuck
        code 1 adit down wg0
        rm /run/stuck
        check adit up wg0
        check adit down wg0
        diff <(grep -v ' /etc/resolv.conf$' before) <(snapshot | grep -v ' /etc/resolv.conf$') || fail 'something is left'
        # What was said of the tunnel that went is not said of the next one.
        check adit up --no-guard wg0
        touch /run/stuck
        code 1 adit down wg0
        rm /run/stuck
        check adit up wg0
        check nft list table inet adit-wg0 > /dev/null
        check adit down wg0
        "##,
    ));
}

#[test]
fn what_an_attempt_could_not_take_back_goes_with_the_tunnel_that_was_there_before() {
    let Some(stage) = Stage::new() else { return };
    stage.play(&format!(
        "{OPENRESOLV}{KILL}{}",
        r##"
        full '' ''
        sed -i '/^DNS/d' /etc/wireguard/wg0.conf
        check adit up wg0
        kill_both
        # The next attempt fails after somebody was told of name servers, and cannot take that back.
        full 'PostUp = touch /run/stuck; exit 1' ''
        code 1 adit up wg0
        grep -q 'not today' errors || fail "$(cat errors)"
        test -e /run/record || fail 'nobody was told'
        rm /run/stuck
        check adit down wg0
        [ ! -e /run/record ] || fail "still told: $(cat /run/record)"
        "##,
    ));
}

#[test]
fn whoever_does_not_answer_names_any_more_keeps_no_tunnel_down() {
    let Some(stage) = Stage::new() else { return };
    stage.play(&format!(
        "{OPENRESOLV}{KILL}{}",
        r##"
        full '' ''
        check adit up wg0
        kill_both
        touch /run/stuck
        # Whoever answers still has to forget the tunnel first.
        code 1 adit up wg0
        grep -q 'undo the DNS of wg0: .*not today' errors || fail "$(cat errors)"
        echo nameserver 127.0.0.1 > /etc/new; mv /etc/new /etc/resolv.conf
        check adit up wg0
        grep -q 10.9.0.1 /etc/resolv.conf || fail "$(cat /etc/resolv.conf)"
        # Nor is it lost what that one was told.
        rm /run/stuck
        check adit down wg0
        [ ! -e /run/record ] || fail "still told: $(cat /run/record)"
        "##,
    ));
}

#[test]
fn hooks_run_only_from_a_file_that_only_root_can_write() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full 'PreUp = touch /run/hook' ''
        try() {
            code 3 adit up "$1"
            grep -q 'its hooks would run as root' errors || fail "$(cat errors)"
            [ ! -e /run/hook ] || fail "a hook ran"
        }
        chmod 666 /etc/wireguard/wg0.conf
        try wg0
        grep -q 'let only root write to it, by .chown root. and .chmod 600' errors || fail "$(cat errors)"
        chmod 600 /etc/wireguard/wg0.conf
        chown nobody /etc/wireguard/wg0.conf
        try wg0
        chown root /etc/wireguard/wg0.conf
        mkdir -m 777 /run/open
        cp /etc/wireguard/wg0.conf /run/open/wg0.conf
        try /run/open/wg0.conf
        grep -q 'move the file to /etc/wireguard' errors || fail "$(cat errors)"
        ln -s /run/open/wg0.conf /etc/wireguard/wg1.conf
        try wg1
        check adit up wg0
        [ -e /run/hook ] || fail 'no hook ran'
        "##,
    );
}

#[test]
fn exit_codes_say_what_is_wrong() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        one_line() { [ $(wc -l < errors) = 1 ] || fail "not one line: $(cat errors)"; }
        try() { code "$@"; one_line; }
        full '' ''
        snapshot > before
        try 2 adit up
        try 2 adit up wg0 wg1
        try 2 adit up --what wg0
        for option in --foreground --kernel; do try 2 adit reload $option wg0; try 2 adit down $option wg0; done
        for option in --guard --no-guard; do try 2 adit down $option wg0; done
        try 2 adit up 'not a name'
        try 3 adit up wg7
        grep -q 'there is no file /etc/wireguard/wg7.conf: write one' errors || fail "$(cat errors)"
        mkdir /etc/wireguard/wg7.conf
        try 3 adit up wg7
        rmdir /etc/wireguard/wg7.conf
        grep -q '/etc/wireguard/wg7.conf is not a file: write one' errors || fail "$(cat errors)"
        try 4 adit down wg0
        try 4 adit reload wg0
        try 4 adit status wg0
        try 5 setpriv --reuid 65534 "$ADIT" up wg0
        try 5 setpriv --reuid 65534 "$ADIT" status
        grep -q 'only root may look at its tunnels' errors || fail "$(cat errors)"
        for command in up down reload; do
            try 5 setpriv --bounding-set=-net_admin --inh-caps=-all "$ADIT" $command wg0
            grep -q '^adit: no right .*: this needs the capability NET_ADMIN; .* --cap-add NET_ADMIN' errors ||
                fail "$(cat errors)"
        done
        for line in 'Adress = 1' 'MTU = much' 'Address = 1.2.3.4/77' 'DNS = a_%b' 'Table = nowhere' \
            '#! ExcludeIPs = all' 'SaveConfig = maybe' 'PrivateKey = short' 'MTU = 10' 'MTU = 70000'; do
            full "$line" ''
            try 3 adit up wg0
            where=/etc/wireguard/wg0.conf:5:
            grep -q "adit: $where .*[;?]\|adit: $where.*: write" errors || fail "$line: $(cat errors)"
        done
        # The C library would make other ports of these, and take the last for a host that nobody knows.
        for port in 65536 99999 http; do
            for host in 192.0.2.1 peer.test; do
                full '' ''
                sed -i "s/^Endpoint.*/Endpoint = $host:$port/" /etc/wireguard/wg0.conf
                try 3 adit up wg0
                grep -q "wg0.conf:10: .Endpoint': .$port' is not the number of a port; write" errors ||
                    fail "$(cat errors)"
            done
        done
        full 'Adress = 1' ''
        code 3 adit up wg0
        [ "$(cat errors)" = "adit: /etc/wireguard/wg0.conf:5: there is no key \`Adress'; did you mean \`Address'?" ] ||
            fail "$(cat errors)"
        truncate -s 257M /etc/wireguard/wg0.conf
        try 3 adit up wg0
        grep -q 'longer than 256 MiB' errors || fail "$(cat errors)"
        same before 'after nothing but errors'
        "##,
    );
}

#[test]
fn what_is_taken_though_it_cannot_be_meant_is_told() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        told() { check adit up "$1" 2> errors; grep -q "$2" errors || fail "$2: $(cat errors)"; check adit down wg0; }
        split '' ''
        check adit up wg0 2> errors
        [ ! -s errors ] || fail "$(cat errors)"
        check adit down wg0
        chmod 640 /etc/wireguard/wg0.conf
        told wg0 "others can read the key in /etc/wireguard/wg0.conf: \`chmod 600' it"
        chmod 666 /etc/wireguard/wg0.conf
        told wg0 "others can read the key in /etc/wireguard/wg0.conf, and write to that file: \`chmod 600' it"
        chmod 622 /etc/wireguard/wg0.conf
        told wg0 "others can write to /etc/wireguard/wg0.conf: \`chmod 600' it"
        chmod 600 /etc/wireguard/wg0.conf
        printf '[Peer]\nPublicKey = %s\nAllowedIPs = 10.8.0.0/16\n' "$OTHER" >> /etc/wireguard/wg0.conf
        told wg0 'wg0.conf:13: 10.8.0.0/16 belongs to the peer of line 8 already'
        for way in '192.0.2.1 1440' '2001:db8::1 1420'; do
            set -- $way
            split "MTU = $(($2 + 1))" ''
            sed -i "s/192.0.2.1:51820/[$1]:51820/; s/\[\([0-9.]*\)\]/\1/" /etc/wireguard/wg0.conf
            check adit up wg0 2> errors
            grep -q "the way to $1 takes 1500 bytes: packets of more than $2 .* write .MTU = $2' or" errors ||
                fail "$(cat errors)"
            adit status wg0 | grep -q "the way to $1 takes 1500 bytes" || fail "$(adit status)"
            sed -i "s/^MTU.*/MTU = $2/" /etc/wireguard/wg0.conf
            check adit reload wg0 2> errors
            [ ! -s errors ] || fail "$(cat errors)"
            adit status wg0 | grep 'takes 1500 bytes' && fail 'it fits'
            check adit down wg0
        done
        split '' ''
        sed -i 's|^Address.*|Address = 192.168.7.1/24|' /etc/wireguard/wg0.conf
        told wg0 "^adit: 192.168.7.0/24 leads through eth1, .* not into wg0: give .Address' another network"
        # Each link has a network of this name, and its own.
        check ip addr add fe80::1/64 dev eth1 nodad
        sed -i 's|^Address.*|Address = fe80::2/64|' /etc/wireguard/wg0.conf
        check adit up wg0 2> errors
        [ ! -s errors ] || fail "$(cat errors)"
        check adit down wg0
        split '' ''
        check adit up --guard wg0 2> errors
        grep -q 'wg0 is no full tunnel, and needs no guard' errors || fail "$(cat errors)"
        check adit down wg0
        # Nor does the file get less than it asks for without a word.
        full '#! Guard = on' ''
        sed -i 's|^AllowedIPs.*|AllowedIPs = 0.0.0.0/2, 128.0.0.0/1|' /etc/wireguard/wg0.conf
        told wg0 'wg0 is no full tunnel, and needs no guard: there is none'
        # A file by its name alone is no interface.
        mv /etc/wireguard/wg0.conf .
        check adit up wg0.conf
        code 1 adit wg-quick down ./wg0.conf
        grep -q 'brought up by `adit up.*`adit down wg0' errors || fail "$(cat errors)"
        check adit up wg0.conf
        check ip link show wg0 > /dev/null
        check adit reload wg0.conf
        check adit down wg0.conf
        "##,
    );
}

#[test]
fn what_ends_takes_nothing_from_what_comes_next() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        check adit up wg0
        touch /run/adit/wg0.conf.new
        # The file that was applied is removed late.
        command -v strace > /dev/null || exit 0
        strace -qq -o /dev/null -P /run/adit/wg0.conf -e inject=unlink,unlinkat:delay_enter=1000000 \
            "$ADIT" down wg0 &
        await eval '! ip link show wg0'
        check adit up wg0
        wait $!
        [ "$(ls /run/adit/*.conf*)" = /run/adit/wg0.conf ] || fail "$(ls /run/adit)"
        ip addr del 10.9.0.2/24 dev wg0
        back() { ip addr show wg0 | grep -q 10.9.0.2/24; }
        await back
        check adit down wg0
        "##,
    );
}

#[test]
fn where_there_is_no_room_nothing_is_made() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        for folder in /run/adit /var/lib/adit; do
            full '' ''
            mkdir -p $folder
            mount -t tmpfs -o size=4k none $folder
            head -c 4096 /dev/zero > $folder/full
            snapshot > before
            code 1 adit up wg0
            grep -q "write $folder/.*No space left" errors || fail "$(cat errors)"
            same before "no room in $folder"
            code 4 adit down wg0
            umount $folder
            split '' ''
            snapshot > before
            mount -t tmpfs -o ro none $folder
            code 1 adit up wg0
            grep -q "[Rr]ead-only.* mount .* writable, as by .--tmpfs /" errors || fail "$(cat errors)"
            [ $(wc -l < errors) = 1 ] || fail "$(cat errors)"
            umount $folder
            same before "nothing can be written in $folder"
        done
        # Nor where there is a way to neither the name servers nor what they were.
        full '' ''
        refused() {
            code 1 adit up wg0
            grep -q "^adit: set the DNS of wg0: .*Read-only file system; mount it writable, or .$1" errors ||
                fail "$(cat errors)"
            [ $(wc -l < errors) = 1 ] || fail "$(cat errors)"
            umount $2
            same before "nothing can be written in $2"
        }
        mount -t tmpfs -o ro none /var/lib
        refused 'et .*--tmpfs /var/lib/adit' /var/lib
        mount --bind /etc/resolv.conf /etc/resolv.conf
        mount -o remount,ro,bind /etc/resolv.conf
        refused 'eave .DNS. out' /etc/resolv.conf
        # Some kernels have files that nobody can change on all file systems, some do not.
        if chattr +i /etc/resolv.conf 2> /dev/null; then
            code 1 adit up wg0
            [ "$(cat errors)" = "adit: set the DNS of wg0: /etc/resolv.conf is immutable: run \`chattr -i /etc/resolv.conf'" ] ||
                fail "$(cat errors)"
            chattr -i /etc/resolv.conf
            same before 'a file that nobody can change'
        else
            echo 'SKIPPED in part: no chattr here'
        fi
        "##,
    );
}

#[test]
fn in_a_container_whose_files_are_read_only_but_its_own_the_name_servers_come_back() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full '' ''
        # As container managers do: a file of their own is mounted there, and the rest read-only.
        cp /etc/resolv.conf /run/resolv.conf
        mount --bind /run/resolv.conf /etc/resolv.conf
        mount -o remount,ro,bind /etc
        touch /etc/x 2> errors && fail 'it is not read-only'
        snapshot > before
        for round in 1 2; do
            check adit up wg0
            grep -q '^nameserver 10.9.0.1' /etc/resolv.conf || fail "$(cat /etc/resolv.conf)"
            check ping -c 1 -W 5 10.9.0.1 > /dev/null
            check adit down wg0
            diff <(grep -v rw-r before) <(snapshot | grep -v rw-r) || fail "round $round"
        done
        "##,
    );
}

#[test]
fn a_machine_whose_settings_nobody_may_change_has_a_full_tunnel_where_it_can_work() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full '' ''
        sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=1
        mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys
        snapshot > before
        code 1 adit up wg0
        grep -q 'src_valid_mark cannot be set here.*--sysctl' errors || fail "$(cat errors)"
        same before 'after the refusal'
        umount /proc/sys
        # As in a container: each link that is still to come has the default.
        sysctl -q net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        for link in /proc/sys/net/ipv4/conf/*; do echo 0 > $link/rp_filter; done
        mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys
        snapshot > before
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        [ -z "$(adit up --dry-run wg0)" ] || fail "$(adit up --dry-run wg0)"
        check adit down wg0
        same before 'after down'
        "##,
    );
}
