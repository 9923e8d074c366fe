//! Packets of peers for others, which this machine drops without a word where it passes nothing on.

use std::fmt;

use host::Family;
use host::forwarding::Halt;
use host::plan::Item;
use proto::{DeviceState, PeerState};

use super::tunnel::{self, Hooks, Journal};

/// That they are dropped though they are to be passed on, as it seems.
pub struct Strays {
    /// The setting that is to blame, as sysctl(8) has it.
    pub setting: String,
    /// How many packets for others were dropped since it came up: of IPv4, by whichever link they came.
    pub dropped: u64,
    /// Whether the hooks of the tunnel let them pass.
    pub are_let: bool,
}

impl Strays {
    /// Those of a tunnel with this link: only where hooks let packets pass, or where there are several
    /// peers that have sent something, and packets were dropped since it came up. Whoever is to reach
    /// this machine alone sends it no others.
    pub fn of(link: &str, state: Option<&DeviceState>, journal: &Journal) -> Vec<Self> {
        let of_family = |family| {
            let halt = Halt::of(link, family)?;
            let has_address = journal.entries.iter().any(|entry| {
                matches!(entry.item, Item::Address(_, it) if Family::of(it.address) == family)
            });
            let are_let = has_address && let_pass(&journal.note.hooks, link, family);
            let before = if family == Family::V4 { journal.note.dropped } else { 0 };
            let dropped = halt.dropped.saturating_sub(before);
            let is_dropping = dropped > 0 && state.is_some_and(|state| is_hub(state, family));
            // A link may have a dot in its name: sysctl(8) swaps both.
            let swapped = |it| match it {
                '/' => '.',
                '.' => '/',
                it => it,
            };
            let setting = halt.setting.chars().map(swapped).collect();
            (are_let || is_dropping).then_some(Self { setting, dropped, are_let })
        };
        [Family::V4, Family::V6].into_iter().filter_map(of_family).collect()
    }
}

/// Whether there are several peers, and one of them has sent something.
fn is_hub(state: &DeviceState, family: Family) -> bool {
    let has_any =
        |peer: &&PeerState| peer.allowed_ips.iter().any(|it| Family::of(it.address()) == family);
    let peers: Vec<_> = state.peers.iter().filter(has_any).collect();
    peers.len() > 1 && peers.iter().any(|peer| peer.rx_bytes > 0)
}

impl fmt::Display for Strays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, dropped, are_let } = self;
        match are_let {
            true => write!(
                f,
                "its hooks let packets pass to others, but this machine passes none on while \
                 {setting} is 0: "
            )?,
            false => write!(
                f,
                "{dropped} packets for others came to this machine and were dropped, as {setting} is \
                 0: if peers are to reach each other, or what is behind this machine, "
            )?,
        }
        // When the machine starts, the link is not there yet.
        let place = if setting.contains(".conf.") && !setting.contains(".all.") {
            "as PostUp"
        } else {
            "in /etc/sysctl.d"
        };
        write!(f, "`sysctl -w {setting}=1' lets them pass, and {place} it stays so")?;
        // A router listens to no other.
        match setting.starts_with("net.ipv6") {
            true => write!(
                f,
                "; if this machine gets its own address by SLAAC, accept_ra = 2 on that link first"
            ),
            false => Ok(()),
        }
    }
}

/// What hooks let pass in vain, of a tunnel that has come up.
pub fn let_in_vain(name: &str) -> Vec<Strays> {
    let journal = tunnel::journal(name).ok().flatten();
    journal.map(|journal| Strays::of(name, None, &journal)).unwrap_or_default()
}

/// Whether one of the hooks accepts packets for others, or gives them this machine's address, by
/// iptables(8), as most instructions for servers have it.
fn let_pass(hooks: &Hooks, link: &str, family: Family) -> bool {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let commands = hooks.pre_up.iter().chain(&hooks.post_up);
    commands.map(|command| String::from_utf8_lossy(command)).any(|text| {
        text.split([';', '&', '|', '\n']).any(|command| {
            let words: Vec<&str> = command.split_whitespace().collect();
            let has = |word: &str| words.contains(&word);
            // What this machine itself sends into the tunnel may need another address, too.
            let leaves =
                !words.windows(2).any(|it| matches!(*it, ["-o", to] if [link, "%i"].contains(&to)));
            let is_meant = words.iter().any(|it| it.rsplit('/').next() == Some(program));
            is_meant && (has("FORWARD") && has("ACCEPT") || has("MASQUERADE") && leaves)
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::command::up::tunnel::Note;

    #[test]
    fn a_tunnel_of_an_earlier_version_has_nothing_to_tell_of_yet() {
        let note = r#"{"file": "/etc/wireguard/wg0.conf", "since": 1, "table": null, "guard": null,
            "kernel": false, "endpoints": {},
            "hooks": {"pre_up": [], "post_up": [], "pre_down": [], "post_down": []}}"#;
        let note: Note = serde_json::from_str(note).unwrap();
        assert_eq!(7_u64.saturating_sub(note.dropped), 0);
        let again: Note = serde_json::from_str(&serde_json::to_string(&note).unwrap()).unwrap();
        assert_eq!(again, note);
    }

    #[test]
    fn a_setting_of_a_link_belongs_to_its_hooks_and_others_to_the_machine() {
        for (setting, place) in [
            ("net.ipv4.ip_forward", "in /etc/sysctl.d it"),
            ("net.ipv6.conf.all.forwarding", "in /etc/sysctl.d it"),
            ("net.ipv4.conf.wg0.forwarding", "as PostUp it"),
        ] {
            let strays = Strays { setting: setting.into(), dropped: 1, are_let: false };
            assert!(
                strays.to_string().contains(&format!("{setting}=1' lets them pass, and {place}"))
            );
        }
    }

    #[test]
    fn hooks_that_let_packets_pass_are_known_by_the_words_of_iptables() {
        for (hook, families) in [
            ("iptables -A FORWARD -i %i -j ACCEPT", &[Family::V4][..]),
            ("iptables -w -t nat -A POSTROUTING -o eth0 -j MASQUERADE", &[Family::V4]),
            ("/usr/sbin/ip6tables -I FORWARD -o wg0 -j ACCEPT", &[Family::V6]),
            (
                "true; iptables -P FORWARD ACCEPT && ip6tables -P FORWARD ACCEPT",
                &[Family::V4, Family::V6],
            ),
            ("iptables -A FORWARD -i %i -j DROP; iptables -A INPUT -i %i -j ACCEPT", &[]),
            ("iptables -t nat -A POSTROUTING -o %i -j MASQUERADE", &[]),
            ("iptables -t nat -A POSTROUTING -o wg0 -j MASQUERADE", &[]),
            ("echo FORWARD ACCEPT", &[]),
            ("", &[]),
        ] {
            let hooks = Hooks { post_up: vec![hook.into()], ..Hooks::default() };
            let let_of = |family: &Family| let_pass(&hooks, "wg0", *family);
            let found: Vec<_> = [Family::V4, Family::V6].into_iter().filter(let_of).collect();
            assert_eq!(found, families, "{hook}");
        }
    }
}
