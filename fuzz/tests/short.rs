//! Every target with its seeds, with what campaigns have kept, and with some thousand edits of these.

use std::panic::{AssertUnwindSafe, catch_unwind};

use adit_fuzz::{TARGETS, Target, corpus, edits, find};

/// Tries one input; the panic of a failure is followed by the input.
fn attempt(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        panic!("{} fails with {}", target.name, input.escape_ascii());
    }
}

fn play(name: &str) {
    let target = find(name).expect("a target");
    let kept = corpus::read(target).expect("what was kept");
    let inputs: Vec<_> = (target.seeds)().into_iter().chain(kept).collect();
    inputs.iter().for_each(|input| attempt(target, input));
    edits::of(&inputs, target.rounds).for_each(|input| attempt(target, &input));
    println!("{name}: {} kept inputs and {} edits", inputs.len(), target.rounds);
}

macro_rules! play {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            play(stringify!($name));
        })+

        #[test]
        fn no_target_is_left_out() {
            let played = [$(stringify!($name)),+];
            let targets: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(targets, played);
        }
    };
}

play!(messages sessions story segments neighbours file words uapi answers netlink resolvers);
