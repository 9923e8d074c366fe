//! The words of a configuration: keys as text, the UAPI protocol, and names for what went wrong.
//!
//! Text in, values of [`proto`] out, and back. Nothing here opens a file or a socket, or asks the
//! machine anything: what is read and written is handed in.

#![forbid(unsafe_code)]

use std::str::FromStr;

pub mod discard;
pub mod file;
pub mod key;
pub mod quick;
pub mod trouble;
pub mod uapi;
pub mod wg;

/// Decimal digits and nothing else: no sign, no space.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
