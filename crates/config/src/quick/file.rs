//! The configuration file of `wg-quick`: the keys that it takes for itself, and the rest, which is
//! for `wg` (spec §4.2).

use std::fmt;

use zeroize::Zeroizing;

use super::address::is_server;
use crate::wg::{is_space, trim};

/// What a file wants. Values are as they were written, without the space around them.
#[derive(Default)]
pub struct File {
    /// Every word of `Address`.
    pub addresses: Vec<String>,
    /// The words of `DNS` that are addresses.
    pub servers: Vec<String>,
    /// The other words of `DNS`: domains to search in.
    pub search: Vec<String>,
    /// The last `MTU` that is not empty.
    pub mtu: Option<String>,
    /// The last `Table` that is not empty.
    pub table: Option<String>,
    /// What to run, and when.
    pub hooks: Hooks,
    /// `SaveConfig`: `down` saves.
    pub save: bool,
    /// Every other line: the file for `wg`. It usually holds a private key.
    pub rest: Zeroizing<Vec<u8>>,
}

/// The user's own commands for a shell, each list in its order.
#[derive(Default)]
pub struct Hooks {
    /// Before `up` configures the new interface.
    pub pre_up: Vec<Vec<u8>>,
    /// After `up` has done everything.
    pub post_up: Vec<Vec<u8>>,
    /// Before `down` does anything.
    pub pre_down: Vec<Vec<u8>>,
    /// After `down` has done everything.
    pub post_down: Vec<Vec<u8>>,
}

/// What `SaveConfig` is given that is neither `true` nor `false`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotABoolean(pub String);

impl fmt::Display for NotABoolean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}' is neither true nor false", self.0)
    }
}

impl File {
    /// Reads a whole file. Only `SaveConfig` can be wrong: the rest is judged by whoever uses it.
    pub fn parse(content: &[u8]) -> Result<Self, NotABoolean> {
        let mut file = Self::default();
        let mut in_interface = false;
        // The rest is never longer, so that no copy of a key is left behind by growing.
        file.rest.reserve(content.len() + 1);
        for text in content.split_inclusive(|&byte| byte == b'\n') {
            let line = Line::read(text);
            if line.whole.is_empty() && !text.ends_with(b"\n") {
                // Space behind the last end of a line is no line.
                break;
            }
            if line.key.starts_with(b"[") {
                in_interface = line.key.eq_ignore_ascii_case(b"[Interface]");
            }
            if !in_interface || !file.take(&line)? {
                file.rest.extend_from_slice(&line.whole);
                file.rest.push(b'\n');
            }
        }
        Ok(file)
    }

