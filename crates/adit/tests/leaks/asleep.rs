//! Many minutes of a machine, in a guest whose time leaps: it is suspended and wakes up, or its peer
//! is lost for long; what leaves it then, and which keys it still uses.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use adit_tests::guest;
use rustix::time::{ClockId, clock_gettime};

use crate::stage::{Program, Stage};
use crate::wire::{Frame, Leaks};
use crate::{BOTH, assert_tight};

/// Emulated on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a session may be used (spec §1.10).
const LIFE: Duration = Duration::from_secs(180);

#[test]
fn a_machine_that_sleeps_and_waits() {
    guest::play(&["asleep::"], PATIENCE);
}

fn now(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().unwrap()
}

/// Sleeps for so long, until the clock of the machine wakes it; when it was surely asleep.
fn sleep(length: Duration) -> Duration {
    let alarm = "/sys/class/rtc/rtc0/wakealarm";
    fs::write(alarm, "0").unwrap();
    fs::write(alarm, format!("+{}", length.as_secs())).unwrap();
    let clocks = || [ClockId::Boottime, ClockId::Monotonic].map(now);
    let [boot, awake] = clocks();
    let asleep = now(ClockId::Realtime) + length / 2;
    fs::write("/sys/power/state", "mem").unwrap();
    let [slept, at_work] = clocks();
    let slept = (slept - boot).saturating_sub(at_work - awake);
    assert!(slept > length / 2, "slept for {slept:?} only");
    asleep
}

/// The sessions that were used.
fn sessions<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> BTreeSet<[u8; 4]> {
    frames.into_iter().filter_map(Frame::session).collect()
}

/// One after the other, since all of the machine sleeps.
#[test]
#[ignore = "in a guest"]
fn nothing_leaves_and_no_key_outlives_its_time() {
    let mut stage = Stage::new(Program::Ours).unwrap();
    stage.configure(BOTH, "");
    stage.client.run("sed -i /PersistentKeepalive/d /etc/wireguard/wg0.conf");
    stage.tunnel("up");
    a_key_sleeps(&mut stage);
    probes_are_sent_around_a_sleep(&mut stage);
    the_peer_is_lost_for_long(&mut stage);
    stage.tunnel("down");
}

/// By a clock that goes on while the machine sleeps, the session is too old then, and by one that
/// does not it is not.
fn a_key_sleeps(stage: &mut Stage) {
    stage.forget();
    assert!(stage.reaches_the_other_end());
    let old = sessions(&stage.wire.frames(&stage.client, stage.own));
    let begin = now(ClockId::Monotonic);
    let nap = Duration::from_secs(10);
    thread::sleep(LIFE - nap / 2);
    let asleep = sleep(nap);
    assert!(now(ClockId::Monotonic) - begin < LIFE);
    assert!(stage.reaches_the_other_end());
    let frames = stage.wire.frames(&stage.client, stage.own);
    let new = sessions(frames.iter().filter(|frame| frame.at > asleep));
    assert!(!old.is_empty() && !new.is_empty());
    assert!(old.is_disjoint(&new), "an old key is used");
}

fn probes_are_sent_around_a_sleep(stage: &mut Stage) {
    let (asleep, frames) = stage.frames_during(300, |stage| {
        let asleep = sleep(Duration::from_secs(3));
        assert!(stage.reaches_the_other_end());
        asleep
    });
    let leaks = Leaks::of(&frames, &stage.allowed);
    assert_eq!(leaks.count(), 0, "{leaks}");
    for awake in [|at, asleep| at < asleep, |at, asleep| at > asleep] {
        assert!(frames.iter().any(|frame| awake(frame.at, asleep)));
    }
}

/// Until its session is too old, its handshakes are given up, and its keys are wiped.
fn the_peer_is_lost_for_long(stage: &mut Stage) {
    stage.server.run("ip link del wg0");
    for lost in [1, 200, 600] {
        thread::sleep(Duration::from_secs(lost));
        assert_tight(stage, 100, &format!("{lost} seconds later"));
    }
    stage.start_server();
    assert!(stage.reaches_the_other_end());
}
