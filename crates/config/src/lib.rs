//! The words of a configuration: keys as text, the UAPI protocol, and names for what went wrong.
//!
//! Text in, values of [`proto`] out, and back. Nothing here opens a file or a socket, or asks the
//! machine anything: what is read and written is handed in.

#![forbid(unsafe_code)]

pub mod discard;
pub mod file;
pub mod key;
pub mod quick;
pub mod trouble;
pub mod uapi;
pub mod wg;
