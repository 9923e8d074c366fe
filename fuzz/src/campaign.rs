//! The targets as libFuzzer calls them: that which `ADIT_FUZZ_TARGET` names.
//!
//! `ADIT_FUZZ_BEGIN` names a folder that its seeds and what was kept are written to first, and
//! `ADIT_FUZZ_KEEP` one whose inputs are to be kept instead, which ends it.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;
use std::{env, fs, process};

use adit_fuzz::{Target, corpus};
use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fn choose() {
    let name = env::var("ADIT_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = adit_fuzz::find(&name) else {
        let names: Vec<_> = adit_fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("ADIT_FUZZ_TARGET has to be one of: {}", names.join(" "));
        process::exit(2);
    };
    if let Some(folder) = env::var_os("ADIT_FUZZ_BEGIN") {
        let kept = corpus::read(target).expect("what was kept can be read");
        for (number, input) in (target.seeds)().into_iter().chain(kept).enumerate() {
            let path = Path::new(&folder).join(format!("begin-{number}"));
            fs::write(path, input).expect("the folder can be written to");
        }
    }
    if let Some(folder) = env::var_os("ADIT_FUZZ_KEEP") {
        let files = fs::read_dir(folder).expect("the folder can be read");
        let inputs = files.map(|file| fs::read(file.expect("a file").path()).expect("an input"));
        corpus::write(target, inputs.collect()).expect("corpus/ can be written to");
        process::exit(0);
    }
    CHOSEN.get_or_init(|| target);
}

fuzz_target!(
    init: choose(),
    |bytes: &[u8]| {
        let target = CHOSEN.get().expect("chosen before the first input");
        (target.run)(bytes);
    }
);
