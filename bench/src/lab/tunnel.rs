//! A tunnel of one candidate: a daemon on each of two machines, with a session.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use config::key::to_hex;
use host::ping::Ping;
use host::{Change, Prefix};
use proto::PrivateKey;

use super::usage::Usage;
use super::{Daemon, Machine, Wire, join};
use crate::Outcome;
use crate::candidate::Candidate;

/// Every daemon's UDP port, each on a machine of its own.
const PORT: u16 = 51820;
/// Of the tunnel: 1500 less what the outer headers, of IPv6 at worst, take.
const MTU: u32 = 1420;
/// How long the first packet may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two machines that reach each other through two daemons, or directly if there are none.
pub struct Tunnel {
    pub left: Machine,
    pub right: Machine,
    /// The left one, then the right one; empty if the candidate has no program.
    pub daemons: Vec<Daemon>,
}

impl Tunnel {
    /// Builds it over such a wire and waits until it carries a packet. The left one is the
    /// initiator.
    pub fn open(candidate: &Candidate, wire: Wire) -> Outcome<Self> {
        let (mut left, mut right) = (Machine::new(1)?, Machine::new(2)?);
        join(&mut left, &mut right)?;
        wire.apply(&left)?;
        wire.apply(&right)?;
        let mut tunnel = Self { left, right, daemons: Vec::new() };
        if candidate.command.is_empty() {
            tunnel.left.inside = tunnel.left.outside;
            tunnel.right.inside = tunnel.right.outside;
        } else {
            tunnel.start_daemons(candidate)?;
        }
        tunnel.await_answer()?;
        Ok(tunnel)
    }

    fn start_daemons(&mut self, candidate: &Candidate) -> Outcome<()> {
        let [left_key, right_key] = [private_key()?, private_key()?];
        let [left, right] = [&self.left, &self.right].map(|it| (it.outside, it.inside));
        for (here, (outside, inside), own, other) in [
            (&mut self.left, right, &left_key, &right_key),
            (&mut self.right, left, &right_key, &left_key),
        ] {
            let daemon = Daemon::start(candidate, here)?;
            daemon.configure(&format!(
                "private_key={}\nlisten_port={PORT}\npublic_key={}\nendpoint={outside}:{PORT}\nallowed_ip={inside}/32\n",
                *to_hex(own.as_bytes()),
                *to_hex(&other.public_key().0),
            ))?;
            let interface = daemon.interface.as_str();
            here.network.apply_all(&[
                Change::AddAddress(interface, Prefix::v4(here.inside, 24)),
                Change::SetMtu(interface, MTU),
                Change::SetUp(interface),
            ])?;
            self.daemons.push(daemon);
        }
        Ok(())
    }

    /// Pings until the other end answers; the first packet starts the handshake.
    fn await_answer(&self) -> Outcome<()> {
        let ping = self.ping()?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if round_trip(&ping, Duration::from_millis(10))?.is_some() {
                return Ok(());
            }
        }
        Err(format!("no packet came through within {PATIENCE:?}").into())
    }

    /// Sends echo requests from the left machine to the right one.
    pub fn ping(&self) -> Outcome<Ping> {
        let to = self.right.inside;
        Ok(self.left.within(|| Ping::open(to))??)
    }

    /// What its daemons have used so far, the left one's first.
    pub fn usage(&self) -> Outcome<Vec<Usage>> {
        self.daemons.iter().map(Daemon::usage).collect()
    }

    /// TCP segments that both machines have sent again so far.
    pub fn retransmissions(&self) -> Outcome<u64> {
        let mut sum = 0;
        for machine in [&self.left, &self.right] {
            let snmp = machine.within(|| fs::read_to_string("/proc/thread-self/net/snmp"))??;
            sum +=
                counter(&snmp, "Tcp:", "RetransSegs").ok_or("/proc/net/snmp has no RetransSegs")?;
        }
        Ok(sum)
    }
}

/// One echo request and the time until its reply, or none within a second. Not sooner than
/// `interval` after its start does it return.
pub fn round_trip(ping: &Ping, interval: Duration) -> Outcome<Option<Duration>> {
    Ok(ping.series(1, interval, |_| Ok::<_, io::Error>(()))?.median)
}

/// A new key.
pub fn private_key() -> Outcome<PrivateKey> {
    let mut seed = [0; 32];
    sys::random::fill(&mut seed);
    Ok(PrivateKey::new(seed).ok_or("the random generator gives zeros")?)
}

/// A number of `/proc/net/snmp`, where a line of names is followed by a line of values.
fn counter(snmp: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix(protocol));
    let (names, values) = (lines.next()?, lines.next()?);
    let position = names.split_whitespace().position(|found| found == name)?;
    values.split_whitespace().nth(position)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_below_its_name() {
        let snmp = "Ip: Forwarding\nIp: 1\nTcp: InSegs RetransSegs\nTcp: 7 5\n";
        assert_eq!(counter(snmp, "Tcp:", "RetransSegs"), Some(5));
        assert_eq!(counter(snmp, "Udp:", "RetransSegs"), None);
    }
}
