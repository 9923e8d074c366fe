//! `/etc/resolv.conf` as programs read it, with nobody behind it.

use std::env;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use host::dns::{self, Patience};
use host::namespace;

use crate::stage::{
    BY_HAND, CHILD, RESOLV_CONF, eventually, is_child, killed_at_every_change, plan, play, refusal,
    run, settings, undo,
};

const KILLS: u32 = 100;

#[test]
fn all_names_go_through_the_tunnel_until_it_is_undone() {
    play("file::all_names_go_through_the_tunnel_until_it_is_undone", |stage| {
        stage.assert_asks("before.example", &stage.lan);
        let first = plan("wg0", "10.0.1.53 corp.example");
        let words = "ask 10.0.1.53 for all names, search in corp.example, by /etc/resolv.conf, \
                     because nobody else looks after it";
        assert_eq!(first.to_string(), words);
        stage.assert_asks("planned.example", &stage.lan);
        first.apply().unwrap();
        stage.assert_asks_for("intranet", "intranet.corp.example", &stage.tunnels[0]);
        let second = plan("wg1", "10.0.2.53");
        second.apply().unwrap();
        stage.assert_asks("second.example", &stage.tunnels[1]);
        undo(&second);
        stage.assert_asks("first.example", &stage.tunnels[0]);
        undo(&first);
        stage.assert_asks("after.example", &stage.lan);
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), BY_HAND);
    });
}

#[test]
fn a_mounted_file_is_overwritten_as_containers_need_it() {
    play("file::a_mounted_file_is_overwritten_as_containers_need_it", |stage| {
        fs::write("/run/outside", BY_HAND).unwrap();
        run(Command::new("mount").args(["--bind", "/run/outside", RESOLV_CONF]));
        let plan = plan("wg0", "10.0.1.53");
        plan.apply().unwrap();
        stage.assert_asks("during.example", &stage.tunnels[0]);
        assert_eq!(fs::read("/run/outside").unwrap(), fs::read(RESOLV_CONF).unwrap());

        // Seen from where the mount is not, it is another file.
        run(Command::new("umount").arg(RESOLV_CONF));
        assert!(undo(&plan).contains("is left alone: it is not the file that was written for wg0"));
        run(Command::new("mount").args(["--bind", "/run/outside", RESOLV_CONF]));
        assert_eq!(undo(&plan), "");
        assert_eq!(fs::read_to_string("/run/outside").unwrap(), BY_HAND);
        stage.assert_asks("after.example", &stage.lan);

        run(Command::new("mount").args(["-o", "remount,bind,ro", RESOLV_CONF]));
        let refusal = refusal("wg0", "10.0.1.53");
        assert!(
            refusal.ends_with(
                "/etc/resolv.conf cannot be written: Read-only file system; mount it writable, or \
                 leave `DNS' out and set the servers outside, as of a container"
            ),
            "{refusal}"
        );
    });
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_touched() {
    play("file::what_cannot_be_done_is_refused_before_anything_is_touched", |_| {
        let split = refusal("wg0", "10.0.1.53 ~corp.example");
        let remedy = "install systemd-resolved and run `ln -sf /run/systemd/resolve/stub-resolv.conf \
                      /etc/resolv.conf', or ask the tunnel for all names by leaving out `~corp.example'";
        assert!(split.ends_with(remedy), "{split}");
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), BY_HAND);
        assert!(!Path::new("/var/lib/adit").exists());

        fs::remove_file(RESOLV_CONF).unwrap();
        symlink("/run/systemd/resolve/stub-resolv.conf", RESOLV_CONF).unwrap();
        let no_bus = refusal("wg0", "10.0.1.53");
        let cause = "which does not answer (No such file or directory): run \
                     `systemctl restart systemd-resolved'";
        assert!(no_bus.ends_with(cause), "{no_bus}");
    });
}

#[test]
fn a_network_of_its_own_needs_a_file_of_its_own() {
    const TEST: &str = "file::a_network_of_its_own_needs_a_file_of_its_own";
    if is_child() {
        assert!(plan("wg0", "10.0.1.53").to_string().contains("by /etc/resolv.conf"));
        return;
    }
    play(TEST, |stage| {
        let choose =
            || dns::choose("wg0", &settings("10.0.1.53"), Patience::Long).unwrap_err().to_string();
        let refusal = namespace::within(stage.far.as_fd(), choose).unwrap();
        assert!(refusal.ends_with("as `ip netns exec NAME' does with /etc/netns/NAME/resolv.conf"));
        // As that does it.
        fs::write("/run/own", BY_HAND).unwrap();
        let script = format!("mount --bind /run/own {RESOLV_CONF} && exec \"$0\" --exact {TEST}");
        let mut child = Command::new("unshare");
        child.args(["--mount", "--net", "sh", "-c", &script]).arg(env::current_exe().unwrap());
        run(child.env(CHILD, "yes"));
    });
}

