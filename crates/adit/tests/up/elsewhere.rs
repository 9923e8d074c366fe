//! Links that others rename or move while their tunnel is up, and tunnels of other network namespaces.

use crate::stage::Stage;

#[test]
fn a_link_that_was_renamed_has_its_name_back_within_a_second() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full '' ''
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        stable() { snapshot | sort; }
        stable > up
        back() { diff up <(stable); }
        took=1000000
        # A machine with much else to do may need more, but not each time.
        for try in 1 2 3 4 5; do
            [ $took -ge 1000000 ] || break
            start=${EPOCHREALTIME/./}
            ip link set wg0 name x
            await back
            took=$((${EPOCHREALTIME/./} - start))
        done
        [ $took -lt 1000000 ] || fail "$took us"
        adit status --json wg0 | grep -q 'link x.*put back: ~ name wg0 (was x)' || fail "$(adit status --json)"
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        "##,
    );
}

#[test]
fn without_a_keeper_the_next_command_finds_a_link_that_was_renamed() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        snapshot > before
        for command in up reload down; do
            check adit up wg0
            pkill -9 -f 'adit keep wg0'
            ip link set wg0 name x
            adit status wg0 > told
            grep -q 'MTU 1420  its link is called x' told || fail "$(cat told)"
            grep -q missing told && fail "$(cat told)"
            adit status --json wg0 | grep -q '"link": "x"' || fail "$(adit status --json wg0)"
            plan=$(adit $command --dry-run wg0)
            [[ $plan == '~ name wg0 of link '*' (was x)  # '* ]] || fail "$plan"
            # Nobody's link is taken for ours.
            ip link add wg0 type veth peer name wg0far
            code 1 adit $command wg0
            grep -q 'the link of wg0 is called x now, and another link wg0' errors || fail "$(cat errors)"
            ip link del wg0
            check adit $command wg0 2> errors
            [ $command = down ] || { healed() { [ -z "$(adit up --dry-run wg0)" ]; }; check healed; }
            [ $command = down ] || check adit down wg0
            same before $command
        done
        "##,
    );
}

#[test]
fn a_link_that_was_moved_away_is_left_alone_until_the_tunnel_goes_down() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full 'PostUp = ip link set wg0 netns far' ''
        snapshot > before
        check adit up wg0
        told() { adit status wg0 | grep -q "cannot be put back: the link wg0 is in another network namespace"; }
        await told
        adit status wg0 | grep -q 'its link is in another network namespace' || fail "$(adit status)"
        check ip -n far link show wg0 > /dev/null
        code 1 adit reload wg0
        grep -q 'adit down wg0' errors || fail "$(cat errors)"
        check adit down wg0
        same before 'a link that was moved'
        ip -n far link show wg0 > /dev/null 2>&1 && fail 'it goes on' || true
        "##,
    );
}

#[test]
fn a_tunnel_of_another_network_namespace_is_not_taken_for_one_that_is_gone() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '' ''
        sed -i '/^DNS/d' /etc/wireguard/wg0.conf
        snapshot > before; ip netns exec far ip rule > rules
        sed 's/10.9.0.2/10.10.0.2/; s/fd09/fd10/' /etc/wireguard/wg0.conf > /etc/wireguard/wg1.conf
        check ip netns exec far "$ADIT" up wg0
        check adit up wg1
        for command in up reload down status; do
            code 1 adit $command wg0
            grep -q 'wg0 is up in another network namespace: .*`ip netns exec far adit' errors ||
                fail "$(cat errors)"
        done
        check adit status > told
        grep -q '^wg1  up' told || fail "$(cat told)"
        grep -q '^wg0  elsewhere: `ip netns exec far adit status wg0' told || fail "$(cat told)"
        adit status --json | grep -q wg0 && fail "$(adit status --json)"
        # What can be told is told.
        echo broken > /var/lib/adit/wg2.journal
        code 1 adit status > told
        grep -q '^wg1  up' told || fail "$(cat told)"
        grep -q wg2.journal errors || fail "$(cat errors)"
        rm /var/lib/adit/wg2.journal
        check adit down wg1
        check ip netns exec far "$ADIT" status wg0 > /dev/null
        check ip netns exec far "$ADIT" down wg0
        diff rules <(ip netns exec far ip rule) || fail 'rules are left'
        same before 'a tunnel there'
        # The namespace goes, and all that was in it.
        check ip netns exec far "$ADIT" up wg0
        pkill -9 -f 'adit keep wg0'; pkill -9 -f 'adit daemon -- wg0'
        ip netns del far
        # The killed may take a moment to die.
        await adit up wg0
        ip link show wg0 > /dev/null || fail 'there is no link'
        check adit down wg0
        "##,
    );
}
