//! A tunnel between adit and the kernel, in both roles. `interop` has much more of that, for those
//! who have the time.

use adit_tests::lab::traffic::{tcp, udp};
use adit_tests::lab::{Family, Implementation, Lab, Pair, Pairing};

use Implementation::{Adit, Kernel};

/// A handshake with a preshared key, packets of every kind, a new port, and a handshake again.
fn everything_crosses(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    pair.ping();
    let Pair { left, right, .. } = &pair;
    for (from, to) in [(left, right), (right, left)] {
        tcp(&from.ns, &to.ns, to.v4, 1 << 20);
        tcp(&from.ns, &to.ns, to.v6, 1 << 20);
        udp(&from.ns, &to.ns, to.v4, (0..=1392).step_by(8));
    }
    left.set("listen-port 9999");
    left.ns.ping(right.v4, 1);
    assert_eq!(right.sees(left).endpoint.map(|endpoint| endpoint.port()), Some(9999));
    left.forget_sessions(lab);
    pair.ping();
}

#[test]
#[ignore = "in a guest"]
fn adit_is_heard_by_the_kernel() {
    Pairing::new(Adit, Kernel).play("everything_crosses", everything_crosses);
}

#[test]
#[ignore = "in a guest"]
fn the_kernel_is_heard_by_adit() {
    Pairing::new(Kernel, Adit).play("everything_crosses", everything_crosses);
}
