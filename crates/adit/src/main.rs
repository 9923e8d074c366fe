//! adit: a complete WireGuard for Linux, one program under several names.

/// As that of the standard library, but it does not panic if nobody can be told: what is half done must be
/// taken back all the same.
macro_rules! eprint {
    ($($what:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!($($what)*));
    }};
}

/// Likewise.
macro_rules! eprintln {
    ($($what:tt)*) => { eprint!("{}\n", format_args!($($what)*)) };
}

mod command;

use std::env;
use std::ffi::CString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    take_name();
    command::run(env::args_os())
}

/// Is found by the name that it was called by (ps, pgrep, logs), also where it started itself anew:
/// from /proc/self/exe, the kernel calls it "exe".
fn take_name() {
    let name = env::args_os().next();
    let name = name.as_deref().map(Path::new).and_then(Path::file_name);
    if let Some(name) = name.and_then(|name| CString::new(name.as_encoded_bytes()).ok()) {
        // A name is a courtesy.
        let _ = rustix::thread::set_name(&name);
    }
}
