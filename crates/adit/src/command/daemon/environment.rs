//! What the daemon takes from its environment.

use std::env;
use std::fmt::Display;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::str::FromStr;
use std::thread;

use engine::Options;
use engine::offload::Kind;

use super::defects;
use super::failure::Failure;
use super::log::Level;

/// More queues than this serve nobody: each costs memory, and the kernel's hash spreads flows over
/// few of them.
const MAX_WORKERS: usize = 8;
/// Beyond this, the protocol's timers are shorter than the machine's own delays.
const MAX_TIME_SCALE: u32 = 1000;
/// The kernel's largest error number (`MAX_ERRNO`).
const MAX_ERRNO: i32 = 4095;

/// The variables that the daemon reads, understood.
#[derive(Debug)]
pub struct Environment {
    /// `WG_PROCESS_FOREGROUND=1`: as `--foreground`.
    pub foreground: bool,
    /// `LOG_LEVEL`: `verbose`, `debug`, `error` (also when it is anything else) or `silent`.
    pub level: Level,
    /// Whether whoever set `LOG_LEVEL` wants to read something.
    pub wants_log: bool,
    /// `WG_TUN_FD`: the number under which a queue of the interface was handed down.
    pub tun: Option<RawFd>,
    /// `WG_UAPI_FD`: likewise the listening socket.
    pub uapi: Option<RawFd>,
    /// How many threads may carry packets.
    pub workers: usize,
    /// The release of a kernel that may corrupt trains, which are done without then.
    pub defect: Option<String>,
    /// Mostly for tests.
    pub options: Options,
}

impl Environment {
    /// Reads all of them.
    pub fn read() -> Result<Self, Failure> {
        let level = variable("LOG_LEVEL");
        let (workers, all_workers) = workers()?;
        let known = match level.as_deref() {
            Some("verbose" | "debug") => Level::Debug,
            Some("silent") => Level::Silent,
            _ => Level::Error,
        };
        let (options, defect) = options()?;
        Ok(Self {
            foreground: variable("WG_PROCESS_FOREGROUND").as_deref() == Some("1"),
            level: known,
            wants_log: level.is_some() && known != Level::Silent,
            tun: number("WG_TUN_FD", 0..=RawFd::MAX)?,
            uapi: number("WG_UAPI_FD", 0..=RawFd::MAX)?,
            workers,
            defect,
            options: Options { all_workers, ..options },
        })
    }
}

/// How many workers there may be, and whether from the start. `ADIT_WORKERS`: so many at once, or
/// `..N`: one, and N when that is saturated. Without it, as many as there are processors, where there
/// are enough for those who make and take the packets, too.
fn workers() -> Result<(usize, bool), Failure> {
    const NAME: &str = "ADIT_WORKERS";
    const ENOUGH: usize = 4;
    let Some(text) = variable(NAME) else {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let most = if processors < ENOUGH { 1 } else { processors.min(MAX_WORKERS) };
        return Ok((most, false));
    };
    let most = text.strip_prefix("..");
    Ok((parse(NAME, most.unwrap_or(&text), 1..=MAX_WORKERS)?, most.is_none()))
}

/// `ADIT_OFFLOAD`: the offloads to use, by name; without it, those that the kernel is known to do
/// harm with are left out. `ADIT_FAIL`: errors to make up, as `NAME=ERRNO`.
/// `ADIT_TIME_SCALE`: how many times as fast the protocol's clock runs.
fn options() -> Result<(Options, Option<String>), Failure> {
    let (mut options, mut defect) = (Options::default(), None);
    if let Some(names) = variable("ADIT_OFFLOAD") {
        let names = names.split(',').filter(|name| !name.is_empty());
        let known: Option<Vec<Kind>> = names.map(offload).collect();
        let used = known.ok_or_else(|| {
            let all = Kind::ALL.map(name).join(", ");
            Failure::Variable("ADIT_OFFLOAD", format!("a list of {all}"))
        })?;
        options.without = Kind::ALL.into_iter().filter(|kind| !used.contains(kind)).collect();
    } else {
        defect = defects::of_trains();
        options.without.extend(defect.as_ref().map(|_| Kind::UdpSegment));
    }
    if let Some(faults) = variable("ADIT_FAIL") {
        options.faults = self::faults(&faults).ok_or_else(|| {
            Failure::Variable("ADIT_FAIL", "a list of udp-gso=ERRNO, tun-tso=ERRNO".into())
        })?;
    }
    options.time_scale = number("ADIT_TIME_SCALE", 1..=MAX_TIME_SCALE)?.unwrap_or_default();
    Ok((options, defect))
}

/// How an offload is called.
pub fn name(offload: Kind) -> &'static str {
    match offload {
        Kind::TunTcp => "tun-tso",
        Kind::TunUdp => "tun-uso",
        Kind::UdpSegment => "udp-gso",
        Kind::UdpGro => "udp-gro",
    }
}

/// The offload of this name.
fn offload(called: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|offload| name(*offload) == called)
}

fn faults(list: &str) -> Option<Vec<(Kind, i32)>> {
    let fault = |fault: &str| {
        let (name, errno) = fault.split_once('=')?;
        let kind = offload(name);
        let errno = errno.parse().ok().filter(|errno| (1..=MAX_ERRNO).contains(errno))?;
        Some((kind.filter(|kind| matches!(kind, Kind::UdpSegment | Kind::TunTcp))?, errno))
    };
    list.split(',').map(fault).collect()
}

fn number<T>(name: &'static str, range: RangeInclusive<T>) -> Result<Option<T>, Failure>
where
    T: FromStr + PartialOrd + Display,
{
    variable(name).map(|text| parse(name, &text, range)).transpose()
}

fn parse<T>(name: &'static str, text: &str, range: RangeInclusive<T>) -> Result<T, Failure>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|number| range.contains(number));
    let expected = || format!("a number from {} to {}", range.start(), range.end());
    number.ok_or_else(|| Failure::Variable(name, expected()))
}

/// What is no text is no word that we know either, whatever stands for the broken parts.
fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
