//! `adit daemon`: one tunnel in user space, under the command line, environment, socket and signals
//! of wireguard-go (spec §2.1, §2.7).

mod background;
mod broker;
mod defects;
mod door;
mod environment;
mod failure;
mod interface;
mod ledger;
mod log;
mod socket;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::sync::Arc;
use std::{io, thread};

use engine::offload::Kind;
use engine::{Notice, Tunnel};
use host::confine::{Work, confine};
use host::signals::Signals;
use lexopt::Arg;
use proto::Progress;
use sys::tun::Tun;

use broker::{Broker, Gap};
use door::{Door, Frame, Whom};
use environment::Environment;
use failure::Failure;
use ledger::Ledger;
use log::{Level, Log};
use socket::Socket;

use super::notify::Manager;
use super::{inherited, words};

pub use broker::run as broker;
pub use socket::sweep;

const USAGE: &str = "\
Usage: adit daemon [-f | --foreground] INTERFACE

Creates the network interface INTERFACE and carries its packets as WireGuard does, until the
interface or the socket /var/run/wireguard/INTERFACE.sock is removed, or SIGTERM or SIGINT comes.
Configure it by `wg set INTERFACE ...'. Without -f it goes into the background when it is ready.

Environment:
  LOG_LEVEL=verbose|debug|error|silent   what to write to stderr (default: error)
  WG_PROCESS_FOREGROUND=1                as --foreground
  WG_TUN_FD=NUMBER, WG_UAPI_FD=NUMBER    descriptors to take over: the TUN, the listening socket
  ADIT_WORKERS=NUMBER|..NUMBER           threads for packets: so many at once, or one, and so many
                                         when it is saturated (default: ..8, if processors allow)
";

/// What a command line asks for.
enum Wish {
    Help,
    Version,
    Serve { name: String, foreground: bool },
}

/// Runs `adit daemon`.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let (name, foreground) = match parse(arguments) {
        Ok(Wish::Help) => return super::say(USAGE),
        Ok(Wish::Version) => return super::say(super::VERSION),
        Ok(Wish::Serve { name, foreground }) => (name, foreground),
        Err(failure) => return fail(&failure),
    };
    let outcome = Environment::read().and_then(|environment| {
        if foreground || environment.foreground || background::is_here() {
            serve(&name, &environment)
        } else {
            background::start(environment.wants_log)
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    if background::is_here() {
        // If the first process was killed meanwhile, nobody wants to know.
        let _ = background::tell(Err(failure));
    } else {
        eprintln!("adit: {failure}");
    }
    ExitCode::FAILURE
}

fn parse(arguments: Vec<OsString>) -> Result<Wish, Failure> {
    let mut words = lexopt::Parser::from_args(arguments);
    let (mut foreground, mut name) = (false, None);
    while let Some(word) = words.next().map_err(Failure::Usage)? {
        match word {
            Arg::Short('f') | Arg::Long("foreground") => foreground = true,
            Arg::Short('h') | Arg::Long("help") => return Ok(Wish::Help),
            Arg::Long("version") => return Ok(Wish::Version),
            Arg::Value(word) if name.is_none() => name = Some(word),
            word => return Err(Failure::Usage(word.unexpected())),
        }
    }
    let name = name.ok_or(Failure::NoName)?;
    match check_name(&name) {
        Ok(name) => Ok(Wish::Serve { name: name.to_owned(), foreground }),
        Err(why) => Err(Failure::BadName(name, why)),
    }
}

/// What the kernel takes as a name, and programs can say.
fn check_name(name: &OsStr) -> Result<&str, &'static str> {
    /// IFNAMSIZ, less the zero byte at the end.
    const LONGEST: usize = 15;
    let text = name.to_str().ok_or("it is not UTF-8")?;
    match text {
        "" => Err("it is empty"),
        "." | ".." => Err("it stands for a directory"),
        _ if text.len() > LONGEST => Err("it is longer than 15 bytes"),
        _ if text.starts_with('-') => Err("it begins with `-'"),
        _ if text.contains(['/', ':', '%']) => Err("it contains `/', `:' or `%'"),
        _ if text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err("it contains white space")
        }
        _ => Ok(text),
    }
}

