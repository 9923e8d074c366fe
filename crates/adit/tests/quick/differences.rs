//! Where ours differs from theirs on purpose. This is the whole list.

use std::fmt::Write;

use adit_tests::tools::Version;

use crate::record::Record;
use crate::stage::has_wireguard;

type Everywhere = (&'static str, fn(&mut Record));
type Single = (&'static str, What, &'static str);

/// Of every case: what differs and why, and how both are made alike again.
const EVERYWHERE: &[Everywhere] = &[
    (
        "Errors of ip, nft, bash and resolvconf are in their words. Ours say what was attempted, and \
         why it failed, in one line. The usage is in our own words.",
        |record| record.edit(": stderr", |text| lines(text, is_step_or_our_fault)),
    ),
    ("Without WireGuard in the kernel our own daemon carries the packets.", |record| {
        record.edit("up: stderr", |text| text.replace("[#] wireguard-go ", "[#] adit daemon "));
    }),
    (
        "As a tunnel of the kernel does, ours ends ICMP redirects: peers cannot reach each other \
         beside this machine.",
        |record| {
            record
                .edit(": sysctl", |text| lines(text, |line| !line.contains("all/send_redirects")));
        },
    ),
    (
        "Our addresses of v6 are not looked for on the link (nodad), which a tunnel does not do \
         anyway.",
        |record| record.edit(": addresses", |text| text.replace(" nodad", "")),
    ),
    ("Nobody has asked for this port: it is random.", |record| {
        let fixed = |line: &str| match line.strip_prefix("ListenPort = ") {
            Some(port) => port.len() < 5,
            None => true,
        };
        record.edit(": wireguard", |text| lines(text, fixed));
        record.edit(": files", |text| lines(text, fixed));
    }),
    (
        "The order of peers, and of their addresses, is that of a hash table in wireguard-go.",
        |record| {
            record.edit(": wireguard", peers_sorted);
            record.edit(": files", peers_sorted);
        },
    ),
];

/// The same where the newest does as ours.
const EVERYWHERE_OF_2021: &[Everywhere] = &[
    ("An interface may be called as ip's own words are.", |record| {
        record.edit("up: stderr", |text| text.replace("ip link add dev ", "ip link add "));
    }),
    ("`addconf', not `setconf', so that a key which PreUp has set stays.", |record| {
        record.edit("up: stderr", |text| text.replace("wg setconf", "wg addconf"))
    }),
    (
        "The interface is there before PreUp, and rules are there before the route that they are for, \
         so that nothing leaks meanwhile.",
        |record| record.edit("up: stderr", sorted),
    ),
    (
        "src_valid_mark is left alone if it is set already, since containers can only read it.",
        |record| record.edit("up: stderr", |text| lines(text, |line| !line.contains("sysctl -q"))),
    ),
];

/// What of a single case differs.
enum What {
    /// The sections of these titles.
    Sections(&'static [&'static str]),
    /// Theirs cannot bring this up; ours can.
    OnlyOursWorks,
    /// Ours will not bring this up; theirs does.
    OnlyTheirsWorks,
}

use What::{OnlyOursWorks, OnlyTheirsWorks, Sections};

