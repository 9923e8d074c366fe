//! Settings of the kernel, by their path below /proc/sys, as in `net/ipv4/ip_forward`. Those of the
//! network are those of the calling thread's network namespace.

use std::fs;

use crate::Error;

/// Reads a setting, without the end of its line.
///
/// # Errors
///
/// That it does not exist: the kernel was built, or the container made, without it.
pub fn get(path: &str) -> Result<String, Error> {
    match fs::read_to_string(format!("/proc/sys/{path}")) {
        Ok(value) => Ok(value.trim_end().into()),
        Err(cause) => Err(Error::new(format!("read {path}"), cause)),
    }
}

/// Whether a reverse path filter of any link is strict: it drops what comes in where no answer would
/// leave (`rp_filter = 1`). A link that is still to come has the default.
#[must_use]
pub fn is_reverse_path_strict() -> bool {
    const LINKS: &str = "net/ipv4/conf";
    let links = fs::read_dir(format!("/proc/sys/{LINKS}")).into_iter().flatten().flatten();
    let mut filters =
        links.map(|link| get(&format!("{LINKS}/{}/rp_filter", link.file_name().display())));
    filters.any(|filter| filter.is_ok_and(|value| value == "1"))
}

/// Writes `value` to a setting.
///
/// # Errors
///
/// That it does not exist, or must not be written: in containers, /proc/sys often is read-only.
pub fn set(path: &str, value: &str) -> Result<(), Error> {
    fs::write(format!("/proc/sys/{path}"), value)
        .map_err(|cause| Error::new(format!("set {path} to {value}"), cause))
}
