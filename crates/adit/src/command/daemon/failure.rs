//! Why the daemon did not start: every text that it ends with, in one place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::{fmt, io};

use crate::command::words;

/// What is said on stderr, behind the program's name, before exit 1.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense.
    Usage(lexopt::Error),
    /// The command line names no interface.
    NoName,
    /// No interface can have this name, and why.
    BadName(OsString, &'static str),
    /// An environment variable makes no sense: its name, and what it may be.
    Variable(&'static str, String),
    /// The interface could not be created.
    Interface(String, io::Error),
    /// The interface could not be prepared.
    Prepare(host::Error),
    /// What was handed down, by the name of its variable, is of no use.
    Inherited(&'static str, io::Error),
    /// Somebody answers at the UAPI socket.
    SocketInUse(PathBuf),
    /// The UAPI socket could not be created.
    Socket(PathBuf, io::Error),
    /// The tunnel could not be started.
    Start(io::Error),
    /// The process in the background could not be started.
    Background(io::Error),
    /// The process in the background has told why it did not start.
    Told(String),
    /// The process in the background ended without a word.
    Vanished(ExitStatus),
}

const TUN: &str = "/dev/net/tun";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => write!(f, "{error}\n{}", super::USAGE),
            Self::NoName => write!(f, "the interface's name is missing\n{}", super::USAGE),
            Self::BadName(name, why) => {
                write!(f, "`{}' cannot name an interface: {why}", name.display())
            }
            Self::Variable(name, expected) => write!(f, "{name} must be {expected}"),
            Self::Interface(name, error) => no_interface(f, name, error),
            Self::Prepare(error) => write!(f, "cannot {error}"),
            Self::Inherited(name, error) => {
                write!(f, "{name} names no descriptor that can be used: {}", words(error))
            }
            Self::SocketInUse(path) => write!(
                f,
                "{} is in use: a tunnel of this name is running, perhaps in another network \
                 namespace",
                path.display()
            ),
            Self::Socket(path, error) => no_socket(f, path, error),
            Self::Start(error) => write!(f, "cannot start the tunnel: {}", words(error)),
            Self::Background(error) => {
                write!(f, "cannot start in the background: {}", words(error))
            }
            Self::Told(reason) => f.write_str(reason),
            Self::Vanished(status) => write!(
                f,
                "the process in the background has ended ({status}); start it with --foreground \
                 to see why"
            ),
        }
    }
}

fn no_interface(f: &mut fmt::Formatter<'_>, name: &str, error: &io::Error) -> fmt::Result {
    use io::ErrorKind::{NotFound, PermissionDenied, ResourceBusy};

    // The driver of an existing device node may be missing, too.
    const NO_DEVICE: i32 = 19;
    match error.kind() {
        ResourceBusy => write!(
            f,
            "interface `{name}' exists already; delete it with `ip link delete {name}', or choose \
             another name"
        ),
        PermissionDenied => write!(
            f,
            "no right to create interface `{name}': this needs root or CAP_NET_ADMIN, and \
             access to {TUN}; start a container with --cap-add NET_ADMIN --device {TUN}"
        ),
        kind if kind == NotFound || error.raw_os_error() == Some(NO_DEVICE) => write!(
            f,
            "the TUN device {TUN} is missing; load its driver with `modprobe tun', or start a \
             container with --device {TUN}"
        ),
        _ => write!(f, "cannot create interface `{name}': {}", words(error)),
    }
}

fn no_socket(f: &mut fmt::Formatter<'_>, path: &Path, error: &io::Error) -> fmt::Result {
    write!(f, "cannot create {}: {}", path.display(), words(error))
}