    /// Whether the line is one of ours.
    fn take(&mut self, line: &Line) -> Result<bool, NotABoolean> {
        let value = || String::from_utf8_lossy(line.value()).into_owned();
        let not_empty = || Some(value()).filter(|value| !value.is_empty());
        match &*line.key.to_ascii_lowercase() {
            b"address" => self.addresses.extend(words(&value())),
            b"dns" => {
                let (servers, search): (Vec<_>, _) =
                    words(&value()).partition(|word| is_server(word));
                self.servers.extend(servers);
                self.search.extend(search);
            }
            b"mtu" => self.mtu = not_empty(),
            b"table" => self.table = not_empty(),
            b"preup" => self.hooks.pre_up.push(line.command().to_vec()),
            b"postup" => self.hooks.post_up.push(line.command().to_vec()),
            b"predown" => self.hooks.pre_down.push(line.command().to_vec()),
            b"postdown" => self.hooks.post_down.push(line.command().to_vec()),
            b"saveconfig" => {
                self.save = match &*line.value().to_ascii_lowercase() {
                    b"true" => true,
                    b"false" => false,
                    _ => return Err(NotABoolean(value())),
                };
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// One line, cut.
struct Line {
    /// Without the space at both ends, and without zero bytes, which no shell would carry either.
    whole: Zeroizing<Vec<u8>>,
    /// What is before the first `=`, or all if there is none. No comment belongs to it.
    key: Vec<u8>,
}

impl Line {
    fn read(line: &[u8]) -> Self {
        let mut line = Zeroizing::new(line.strip_suffix(b"\n").unwrap_or(line).to_vec());
        line.retain(|&byte| byte != 0);
        let whole = Zeroizing::new(trim(&line, |byte| matches!(byte, b' ' | b'\t')).to_vec());
        let key = before(before(&whole, b'#'), b'=');
        let key = trim(key, is_space).to_vec();
        Self { whole, key }
    }

    /// What is behind the first `=` and before a comment. A line without `=` is its own value.
    fn value(&self) -> &[u8] {
        trim(after(before(&self.whole, b'#'), b'='), is_space)
    }

    /// What is behind the first `=`, to the end: a shell knows best what a comment is.
    fn command(&self) -> &[u8] {
        trim(after(&self.whole, b'='), is_space)
    }
}

/// The words of a list, whether commas or spaces are between them.
fn words(value: &str) -> impl Iterator<Item = String> + '_ {
    value.split([',', ' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned)
}

/// What is before the first such byte; all if there is none.
fn before(text: &[u8], end: u8) -> &[u8] {
    text.split(|&byte| byte == end).next().unwrap_or(text)
}

/// What is behind the first such byte; all if there is none.
fn after(text: &[u8], start: u8) -> &[u8] {
    text.splitn(2, |&byte| byte == start).nth(1).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(content: &str) -> File {
        File::parse(content.as_bytes()).unwrap()
    }

    fn texts(hooks: &[Vec<u8>]) -> Vec<&str> {
        hooks.iter().map(|hook| str::from_utf8(hook).unwrap()).collect()
    }

    #[test]
    fn every_key_is_taken_whatever_its_case() {
        let file = parse(
            "[INTERFACE]\nADDRESS = 10.0.0.1/24 , fd00::1/64 # ours\n address=10.0.0.2\n\
             dns=1.1.1.1,corp.example fd00::53\nDNS = lan\nmtu=1400\nMTU = 1380\nTABLE = auto\n\
             preup = a\nPREUP=b\nPostUp = c %i # d = e\nPreDown=f\nPostDown = g\nSaveConfig = TRUE\n",
        );
        assert_eq!(file.addresses, ["10.0.0.1/24", "fd00::1/64", "10.0.0.2"]);
        assert_eq!(file.servers, ["1.1.1.1", "fd00::53"]);
        assert_eq!(file.search, ["corp.example", "lan"]);
        assert_eq!((file.mtu.as_deref(), file.table.as_deref()), (Some("1380"), Some("auto")));
        assert_eq!(texts(&file.hooks.pre_up), ["a", "b"]);
        assert_eq!(texts(&file.hooks.post_up), ["c %i # d = e"]);
        assert_eq!(texts(&file.hooks.pre_down), ["f"]);
        assert_eq!(texts(&file.hooks.post_down), ["g"]);
        assert!(file.save);
        assert_eq!(*file.rest, b"[INTERFACE]\n");
    }

    #[test]
    fn everything_else_is_left_to_wg() {
        for (content, rest) in [
            ("", ""),
            ("\n", "\n"),
            ("x", "x\n"),
            ("x\n \t", "x\n"),
            ("MTU = 1\n[Interface]\nMTU = 2\n", "MTU = 1\n[Interface]\n"),
            ("[ Interface ]\nMTU = 1\n", "[ Interface ]\nMTU = 1\n"),
            ("[Interface]x\nMTU = 1\n", "[Interface]x\nMTU = 1\n"),
            ("[Interface] # x\nMTU = 1\n", "[Interface] # x\n"),
            ("[Interface]=x\nMTU = 1\n", "[Interface]=x\n"),
            ("[Interface]\n[Peer]\nAddress = 1\n", "[Interface]\n[Peer]\nAddress = 1\n"),
            (
                "[Peer]\n[Interface]\nPrivateKey = k\nMTU 5 = 4\n#MTU = 5\n",
                "[Peer]\n[Interface]\nPrivateKey = k\nMTU 5 = 4\n#MTU = 5\n",
            ),
            ("[Interface]\r\n \tx \\ y\t\r\n\0a\0b \n", "[Interface]\r\nx \\ y\t\r\nab\n"),
        ] {
            assert_eq!(str::from_utf8(&parse(content).rest), Ok(rest), "{content:?}");
        }
    }

    #[test]
    fn a_line_without_equals_is_its_own_value() {
        let file = parse("[Interface]\nMTU\nAddress\nTable # = 5\n");
        assert_eq!((file.mtu.as_deref(), file.table.as_deref()), (Some("MTU"), Some("Table")));
        assert_eq!(file.addresses, ["Address"]);
    }

    #[test]
    fn an_empty_value_takes_the_earlier_one_back() {
        let file = parse("[Interface]\nMTU = 5\nMTU =\nTable = 5\nTable = #\nAddress =\n");
        assert_eq!((file.mtu, file.table), (None, None));
        assert!(file.addresses.is_empty());
    }

    #[test]
    fn only_save_config_can_be_wrong() {
        for (value, expected) in [
            ("= true", Ok(true)),
            ("= False # true", Ok(false)),
            ("= maybe", Err("`maybe' is neither true nor false")),
            ("=", Err("`' is neither true nor false")),
            ("", Err("`SaveConfig' is neither true nor false")),
        ] {
            let file = File::parse(format!("[Interface]\nSaveConfig{value}").as_bytes());
            let found = file.map(|file| file.save).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{value}");
        }
    }
}