/// Of single cases: the case, what differs, and why.
const SINGLE: &[Single] = &[
    (
        "an odd name",
        Sections(&["save: files", "down: files"]),
        "wg-quick loses the addresses when it saves, since it takes the name for a pattern.",
    ),
    (
        "an odd name and a default route",
        OnlyOursWorks,
        "A name needs no quotes where no text is parsed.",
    ),
    (
        "a hook with an ampersand",
        Sections(&["save: files", "down: files"]),
        "bash 5.2 puts other text in the place of `&' when wg-quick saves.",
    ),
    (
        "hooks know the interface",
        Sections(&["save: files", "down: files"]),
        "Likewise, it makes one backslash of two.",
    ),
    (
        "name servers and domains",
        Sections(&["save: files", "down: files"]),
        "wg-quick loses the domains when it saves.",
    ),
    ("only a domain", Sections(&["save: files", "down: files"]), "As above."),
    (
        "a resolvconf that cannot list",
        Sections(&["save: files", "down: files", "down: stderr", "down: resolvconf"]),
        "wg-quick loses the name servers when it saves, and leaves them on record.",
    ),
    (
        "a file for all becomes private",
        Sections(&["save: files", "down: files", "down: stderr"]),
        "wg-quick writes the new file into one that was left behind, and so for everybody.",
    ),
    (
        "a firewall of somebody else",
        Sections(&["down: firewall"]),
        "wg-quick deletes tables by its name that it has not made, being of another family.",
    ),
    (
        "two default routes",
        Sections(&["down: rules", "down: stderr", "again down: stderr"]),
        "The first to go down takes the other's rule along, so that all that the main table has \
         routes for goes through the other tunnel.",
    ),
    (
        "no resolvconf",
        Sections(&["up: code", "up: stderr"]),
        "What is not there cannot be announced; bash has a status of its own for that.",
    ),
    ("a resolvconf that fails", Sections(&["up: code"]), "It has failed, whatever its status is."),
    (
        "a table that nobody knows",
        Sections(&["up: code"]),
        "ip has a status of its own for this; ours is 1 for all that is wrong with a file.",
    ),
    ("an MTU that is no number", Sections(&["up: code"]), "As above."),
    ("a table that is too large", Sections(&["up: code"]), "As above."),
    (
        "name servers in odd forms",
        Sections(&["save: files", "down: files"]),
        "wg-quick loses the domains when it saves.",
    ),
    (
        "a folder instead of a file",
        Sections(&["up: code", "up: links", "up: routes", "up: stderr", "up: wireguard"]),
        "A folder is no empty file.",
    ),
    (
        "a locked MTU",
        Sections(&["up: links", "up: routes", "up: stderr", "save: links", "save: routes"]),
        "wg-quick does not see an MTU that is locked.",
    ),
    (
        "the MTU with a default route of v6 only",
        Sections(&["up: links", "up: routes", "up: stderr", "save: links", "save: routes"]),
        "wg-quick does not see default routes of v6.",
    ),
    (
        "a name that wg knows",
        Sections(&["up: routes", "up: stderr", "save: routes"]),
        "wg-quick finds no routes, since `wg show interfaces' tells something else.",
    ),
    (
        "a resolvconf that talks",
        Sections(&["up: stdout", "down: stdout"]),
        "None of those that there are says anything there that would be for the user.",
    ),
    (
        "a mark in the file and another when it goes",
        Sections(&["down: rules", "down: stderr"]),
        "Nobody knows any more which rules it has. wg-quick takes one that may be of another tunnel.",
    ),
];

/// The same where the kernel has no WireGuard, so that daemons have their say.
const SINGLE_IN_USER_SPACE: &[Single] = &[
    (
        "the MTU of a link-local endpoint",
        Sections(&[
            "up: links",
            "up: stderr",
            "up: wireguard",
            "save: links",
            "save: wireguard",
            "save: files",
            "down: files",
        ]),
        "wireguard-go forgets the zone.",
    ),
    (
        "a name with a minus",
        OnlyTheirsWorks,
        "Our daemon takes no name for an interface that could be an option.",
    ),
    (
        "the program that carries the packets fails",
        Sections(&["up: code", "up: stderr"]),
        "There is no interface to delete, and the status is that of the program.",
    ),
    (
        "the program that carries the packets does nothing",
        Sections(&["up: stderr"]),
        "There is no interface to delete.",
    ),
    (
        "a program that is not there carries the packets",
        Sections(&["up: code", "up: stderr"]),
        "There is no interface to delete, and the status is that of a missing program.",
    ),
];

/// The same where the newest does as ours.
const SINGLE_OF_2021: &[Single] = &[
    (
        "the MTU of two links",
        Sections(&["up: links", "save: links", "up: stderr"]),
        "The MTU fits through the narrowest way, not through the widest.",
    ),
    (
        "a hook with a number sign",
        Sections(&[
            "up: hooks",
            "save: hooks",
            "down: hooks",
            "up: stderr",
            "save: files",
            "down: files",
        ]),
        "What a comment is in a hook is for the shell to say.",
    ),
    (
        "the first hook fails",
        Sections(&["up: code", "up: stderr"]),
        "There is an interface to delete, and the status is the hook's.",
    ),
    (
        "a default route of v6 and no v6",
        Sections(&["up: stderr"]),
        "What fails is the first rule, not the route.",
    ),
    ("a hook changes the tunnel", OnlyOursWorks, "The interface is there to be changed."),
    ("a hook sets the mark", OnlyOursWorks, "As above."),
    ("a hook sets the key", OnlyOursWorks, "The interface is there to be set."),
    (
        "a resolvconf that is a link",
        Sections(&[
            "up: resolvconf",
            "save: resolvconf",
            "down: resolvconf",
            "up: stderr",
            "down: stderr",
        ]),
        "Resolvectl knows an interface by its own name only.",
    ),
];

/// The cases that the list names.
pub fn names() -> impl Iterator<Item = &'static str> {
    let all = SINGLE.iter().chain(SINGLE_IN_USER_SPACE).chain(SINGLE_OF_2021);
    all.map(|(name, ..)| *name)
}