/// Serves until the tunnel ends.
fn serve(name: &str, environment: &Environment) -> Result<(), Failure> {
    // Before any thread exists, so that none of them is interrupted.
    let signals = Signals::new().map_err(Failure::Start)?;
    let handed_down = |number: Option<_>, name| {
        number.map(inherited::take).transpose().map_err(|error| Failure::Inherited(name, error))
    };
    let queue = handed_down(environment.tun, "WG_TUN_FD")?;
    let listener = handed_down(environment.uapi, "WG_UAPI_FD")?;
    inherited::close().map_err(Failure::Start)?;
    let (name, tuns) = match queue {
        Some(queue) => {
            interface::inherit(queue).map_err(|error| Failure::Inherited("WG_TUN_FD", error))?
        }
        None => (name.to_owned(), interface::create(name, environment.workers)?),
    };
    let queue = tuns.first().ok_or(io::ErrorKind::NotFound.into()).and_then(interface::once_more);
    let queue = queue.map_err(Failure::Start)?;
    let socket = match listener {
        Some(listener) => Socket::inherit(&name, listener)
            .map_err(|error| Failure::Inherited("WG_UAPI_FD", error))?,
        None => Socket::open(&name)?,
    };
    let log = Arc::new(Log::new(environment.level, &name));
    if let Some(release) = &environment.defect {
        let (trains, all) = (environment::name(Kind::UdpSegment), Kind::ALL.map(environment::name));
        let text = format!(
            "Doing without {trains}: Linux {release} may corrupt what it sends so (7.1.5 does not); \
             ADIT_OFFLOAD={} uses it all the same",
            all.join(",")
        );
        log.say(Level::Debug, &text);
    }
    let (broker, is_apart) = Broker::start(&name, &socket.file, queue).map_err(Failure::Start)?;
    let broker = Arc::new(broker);
    let outcome = Frame::new(&socket, signals, &log).and_then(|frame| {
        let ledger = Arc::new(Ledger::new(Arc::clone(&broker)));
        let starter = Starter::find()?;
        give_up_privileges(is_apart, &log);
        let tunnel = start(tuns, environment, &broker, &log, &ledger)?;
        let whom = Whom { handle: tunnel.handle(), broker: Arc::clone(&broker), log, ledger };
        carry(tunnel, &Door::new(frame, whom)?, starter);
        Ok(())
    });
    // Whoever comes next under this name need not wait for the broker's end.
    broker.remove_file();
    drop(socket);
    broker.end();
    outcome.map_err(Failure::Start)
}

/// From here on, what takes privileges is asked of the broker, if that is a process of its own, which may
/// lack some of its walls.
fn give_up_privileges(is_apart: io::Result<Vec<Gap>>, log: &Log) {
    let say = |whose: &str, gap: &Gap| {
        let level = if gap.is_usual { Level::Debug } else { Level::Error };
        log.say(level, &format!("{whose} {gap}"));
    };
    match is_apart {
        Ok(gaps) => {
            gaps.iter().for_each(|gap| say("The broker runs", gap));
            confine(Work::Carry).into_iter().for_each(|it| say("Runs", &Gap::new(it)));
        }
        Err(why) => {
            let why = words(&why);
            let text = format!("Keeps privileges: no broker for them can be started: {why}");
            log.say(Level::Error, &text);
        }
    }
}

fn start(
    tuns: Vec<Tun>,
    environment: &Environment,
    broker: &Arc<Broker>,
    log: &Arc<Log>,
    ledger: &Arc<Ledger>,
) -> io::Result<Tunnel> {
    let (asked, log, ledger) = (Arc::clone(broker), Arc::clone(log), Arc::clone(ledger));
    let observer = Box::new(move |notice| {
        if let Notice::Handshake(peer, Progress::CalledAgain) = &notice {
            asked.tell_of_silence(peer);
        }
        ledger.note(&notice);
        log.notice(&notice);
    });
    let machine = Arc::clone(broker);
    Tunnel::start(tuns, &environment.options, machine, observer)
}

/// Carries packets until the tunnel ends.
fn carry(tunnel: Tunnel, door: &Door<'_>, starter: Starter) {
    thread::scope(|scope| {
        scope.spawn(|| door.keep());
        if starter.tell_serving().is_err() {
            // Who asked for it was killed, and will not look for it.
            tunnel.handle().stop();
        }
        tunnel.wait();
        door.close();
    });
}

/// Whoever waits until the tunnel serves, and what it takes to tell him.
enum Starter {
    /// The process in the foreground.
    Foreground,
    Manager(Manager),
}

impl Starter {
    fn find() -> io::Result<Self> {
        let given_back = background::give_back_stdin();
        match background::is_here() {
            true => given_back.map(|()| Self::Foreground),
            // Nobody waits for it.
            false => Ok(Self::Manager(Manager::find())),
        }
    }

    fn tell_serving(self) -> io::Result<()> {
        match self {
            Self::Foreground => return background::tell(Ok(())),
            Self::Manager(manager) => manager.tell("READY=1"),
        }
        Ok(())
    }
}
