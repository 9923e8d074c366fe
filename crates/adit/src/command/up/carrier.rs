//! The link of a tunnel: a daemon that carries its packets, the hooks that come before everything
//! else, and its keys and peers.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use config::wg::Settings;
use host::signals::Signals;
use host::{Change, Error, Network, plan};

use super::lock;
use crate::command::quick::transcript::{Transcript, run};
use crate::command::quick::up::ourselves;
use crate::command::wg::interface;

/// For a tunnel that comes up.
pub struct Carrier<'a> {
    /// All that its interface is given.
    pub settings: &'a Settings,
    /// What runs before that.
    pub pre_up: &'a [Vec<u8>],
    /// Whether the kernel carries the packets.
    pub kernel: bool,
    /// What keeps the next step from being taken.
    pub signals: Option<&'a Signals>,
    /// Whether a link of that name is there that somebody else has made meanwhile.
    pub foreign: bool,
}

/// For a tunnel that goes down.
pub struct End;

impl Carrier<'_> {
    fn start_daemon(&mut self, link: &str) -> Result<(), Error> {
        // It is soon there; a Ctrl-C meanwhile must not leave it in between.
        let mut daemon = ourselves();
        let attempt = || format!("start a daemon for {link}");
        let fail = |error| Error::new(attempt(), error);
        let starting = lock::announce_start(link).map_err(fail)?;
        daemon.args(["daemon", "--", link]).process_group(0);
        daemon.stdin(starting.try_clone().map_err(fail)?);
        let (mut said, stderr) = io::pipe().map_err(fail)?;
        match env::var_os("LOG_LEVEL") {
            None => drop(daemon.stderr(stderr)),
            // Whoever wants its log wants it where it is looked for.
            Some(_) => drop(stderr),
        }
        let started = run(&mut daemon, None);
        // Its copies are open until then, too.
        drop((daemon, starting));
        lock::await_start(link)
            .map_err(|failure| Error::new(attempt(), io::Error::other(failure.to_string())))?;
        started.map_err(|mut failure| {
            // It says itself that it has made none. One that was killed may have.
            self.foreign = failure.status == 1;
            let mut why = String::new();
            // Without it nothing better is known than the status.
            let _ = said.read_to_string(&mut why);
            let why = why.trim_end().trim_start_matches("adit: ").to_owned();
            failure.text = failure.text.or(Some(why).filter(|it| !it.is_empty()));
            because(attempt(), failure)
        })
    }
}

impl plan::Carrier for Carrier<'_> {
    fn start(&mut self, link: &str) -> Result<(), Error> {
        if self.kernel {
            let made = Network::open()?.apply(Change::CreateLink(link, "wireguard"));
            self.foreign = made.is_err();
            made.map_err(|error| match error.cause().kind() {
                io::ErrorKind::Unsupported => Error::new(
                    format!("create wireguard {link}"),
                    io::Error::other(
                        "this kernel has no WireGuard: load it by `modprobe wireguard', or leave \
                         --kernel out",
                    ),
                ),
                _ => error,
            })?;
        } else {
            self.start_daemon(link)?;
        }
        hooks("PreUp", self.pre_up, link)?;
        interface::configure(link.as_ref(), self.settings)
            .map_err(|error| Error::new(format!("set keys and peers of {link}"), error))
    }

    fn may_go_on(&self) -> Result<(), Error> {
        match self.signals.and_then(Signals::read) {
            None => Ok(()),
            Some(signal) => {
                let cause = format!("a signal came ({signal:?})");
                Err(Error::new("go on", io::Error::other(cause)))
            }
        }
    }

    fn end(&mut self, link: &str, network: &mut Network) -> Result<(), Error> {
        if self.foreign { Ok(()) } else { End.end(link, network) }
    }
}

impl plan::Carrier for End {
    fn start(&mut self, link: &str) -> Result<(), Error> {
        Err(Error::new(format!("start {link}"), io::ErrorKind::Unsupported.into()))
    }

    fn may_go_on(&self) -> Result<(), Error> {
        Ok(())
    }

    fn end(&mut self, link: &str, network: &mut Network) -> Result<(), Error> {
        let daemon = interface::connect(link.as_ref()).ok().flatten();
        network.apply(Change::DeleteLink(link))?;
        if let Some(daemon) = daemon {
            has_ended(daemon, LONG);
        }
        Ok(())
    }
}

/// How long a daemon may take to follow its link, which goes now, or has gone before.
const LONG: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_secs(2);

/// Whether a daemon goes on though its link is not here: somebody has moved it to another network
/// namespace.
pub fn serves_elsewhere(link: &str) -> bool {
    let Ok(Some(daemon)) = interface::connect(link.as_ref()) else { return false };
    !has_ended(daemon, SHORT)
}

/// Ends a daemon that goes on though its link is not here.
pub fn dismiss(link: &str) {
    if let Ok(Some(daemon)) = interface::connect(link.as_ref()) {
        // It ends with its socket (spec §2.1).
        let _ = fs::remove_file(interface::socket(link.as_ref()));
        has_ended(daemon, SHORT);
    }
}

/// Whether it ends in time. It says nothing unasked, so that there is nothing to read before.
fn has_ended(mut daemon: UnixStream, patience: Duration) -> bool {
    let read = daemon.set_read_timeout(Some(patience)).and_then(|()| daemon.read(&mut [0]));
    // One that ends before it has taken the call resets it.
    !read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Runs the user's own commands, up to the first that fails.
pub fn hooks(which: &str, commands: &[Vec<u8>], link: &str) -> Result<(), Error> {
    Transcript::new()
        .hooks(commands, link)
        .map_err(|failure| because(format!("run the {which} hook of {link}"), failure))
}

fn because(attempt: String, failure: crate::command::quick::Failure) -> Error {
    let crate::command::quick::Failure { text, status } = failure;
    let cause = text.unwrap_or_else(|| format!("it ended with status {status}"));
    Error::new(attempt, io::Error::other(cause))
}
