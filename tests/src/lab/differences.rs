//! What the peers cannot do, by name. A scenario listed here is not played with that peer.

use super::{Implementation, Pairing};
use Implementation::{Boringtun, Gotatun, WireguardGo};
use Side::{Either, Left, Right};

/// On which side of a scenario an implementation fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Either,
}

/// (who, on which side, in which scenario, why). From their sources and from running them:
/// boringtun 0.7.1, gotatun 0.10.2, and wireguard-go 0.0.20220316 as Debian 12 has it.
#[rustfmt::skip] // A table is read by its columns.
const DIFFERENCES: &[(Implementation, Side, &str, &str)] = &[
    (Boringtun, Either, "a_preshared_key_changed_under_way_holds_from_the_next_handshake",
        NO_CHANGE),
    (Boringtun, Left, "allowed_ips_change_under_way",
        NO_CHANGE),
    (Boringtun, Left, "an_endpoint_may_change_its_family",
        NO_CHANGE),
    (Boringtun, Left, "a_changed_address_is_followed",
        "its connected socket keeps the removed source address"),
    (Boringtun, Left, "a_persistent_keepalive_speaks_at_once",
        "its first keepalive waits for the interval"),
    (Boringtun, Left, "n09_v6_after_v4_is_followed",
        NO_CHANGE),
    (Boringtun, Left, "n13_a_routing_loop_is_survived",
        NO_CHANGE),
    (Boringtun, Left, "n16_an_endpoint_inside_the_tunnel",
        NO_CHANGE),
    (Boringtun, Left, "n20_replies_leave_from_the_address_addressed",
        NO_CHANGE),
    (Boringtun, Either, "n04_bytes_are_counted_exactly",
        "counts the inner packets, not the datagrams"),
    (Boringtun, Either, "n05_large_packets_over_v4",
        "keeps the MTU that it was started with"),
    (Boringtun, Either, "n06_over_v6_with_usual_and_large_packets",
        "keeps the MTU that it was started with"),
    (Boringtun, Left, "n10_a_disallowed_source_moves_the_endpoint_but_is_not_delivered",
        "delivers what the prefixes of another peer own"),
    (Boringtun, Right, "n18_an_icmp_error_finds_its_way_back_through_nat",
        "sends no ICMP errors"),
    (Boringtun, Left, "n19_a_source_address_that_goes_away_is_replaced",
        "its connected socket keeps the removed source address"),
    (Boringtun, Left, "n22_a_better_route_changes_the_source",
        "its connected socket keeps the old source address"),
    (Boringtun, Right, "n20_replies_leave_from_the_address_addressed",
        "answers from any of its addresses"),
    (Boringtun, Right, "n21_an_address_of_another_interface_serves_too",
        "answers from any of its addresses"),
    (Boringtun, Left, "a_link_local_endpoint_has_a_zone",
        "understands no zones"),
    (Gotatun, Right, "a_wrong_preshared_key_makes_no_session",
        "calls a handshake complete when it has answered an initiation"),
    (Gotatun, Either, "a_preshared_key_changed_under_way_holds_from_the_next_handshake",
        NEW_PEER),
    (Gotatun, Left, "a_private_key_changed_under_way_makes_a_new_session_at_once",
        NEW_PEER),
    (Gotatun, Either, "a_changed_port_is_followed",
        CHANGES_PORT),
    (Gotatun, Left, "a_firewall_mark_is_on_every_outer_packet",
        NO_MARK),
    (Gotatun, Left, "a_persistent_keepalive_keeps_its_interval",
        "sends its first keepalives sooner"),
    (Gotatun, Left, "a_link_local_endpoint_has_a_zone",
        "understands no zones"),
    (Gotatun, Either, "n04_bytes_are_counted_exactly",
        "counts the inner packets, not the datagrams"),
    (Gotatun, Either, "n05_large_packets_over_v4",
        "keeps the MTU that it was started with"),
    (Gotatun, Either, "n06_over_v6_with_usual_and_large_packets",
        "keeps the MTU that it was started with"),
    (Gotatun, Left, "n09_v6_after_v4_is_followed",
        NEW_PEER),
    (Gotatun, Left, "n08_a_new_address_and_port_are_followed",
        CHANGES_PORT),
    (Gotatun, Left, "n10_a_disallowed_source_moves_the_endpoint_but_is_not_delivered",
        NEW_PEER),
    (Gotatun, Right, "n10_a_disallowed_source_moves_the_endpoint_but_is_not_delivered",
        CHANGES_PORT),
    (Gotatun, Left, "n11_a_new_private_key_works_at_once",
        NEW_PEER),
    (Gotatun, Left, "n17_policy_routing_sends_everything_through_the_tunnel",
        NO_MARK),
    (Gotatun, Right, "n18_an_icmp_error_finds_its_way_back_through_nat",
        "sends no ICMP errors"),
    (Gotatun, Right, "n20_replies_leave_from_the_address_addressed",
        "answers from any of its addresses"),
    (Gotatun, Right, "n21_an_address_of_another_interface_serves_too",
        "answers from any of its addresses"),
    (WireguardGo, Either, "n26_peers_keep_their_order",
        "lists its peers in random order"),
    (WireguardGo, Left, "a_changed_address_is_followed",
        "sends from the removed address until the next handshake"),
    (WireguardGo, Left, "n07_padding_respects_the_mtu",
        "misses changes of the MTU once its interface was moved"),
    (WireguardGo, Right, "n18_an_icmp_error_finds_its_way_back_through_nat",
        "sends no ICMP errors"),
    (WireguardGo, Left, "n19_a_source_address_that_goes_away_is_replaced",
        "sends from the removed address until the next handshake"),
    (WireguardGo, Either, "n27_single_allowed_ips_are_removed",
        "too old to remove a single prefix"),
    (WireguardGo, Either, "the_port_is_open_while_the_interface_is_up",
        LINK_STATE),
    (WireguardGo, Either, "down_means_silence_and_up_a_handshake_at_once",
        LINK_STATE),
    (WireguardGo, Either, "up_starts_the_persistent_keepalive",
        LINK_STATE),
    (WireguardGo, Either, "many_toggles_end_in_the_last_state",
        LINK_STATE),
    (WireguardGo, Either, "an_interface_has_no_address_of_its_own_making",
        "leaves the link-local address to the kernel"),
    (WireguardGo, Either, "a_renamed_interface_keeps_working",
        "misses changes of the MTU under another name"),
    (WireguardGo, Either, "a_moved_interface_keeps_working",
        "misses changes of the MTU once its interface was moved"),
    (WireguardGo, Either, "a_change_of_its_socket_does_not_end_the_daemon",
        "ends when the attributes of its socket change"),
    (WireguardGo, Either, "the_removal_of_its_socket_ends_the_daemon",
        "removes whatever lies at the path of its socket"),
    (WireguardGo, Either, "peers_come_and_go_without_a_trace",
        "gives memory back when its collector likes to"),
    (WireguardGo, Either, "a_fresh_interface_says_almost_nothing",
        "binds its port before its interface is up"),
    (WireguardGo, Either, "a_busy_port_leaves_the_old_one_working",
        "closes the old port first"),
    (WireguardGo, Either, "a_set_is_done_whole_or_not_at_all",
        "does what stands before the error"),
    (WireguardGo, Either, "everything_set_is_given_back_in_order",
        PEER_ORDER),
    (WireguardGo, Either, "peers_are_listed_as_they_came",
        PEER_ORDER),
    (WireguardGo, Either, "stalled_clients_block_neither_traffic_nor_others",
        "a client that stalls in a set blocks the others"),
    (WireguardGo, Either, "what_wg_cannot_set_is_explained",
        "closes the old port first"),
    (WireguardGo, Either, "the_lines_of_a_peer_mean_what_they_say",
        PEER_ORDER),
];

const LINK_STATE: &str = "cannot see whether its interface is up on present kernels";

const PEER_ORDER: &str = "lists its peers in random order";

const NEW_PEER: &str =
    "forgets the sessions of a peer that is modified, and calls it again too soon";

const CHANGES_PORT: &str = "loses what is sent and asked of it while it changes its port";

const NO_MARK: &str = "knows no firewall mark";

const NO_CHANGE: &str = "its control thread panics when an existing peer is modified";

/// Why `scenario` is not played by this pairing, if so.
pub fn known_difference(scenario: &str, pairing: Pairing) -> Option<String> {
    let on = |who, side| {
        (side != Right && who == pairing.left) || (side != Left && who == pairing.right)
    };
    DIFFERENCES
        .iter()
        .find(|(who, side, name, _)| *name == scenario && on(*who, *side))
        .map(|(who, _, _, why)| format!("{who}: {why}"))
}
