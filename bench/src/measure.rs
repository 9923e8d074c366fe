//! What is measured.

mod datagrams;
mod handshakes;
mod latency;
mod peers;
mod span;
mod streams;

use crate::Outcome;
use crate::candidate::Candidate;
use crate::lab::Tunnel;
use crate::options::Options;

/// One experiment, which gives several numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// One TCP stream from the left to the right.
    Tcp1,
    /// Four of them.
    Tcp4,
    /// One from the right to the left.
    Reverse,
    /// One in each direction.
    Bidir,
    /// As many datagrams with 64 bytes of payload as one thread can send.
    Udp64,
    /// The same with 1300 bytes.
    Udp1300,
    /// Trains of datagrams with acknowledgements.
    Quic,
    /// Echo requests through an idle tunnel.
    Ping,
    /// Echo requests beside one TCP stream.
    LoadedPing,
    /// Many configured peers that say nothing.
    Peers,
    /// Many peers that all want a session.
    Handshakes,
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name with its unit.
    pub name: &'static str,
    pub better: Better,
}

/// In which direction a number is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
    /// It explains other numbers and is not compared.
    Neither,
}

/// One number.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub metric: Metric,
    pub value: f64,
}

impl Test {
    pub const ALL: [Self; 11] = [
        Self::Tcp1,
        Self::Tcp4,
        Self::Reverse,
        Self::Bidir,
        Self::Udp64,
        Self::Udp1300,
        Self::Quic,
        Self::Ping,
        Self::LoadedPing,
        Self::Peers,
        Self::Handshakes,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp1",
            Self::Tcp4 => "tcp4",
            Self::Reverse => "reverse",
            Self::Bidir => "bidir",
            Self::Udp64 => "udp64",
            Self::Udp1300 => "udp1300",
            Self::Quic => "quic",
            Self::Ping => "ping",
            Self::LoadedPing => "loaded-ping",
            Self::Peers => "peers",
            Self::Handshakes => "handshakes",
        }
    }

    /// Whether it sends traffic through a tunnel, rather than to a daemon of its own.
    pub fn needs_tunnel(self) -> bool {
        !matches!(self, Self::Peers | Self::Handshakes)
    }

    /// Runs it through a tunnel.
    pub fn run(self, tunnel: &Tunnel, seconds: u32) -> Outcome<Vec<Sample>> {
        match self {
            Self::Tcp1 => streams::run(tunnel, seconds, &[streams::Way::Forward]),
            Self::Tcp4 => streams::run(tunnel, seconds, &[streams::Way::Forward; 4]),
            Self::Reverse => streams::run(tunnel, seconds, &[streams::Way::Back]),
            Self::Bidir => {
                streams::run(tunnel, seconds, &[streams::Way::Forward, streams::Way::Back])
            }
            Self::Udp64 => datagrams::flood(tunnel, seconds, 64),
            Self::Udp1300 => datagrams::flood(tunnel, seconds, 1300),
            Self::Quic => datagrams::quic(tunnel, seconds),
            Self::Ping => latency::idle(tunnel, seconds),
            Self::LoadedPing => latency::loaded(tunnel, seconds),
            Self::Peers | Self::Handshakes => Err("this test has a daemon of its own".into()),
        }
    }

    /// Runs it with a daemon of its own.
    pub fn run_alone(self, candidate: &Candidate, options: &Options) -> Outcome<Vec<Sample>> {
        match self {
            Self::Peers => peers::run(candidate, options.peers, options.seconds),
            Self::Handshakes => handshakes::run(candidate),
            _ => Err("this test needs a tunnel".into()),
        }
    }
}

impl Metric {
    /// Of which more is better.
    const fn more(name: &'static str) -> Self {
        Self { name, better: Better::More }
    }

    /// Of which less is better.
    const fn less(name: &'static str) -> Self {
        Self { name, better: Better::Less }
    }

    /// That explains the others.
    const fn aside(name: &'static str) -> Self {
        Self { name, better: Better::Neither }
    }

    fn is(self, value: f64) -> Sample {
        Sample { metric: self, value }
    }
}

/// The most memory that either daemon has ever had resident.
pub fn peak_memory(tunnel: &Tunnel) -> Outcome<Option<Sample>> {
    const PEAK: Metric = Metric::less("peak RSS MiB");
    let peaks = tunnel.usage()?.into_iter().map(|usage| usage.peak_resident);
    Ok(peaks.max().map(|bytes| PEAK.is(bytes as f64 / f64::from(1 << 20))))
}
