//! Whether this machine passes on what comes in by a link for others. Where it does not, the kernel
//! drops it without a word to anybody, and counts it.

use std::fs;

use crate::{Family, sysctl};

/// That packets for others are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// The path below /proc/sys of the setting that is to blame.
    pub setting: String,
    /// How many were dropped: of IPv4 [those of any link](dropped), of IPv6 those that came in by this
    /// one, since it is there.
    pub dropped: u64,
}

impl Halt {
    /// Of what comes in by a link; none if it is passed on.
    #[must_use]
    pub fn of(link: &str, family: Family) -> Option<Self> {
        let is = |path: &str, wanted| sysctl::get(path).is_ok_and(|value| value == wanted);
        match family {
            Family::V4 => {
                let own = format!("net/ipv4/conf/{link}/forwarding");
                if !is(&own, "0") {
                    return None;
                }
                let all = "net/ipv4/ip_forward";
                let setting = if is(all, "0") { all.to_owned() } else { own };
                Some(Self { setting, dropped: dropped() })
            }
            Family::V6 => {
                let all = "net/ipv6/conf/all/forwarding";
                // Since Linux 6.17 a link can be an exception, but for the better only.
                let forced = format!("net/ipv6/conf/{link}/force_forwarding");
                if !is(all, "0") || is(&forced, "1") {
                    return None;
                }
                let dropped = line(&statistics(&format!("dev_snmp6/{link}")), "Ip6InAddrErrors");
                Some(Self { setting: all.to_owned(), dropped: dropped.unwrap_or_default() })
            }
        }
    }
}

/// How many packets of IPv4 for others were dropped because this machine passes none on, by whichever
/// link they came: the kernel counts them together, since the network namespace is there.
#[must_use]
pub fn dropped() -> u64 {
    column(&statistics("snmp"), "Ip:", "InAddrErrors").unwrap_or_default()
}

/// What the kernel has counted (proc(5)); nothing where it tells nobody.
fn statistics(file: &str) -> String {
    fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default()
}

/// A number below its name: those of one protocol are in two lines.
fn column(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
    let place = lines.next()?.split_whitespace().position(|it| it == name)?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

/// A number behind its name.
fn line(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_names() {
        let text = "Ip: Forwarding InAddrErrors\nIp: 2 7\nIcmp: InMsgs InAddrErrors\nIcmp: 0 9\n";
        assert_eq!(column(text, "Ip:", "InAddrErrors"), Some(7));
        assert_eq!(column(text, "Icmp:", "InAddrErrors"), Some(9));
        assert_eq!(column(text, "Ip:", "InMsgs"), None);
        assert_eq!(column("Ip: InAddrErrors\n", "Ip:", "InAddrErrors"), None);
        let text = "ifIndex   \t2\nIp6InAddrErrors                 \t3\nIp6In 4\n";
        assert_eq!(line(text, "Ip6InAddrErrors"), Some(3));
        assert_eq!(line(text, "Ip6"), None);
    }
}
