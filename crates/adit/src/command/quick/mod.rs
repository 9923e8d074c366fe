//! `adit wg-quick`, and the program by the name of `wg-quick`: wg-quick(8) (spec §4).
//!
//! What wg-quick does by running `ip`, `nft` and `sysctl` is done here by asking the kernel, under
//! the same announcements. Other programs run where the user wants one: hooks, `resolvconf`, another
//! WireGuard in user space.

mod dns;
mod down;
mod mtu;
mod route;
mod save;
pub(super) mod transcript;
pub(super) mod up;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use config::quick::File;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::{source, words};
use transcript::Transcript;

const USAGE: &str = "\
Usage: wg-quick [ up | down | save | strip ] [ CONFIG_FILE | INTERFACE ]

  up     Creates the interface, and gives it keys, peers, addresses, routes and name servers
  down   Takes all of that back
  save   Writes the interface as it is now over its configuration file
  strip  Prints the part of the configuration file that is for wg(8)

CONFIG_FILE is named after the interface: INTERFACE.conf. Given only INTERFACE, it is
/etc/wireguard/INTERFACE.conf. Beyond what wg(8) reads, its [Interface] section may have:

  Address = IP[/CIDR], ...              addresses of the interface; may be repeated
  DNS = IP | DOMAIN, ...                name servers, and domains to search in; may be repeated
  MTU = BYTES                           else found by looking at the ways to the peers
  Table = auto | off | NUMBER | NAME    the routing table; `off' makes no routes
  PreUp, PostUp, PreDown, PostDown = COMMAND
                                        for bash(1), %i being the interface; may be repeated
  SaveConfig = true | false             whether `down' saves first

The kernel carries the packets. If it has no WireGuard, adit does, or the program that the environment
variable WG_QUICK_USERSPACE_IMPLEMENTATION names.
";

/// What came of something; what failed has not been told yet.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

/// What to say on stderr, if anything, and the exit status.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) text: Option<String>,
    pub(super) status: u8,
}

impl Failure {
    /// Our own fault-finding.
    fn new(text: impl Display) -> Self {
        Self { text: Some(text.to_string()), status: 1 }
    }

    /// Somebody else has said why.
    fn told(status: u8) -> Self {
        Self { text: None, status }
    }

    /// The daemon of an interface does not answer.
    fn unreadable(interface: &str, error: &io::Error) -> Self {
        Self::new(format!("cannot ask {interface}: {}", words(error)))
    }

    fn tell(&self) {
        if let Some(text) = &self.text {
            eprintln!("wg-quick: {text}");
        }
    }
}

impl From<host::Error> for Failure {
    /// With the status of an ip(8) that the kernel refuses.
    fn from(error: host::Error) -> Self {
        Self { text: Some(error.to_string()), status: 2 }
    }
}

/// An interface, and what its configuration file wants of it.
struct Quick {
    interface: String,
    path: PathBuf,
    file: File,
}

/// Does what the words behind `wg-quick` ask for.
pub fn wg_quick(arguments: Vec<OsString>) -> ExitCode {
    let outcome = match &*arguments {
        [word] if ["help", "-h", "--help"].iter().any(|help| word == help) => {
            eprint!("{USAGE}");
            Ok(())
        }
        [verb, argument] => match verb.to_str() {
            Some("up") => with_file(&arguments, argument, up::up),
            Some("down") => with_file(&arguments, argument, down::down),
            Some("save") => with_file(&arguments, argument, save::save),
            Some("strip") => with_file(&arguments, argument, strip),
            _ => Err(usage()),
        },
        _ => Err(usage()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.status)
        }
    }
}

fn usage() -> Failure {
    eprint!("{USAGE}");
    Failure::told(1)
}

/// Reads the file, as root: whoever is not asks sudo(8) to begin again.
fn with_file(arguments: &[OsString], argument: &OsStr, run: fn(&Quick) -> Outcome) -> Outcome {
    const PROMPT: &str =
        "wg-quick must be run as root. Please enter the password for %u to continue: ";
    if !geteuid().is_root() {
        let program = env::current_exe().map_err(Failure::new)?;
        let mut sudo = Command::new("sudo");
        sudo.args(["-p", PROMPT, "--"]).arg(program).arg("wg-quick").args(arguments);
        let error = sudo.exec();
        let text = format!("must be run as root: sudo: {}", words(&error));
        return Err(Failure { text: Some(text), status: transcript::NOT_FOUND });
    }
    run(&Quick::read(config::quick::path(argument))?)
}

impl Quick {
    fn read(path: PathBuf) -> Outcome<Self> {
        let about = |why: &str| Failure::new(format!("`{}' {why}", path.display()));
        if !path.exists() {
            return Err(about("does not exist"));
        }
        let interface = config::quick::interface(path.as_os_str()).ok_or_else(|| {
            Failure::new("The config file must be a valid interface name, followed by .conf")
        })?;
        let unreadable = |error| about(&format!("cannot be read: {}", words(&error)));
        let path = path.canonicalize().map_err(unreadable)?;
        warn_if_world_accessible(&path);
        let content = source::content(&path).map_err(unreadable)?;
        let file = File::parse(&content).map_err(Failure::new)?;
        Ok(Self { interface: interface.to_owned(), path, file })
    }
}

/// Everybody may do something with the file, and get there.
fn warn_if_world_accessible(path: &Path) {
    let mode = |path: &Path| fs::metadata(path).map(|file| file.permissions().mode()).unwrap_or(0);
    let directory = path.parent().map_or(0, mode);
    if mode(path) & directory & 0o007 != 0 {
        eprintln!("Warning: `{}' is world accessible", path.display());
    }
}

/// `wg-quick strip`: what is left for `wg`.
fn strip(quick: &Quick) -> Outcome {
    let mut text = Zeroizing::new(Vec::with_capacity(quick.file.rest.len() + 1));
    text.extend_from_slice(&quick.file.rest);
    text.push(b'\n');
    match super::say_as("wg-quick", &text) {
        ExitCode::SUCCESS => Ok(()),
        _ => Err(Failure::told(1)),
    }
}
