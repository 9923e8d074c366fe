//! Scenarios of traffic: every byte that goes in comes out, in each direction and family.
//!
//! They are played by every pairing of implementations, and by adit with each offload disabled.

use crate::lab::traffic::{tcp, trains, udp};
use crate::lab::{Family, Lab, Pair, Pairing};

pub fn pings_cross_in_both_families_over_both(lab: &Lab, pairing: Pairing) {
    for family in [Family::V4, Family::V6] {
        let Pair { left, right, .. } = Pair::new(lab, pairing, family);
        left.ns.ping(right.v4, 10);
        right.ns.ping(left.v4, 10);
        left.ns.ping(right.v6, 10);
        right.ns.ping(left.v6, 10);
    }
}

pub fn transfers_arrive_whole(lab: &Lab, pairing: Pairing) {
    for family in [Family::V4, Family::V6] {
        let Pair { left, right, .. } = Pair::new(lab, pairing, family);
        for (from, to) in [(&left, &right), (&right, &left)] {
            for (address, whole) in [(to.v4, 1420 - 28), (to.v6, 1420 - 48)] {
                tcp(&from.ns, &to.ns, address, 20 << 20);
                udp(&from.ns, &to.ns, address, 0..=whole);
                // In fragments they are another flow, which may overtake.
                udp(&from.ns, &to.ns, address, (whole + 1..1500).chain([9000, 65_000]));
            }
        }
    }
}

pub fn packets_of_every_size_up_to_the_mtu_pass_unfragmented(lab: &Lab, pairing: Pairing) {
    let pair = Pair::new(lab, pairing, Family::V4);
    let Pair { left, right, .. } = &pair;
    for mtu in [68, 69, 576, 1279, 1280, 1281, 1419, 1420, 1421, 1499, 1500] {
        pair.set_mtu(mtu);
        left.address_inside();
        right.address_inside();
        for (family, headers, smallest) in [(Family::V4, 28, 68), (Family::V6, 48, 1280)] {
            let Some(most) = mtu.checked_sub(headers).filter(|_| mtu >= smallest) else {
                continue;
            };
            for (from, to) in [(left, right), (right, left)] {
                from.ns.ping_whole(to.address(family), 2, most);
            }
        }
    }
    for (from, to) in [(left, right), (right, left)] {
        udp(&from.ns, &to.ns, to.v4, 68 - 28..=1500 - 28);
        udp(&from.ns, &to.ns, to.v6, 0..=1500 - 48);
    }
}

pub fn full_packets_cross_a_smaller_outer_path(lab: &Lab, pairing: Pairing) {
    for family in [Family::V4, Family::V6] {
        let Pair { left, right, .. } = Pair::linked(lab, pairing, family);
        left.ns.ip("link set eth0 mtu 1280");
        right.ns.ip("link set eth0 mtu 1280");
        for (from, to) in [(&left, &right), (&right, &left)] {
            from.ns.ping_whole(to.v4, 10, 1392);
            tcp(&from.ns, &to.ns, to.v4, 4 << 20);
            udp(&from.ns, &to.ns, to.v6, 1180..=1372);
        }
    }
}

pub fn a_path_that_shrinks_under_way_is_noticed(lab: &Lab, pairing: Pairing) {
    for family in [Family::V4, Family::V6] {
        let Pair { left, right, .. } = Pair::linked(lab, pairing, family);
        tcp(&left.ns, &right.ns, right.v4, 1 << 20);
        left.ns.ip("link set eth0 mtu 1280");
        right.ns.ip("link set eth0 mtu 1280");
        tcp(&left.ns, &right.ns, right.v4, 4 << 20);
        tcp(&right.ns, &left.ns, left.v6, 4 << 20);
    }
}

/// Datagrams that a sender hands to its kernel many at a time (`UDP_SEGMENT`), as QUIC does.
pub fn trains_of_datagrams_arrive_whole(lab: &Lab, pairing: Pairing) {
    let Pair { left, right, .. } = Pair::new(lab, pairing, Family::V4);
    left.greet(&right);
    for (from, to) in [(&left, &right), (&right, &left)] {
        for (address, whole) in [(to.v4, 1420 - 28), (to.v6, 1420 - 48)] {
            for segment in [1, 100, 1000, whole - 1, whole] {
                trains(&from.ns, &to.ns, address, segment);
            }
        }
    }
}
