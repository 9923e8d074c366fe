//! How things look on a terminal (spec §3.2).

/// How `show` is to look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether to use escape sequences for colours.
    pub colours: bool,
    /// Whether to write keys that are secret.
    pub secrets: bool,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

/// The escape sequences, or nothing in their place.
pub(super) struct Ink {
    pub reset: &'static str,
    pub bold: &'static str,
    pub red: &'static str,
    pub green: &'static str,
    pub yellow: &'static str,
    pub cyan: &'static str,
}

/// ECMA-48 §8.3.117.
const COLOURED: Ink = Ink {
    reset: "\x1b[0m",
    bold: "\x1b[1m",
    red: "\x1b[31m",
    green: "\x1b[32m",
    yellow: "\x1b[33m",
    cyan: "\x1b[36m",
};

const PLAIN: Ink = Ink { reset: "", bold: "", red: "", green: "", yellow: "", cyan: "" };

impl Look {
    pub(super) fn ink(self) -> &'static Ink {
        if self.colours { &COLOURED } else { &PLAIN }
    }
}

impl Ink {
    /// A unit, or whatever else shall not distract from a number.
    fn unit(&self, unit: &str) -> String {
        format!("{}{unit}{}", self.cyan, self.reset)
    }

    /// `1 day, 2 hours, 5 seconds`. A year has 365 days; nothing at all is an empty text.
    pub(super) fn duration(&self, seconds: u64) -> String {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        const YEAR: u64 = 365 * DAY;
        let parts = [
            (seconds / YEAR, "year"),
            (seconds % YEAR / DAY, "day"),
            (seconds % DAY / HOUR, "hour"),
            (seconds % HOUR / MINUTE, "minute"),
            (seconds % MINUTE, "second"),
        ];
        let parts = parts.iter().filter(|(number, _)| *number != 0).map(|(number, unit)| {
            let plural = if *number == 1 { "" } else { "s" };
            format!("{number} {}", self.unit(&format!("{unit}{plural}")))
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// `1023 B`, `1.00 KiB`, up to TiB.
    pub(super) fn bytes(&self, bytes: u64) -> String {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        const TIB: u64 = 1 << 40;
        let (size, unit) = match bytes {
            ..KIB => return format!("{bytes} {}", self.unit("B")),
            KIB..MIB => (KIB, "KiB"),
            MIB..GIB => (MIB, "MiB"),
            GIB..TIB => (GIB, "GiB"),
            TIB.. => (TIB, "TiB"),
        };
        format!("{:.2} {}", bytes as f64 / size as f64, self.unit(unit))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// `[[number, text], …]` of one list in the known answers (`cli_text` in `vectors.json`).
    fn known(list: &str) -> Vec<(u64, String)> {
        let vectors = include_str!("../../../../tests/vectors.json");
        let (_, section) = vectors.split_once("\"cli_text\"").unwrap();
        let (_, list) = section.split_once(&format!("\"{list}\"")).unwrap();
        let (list, _) = list.split_once("]]").unwrap();
        let pairs = list.split('[').filter_map(|pair| pair.split_once(','));
        pairs
            .map(|(number, text)| {
                let text = text.split('"').nth(1).unwrap();
                (number.trim().parse().unwrap(), text.to_owned())
            })
            .collect()
    }

    #[test]
    fn bytes_and_durations_read_as_known() {
        let (bytes, durations) = (known("bytes"), known("duration"));
        assert!(bytes.len() > 10 && durations.len() > 10);
        for (number, text) in bytes {
            assert_eq!(PLAIN.bytes(number), text);
        }
        for (number, text) in durations {
            assert_eq!(PLAIN.duration(number), text);
        }
    }

    #[test]
    fn units_are_cyan() {
        assert_eq!(COLOURED.bytes(1), "1 \x1b[36mB\x1b[0m");
        assert_eq!(COLOURED.duration(61), "1 \x1b[36mminute\x1b[0m, 1 \x1b[36msecond\x1b[0m");
    }
}
