//! Whoever brings a tunnel up is killed before all hooks have run: what the next command makes of that.

use crate::stage::Stage;

/// Hooks that note that they ran, and kill whoever runs them where /run/kill says so.
const HOOKS: &str = r##"
        # Of so many the generation, so that they can change.
        hooks() {
            full "PreUp = [ \"\$(cat /run/kill)\" != preup ] || kill -9 \$PPID
PreUp = echo preup$1 >> /run/hooks
PostUp = [ \"\$(cat /run/kill)\" != postup ] || kill -9 \$PPID
PostUp = echo postup$1 >> /run/hooks
PreDown = echo predown$1 >> /run/hooks
PostDown = echo postdown$1 >> /run/hooks" ''
        }
        expect() {
            [ "$(tr '\n' ' ' < /run/hooks)" = "$1" ] || fail "not '$1': $(cat /run/hooks)"
            : > /run/hooks
        }
        # Kills a command before these hooks.
        killed() {
            echo $1 > /run/kill; shift
            code 137 "$@"
            echo nothing > /run/kill
        }
        kept() { ! adit status wg0 | grep -q 'nobody keeps it'; }
        : > /run/hooks; echo nothing > /run/kill
"##;

fn play(script: &str) {
    let Some(stage) = Stage::new() else { return };
    stage.play(&format!("{HOOKS}\n{script}"));
}

#[test]
fn what_had_not_run_when_up_was_killed_runs_with_the_next_up() {
    play(
        r##"
        hooks 1
        snapshot > before
        killed postup "$ADIT" up wg0
        expect 'preup1 '
        adit up --dry-run wg0 | grep '^!' > told
        [ "$(cut -d: -f1 told | uniq)" = '! PostUp' ] || fail "$(cat told)"
        check adit up wg0
        expect 'postup1 '
        kept || fail "$(adit status)"
        [ -z "$(adit up --dry-run wg0)" ] || fail "$(adit up --dry-run wg0)"
        check adit up wg0
        check adit reload wg0
        expect ''
        # As often as it takes.
        check adit down wg0
        expect 'predown1 postdown1 '
        killed preup "$ADIT" up wg0
        killed preup "$ADIT" up wg0
        expect ''
        killed postup "$ADIT" up wg0
        expect 'preup1 '
        killed postup "$ADIT" up wg0
        expect ''
        check adit up wg0
        expect 'postup1 '
        [ "$(wg show wg0 peers)" = "$FAR" ] || fail 'it has no peer'
        check adit down wg0
        expect 'predown1 postdown1 '
        same before 'after down'
        "##,
    );
}

#[test]
fn down_clears_up_after_an_up_that_was_killed_and_the_next_one_begins_anew() {
    play(
        r##"
        hooks 1
        snapshot > before
        for moment in preup postup; do
            killed $moment "$ADIT" up wg0
            : > /run/hooks
            check adit down wg0
            expect 'predown1 postdown1 '
            same before "after down, killed before $moment"
            check adit up wg0
            expect 'preup1 postup1 '
            check adit down wg0
            expect 'predown1 postdown1 '
        done
        "##,
    );
}

#[test]
fn what_has_not_come_up_is_not_taken_down_when_its_link_has_gone() {
    play(
        r##"
        hooks 1
        for moment in preup postup; do
            killed $moment "$ADIT" up wg0
            pkill -9 -f 'adit daemon -- wg0'
            await eval '! ip link show wg0'
            : > /run/hooks
            check adit up wg0
            expect 'preup1 postup1 '
            check adit down wg0
            : > /run/hooks
        done
        # What has is, as ever.
        check adit up wg0
        pkill -9 -f 'adit keep wg0'; pkill -9 -f 'adit daemon -- wg0'
        await eval '! ip link show wg0'
        : > /run/hooks
        check adit up wg0
        expect 'postdown1 preup1 postup1 '
        check adit down wg0
        "##,
    );
}

#[test]
fn what_a_killed_reload_or_keeper_had_not_run_runs_with_the_next_up() {
    play(
        r##"
        hooks 1
        check adit up wg0
        : > /run/hooks
        hooks 2
        killed postup "$ADIT" reload wg0
        expect 'predown1 postdown1 preup2 '
        check adit reload wg0
        expect 'postup2 '
        check adit reload wg0
        expect ''
        # Its keeper brings it back, and is killed.
        echo postup > /run/kill
        pkill -9 -f 'adit daemon -- wg0'
        alone() { adit status wg0 | grep 'nobody keeps it'; }
        await alone
        echo nothing > /run/kill
        expect 'postdown2 preup2 '
        check adit up wg0
        expect 'postup2 '
        kept || fail "$(adit status)"
        check adit down wg0
        expect 'predown2 postdown2 '
        # Hooks that are not in the file any more run no more.
        killed postup "$ADIT" up wg0
        : > /run/hooks
        full '' ''
        check adit up wg0
        expect ''
        [ -z "$(adit up --dry-run wg0)" ] || fail "$(adit up --dry-run wg0)"
        check adit down wg0
        expect ''
        "##,
    );
}
