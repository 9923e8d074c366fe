//! Where randomness comes from.

/// Fills all that it is given with secret, unpredictable bytes. Handed in, so that one seed replays a
/// whole run.
///
/// The order of draws is part of the behaviour: an initiation draws its index, then its ephemeral
/// key; a response likewise; a cookie reply draws its nonce (after the secret, when that is stale).
pub type Random = dyn FnMut(&mut [u8]) + Send;

pub(crate) fn array<const N: usize>(random: &mut Random) -> [u8; N] {
    let mut bytes = [0; N];
    random(&mut bytes);
    bytes
}
