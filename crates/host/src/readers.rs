//! What is read of what others say, for whoever tries readers with bytes that nobody would send
//! (`fuzz/`). Nothing here asks or changes anything.

use crate::netlink::{self, Notice};
use crate::nft::{Table, encode};
use crate::{Family, dns, lookup, notice, read, rule, tables, unreachable};

/// Reads a piece of netlink, as an answer and as a notice, whatever it is about.
pub fn netlink(piece: &[u8]) {
    let replies = netlink::replies(piece);
    let links: Vec<_> = replies.iter().filter_map(read::read_link).collect();
    let table = Table::of_tunnel("adit-wg0".into(), "wg0", Family::V4, &[], 1);
    let _ = encode::is_as_it_was_written(&table, &replies);
    let _ = encode::is_told_as(&table, &replies, &table.name, &replies);
    for reply in replies {
        let _ = (read::read_address(&reply), read::read_counts(&reply));
        drop(read::read_route(&reply, &links));
        drop(lookup::read_path(&reply, &links));
        let _ = rule::read(&reply);
        drop(encode::read_table(&reply));
        drop(encode::read_notice(&reply));
        let dormant = encode::is_dormant(&reply);
        assert!(!dormant || !reply.payload.is_empty(), "a flag out of nothing");
        drop(notice::read_route_notice(&Notice { reply, port: 0 }));
    }
}

/// Reads bytes as messages of ICMP, as the answer of a name server, as a message of the bus, and as
/// each of the files in which a machine says who answers for names.
pub fn resolvers(bytes: &[u8]) {
    dns::try_readers(bytes);
    let nobody = std::net::Ipv4Addr::UNSPECIFIED.into();
    let _ = (unreachable::v4(bytes, nobody), unreachable::v6(bytes, nobody));
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(tables::named(&text, ""), None, "a table without a name");
}
