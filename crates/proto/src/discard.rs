//! Why a datagram or packet came to nothing.

/// Declares the reasons once, for the type and for the list of all.
macro_rules! reasons {
    ($($(#[$about:meta])* $reason:ident,)+) => {
        /// The reason for which foreign input was dropped: an outcome, not an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Discard {
            $($(#[$about])* $reason,)+
        }

        impl Discard {
            /// Every reason, in the order of their numbers (`as usize`).
            pub const ALL: [Self; [$(stringify!($reason)),+].len()] = [$(Self::$reason),+];
        }
    };
}

reasons! {
    /// Wrong size, type or reserved bytes.
    Malformed,
    /// The device has no private key, or the interface is down.
    NotReady,
    /// mac1 does not match: the sender holds another public key for us.
    BadMac,
    /// Under load; the sender was asked to prove its address with a cookie.
    CookieRequired,
    /// Under load; this source has used up its share.
    Flood,
    /// The initiation cannot be decrypted, or its key is of low order.
    BadInitiation,
    /// The initiation belongs to a public key that is no peer here.
    UnknownPeer,
    /// The initiation's timestamp is not newer than the last one accepted from that peer.
    OldTimestamp,
    /// Less than 20 ms after that peer's previous initiation.
    TooSoon,
    /// No handshake or session has this receiver index.
    UnknownIndex,
    /// The response cannot be authenticated: the preshared keys differ, or it was forged.
    BadResponse,
    /// The cookie reply answers nothing, or cannot be decrypted.
    BadCookie,
    /// The session is older than 180 s or has used up its counters.
    Expired,
    /// The data message has a wrong tag.
    NotAuthentic,
    /// The counter was seen before, or lies behind the window.
    Replay,
    /// The decrypted packet is not IP, or shorter than it says.
    BadPacket,
    /// The inner source address does not belong to the peer that sent it.
    NotAllowed,
}
