//! Many peers that all want a session at once.

mod initiator;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use config::key::to_hex;
use host::{Change, Prefix, Route};
use proto::{Kind, PrivateKey, kind};
use sys::poll::Epoll;
use sys::udp::{Family, Group, Local, Outgoing, ReceiveBatch, Udp};

use self::initiator::Initiator;
use super::{Metric, Sample};
use crate::Outcome;
use crate::candidate::Candidate;
use crate::lab::{CABLE, Daemon, Machine, join, private_key};

const RATE: Metric = Metric::more("handshakes/s");
/// Of the responder alone, per handshake that it completes.
const COST_EACH: Metric = Metric::less("responder CPU µs/handshake");
const COOKIES: Metric = Metric::aside("cookie replies/handshake");

const INITIATORS: u16 = 2000;
/// Initiators that wait for an answer at the same time.
const OUTSTANDING: usize = 32;
/// How long one of them waits before it sends again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long all may take together.
const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 51820;

/// Lets every initiator complete one handshake. Each has an address of its own, since a responder
/// limits what one address may ask of it. The first initiations are made before the clock starts,
/// and the responses are verified after it has stopped.
pub fn run(candidate: &Candidate) -> Outcome<Vec<Sample>> {
    let (mut left, mut right) = (Machine::new(1)?, Machine::new(2)?);
    join(&mut left, &mut right)?;
    let daemon = Daemon::start(candidate, &right)?;
    let responder = private_key()?;
    let to = SocketAddr::from((right.outside, PORT));
    let initiators = (0..INITIATORS).map(|_| Initiator::new(responder.public_key(), to));
    let mut initiators = initiators.collect::<Outcome<Vec<_>>>()?;
    introduce(&mut right, &daemon, &responder, &initiators)?;
    give_addresses(&mut left, &mut right)?;

    let group = left.within(|| Group::bind(Family::V4, 0, 1, 0))??;
    let mut exchange = Exchange::new(&group.handshake, to)?;
    let (before, start) = (daemon.usage()?.cpu, Instant::now());
    exchange.complete_all(&mut initiators)?;
    let time = start.elapsed();
    let cpu = daemon.usage()?.cpu.saturating_sub(before);
    initiators.iter_mut().try_for_each(Initiator::verify)?;

    let each = |sum: f64| sum / f64::from(INITIATORS);
    Ok(vec![
        RATE.is(f64::from(INITIATORS) / time.as_secs_f64()),
        COST_EACH.is(each(cpu.as_secs_f64() * 1e6)),
        COOKIES.is(each(f64::from(exchange.cookies))),
    ])
}

/// Tells the responder its key and all its peers, and brings it up.
fn introduce(
    machine: &mut Machine,
    daemon: &Daemon,
    own: &PrivateKey,
    initiators: &[Initiator],
) -> Outcome<()> {
    let mut lines = format!("private_key={}\nlisten_port={PORT}\n", *to_hex(own.as_bytes()));
    for initiator in initiators {
        lines.push_str(&format!("public_key={}\n", *to_hex(&initiator.public_key.0)));
    }
    daemon.configure(&lines)?;
    Ok(machine.network.apply(Change::SetUp(&daemon.interface))?)
}

/// Gives the left machine an address for each initiator, and the right one a route to them.
fn give_addresses(left: &mut Machine, right: &mut Machine) -> Outcome<()> {
    for number in 0..INITIATORS {
        let address = Change::AddAddress(CABLE, Prefix::v4(address_of(number), 32));
        left.network.apply(address)?;
    }
    Ok(right.network.apply(Change::AddRoute(&Route {
        destination: Prefix::v4(address_of(0), 16),
        gateway: Some(left.outside.into()),
        link: CABLE.into(),
        table: host::MAIN_TABLE,
        origin: host::Origin::BOOT,
    }))?)
}

/// 10.2.0.0 and those after it.
fn address_of(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 2, high, low)
}

/// The inverse; none for other addresses.
fn number_of((address, _): Local) -> Option<usize> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [10, 2, high, low] => Some(u16::from_be_bytes([high, low]).into()),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

/// All initiators behind one socket, each at its own address.
struct Exchange<'a> {
    socket: &'a Udp,
    to: SocketAddr,
    epoll: Epoll,
    inbox: ReceiveBatch,
    /// Who waits for an answer, and since when; who waits longest comes first.
    waiting: VecDeque<(usize, Instant)>,
    cookies: u32,
}

impl<'a> Exchange<'a> {
    fn new(socket: &'a Udp, to: SocketAddr) -> Outcome<Self> {
        let epoll = Epoll::new()?;
        epoll.add(socket, 0)?;
        Ok(Self {
            socket,
            to,
            epoll,
            inbox: ReceiveBatch::new(OUTSTANDING, 2048),
            waiting: VecDeque::new(),
            cookies: 0,
        })
    }

    /// Lets `OUTSTANDING` of them wait at a time, until each has a response.
    fn complete_all(&mut self, initiators: &mut [Initiator]) -> Outcome<()> {
        let deadline = Instant::now() + LIMIT;
        let (mut fresh, mut completed) = (0..initiators.len(), 0);
        while completed < initiators.len() {
            while self.waiting.len() < OUTSTANDING
                && let Some(number) = fresh.next()
            {
                self.send(initiators, number)?;
            }
            while let Some((number, _)) =
                self.waiting.pop_front_if(|(_, since)| since.elapsed() > PATIENCE)
            {
                initiators.get_mut(number).map_or(Ok(()), Initiator::try_again)?;
                self.send(initiators, number)?;
            }
            let _ = self.epoll.wait(Some(PATIENCE))?;
            completed += self.receive(initiators)?;
            if Instant::now() > deadline {
                return Err(format!("{completed} handshakes within {LIMIT:?}").into());
            }
        }
        Ok(())
    }

    fn send(&mut self, initiators: &[Initiator], number: usize) -> Outcome<()> {
        let source = (address_of(number as u16).into(), 0);
        if let Some(bytes) = initiators.get(number).map(Initiator::initiation) {
            let (stride, is_train) = (bytes.len(), false);
            let source = Some(source);
            self.socket.send(&Outgoing { to: self.to, source, tos: 0, bytes, stride, is_train })?;
        }
        self.waiting.push_back((number, Instant::now()));
        Ok(())
    }

    /// Takes in all answers that are there; how many handshakes that completes.
    fn receive(&mut self, initiators: &mut [Initiator]) -> Outcome<usize> {
        match self.socket.receive(&mut self.inbox) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let (mut completed, mut owed) = (0, Vec::new());
        for answer in self.inbox.datagrams() {
            let Some(number) = answer.local.and_then(number_of) else {
                continue;
            };
            let place = self.waiting.iter().position(|(waiting, _)| *waiting == number);
            let (Some(place), Some(initiator)) = (place, initiators.get_mut(number)) else {
                continue;
            };
            match kind(answer.bytes) {
                Ok(Kind::Response(_)) => {
                    initiator.keep_response(answer.bytes);
                    completed += 1;
                }
                Ok(Kind::CookieReply(_)) => {
                    initiator.take_cookie(answer.bytes)?;
                    self.cookies += 1;
                    owed.push(number);
                }
                _ => continue,
            }
            self.waiting.remove(place);
        }
        owed.into_iter().try_for_each(|number| self.send(initiators, number))?;
        Ok(completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_initiator_is_found_at_its_address() {
        for number in [0, 1, 255, 256, INITIATORS - 1] {
            let local = (address_of(number).into(), 7);
            assert_eq!(number_of(local), Some(number.into()));
        }
    }
}
