//! The argument of `wg-quick`: a configuration file, or the interface that it is for (spec §4.1).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str;

const DIRECTORY: &[u8] = b"/etc/wireguard/";
const SUFFIX: &[u8] = b".conf";
/// IFNAMSIZ, less the zero byte.
const LONGEST: usize = 16 - 1;

/// The file that an argument stands for. What could name an interface does.
#[must_use]
pub fn path(argument: &OsStr) -> PathBuf {
    match name(argument.as_bytes()) {
        Some(name) => OsString::from_vec([DIRECTORY, name.as_bytes(), SUFFIX].concat()).into(),
        None => argument.into(),
    }
}

/// The interface that a file of this path is for; `None` if it cannot be for any.
#[must_use]
pub fn interface(path: &OsStr) -> Option<&str> {
    let last = path.as_bytes().rsplit(|&byte| byte == b'/').next()?;
    name(last.strip_suffix(SUFFIX)?)
}

fn name(text: &[u8]) -> Option<&str> {
    let may = |byte: &u8| byte.is_ascii_alphanumeric() || b"_=+.-".contains(byte);
    let is_name = matches!(text.len(), 1..=LONGEST) && text.iter().all(may);
    str::from_utf8(text).ok().filter(|_| is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_a_name_or_a_path() {
        for (argument, file, name) in [
            ("wg0", "/etc/wireguard/wg0.conf", Some("wg0")),
            ("wg0.conf", "/etc/wireguard/wg0.conf.conf", Some("wg0.conf")),
            ("a_=+.-Z9", "/etc/wireguard/a_=+.-Z9.conf", Some("a_=+.-Z9")),
            ("123456789012345", "/etc/wireguard/123456789012345.conf", Some("123456789012345")),
            ("1234567890123456", "1234567890123456", None),
            ("./wg0.conf", "./wg0.conf", Some("wg0")),
            ("/x/123456789012345.conf", "/x/123456789012345.conf", Some("123456789012345")),
            ("/x/1234567890123456.conf", "/x/1234567890123456.conf", None),
            ("a:b", "a:b", None),
            ("./wg 0.conf", "./wg 0.conf", None),
            ("./.conf", "./.conf", None),
            ("./wg0.CONF", "./wg0.CONF", None),
            ("./wg0.conf/", "./wg0.conf/", None),
            ("", "", None),
        ] {
            let found = path(argument.as_ref());
            assert_eq!(found.as_os_str(), file, "{argument}");
            assert_eq!(interface(found.as_os_str()), name, "{argument}");
        }
    }
}
