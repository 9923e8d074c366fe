//! What has no counterpart, or must be more exact than a comparison can be.

use adit_tests::tools::Tools;

use crate::cases::Case;
use crate::record::Record;
use crate::stage::{Program, Stage, has_wireguard};

const FULL: &str = "@interface
Address = 10.0.0.2/24, fd00::2/64
DNS = 10.0.0.1, lan
@peer A
AllowedIPs = 0.0.0.0/0, ::/0, 10.0.0.0/8
Endpoint = 192.0.2.7:51820";

/// Plays a case as `cases.txt` would tell it: a name, commands and files.
fn play(stage: &Stage, text: &str) -> Record {
    stage.play(Program::Ours, &Case::read(text))
}

#[test]
fn steps_are_told_in_the_order_in_which_nothing_leaks() {
    let Some(stage) = Stage::new() else { return };
    let hooks =
        "@interface\nPreUp = true 1 %i\nPostUp = true 2\nPreDown = true 3\nPostDown = true 4";
    let record = play(&stage, &FULL.replace("@interface", &format!("order\n{hooks}")));
    let carrier = "\
[!] Missing WireGuard kernel module. Falling back to slow userspace implementation.
[#] adit daemon wg0
";
    let carrier = if has_wireguard() { "" } else { carrier };
    let expected = "\
[#] true 1 wg0
[#] wg addconf wg0 /dev/fd/63
[#] ip -4 address add 10.0.0.2/24 dev wg0
[#] ip -6 address add fd00::2/64 dev wg0
[#] ip link set mtu 1420 up dev wg0
[#] resolvconf -a wg0 -m 0 -x
[#] ip -4 route add 10.0.0.0/8 dev wg0
[#] wg set wg0 fwmark 51820
[#] ip -6 rule add not fwmark 51820 table 51820
[#] ip -6 rule add table main suppress_prefixlength 0
[#] ip -6 route add ::/0 dev wg0 table 51820
[#] nft -f /dev/fd/63
[#] ip -4 rule add not fwmark 51820 table 51820
[#] ip -4 rule add table main suppress_prefixlength 0
[#] ip -4 route add 0.0.0.0/0 dev wg0 table 51820
[#] sysctl -q net.ipv4.conf.all.src_valid_mark=1
[#] nft -f /dev/fd/63
[#] true 2
";
    let expected = format!("[#] ip link add dev wg0 type wireguard\n{carrier}{expected}");
    assert_eq!(record.0["up: stderr"], expected);
    assert_eq!(record.0["save: stderr"], "[#] wg showconf wg0\n");
    let expected = "\
[#] true 3
[#] ip -4 rule delete table 51820
[#] ip -4 rule delete table main suppress_prefixlength 0
[#] ip -6 rule delete table 51820
[#] ip -6 rule delete table main suppress_prefixlength 0
[#] ip link delete dev wg0
[#] resolvconf -d wg0 -f
[#] nft -f /dev/fd/63
[#] true 4
";
    assert_eq!(record.0["down: stderr"], expected);
}

#[test]
fn a_signal_takes_back_what_was_done() {
    let Some(stage) = Stage::new() else { return };
    for (hook, signal, code) in
        [("PreUp", "INT", "130\n"), ("PostUp", "TERM", "143\n"), ("PostUp", "HUP", "129\n")]
    {
        let signals = format!("@interface\n{hook} = kill -{signal} $PPID");
        let before = "> state none\n> step up wg0\n> state after";
        let record =
            play(&stage, &format!("signal\n{before}\n{}", FULL.replace("@interface", &signals)));
        assert_eq!(record.0["up: code"], code, "{hook} {signal}");
        for what in ["links", "addresses", "rules", "routes", "firewall", "wireguard"] {
            let (none, after) = (format!("none: {what}"), format!("after: {what}"));
            assert_eq!(record.0[&after], record.0[&none], "{hook} {signal}");
        }
    }
}

#[test]
fn what_fails_is_taken_back_though_nobody_can_be_told() {
    let Some(stage) = Stage::new() else { return };
    let record = play(
        &stage,
        "mute
$ mute() { \"$REAL\" \"$@\" 2> /dev/full; }
$ REAL=$PROGRAM; PROGRAM=mute
> step up wg0
@interface
Address = 10.0.0.256/24",
    );
    assert_eq!((&*record.0["up: code"], &*record.0["up: links"]), ("1\n", ""));
}

#[test]
fn without_bash_a_hook_runs_in_sh() {
    let Some(stage) = Stage::new() else { return };
    let record = play(
        &stage,
        "no bash
$ mkdir /run/few; ln -s /bin/sh /run/few/sh; ln -s /usr/bin/env /run/few/env
$ few() { env PATH=/run/few \"$REAL\" \"$@\"; }
$ REAL=$PROGRAM; PROGRAM=few
> step up wg0
@interface
PostUp = echo ${BASH_VERSION-none} %i $INTERFACE; false; echo more",
    );
    assert_eq!((&*record.0["up: code"], &*record.0["up: stdout"]), ("1\n", "none wg0 wg0\n"));
}

#[test]
fn a_default_route_needs_no_setting_that_nobody_may_change_and_that_does_nothing() {
    let Some(stage) = Stage::new() else { return };
    for (filter, code, told) in [
        (0, "0\n", ""),
        (
            1,
            "2\n",
            "wg-quick: set net/ipv4/conf/all/src_valid_mark to 1: Read-only file system: set it \
             outside, as by `--sysctl net.ipv4.conf.all.src_valid_mark=1' of a container\n",
        ),
    ] {
        let record = play(
            &stage,
            &format!(
                "read-only
$ for link in /proc/sys/net/ipv4/conf/*; do echo {filter} > $link/rp_filter; done
$ mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys
> step up wg0
@interface
@peer A
AllowedIPs = 0.0.0.0/0"
            ),
        );
        assert_eq!(record.0["up: code"], code, "{record:#?}");
        let said = &record.0["up: stderr"];
        assert!(said.contains(told) && (code != "0\n" || !said.contains("wg-quick:")), "{said}");
    }
}

#[test]
fn nobody_else_can_read_a_hook() {
    let Some(stage) = Stage::new() else { return };
    let record = play(
        &stage,
        "secret
> step up wg0
@interface
PostUp = tr '\\0' ' ' < /proc/$$/cmdline; env | grep -c s3cret; true",
    );
    let shown = "bash -e -o pipefail -O extglob -c \
                 eval \"unset WG_QUICK_HOOK; INTERFACE=wg0; $WG_QUICK_HOOK\" wg-quick 0\n";
    assert_eq!(record.0["up: stdout"], shown);
}

#[test]
fn it_comes_up_again_at_once() {
    let Some(stage) = Stage::new() else { return };
    let again = "> step up wg0\n> step down wg0\n".repeat(5);
    let record = play(&stage, &format!("again\n{again}{FULL}"));
    let codes: Vec<_> = record.0.iter().filter(|(title, _)| title.ends_with(": code")).collect();
    assert_eq!(codes.len(), 10);
    assert!(codes.iter().all(|(_, code)| *code == "0\n"), "{codes:?}");
}

#[test]
fn it_is_also_a_command_of_adit() {
    let Some(stage) = Stage::new() else { return };
    let record = play(
        &stage,
        "command
$ adit() { \"$(readlink -f \"$REAL\")\" wg-quick \"$@\"; }
$ REAL=$PROGRAM; PROGRAM=adit
> step strip wg0
MTU = 5",
    );
    assert_eq!((&*record.0["strip: code"], &*record.0["strip: stdout"]), ("0\n", "MTU = 5\n\n"));
}

#[test]
fn of_two_default_routes_the_second_survives_the_first() {
    let Some(stage) = Stage::new() else { return };
    let record = play(
        &stage,
        "two
> step up wg0
> step up wg1
> step down wg0
@interface
@peer A
AllowedIPs = 0.0.0.0/0
--- /etc/wireguard/wg1.conf
@interface
@peer B
AllowedIPs = 0.0.0.0/0",
    );
    let expected = "\
0:	from all lookup local
32762:	from all lookup main suppress_prefixlength 0
32763:	not from all fwmark 0xca6d lookup 51821
32766:	from all lookup main
32767:	from all lookup default
";
    assert!(record.0["down: rules"].starts_with(expected), "{}", record.0["down: rules"]);
}

/// As when one is installed in the place of the other meanwhile.
#[test]
fn each_takes_down_what_the_other_has_brought_up() {
    let Some(stage) = Stage::new() else { return };
    for tools in &Tools::all() {
        for (up, down) in [("$THEIRS", "$OURS"), ("$OURS", "$THEIRS")] {
            let steps = format!(
                "> state none\n> PROGRAM={up}; step up wg0\n> PROGRAM={down}; step down wg0\n> state after"
            );
            let case = Case::read(&format!("exchange\n{steps}\n{FULL}"));
            let record = stage.play(Program::Theirs(tools), &case);
            let codes = (&*record.0["up: code"], &*record.0["down: code"]);
            assert_eq!(codes, ("0\n", "0\n"), "{tools:?} {down}: {record:#?}");
            for what in ["links", "addresses", "rules", "routes", "firewall", "wireguard"] {
                let (none, after) = (format!("none: {what}"), format!("after: {what}"));
                assert_eq!(record.0[&after], record.0[&none], "{tools:?} {down}");
            }
            assert!(record.0["up: firewall"].contains("wg-quick-wg0"));
        }
    }
}

#[test]
fn without_sudo_only_root_gets_anywhere() {
    let Some(stage) = Stage::new() else { return };
    let record = play(
        &stage,
        "no sudo
$ nobody='--reuid 65534 --inh-caps +dac_override --ambient-caps +dac_override'
$ as_nobody() { setpriv $nobody env PATH=/run/few \"$OURS\" \"$@\"; }
$ PROGRAM=as_nobody
> step strip wg0",
    );
    assert_eq!(record.0["strip: code"], "127\n");
    let told = "wg-quick: must be run as root: sudo: No such file or directory\n";
    assert_eq!(record.0["strip: stderr"], told);
}
