//! How much waits in the TUN, and when whom to tell that it is too much.
//!
//! A TUN takes from the machine's TCP whatever the window lets it send: nothing stops it before
//! hundreds of super-packets wait, and every other packet waits behind them. So the worker that reads
//! them tells the sender as the network does, by a congestion mark (RFC 3168) or a lost segment, at
//! the pace of CoDel (RFC 8289 §5.3). How long a packet has waited cannot be seen in a TUN; how long
//! the TUN has had no end can. And nobody is told unless somebody else has to wait.

use std::time::Duration;

use proto::Time;

use crate::packet::FlowKey;

/// Less than this, in bytes, is a burst and no queue.
const BURST: usize = 256 * 1024;
/// How long the queue may be without an end.
const TARGET: Duration = Duration::from_millis(4);
/// The time in which a sender can be expected to react.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long it counts that another flow, which had to wait, was there.
const MEMORY: Duration = Duration::from_secs(2);

/// Watches the queue of one TUN.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Since when the queue has not been empty, and what has been read from it since.
    since: Option<Time>,
    bytes: usize,
    /// The flow of the last super-packet, and when one that has had to wait for it was last there.
    flow: Option<FlowKey>,
    other: Time,
    /// How often senders had to be told one after the other, and when they may be told again.
    told: u32,
    next: Time,
}

impl Backlog {
    /// Notes that nothing waits any more.
    pub fn emptied(&mut self) {
        self.since = None;
        self.bytes = 0;
    }

    /// Notes that `packet` was read. True if its sender should be told to send less.
    pub fn is_too_much(&mut self, now: Time, packet: &[u8], is_super_packet: bool) -> bool {
        self.bytes += packet.len();
        let since = *self.since.get_or_insert(now);
        let waits = self.bytes > BURST && now.since(since) > TARGET;
        let flow = FlowKey::of(packet);
        // Who has waited once is remembered for as long as he comes again.
        let is_known = now.since(self.other) <= MEMORY;
        if (waits || is_known) && self.flow.is_some() && flow != self.flow {
            self.other = now;
        }
        if !is_super_packet {
            return false;
        }
        self.flow = flow;
        if !waits || now.since(self.other) > MEMORY || now < self.next {
            return false;
        }
        self.told = if now.since(self.next) > INTERVAL { 1 } else { self.told + 1 };
        self.next = now + INTERVAL.div_f64(f64::from(self.told).sqrt());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::Sample;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const SUPER_PACKET: usize = 64 * 1024;

    /// Reads a super-packet every millisecond; how often the sender was told, and when at first.
    fn read(backlog: &mut Backlog, from: u32, milliseconds: u32, packet: &[u8]) -> (u32, u32) {
        let (mut told, mut first) = (0, 0);
        for at in from..from + milliseconds {
            let now = Time::from_start(Duration::from_secs(60) + MILLISECOND * at);
            if backlog.is_too_much(now, packet, true) {
                told += 1;
                first = if told == 1 { at } else { first };
            }
        }
        (told, first)
    }

    fn bulk(port: u16) -> Vec<u8> {
        let mut packet = Sample::tcp(&[]).build();
        packet.resize(SUPER_PACKET, 0);
        packet.get_mut(20..22).expect("a port").copy_from_slice(&port.to_be_bytes());
        packet
    }

    fn disturb(backlog: &mut Backlog, at: u32) {
        let now = Time::from_start(Duration::from_secs(60) + MILLISECOND * at);
        assert!(!backlog.is_too_much(now, &Sample::udp(&[1]).build(), false));
    }

    #[test]
    fn a_flow_alone_may_keep_the_queue_as_long_as_it_likes() {
        let mut backlog = Backlog::default();
        let (told, _) = read(&mut backlog, 0, 10_000, &bulk(1));
        assert_eq!(told, 0);
    }

    #[test]
    fn a_sender_is_told_when_somebody_else_waits_and_sooner_each_time() {
        let mut backlog = Backlog::default();
        let packet = bulk(1);
        read(&mut backlog, 0, 10, &packet);
        disturb(&mut backlog, 10);
        let (told, first) = read(&mut backlog, 10, 1000, &packet);
        assert_eq!(first, 10);
        // RFC 8289: the n-th interval lasts 100 ms / √n.
        assert!((25..40).contains(&told), "{told} times in a second");
        let (told, _) = read(&mut backlog, 5000, 1000, &packet);
        assert_eq!(told, 0, "nobody has waited for a while");
    }

    #[test]
    fn who_came_before_the_queue_has_not_waited() {
        let mut backlog = Backlog::default();
        let packet = bulk(1);
        read(&mut backlog, 0, 2, &packet);
        disturb(&mut backlog, 2);
        let (told, _) = read(&mut backlog, 2, 1000, &packet);
        assert_eq!(told, 0);
    }

    #[test]
    fn who_has_waited_is_remembered_while_he_comes_again() {
        let mut backlog = Backlog::default();
        let packet = bulk(1);
        read(&mut backlog, 0, 10, &packet);
        disturb(&mut backlog, 10);
        backlog.emptied();
        for at in (1000..9000).step_by(1000) {
            disturb(&mut backlog, at);
            backlog.emptied();
        }
        let (told, first) = read(&mut backlog, 9500, 100, &packet);
        assert!(told > 0 && first < 9510, "{told} times, at first {first}");
    }

    #[test]
    fn two_flows_wait_for_each_other() {
        let mut backlog = Backlog::default();
        read(&mut backlog, 0, 10, &bulk(1));
        let (told, _) = read(&mut backlog, 10, 1, &bulk(2));
        assert_eq!(told, 1);
    }

    #[test]
    fn a_queue_that_ends_now_and_then_is_none() {
        let mut backlog = Backlog::default();
        for at in (0..1000).step_by(4) {
            disturb(&mut backlog, at);
            assert_eq!(read(&mut backlog, at, 4, &bulk(1)).0, 0);
            backlog.emptied();
        }
    }

    #[test]
    fn a_burst_is_no_queue() {
        let mut backlog = Backlog::default();
        let packet = bulk(1);
        let now = |at| Time::from_start(Duration::from_secs(60) + MILLISECOND * at);
        disturb(&mut backlog, 0);
        assert!(!backlog.is_too_much(now(0), &packet, true));
        assert!(!backlog.is_too_much(now(50), &packet, true));
    }
}
