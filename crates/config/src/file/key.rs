//! Every key that there is, and where it belongs.

use std::str;

/// A key of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are what wg(8) and wg-quick(8) say")]
pub enum Key {
    PrivateKey,
    ListenPort,
    FwMark,
    Address,
    Dns,
    Mtu,
    Table,
    PreUp,
    PostUp,
    PreDown,
    PostDown,
    SaveConfig,
    PublicKey,
    PresharedKey,
    AllowedIps,
    Endpoint,
    PersistentKeepalive,
}

/// The section that a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `[Interface]`.
    Interface,
    /// `[Peer]`.
    Peer,
}

impl Place {
    /// As it is written.
    #[must_use]
    pub fn head(self) -> &'static str {
        match self {
            Self::Interface => "[Interface]",
            Self::Peer => "[Peer]",
        }
    }
}

impl Key {
    /// All of them, in the order in which people write them.
    pub const ALL: [Self; 17] = [
        Self::PrivateKey,
        Self::ListenPort,
        Self::FwMark,
        Self::Address,
        Self::Dns,
        Self::Mtu,
        Self::Table,
        Self::PreUp,
        Self::PostUp,
        Self::PreDown,
        Self::PostDown,
        Self::SaveConfig,
        Self::PublicKey,
        Self::PresharedKey,
        Self::AllowedIps,
        Self::Endpoint,
        Self::PersistentKeepalive,
    ];

    /// The key of this name, whatever its case is.
    #[must_use]
    pub fn find(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|key| name.eq_ignore_ascii_case(key.name().as_bytes()))
    }

    /// As the manual pages write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PrivateKey => "PrivateKey",
            Self::ListenPort => "ListenPort",
            Self::FwMark => "FwMark",
            Self::Address => "Address",
            Self::Dns => "DNS",
            Self::Mtu => "MTU",
            Self::Table => "Table",
            Self::PreUp => "PreUp",
            Self::PostUp => "PostUp",
            Self::PreDown => "PreDown",
            Self::PostDown => "PostDown",
            Self::SaveConfig => "SaveConfig",
            Self::PublicKey => "PublicKey",
            Self::PresharedKey => "PresharedKey",
            Self::AllowedIps => "AllowedIPs",
            Self::Endpoint => "Endpoint",
            Self::PersistentKeepalive => "PersistentKeepalive",
        }
    }

    /// The section that it belongs to.
    #[must_use]
    pub fn place(self) -> Place {
        match self {
            Self::PublicKey
            | Self::PresharedKey
            | Self::AllowedIps
            | Self::Endpoint
            | Self::PersistentKeepalive => Place::Peer,
            _ => Place::Interface,
        }
    }

    /// Whether it holds a command for a shell.
    #[must_use]
    pub fn is_hook(self) -> bool {
        matches!(self, Self::PreUp | Self::PostUp | Self::PreDown | Self::PostDown)
    }
}

/// The name that was probably meant: one that differs in few letters.
pub(super) fn likeliest(
    name: &[u8],
    names: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    // The longest name has 19 letters, and three of them wrong are too many.
    let name = str::from_utf8(name).ok().filter(|name| name.len() <= 24)?.to_ascii_lowercase();
    let distance = |other: &str| strsim::osa_distance(&name, &other.to_ascii_lowercase());
    let best = names.map(|other| (distance(other), other)).min_by_key(|(distance, _)| *distance)?;
    (best.0 <= 2 && best.0 * 2 < name.len()).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        for (written, expected) in [
            ("AllowedIP", Some("AllowedIPs")),
            ("allowedipss", Some("AllowedIPs")),
            ("Adress", Some("Address")),
            ("DSN", Some("DNS")),
            ("PresahredKey", Some("PresharedKey")),
            ("PrivateKey", Some("PrivateKey")),
            ("I1", None),
            ("Jc", None),
            ("", None),
            ("Colour", None),
            ("AllowedIPsAllowedIPsAllowedIPs", None),
        ] {
            let found = likeliest(written.as_bytes(), Key::ALL.into_iter().map(Key::name));
            assert_eq!(found, expected, "{written}");
        }
    }

    #[test]
    fn every_name_finds_its_key() {
        for key in Key::ALL {
            assert_eq!(Key::find(key.name().to_ascii_uppercase().as_bytes()), Some(key));
        }
    }
}
