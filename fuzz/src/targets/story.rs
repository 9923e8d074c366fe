//! The life of a whole network, as the bytes want it: loss, damage, attacks, other keys, other clocks,
//! with the judge of `adit-tests` behind every step (security goals I1–I14).

use adit_tests::net::story::tell_by;
use adit_tests::net::{Chance, Seed};

pub fn run(bytes: &[u8]) {
    tell_by(Chance::scripted(bytes), Seed(1));
}

pub fn seeds() -> Vec<Vec<u8>> {
    (0..16).map(|seed| Chance::new(Seed(seed)).bytes(100)).collect()
}
