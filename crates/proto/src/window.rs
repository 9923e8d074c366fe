//! The replay window of a receiving key (paper §5.4.6, RFC 6479).

use crate::keypair::REJECT_AFTER_MESSAGES;

/// The nonce of a data message as it came off the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter(pub u64);

const WORDS: usize = 128;
const BITS: u64 = u64::BITS as u64;
/// One word of the ring is always being refilled, so it holds 8192 − 64 counters safely.
const SPAN: u64 = (WORDS as u64 - 1) * BITS;

/// Remembers which of the last 8128 counters were seen: a ring of words, one bit a counter.
#[derive(Clone, Debug)]
pub struct Window {
    /// The greatest counter accepted; 0 before the first.
    greatest: u64,
    ring: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self { greatest: 0, ring: [0; WORDS] }
    }
}

impl Window {
    /// Accepts each counter once. [`crate::Keypair::open`] asks, of authentic messages only, so that a
    /// forgery cannot move the window; nobody else does, but who measures it.
    #[doc(hidden)]
    pub fn accept(&mut self, Counter(counter): Counter) -> bool {
        if counter >= REJECT_AFTER_MESSAGES || self.greatest.saturating_sub(counter) > SPAN {
            return false;
        }
        // The words that the ring now uses again: after a leap, each of them.
        for word in (self.greatest / BITS..counter / BITS).take(WORDS) {
            if let Some(word) = self.ring.get_mut(slot(word + 1)) {
                *word = 0;
            }
        }
        self.greatest = self.greatest.max(counter);
        let bit = 1 << (counter % BITS);
        let Some(word) = self.ring.get_mut(slot(counter / BITS)) else {
            return false;
        };
        let unseen = *word & bit == 0;
        *word |= bit;
        unseen
    }
}

fn slot(word: u64) -> usize {
    (word % WORDS as u64) as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use alloc::collections::BTreeSet;

    use super::*;
    use crate::vectors::{entries, load};

    const L: u64 = SPAN + 1;
    const R: u64 = REJECT_AFTER_MESSAGES;

    fn accept(window: &mut Window, counter: u64) -> bool {
        window.accept(Counter(counter))
    }

    /// The table of the kernel's self-test (spec §5.2, S2).
    #[test]
    fn each_counter_is_accepted_once_while_it_is_in_the_window() {
        let mut window = Window::default();
        for (counter, accepted) in [
            (0, true),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (L, true),
            (L - 1, true),
            (L - 1, false),
            (L - 2, true),
            (2, true),
            (2, false),
            (L + 16, true),
            (3, false),
            (L + 16, false),
            (4 * L, true),
            (4 * L - (L - 1), true),
            (10, false),
            (4 * L - L, false),
            (4 * L - (L + 1), false),
            (4 * L - (L - 2), true),
            (4 * L + 1 - L, false),
            (0, false),
            (R, false),
            (R - 1, true),
            (R, false),
            (R - 1, false),
            (R - 2, true),
            (R + 1, false),
            (R + 2, false),
            (R - 2, false),
            (R - 3, true),
            (0, false),
        ] {
            assert_eq!(accept(&mut window, counter), accepted, "counter {counter}");
        }
    }

    #[test]
    fn the_window_matches_the_known_answers() {
        let replay = load("replay");
        assert_eq!(replay["window"].as_u64(), Some(SPAN));
        for sequence in entries(&replay["sequences"]) {
            let mut window = Window::default();
            for step in entries(&sequence["steps"]) {
                let (counter, accepted) = (step[0].as_u64().unwrap(), step[1].as_bool().unwrap());
                assert_eq!(
                    accept(&mut window, counter),
                    accepted,
                    "{}: counter {counter}",
                    sequence["name"]
                );
            }
        }
    }

    #[test]
    fn a_whole_window_may_arrive_backwards() {
        for (order, then) in [
            ((1..L).collect::<alloc::vec::Vec<_>>(), [(0, true), (0, false)]),
            ((2..=L).collect(), [(1, true), (0, false)]),
            ((0..L).rev().collect(), [(0, false), (L, true)]),
            ((1..=L).rev().collect(), [(0, false), (L + 1, true)]),
        ] {
            let mut window = Window::default();
            for counter in order {
                assert!(accept(&mut window, counter), "counter {counter}");
            }
            for (counter, accepted) in then {
                assert_eq!(accept(&mut window, counter), accepted, "then {counter}");
            }
        }
    }

    #[test]
    fn the_ring_agrees_with_a_set_of_everything_seen() {
        let mut state = 88_172_645_463_325_252_u64;
        let (mut window, mut seen, mut greatest) = (Window::default(), BTreeSet::new(), 0_u64);
        for _ in 0..200_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let reach = if state.is_multiple_of(50) { 3 * L } else { 200 };
            let leap = if state.is_multiple_of(51) { 3 * L } else { 100 };
            let counter = (greatest + (state >> 20) % leap).saturating_sub((state >> 40) % reach);
            let expected = greatest.saturating_sub(counter) <= SPAN && seen.insert(counter);
            assert_eq!(
                accept(&mut window, counter),
                expected,
                "counter {counter} after {greatest}"
            );
            greatest = greatest.max(if expected { counter } else { 0 });
        }
    }
}
