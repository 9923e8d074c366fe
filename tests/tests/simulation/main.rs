//! The protocol in a simulated network: minutes in milliseconds, everything from one seed.
//!
//! The judge of [`adit_tests::net`] looks on in every test: what it checks is not repeated here.

mod configuration;
mod cookies;
mod data;
mod handshake;
mod random;
mod roaming;
mod timers;

use std::time::Duration;

use adit_tests::net::{Net, Node, Parcel, What};
use proto::PeerChange;

/// The most that chance adds to a timer.
const JITTER: Duration = Duration::from_millis(333);
/// There and back in fair weather.
const ROUND_TRIP: Duration = Duration::from_millis(20);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// `pause` is `wait`, or a little longer by chance.
#[track_caller]
fn assert_jittered(pause: Duration, wait: Duration) {
    assert!((wait..=wait + JITTER).contains(&pause), "{pause:?} instead of {wait:?} and a little");
}

/// The only datagram on the wire that is `what`, and takes it off together with everything else.
#[track_caller]
fn intercept(net: &mut Net, what: What) -> Parcel {
    let mut parcels = net.intercept();
    parcels.retain(|parcel| parcel.what() == Some(what));
    assert_eq!(parcels.len(), 1, "{what:?} on the wire");
    parcels.remove(0)
}

/// Lets time pass until machine `by` has sent `count` datagrams that are `what`; they are still on the wire.
fn run_until_sent(net: &mut Net, by: usize, what: What, count: usize) {
    let patience = net.age() + seconds(60);
    while net.sent(by, what).len() < count {
        assert!(net.age() < patience, "{by} has not sent {count} times {what:?}");
        net.run(millis(5));
    }
}

/// Changes what machine `number` holds of machine `of`.
fn change(net: &mut Net, number: usize, of: usize, change: impl FnOnce(&mut PeerChange)) {
    let mut peer = Node::about(net.node(of).key);
    change(&mut peer);
    net.edit(number, |node| node.configure_peer(peer));
}
