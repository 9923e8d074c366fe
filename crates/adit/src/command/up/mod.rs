//! `adit up`, `adit reload` and `adit down`: a tunnel as its file wants it, whatever there was
//! before (docs/up.md).

mod attempt;
mod carrier;
mod converge;
mod down;
mod endpoints;
mod failure;
mod keep;
mod lock;
mod numbers;
mod pauses;
mod save;
mod status;
mod strays;
mod sync;
mod tunnel;
mod want;
mod ways;
mod wish;

use std::ffi::OsString;
use std::process::ExitCode;

use host::{Link, Network};
use lexopt::Arg;
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use super::say;
use super::wg::interface;
use failure::{Failure, Kind, Outcome};

pub use keep::{keep, tell_of_silence};
pub use status::status;
pub use tunnel::{JOURNALS, RUNTIME, has_made};

const UP: &str = "\
Usage: adit up [OPTION...] FILE | NAME

Brings a tunnel up as its file wants it, or changes one that is up to what its file wants now. What
is as it should be is left alone; sessions go on. NAME stands for /etc/wireguard/NAME.conf.

  --dry-run     prints what would be done and why, and changes nothing
  --guard, --no-guard
                whether nothing may leave beside a full tunnel; without either, as the file says in
                `#! Guard = on | off', else it may not
  --kernel      lets the kernel carry the packets, not adit
  --foreground  stays, looks after the tunnel until SIGTERM comes, and then takes it down; SIGHUP
                reloads the file (for a service manager, which is told when the tunnel is up)
";
const RELOAD: &str = "\
Usage: adit reload [--dry-run] [--guard | --no-guard] FILE | NAME

As `adit up' for a tunnel that is up. Every key of the file that has changed is applied; hooks run
again only if they have changed.

  --dry-run   prints what would be done and why, and changes nothing
";
const DOWN: &str = "\
Usage: adit down [--dry-run] FILE | NAME

Takes a tunnel down, and leaves the machine as it was before.

  --dry-run   prints what would be done, and changes nothing
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Up,
    /// Only a tunnel that is up.
    Reload,
    Down,
}

/// What a command line asks for.
struct Options {
    verb: Verb,
    /// A file, or the name of a tunnel.
    argument: OsString,
    dry_run: bool,
    foreground: bool,
    kernel: bool,
    guard: Option<bool>,
}

impl Options {
    /// Those of a verb alone.
    fn new(verb: Verb, argument: OsString) -> Self {
        Self { verb, argument, dry_run: false, foreground: false, kernel: false, guard: None }
    }
}

/// Runs `adit up`.
pub fn up(arguments: Vec<OsString>) -> ExitCode {
    run(Verb::Up, arguments)
}

/// Runs `adit reload`.
pub fn reload(arguments: Vec<OsString>) -> ExitCode {
    run(Verb::Reload, arguments)
}

/// Runs `adit down`.
pub fn down(arguments: Vec<OsString>) -> ExitCode {
    run(Verb::Down, arguments)
}

fn run(verb: Verb, arguments: Vec<OsString>) -> ExitCode {
    let usage = match verb {
        Verb::Up => UP,
        Verb::Reload => RELOAD,
        Verb::Down => DOWN,
    };
    let outcome = match parse(verb, arguments) {
        Ok(None) => return say(usage),
        Ok(Some(options)) => may_change_the_network().and_then(|()| obey(&options)),
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(text) => say(&text),
        Err(failure) => failure.tell(),
    }
}

/// Acts as a command line wants it, or tells what that would do.
fn obey(options: &Options) -> Outcome<String> {
    match (options.verb, options.dry_run) {
        (Verb::Down, true) => return down::tell(&options.argument),
        (Verb::Down, false) => down::down(&options.argument)?,
        (Verb::Up | Verb::Reload, true) => return attempt::tell(options),
        (Verb::Up | Verb::Reload, false) => make(options)?,
    }
    Ok(String::new())
}

/// Makes a tunnel what its file wants, and tells if that leads nowhere.
fn make(options: &Options) -> Outcome {
    attempt::up(options)?;
    // In the foreground it is down again by now.
    let name = wish::name(&options.argument)?;
    for fault in ways::circles(&name) {
        eprintln!("adit: {fault}");
    }
    if let Some(narrow) = ways::too_wide(&name) {
        eprintln!("adit: {narrow}");
    }
    for strays in strays::let_in_vain(&name) {
        eprintln!("adit: {name}: {strays}");
    }
    for (network, link) in ways::taken(&name).unwrap_or_default() {
        eprintln!(
            "adit: {network} leads through {link}, which had it before, and not into {name}: give \
             `Address' another network"
        );
    }
    Ok(())
}

/// None for a call for help.
fn parse(verb: Verb, arguments: Vec<OsString>) -> Outcome<Option<Options>> {
    let mut words = lexopt::Parser::from_args(arguments);
    let mut options = Options::new(verb, OsString::new());
    let mut argument = None;
    while let Some(word) = words.next()? {
        match word {
            Arg::Long("dry-run") => options.dry_run = true,
            Arg::Long("foreground") if verb == Verb::Up => options.foreground = true,
            Arg::Long("kernel") if verb == Verb::Up => options.kernel = true,
            Arg::Long("guard") if verb != Verb::Down => options.guard = Some(true),
            Arg::Long("no-guard") if verb != Verb::Down => options.guard = Some(false),
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Value(word) if argument.is_none() => argument = Some(word),
            word => return Err(word.unexpected().into()),
        }
    }
    let argument = argument
        .ok_or_else(|| Failure::new(Kind::Usage, "say which tunnel: a file, or its name"))?;
    Ok(Some(Options { argument, ..options }))
}

/// Tells all keepers to look: each guard lets the datagrams of one tunnel out by their port and mark,
/// or those of several that carry each other.
pub fn tell_keepers() {
    keep::tell(|_| true);
}

fn may_change_the_network() -> Outcome {
    must_be_root("change the network")?;
    // Root of a container may lack what makes root of it (capabilities(7)).
    let ours = capabilities(None);
    if ours.map_or(true, |ours| ours.effective.contains(CapabilitySet::NET_ADMIN)) {
        return Ok(());
    }
    let text = "no right to change the network: this needs the capability NET_ADMIN; start a \
                container with --cap-add NET_ADMIN --device /dev/net/tun";
    Err(Failure::new(Kind::Permission, text))
}

fn must_be_root(to: &str) -> Outcome {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(Kind::Permission, format!("only root may {to}: try it with sudo")))
}

/// What a plan begins with if the link of a tunnel has another name: what else is not as it should
/// be is seen only when it has its own.
fn told_of_name(name: &str, link: &Link) -> String {
    let line = format!("~ name {name} of link {} (was {})", link.index, link.name);
    format!("{line}  # everything else goes by its name, and is looked at afterwards\n")
}

fn not_running(name: &str) -> Failure {
    let text = match of_others().iter().any(|other| other == name) {
        true => format!(
            "{name} is up, but not by `adit up': `wg show {name}' shows it, and `wg-quick down \
             {name}' or `ip link delete {name}' ends it"
        ),
        false => format!("{name} is not up: `adit up {name}' brings it up"),
    };
    Failure::new(Kind::NotRunning, text)
}

/// The tunnels of this network namespace, where `adit up' has made none of them.
fn of_others() -> Vec<String> {
    let links = Network::open().and_then(|mut network| network.links()).unwrap_or_default();
    let names = interface::names().unwrap_or_default().into_iter();
    let names = names.filter_map(|name| name.into_string().ok());
    names.filter(|name| links.iter().any(|link| link.name == *name)).collect()
}
