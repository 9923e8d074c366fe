//! Randomness.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `bytes` from the kernel's generator, waiting for its first seed if the machine has only
/// just started.
///
/// # Panics
///
/// If the kernel has no getrandom(2) (before Linux 3.17, or a sandbox that forbids it). To go on
/// without randomness would be worse than to stop.
pub fn fill(mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        let filled = match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Err(Errno::INTR) => 0,
            filled => filled.expect("getrandom fails only where it does not exist"),
        };
        bytes = bytes.get_mut(filled..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_drawn_anew() {
        let mut or = [0; 1000];
        for _ in 0..16 {
            let mut bytes = [0; 1000];
            fill(&mut bytes);
            or.iter_mut().zip(bytes).for_each(|(or, byte)| *or |= byte);
        }
        // Sixteen draws leave a byte at zero once in 2^128.
        assert!(or.iter().all(|&byte| byte != 0));
    }
}
