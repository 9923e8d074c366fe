//! What there is to install, and where.

use std::path::PathBuf;

/// A file below the prefix.
pub struct Item {
    /// Below the prefix.
    pub path: PathBuf,
    /// What it is.
    pub what: What,
}

/// What a file is.
pub enum What {
    /// This program.
    Program,
    /// Text; `@BIN@` in it stands for the folder of the program.
    Text(&'static str),
    /// A symbolic link, by its target.
    Link(&'static str),
}

/// Files that belong together: all of them are installed, or none.
pub struct Group {
    /// The program by whose name these are; none for adit itself.
    pub name: Option<&'static str>,
    /// They, in the order in which they are installed.
    pub items: Vec<Item>,
}

/// Everything: adit itself, and its other names if they are wanted.
pub fn groups(with_names: bool) -> Vec<Group> {
    let mut groups = vec![Group {
        name: None,
        items: vec![
            Item { path: "bin/adit".into(), what: What::Program },
            text("share/man/man1/adit.1", include_str!("../../../share/man/adit.1")),
            text(
                "share/bash-completion/completions/adit",
                include_str!("../../../share/completions/adit.bash"),
            ),
            text(
                "share/zsh/site-functions/_adit",
                include_str!("../../../share/completions/_adit"),
            ),
            text(
                "share/fish/vendor_completions.d/adit.fish",
                include_str!("../../../share/completions/adit.fish"),
            ),
            text(
                "lib/systemd/system/adit@.service",
                include_str!("../../../share/systemd/adit@.service"),
            ),
        ],
    }];
    if with_names {
        groups.push(Group {
            name: Some("wg"),
            items: vec![
                link("bin/wg", "adit"),
                text("share/man/man8/wg.8", include_str!("../../../share/man/wg.8")),
                link("share/bash-completion/completions/wg", "adit"),
            ],
        });
        groups.push(Group {
            name: Some("wg-quick"),
            items: vec![
                link("bin/wg-quick", "adit"),
                text("share/man/man8/wg-quick.8", include_str!("../../../share/man/wg-quick.8")),
                link("share/bash-completion/completions/wg-quick", "adit"),
                link("lib/systemd/system/wg-quick@.service", "adit@.service"),
                text(
                    "lib/systemd/system/wg-quick.target",
                    include_str!("../../../share/systemd/wg-quick.target"),
                ),
            ],
        });
        let items = vec![link("bin/wireguard-go", "adit")];
        groups.push(Group { name: Some("wireguard-go"), items });
    }
    groups
}

fn text(path: &str, content: &'static str) -> Item {
    Item { path: path.into(), what: What::Text(content) }
}

fn link(path: &str, target: &'static str) -> Item {
    Item { path: path.into(), what: What::Link(target) }
}
