//! Random edits of inputs, for those who have no coverage to learn from.

use adit_tests::net::{Chance, Seed};

/// Bytes and words at which readers change their minds.
const TELLING: [u64; 16] = [
    0,
    1,
    4,
    0x0a,
    0x20,
    0x23,
    0x2c,
    0x3d,
    0x40,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0xffff_ffff,
    u64::MAX,
];

/// The inputs that `rounds` rounds make of `inputs`, always the same ones.
pub fn of(inputs: &[Vec<u8>], rounds: u32) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut chance = Chance::new(Seed(u64::from(rounds)));
    (0..rounds).map(move |_| {
        let mut input = chance.pick(inputs).clone();
        for _ in 0..=chance.below(6) {
            edit(&mut input, inputs, &mut chance);
        }
        input
    })
}

fn edit(input: &mut Vec<u8>, inputs: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    let longest = length(chance);
    let end = (at + chance.below(longest)).min(input.len());
    match chance.below(8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        1 => {
            let length = *chance.pick(&[1, 2, 4, 8]);
            let word = *chance.pick(&TELLING);
            let bytes = if chance.below(2) == 0 { word.to_le_bytes() } else { word.to_be_bytes() };
            let (from, to) = if chance.below(2) == 0 { (0, length) } else { (8 - length, 8) };
            let end = (at + length).min(input.len());
            input.splice(at..end, bytes[from..to].iter().copied());
        }
        2 => drop(input.drain(at..end)),
        3 => {
            let again = input[at..end].to_vec();
            let to = chance.below(input.len() + 1);
            input.splice(to..to, again);
        }
        4 => {
            let longest = length(chance);
            let length = chance.below(longest);
            input.splice(at..end, chance.bytes(length));
        }
        5 => {
            let other = chance.pick(inputs);
            let from = chance.below(other.len() + 1);
            let until = (from + chance.below(64)).min(other.len());
            input.splice(at..end, other[from..until].iter().copied());
        }
        6 => input.truncate(at),
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte = byte.wrapping_add(*chance.pick(&[1, 255, 16, 240]));
            }
        }
    }
}

fn length(chance: &mut Chance) -> usize {
    *chance.pick(&[2, 5, 20, 100])
}
