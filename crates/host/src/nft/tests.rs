//! A kernel that tells of a table in other words than it was written in.

#![allow(clippy::unwrap_used)]

use std::os::fd::AsFd;

use super::*;
use crate::guard::Guard;
use crate::netlink::Reply;

fn prefix((address, length): (&str, u8)) -> Prefix {
    Prefix { address: address.parse().unwrap(), length }
}

/// A guard, and tables with all that there is without one.
fn tables() -> Vec<Table> {
    let guard = Guard {
        tunnel: "wg0".into(),
        mark: 51820,
        port: Some(51820),
        inner: vec!["wg2".into()],
        outer: vec![(51819, 4500)],
        addresses: [("10.9.0.2", 24), ("fd00:9::2", 64)].map(prefix).into(),
        tunnelled: vec![crate::Family::V4],
        on_link: Vec::new(),
        lan: true,
        excluded: vec![prefix(("198.51.100.0", 25))],
        name_servers: vec!["198.51.100.53".parse().unwrap()],
        resolvers: Vec::new(),
    };
    let addresses = ["10.9.0.2", "fd00:9::2"].map(|it| it.parse().unwrap());
    let families = [crate::Family::V4, crate::Family::V6];
    let without = crate::guard::without("wg0", &families, &addresses, 51821, 51820);
    guard.tables().into_iter().chain(without).collect()
}

/// The same with other bytes in one place of each that has them.
fn with_other_words(replies: &[Reply], from: &[u8], to: &[u8]) -> Vec<Reply> {
    let changed = |reply: &Reply| {
        let mut reply = reply.clone();
        let place = reply.payload.windows(from.len()).position(|it| it == from);
        if let Some(place) = place {
            reply.payload.splice(place..place + from.len(), to.iter().copied());
        }
        reply
    };
    replies.iter().map(changed).collect()
}

#[test]
fn whatever_words_a_kernel_has_for_a_table_it_tells_by_a_rehearsal_that_leaves_nothing() {
    let Ok(namespace) = namespace::create() else {
        println!("skipped: this needs the right to make namespaces");
        return;
    };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    for table in tables() {
        filters.apply(&[Change::SetTable(&table)]).unwrap();
        let mut told = filters.socket.request(&encode::list_chains(&table, DUMP)).unwrap();
        told.extend(filters.socket.request(&encode::list_rules(&table, DUMP)).unwrap());
        for _ in 0..2 {
            let (name, rehearsal) = encode::rehearsal(&table);
            let heard = filters.socket.transaction(encode::SUBSYSTEM, &rehearsal).unwrap();
            assert!(encode::is_told_as(&table, &told, &name, &heard), "{table}");
            // A kernel with another word for it.
            let [odd, heard_odd] =
                [&told, &heard].map(|it| with_other_words(it, b"payload", b"ballast"));
            let has_any = odd != told;
            assert_eq!(encode::is_as_it_was_written(&table, &odd), !has_any, "{table}");
            assert!(encode::is_told_as(&table, &odd, &name, &heard_odd), "{table}");
            // There, too, a table has to have its own values, all of them and no more.
            for (from, to) in [
                (&51820_u32.to_ne_bytes()[..], &51821_u32.to_ne_bytes()[..]),
                (&[10, 9, 0, 2], &[10, 9, 0, 3]),
                (b"lookup", b"lockup"),
                (b"immediate", b"intimated"),
            ] {
                let changed = with_other_words(&odd, from, to);
                let is_told = encode::is_told_as(&table, &changed, &name, &heard_odd);
                assert_eq!(is_told, changed == odd, "{table}");
            }
            let mut shorter = odd.clone();
            shorter.pop();
            assert!(!encode::is_told_as(&table, &shorter, &name, &heard_odd), "{table}");
            assert!(!encode::is_told_as(&table, &odd, &name, &[]), "{table}");
        }
    }
    let mut names: Vec<_> = filters.tables().unwrap().into_iter().map(|(_, name)| name).collect();
    names.dedup();
    assert_eq!(names, ["adit-wg0"]);
}
