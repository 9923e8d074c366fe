//! Settings of the kernel, by their path below /proc/sys.

use std::fs;

use crate::Error;

/// Writes `value` to the setting `path`, as in `net/ipv4/ip_forward`, for the network namespace of
/// the calling thread.
///
/// # Errors
///
/// That it does not exist, or must not be written: in containers, /proc/sys often is read-only.
pub fn set(path: &str, value: &str) -> Result<(), Error> {
    fs::write(format!("/proc/sys/{path}"), value)
        .map_err(|cause| Error::new(format!("set {path} to {value}"), cause))
}