#[test]
fn whoever_is_killed_leaves_what_can_be_undone() {
    if is_child() {
        churn();
    }
    play("file::whoever_is_killed_leaves_what_can_be_undone", |_| {
        let plans = [plan("wg0", "10.0.1.53"), plan("wg1", "10.0.2.53 corp.example")];
        for number in 0..KILLS {
            let arguments = ["--exact", "file::whoever_is_killed_leaves_what_can_be_undone"];
            let mut victim = Command::new(env::current_exe().unwrap())
                .args(arguments)
                .env(CHILD, "yes")
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            eventually("the first change", || fs::read_to_string(RESOLV_CONF).unwrap() != BY_HAND);
            thread::sleep(Duration::from_micros(u64::from(number) * 137 % 5_000));
            victim.kill().unwrap();
            victim.wait().unwrap();
            let text = fs::read_to_string(RESOLV_CONF).unwrap();
            let servers = text.lines().filter(|line| line.starts_with("nameserver")).count();
            assert_eq!(servers, 1, "never half: {text}");
            for plan in &plans {
                assert_eq!(undo(plan), "", "kill {number}");
            }
            assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), BY_HAND, "kill {number}");
            let left = fs::read_dir("/etc").unwrap().map(|it| it.unwrap().file_name());
            let left: Vec<_> = left.filter(|it| it.to_string_lossy().contains(".adit")).collect();
            assert!(left.is_empty(), "kill {number}: {left:?}");
        }
    });
}

/// Two tunnels come and go until somebody ends it.
fn churn() -> ! {
    let plans = [plan("wg0", "10.0.1.53"), plan("wg1", "10.0.2.53 corp.example")];
    loop {
        for plan in &plans {
            plan.apply().unwrap();
        }
        for plan in &plans {
            undo(plan);
        }
    }
}

macro_rules! kills {
    ($($name:ident: $prepare:expr;)*) => {$(
        #[test]
        fn $name() {
            const TEST: &str = concat!("file::", stringify!($name));
            if is_child() {
                return come_and_go();
            }
            play(TEST, |_| {
                let prepare: fn() = $prepare;
                prepare();
                assert_kills_leave_what_can_be_undone(TEST);
            });
        }
    )*};
}

kills! {
    whoever_is_killed_at_any_change_of_a_file_leaves_what_can_be_undone: || {};
    whoever_is_killed_at_any_change_of_a_link_leaves_what_can_be_undone: || {
        fs::write("/run/list", BY_HAND).unwrap();
        fs::remove_file(RESOLV_CONF).unwrap();
        symlink("/run/list", RESOLV_CONF).unwrap();
    };
    whoever_is_killed_at_any_change_of_nothing_leaves_what_can_be_undone: || {
        fs::remove_file(RESOLV_CONF).unwrap();
    };
    whoever_is_killed_at_any_change_of_a_mounted_file_leaves_what_can_be_undone: || {
        fs::write("/run/outside", BY_HAND.repeat(9)).unwrap();
        run(Command::new("mount").args(["--bind", "/run/outside", RESOLV_CONF]));
    };
}

/// Two tunnels come, and go again.
fn come_and_go() {
    let plans = [plan("wg0", "10.0.1.53"), plan("wg1", "10.0.2.53 corp.example")];
    plans.iter().for_each(|plan| drop(plan.apply().unwrap()));
    plans.iter().for_each(|plan| drop(undo(plan)));
}

/// At every moment the file is one of those that it is to be, if there is to be one; both tunnels can
/// come again, and when they have gone, whether they did or not, all is as it was before them.
fn assert_kills_leave_what_can_be_undone(test: &str) {
    // When a mounted file is overwritten, there are empty lines behind it for a moment.
    let read = || fs::read_to_string(RESOLV_CONF).ok().map(|text| text.trim_end().to_owned());
    let plans = [plan("wg0", "10.0.1.53"), plan("wg1", "10.0.2.53 corp.example")];
    let before = everything();
    let mut states = vec![read()];
    for plan in &plans {
        plan.apply().unwrap();
        states.push(read());
    }
    for plan in &plans {
        undo(plan);
    }
    assert_eq!(everything(), before);
    for comes_again in [false, true] {
        killed_at_every_change(test, |when| {
            assert!(states.contains(&read()), "{when}: {:?}", read());
            if comes_again {
                plans.iter().for_each(|plan| drop(plan.apply().unwrap()));
                assert_eq!(read(), states[2], "{when}");
            }
            for plan in &plans {
                assert_eq!(undo(plan), "", "{when}");
            }
            assert_eq!(everything(), before, "{when}, comes again: {comes_again}");
        });
    }
}

/// What is at the path, and whatever is kept beside it and in a folder for that.
fn everything() -> (Vec<PathBuf>, String) {
    let beside = fs::read_dir("/etc").unwrap().map(|entry| entry.unwrap().path());
    let beside = beside.filter(|path| path.to_string_lossy().contains("resolv.conf"));
    let kept = fs::read_dir("/var/lib/adit/dns").into_iter().flatten();
    let mut paths: Vec<_> = beside.chain(kept.map(|entry| entry.unwrap().path())).collect();
    paths.sort();
    let mode = fs::symlink_metadata(RESOLV_CONF).map(|it| it.mode());
    let (target, text) = (fs::read_link(RESOLV_CONF), fs::read_to_string(RESOLV_CONF));
    (paths, format!("{:?} {:?} {:?}", mode.ok(), target.ok(), text.ok()))
}
