//! The command line.

use std::ffi::OsString;

use lexopt::{Arg, ValueExt};

use crate::Outcome;
use crate::candidate::{self, Candidate};
use crate::lab::Wire;
use crate::measure::Test;

pub const USAGE: &str = "\
Usage: adit-bench [OPTIONS]        (cargo run --release -p adit-bench -- [OPTIONS])

Runs two daemons of each candidate in two network namespaces joined by a wire, sends the same
traffic through each in turn, A B A B, and prints medians and ratios. Needs root or user namespaces.
Parts by themselves: adit-bench parts --help

  --peer LIST     who: adit, boringtun, gotatun, wireguard-go, raw (no daemon), NAME=PATH (any build
                  of those), NAME='COMMAND WITH %i'; the first is compared with each of the others
                  (default: every one that is found). May be repeated.
  --test LIST     what: tcp1, tcp4, reverse, bidir, udp64, udp1300, quic, ping, loaded-ping, peers,
                  handshakes, all (default: tcp1,udp64,ping)
  --wire LIST     over which wire: offload (super-packets cross it whole), nicgro (1500-byte packets,
                  joined on receipt), plain (1500-byte packets), all (default: offload)
  --rounds N      interleaved rounds; the table has their medians (default 3)
  --seconds N     of each measurement, after one second of warm-up (default 5)
  --peers N       peers configured in the test of that name (default 10000)
  --json          one JSON object with the value of every round; the table goes to standard error
  --install       first installs the peers that the Rust registry offers into target/peers
  --help          this

Example: judge a change, the build before it against the one after it
  adit-bench --peer new=target/release/adit,old=/tmp/adit-before --wire all --rounds 5
";

/// What was asked for.
pub struct Options {
    /// The first is compared with each of the others.
    pub candidates: Vec<Candidate>,
    pub tests: Vec<Test>,
    pub wires: Vec<Wire>,
    pub rounds: u32,
    pub seconds: u32,
    /// Of the test of that name.
    pub peers: u32,
    pub json: bool,
    /// Not for users: this is the inner process.
    pub inside: bool,
}

impl Options {
    /// None if help was asked for. Installs peers if that was asked for.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Outcome<Option<Self>> {
        let mut options = Self {
            candidates: Vec::new(),
            tests: Vec::new(),
            wires: Vec::new(),
            rounds: 3,
            seconds: 5,
            peers: 10_000,
            json: false,
            inside: false,
        };
        let mut names = Vec::new();
        let mut install = false;
        let mut parser = lexopt::Parser::from_args(words);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("peer") => names.extend(list(&mut parser)?),
                Arg::Long("test") => options.tests.extend(chosen(
                    &list(&mut parser)?,
                    "test",
                    &Test::ALL,
                    Test::name,
                )?),
                Arg::Long("wire") => options.wires.extend(chosen(
                    &list(&mut parser)?,
                    "wire",
                    &Wire::ALL,
                    Wire::name,
                )?),
                Arg::Long("rounds") => options.rounds = number(&mut parser)?,
                Arg::Long("seconds") => options.seconds = number(&mut parser)?,
                Arg::Long("peers") => options.peers = number(&mut parser)?,
                Arg::Long("json") => options.json = true,
                Arg::Long("install") => install = true,
                Arg::Long("inside") => options.inside = true,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                argument => return Err(argument.unexpected().into()),
            }
        }
        if install && !options.inside {
            candidate::install(&names)?;
        }
        options.complete(&names)?;
        Ok(Some(options))
    }

    /// Puts the defaults where nothing was said.
    fn complete(&mut self, names: &[String]) -> Outcome<()> {
        if self.tests.is_empty() {
            self.tests = vec![Test::Tcp1, Test::Udp64, Test::Ping];
        }
        if self.wires.is_empty() {
            self.wires = vec![Wire::Offload];
        }
        self.candidates = if names.is_empty() {
            self.found()
        } else {
            let named = names.iter().map(|name| Candidate::parse(name));
            named.collect::<Outcome<_>>()?
        };
        let candidates = &self.candidates;
        let mut names: Vec<&str> = candidates.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        match names.len() {
            0 => Err("nobody to measure".into()),
            distinct if distinct < candidates.len() => {
                Err("two candidates have the same name; give one of them another with NAME=PATH"
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Every known candidate that is there; the others are named on standard error.
    fn found(&self) -> Vec<Candidate> {
        let known = Candidate::known().filter_map(|candidate| {
            candidate
                .inspect_err(|missing| {
                    if !self.inside {
                        eprintln!("adit-bench: left out: {missing}");
                    }
                })
                .ok()
        });
        known.collect()
    }
}

/// Words with commas between them.
pub fn list(parser: &mut lexopt::Parser) -> Result<Vec<String>, lexopt::Error> {
    let text = parser.value()?.string()?;
    Ok(text.split(',').map(|word| word.trim().to_owned()).collect())
}

/// From one to a million.
pub fn number(parser: &mut lexopt::Parser) -> Result<u32, lexopt::Error> {
    parser.value()?.parse_with(|text| match text.parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err("not a number from 1 to 1000000"),
    })
}

fn chosen<T: Copy>(
    words: &[String],
    kind: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Outcome<Vec<T>> {
    let mut chosen = Vec::new();
    for word in words {
        match all.iter().find(|one| name(**one) == word) {
            Some(one) => chosen.push(*one),
            None if word == "all" => chosen.extend(all),
            None => return Err(format!("there is no {kind} {word}; --help lists them").into()),
        }
    }
    Ok(chosen)
}
