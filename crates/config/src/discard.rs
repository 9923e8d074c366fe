//! Words for the reasons for which something was dropped.

use proto::Discard;

/// One word without spaces, for machines: a value on the UAPI socket and in JSON.
#[must_use]
pub fn name(reason: Discard) -> &'static str {
    words(reason).0
}

/// The reason with this word.
#[must_use]
pub fn named(word: &str) -> Option<Discard> {
    Discard::ALL.into_iter().find(|&reason| name(reason) == word)
}

/// One sentence for people: what it means and what to check.
#[must_use]
pub fn explain(reason: Discard) -> &'static str {
    words(reason).1
}

fn words(reason: Discard) -> (&'static str, &'static str) {
    match reason {
        Discard::Malformed => (
            "malformed",
            "something that is not WireGuard arrived at the port; check that no other program \
             sends to it and that nothing on the way alters packets",
        ),
        Discard::NotReady => (
            "not_ready",
            "a message arrived before there was a private key or while the interface was down; \
             set the key and bring the interface up",
        ),
        Discard::BadMac => (
            "bad_mac",
            "a message was made for another public key than ours; check the PublicKey that the \
             other side has for this machine",
        ),
        Discard::CookieRequired => (
            "cookie_required",
            "this machine is under load and asked the sender to prove its address; it will try \
             again by itself within 5 seconds",
        ),
        Discard::Flood => (
            "flood",
            "this machine is under load and one address sends more than 20 handshakes a second; \
             check what is behind that address",
        ),
        Discard::BadInitiation => (
            "bad_initiation",
            "an initiation could not be decrypted; it was damaged or forged on the way, or comes \
             from something that is not WireGuard",
        ),
        Discard::UnknownPeer => (
            "unknown_peer",
            "an initiation came from a public key that is no peer here; check this machine's list \
             of peers and the other side's PrivateKey",
        ),
        Discard::OldTimestamp => (
            "old_timestamp",
            "an initiation was not newer than the last one from this peer; check the other side's \
             clock and that no two machines use the same private key",
        ),
        Discard::TooSoon => (
            "too_soon",
            "two initiations of this peer arrived within 20 ms; check that no two machines use \
             the same private key",
        ),
        Discard::UnknownIndex => (
            "unknown_index",
            "a message belongs to no handshake or session here, usually because this machine was \
             restarted; a new handshake mends it",
        ),
        Discard::BadResponse => (
            "bad_response",
            "the peer answered but its answer could not be verified; check that the PresharedKey \
             is the same on both sides",
        ),
        Discard::BadCookie => (
            "bad_cookie",
            "a cookie arrived that was not asked for or could not be decrypted; check the \
             PublicKey that this machine has for the peer",
        ),
        Discard::Expired => (
            "expired",
            "a message used a session older than 3 minutes; check that handshakes pass in both \
             directions",
        ),
        Discard::NotAuthentic => (
            "not_authentic",
            "a data message could not be verified; it was damaged or forged on the way",
        ),
        Discard::Replay => (
            "replay",
            "a data message arrived twice or far too late; harmless unless it happens often",
        ),
        Discard::BadPacket => {
            ("bad_packet", "the peer sent something through the tunnel that is not an IP packet")
        }
        Discard::NotAllowed => (
            "not_allowed",
            "the peer sent a packet from an address that does not belong to it; check its \
             AllowedIPs on this machine",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own_and_a_sentence() {
        let names: BTreeSet<_> = Discard::ALL.map(name).into();
        assert_eq!(names.len(), Discard::ALL.len());
        for reason in Discard::ALL {
            let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name(reason).chars().all(is_word), "{reason:?}");
            assert_eq!(named(name(reason)), Some(reason));
            let sentence = explain(reason);
            assert!(sentence.len() > 40 && !sentence.ends_with('.') && !sentence.contains("  "));
        }
    }
}