/// What is wrong, if anything is.
pub fn judge(name: &str, version: Version, mut theirs: Record, mut ours: Record) -> String {
    let (everywhere, single) = match version {
        Version::Of2021 => (EVERYWHERE_OF_2021, SINGLE_OF_2021),
        Version::Of2026 => (&[][..], &[][..]),
    };
    for (_, level) in EVERYWHERE.iter().chain(everywhere) {
        level(&mut theirs);
        level(&mut ours);
    }
    let titles = theirs.0.keys().chain(ours.0.keys());
    let mut titles: Vec<_> =
        titles.filter(|title| theirs.0.get(*title) != ours.0.get(*title)).collect();
    titles.sort();
    titles.dedup();
    let in_user_space = if has_wireguard() { &[][..] } else { SINGLE_IN_USER_SPACE };
    let mut single = SINGLE.iter().chain(in_user_space).chain(single);
    let allowed = match single.find(|(case, ..)| *case == name) {
        Some((_, OnlyOursWorks, _)) => return only_one_works(name, &ours, &theirs),
        Some((_, OnlyTheirsWorks, _)) => return only_one_works(name, &theirs, &ours),
        Some((_, Sections(titles), _)) => titles,
        None => &[][..],
    };
    let mut report = String::new();
    for title in titles.iter().filter(|title| !allowed.contains(&title.as_str())) {
        let _ = writeln!(report, "{name}: {title} ({version:?})");
        let [one, other] = [&theirs, &ours].map(|record| {
            record.0.get(*title).map(|text| text.lines().collect()).unwrap_or_default()
        });
        report += &only_in_the_first("<", &one, &other);
        report += &only_in_the_first(">", &other, &one);
    }
    for title in allowed.iter().filter(|title| titles.iter().all(|other| other != *title)) {
        let _ = writeln!(report, "{name}: {title} does not differ any more");
    }
    report
}

/// The lines that only one has; all of them if nothing but their order differs.
fn only_in_the_first(mark: &str, one: &Vec<&str>, other: &Vec<&str>) -> String {
    let is_order =
        one.iter().all(|line| other.contains(line)) && other.iter().all(|line| one.contains(line));
    let lines = one.iter().filter(|line| is_order || !other.contains(line));
    lines.map(|line| format!("  {mark} {line}\n")).collect()
}

fn only_one_works(name: &str, one: &Record, other: &Record) -> String {
    let code = |record: &Record, title| record.0.get(title).cloned().unwrap_or_default();
    match (&*code(other, "up: code"), &*code(one, "up: code"), &*code(one, "down: code")) {
        ("0\n", ..) => format!("{name}: both work\n"),
        (_, "0\n", "0\n") => String::new(),
        (_, up, down) => format!("{name}: none works: {up} and {down}"),
    }
}

/// What both say in the same words: steps, warnings, and faults that wg-quick itself finds, or wg.
fn is_step_or_our_fault(line: &str) -> bool {
    const FAULTS: [&str; 5] = [
        "already exists",
        "is not a WireGuard interface",
        "does not exist",
        "must be a valid interface name, followed by .conf",
        "is neither true nor false",
    ];
    const FAULTS_OF_WG: [&str; 7] = [
        "Line unrecognized: `",
        "Configuration parsing error",
        "A peer is missing a public key",
        "Invalid configuration",
        "Key is not the correct length or format: `",
        "Name or service not known: `",
        "Warning: AllowedIP has nonzero host part: ",
    ];
    FAULTS_OF_WG.iter().any(|fault| line.starts_with(fault))
        || line.starts_with("[#] ")
        || line.starts_with("[!] ")
        || line.starts_with("Warning: `")
        || line.starts_with("wg-quick: ") && FAULTS.iter().any(|fault| line.ends_with(fault))
}

fn lines(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    text.split_inclusive('\n').filter(|line| wanted(line.trim_end_matches('\n'))).collect()
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    lines.sort_unstable();
    lines.concat()
}

/// With the peers of each file, and the allowed addresses of each peer, in alphabetical order.
fn peers_sorted(text: &str) -> String {
    let lists = text.lines().map(|line| match line.split_once(" = ") {
        Some(("AllowedIPs", list)) => {
            let mut entries: Vec<_> = list.split(", ").collect();
            entries.sort_unstable();
            format!("AllowedIPs = {}", entries.join(", "))
        }
        _ => line.to_owned(),
    });
    let text = lists.collect::<Vec<_>>().join("\n");
    let mut blocks: Vec<_> = text.split("[Peer]\n").map(str::trim_end).collect();
    if let Some((_, peers)) = blocks.split_first_mut() {
        peers.sort_unstable();
    }
    blocks.join("\n[Peer]\n")
}
