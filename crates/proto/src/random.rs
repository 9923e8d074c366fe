//! Where randomness comes from.

/// A source of secret, unpredictable bytes. Handed in, so that one seed replays a whole run.
///
/// The order of draws is part of the behaviour: an initiation draws its index, then its ephemeral
/// key; a response likewise; a cookie reply draws its nonce (after the secret, when that is stale).
pub trait Random: Send {
    /// Fills all of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

pub(crate) fn array<const N: usize>(random: &mut dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}
