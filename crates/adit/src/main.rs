//! adit: a complete WireGuard for Linux, one program under several names.

mod command;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    command::run(env::args_os())
}
