//! Token buckets, and how many handshake messages a source may have answered while the device is under load.

use alloc::collections::BTreeMap;
use core::net::IpAddr;
use core::time::Duration;

use crate::time::Time;

/// 20 messages a second …
const COST: Duration = Duration::from_millis(50);
/// … after a burst of 5.
const FULL: Duration = Duration::from_millis(250);
/// Buckets that are full again make room this often.
const SWEEP: Duration = Duration::from_secs(1);
const CAPACITY: usize = 1 << 16;

/// A token bucket: when it will be full again. At first it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket(Time);

impl Bucket {
    /// Spends a token at `now`, unless none is left. Each takes the time `cost` to come back, and `full`
    /// is what all of them take.
    pub fn spend(&mut self, now: Time, cost: Duration, full: Duration) -> bool {
        let then = now.max(self.0) + cost;
        let allowed = then <= now + full;
        if allowed {
            self.0 = then;
        }
        allowed
    }
}

/// A bucket for each source address. Bounded, and swept only when used.
#[derive(Default)]
pub(crate) struct Limiter {
    buckets: BTreeMap<u64, Bucket>,
    swept: Time,
}

impl Limiter {
    /// Spends a token of `source`, if it has one.
    pub fn allow(&mut self, source: IpAddr, now: Time) -> bool {
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            // A bucket that is full is as good as none.
            self.buckets.retain(|_, bucket| bucket.0 > now);
        }
        let source = key(source);
        if self.buckets.len() >= CAPACITY && !self.buckets.contains_key(&source) {
            return false;
        }
        self.buckets.entry(source).or_default().spend(now, COST, FULL)
    }
}

/// An IPv4 address, or the /64 of an IPv6 one: whoever has one address of it has them all.
fn key(source: IpAddr) -> u64 {
    match source {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        // Real IPv6 prefixes never have 32 leading zero bits, so the families cannot meet.
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::vectors::{entries, load};

    #[test]
    fn the_bucket_matches_the_known_answers() {
        let bucket = load("token_bucket");
        assert_eq!(
            [COST, FULL].map(|tokens| tokens.as_nanos() as u64),
            ["packet_cost_ns", "max_tokens_ns"].map(|name| bucket[name].as_u64().unwrap()),
        );
        let mut limiter = Limiter::default();
        for step in entries(&bucket["steps_time_ns_allowed"]) {
            let now = Time::from_start(Duration::from_nanos(step[0].as_u64().unwrap()));
            let allowed = limiter.allow([192, 0, 2, 1].into(), now);
            assert_eq!(allowed, step[1].as_bool().unwrap(), "at {now:?}");
        }
    }

    fn at(ms: u64) -> Time {
        Time::from_start(Duration::from_millis(10_000 + ms))
    }

    /// Spec §5.2, S3.
    #[test]
    fn a_burst_of_five_then_one_every_fifty_milliseconds() {
        let mut limiter = Limiter::default();
        let source = IpAddr::from([192, 0, 2, 1]);
        for (step, (ms, allowed)) in (0..).zip([
            (0, true),
            (0, true),
            (0, true),
            (0, true),
            (0, true),
            (0, false),
            (50, true),
            (50, false),
            (150, true),
            (150, true),
            (150, false),
        ]) {
            assert_eq!(limiter.allow(source, at(ms)), allowed, "at {ms} ms");
            assert!(limiter.allow([192, 0, 2, 100 + step].into(), at(ms)), "another address");
        }
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_share_a_bucket() {
        let mut limiter = Limiter::default();
        let address = |network: u16, host: u16| {
            Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host).into()
        };
        for host in 0..5 {
            assert!(limiter.allow(address(0, host), at(0)));
        }
        assert!(!limiter.allow(address(0, 9), at(0)));
        assert!(limiter.allow(address(1, 0), at(0)));
    }

    #[test]
    fn memory_is_bounded_and_idle_sources_make_room() {
        let mut limiter = Limiter::default();
        for source in 0..CAPACITY as u32 {
            assert!(limiter.allow(Ipv4Addr::from_bits(source).into(), at(0)));
        }
        let newcomer = Ipv4Addr::from_bits(u32::MAX).into();
        assert!(!limiter.allow(newcomer, at(900)));
        assert!(limiter.allow(newcomer, at(1_900)));
        assert_eq!(limiter.buckets.len(), 1);
    }
    #[test]
    fn what_is_not_spent_comes_back_until_the_bucket_is_full() {
        let [cost, full] = [1, 50].map(Duration::from_millis);
        let mut bucket = Bucket::default();
        for (micros, allowed) in [
            (0, 50),
            (999, 0),
            (1000, 1),
            (1500, 0),
            (11_000, 10),
            (1_000_000, 50),
            (1_001_999, 1),
            (1_002_000, 1),
        ] {
            let now = Time::from_start(Duration::from_micros(micros));
            let count = (0..1000).filter(|_| bucket.spend(now, cost, full)).count();
            assert_eq!(count, allowed, "at {micros} µs");
        }
    }
}
