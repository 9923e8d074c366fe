//! The files, each with a name of its own, and the names of files.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use crate::stage::PATIENCE;

/// A good interface, for what comes behind.
const GOOD: &str =
    "[Interface]\nPrivateKey = gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=\nListenPort = 0\n";
const PEER: &str = "[Peer]\nPublicKey = 089pIdFJufCU8IIwrpqGtpopdocCh6uWqD06JXpwr5o=\n";
/// What would show that a command was run.
const TOUCH: &str = "touch /run/canary/";

/// A file, or what is there instead of one.
pub struct Case {
    pub name: &'static str,
    what: What,
}

enum What {
    /// `hz.conf` with this content.
    Content(Vec<u8>),
    /// The same, and something done to it.
    Changed(String, fn(&str)),
    /// A good file of this name, relative to the folder.
    Named(&'static str),
    /// Only a word on the command line.
    Word(&'static str),
    /// Something else by the name of `hz.conf`.
    Other(fn(&str)),
}

impl Case {
    /// How many seconds its commands may take. For a pipe they wait as `wg` and `wg-quick` do.
    pub fn patience(&self) -> &'static str {
        if self.name == "pipe" { "1" } else { PATIENCE }
    }

    /// Makes it in a folder. What names it on the command line is returned.
    pub fn make(&self, folder: &str) -> String {
        let path = format!("{folder}/hz.conf");
        match &self.what {
            What::Content(content) => fs::write(&path, content).unwrap(),
            What::Changed(content, change) => {
                fs::write(&path, content).unwrap();
                change(&path);
            }
            What::Named(name) => {
                let path = format!("{folder}/{name}");
                fs::write(&path, GOOD).unwrap();
                return path;
            }
            What::Word(word) => return (*word).to_owned(),
            What::Other(make) => make(&path),
        }
        path
    }
}

/// All of them, in the order of `expected.txt`.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, what| cases.push(Case { name, what });
    let content = |text: String| What::Content(text.into_bytes());

    // Commands, wherever a value could be taken for one.
    for (name, line) in [
        ("hook", "PostUp = touch /run/canary/hook"),
        ("hook-with-interface", "PostDown = touch /run/canary/%i"),
        ("hook-in-capitals", "POSTUP=touch /run/canary/capitals # not /run/canary/two"),
        ("address", "Address = $(touch /run/canary/address)"),
        ("address-separator", "Address = 10.0.0.1/24;touch /run/canary/address"),
        ("dns", "DNS = `touch /run/canary/dns`"),
        ("mtu", "MTU = 1420; touch /run/canary/mtu"),
        ("mtu-arithmetic", "MTU = a[$(touch /run/canary/mtu)]"),
        ("table", "Table = $(touch /run/canary/table)"),
        ("listen-port", "ListenPort = `touch /run/canary/port`"),
        ("fwmark", "FwMark = 0x1|touch /run/canary/fwmark"),
        ("save", "SaveConfig = $(touch /run/canary/save)"),
        ("key-substitution", "$(touch /run/canary/key) = 1"),
        ("key-hidden-behind-comment", "# x\rPostUp = touch /run/canary/return"),
        ("section", "[$(touch /run/canary/section)]"),
        ("comment", "# $(touch /run/canary/comment) `touch /run/canary/comment`"),
        ("comment-line-separator", "# x\u{2028}PostUp = touch /run/canary/separator"),
        ("comment-next-line", "# x\u{85}PostUp = touch /run/canary/next"),
        ("comment-vertical-tab", "# x\x0b\x0cPostUp = touch /run/canary/tab"),
        ("comment-escape", "# \x1b]0;x\x07\x1b[2J"),
        ("unknown-key-escape", "\x1b[2J\u{202e} = 1"),
        ("zero-in-hook", "Post\0Up = touch /run/canary/zero"),
        ("zero-in-value", "MTU = 1420\0; touch /run/canary/zero"),
        ("continued-line", "# x\\\nPostUp = touch /run/canary/continued"),
        ("dash-option", "Address = -batch /run/canary/x"),
        ("path-as-table", "Table = ../../run/canary/x"),
        ("private-key-junk", "PrivateKey = gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc= junk"),
        ("private-key-long", "PrivateKey = gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=="),
        ("private-key-twice", "PrivateKey = 089pIdFJufCU8IIwrpqGtpopdocCh6uWqD06JXpwr5o="),
        ("extension", "#! Guard = $(touch /run/canary/guard)"),
    ] {
        add(name, content(format!("{GOOD}{line}\n")));
    }
    for (name, lines) in [
        ("endpoint", "Endpoint = $(touch /run/canary/endpoint):1"),
        ("endpoint-escaped-newline", "Endpoint = 192.0.2.1:1\\nPostUp = touch /run/canary/escape"),
        (
            "endpoint-newline",
            "Endpoint = 192.0.2.1:1\n[Interface]\nPostUp = touch /run/canary/newline",
        ),
        ("endpoint-return", "Endpoint = 192.0.2.1:1\rPostUp = touch /run/canary/return"),
        ("endpoint-long", "Endpoint = LONG:1"),
        ("allowed-ips", "AllowedIPs = 10.0.0.0/24 $(touch /run/canary/ips)"),
        ("allowed-ips-many-bits", "AllowedIPs = 10.0.0.0/99999999999999999999"),
        ("hook-of-peer", "PostUp = touch /run/canary/peer"),
        (
            "peer-twice",
            "AllowedIPs = 10.0.0.1/32\n[Peer]\nPublicKey = 089pIdFJufCU8IIwrpqGtpopdocCh6uWqD06JXpwr5o=",
        ),
        ("peer-without-key", "[Peer]\nAllowedIPs = 10.0.0.1/32"),
    ] {
        add(name, content(format!("{GOOD}{PEER}{lines}\n").replace("LONG", &"a".repeat(70_000))));
    }

    // What is no text, or none of ours.
    add("empty", What::Content(Vec::new()));
    add("zeros", What::Content(vec![0; 4096]));
    add("bytes", What::Content((0..=255).cycle().take(4096).collect()));
    add("utf-16", What::Content(GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect()));
    add("byte-order-mark", content(format!("\u{feff}{GOOD}")));
    add("windows", content(GOOD.replace('\n', "\r\n")));
    add("no-last-newline", content(format!("{GOOD}MTU = 1400")));
    add("long-line", content(format!("{GOOD}# {}\n", "x".repeat(16 << 20))));
    add("long-value", content(format!("{GOOD}MTU = {}\n", "1".repeat(1 << 20))));

    // Whose file it is.
    let hook = || format!("{GOOD}PostUp = {TOUCH}hook\n");
    add(
        "writable-by-all",
        What::Changed(hook(), |path| {
            fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
        }),
    );
    add("of-another-user", What::Changed(hook(), |path| chown(path, Some(65534), None).unwrap()));
    add(
        "in-a-folder-of-all",
        What::Changed(hook(), |path| {
            let folder = path.rsplit_once('/').unwrap().0;
            fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
        }),
    );

    // Names.
    for (name, file) in [
        ("name-dash", "-x.conf"),
        ("name-space", "a b.conf"),
        ("name-16-letters", "sixteen-letters1.conf"),
        ("name-command", "$(touch x).conf"),
        ("name-separator", "a;b.conf"),
        ("name-newline", "a\nb.conf"),
        ("name-dot", "..conf"),
        ("name-dots", "...conf"),
        ("name-empty", ".conf"),
        ("name-not-ours", "hz.txt"),
    ] {
        add(name, What::Named(file));
    }
    for (name, word) in [
        ("word-parent", "../x"),
        ("word-space", "a b"),
        ("word-16-letters", "sixteen-letters1"),
        ("word-command", "$(touch /run/canary/word)"),
        ("word-empty", ""),
        ("word-slash", "/"),
    ] {
        add(name, What::Word(word));
    }

    // No files.
    add(
        "link",
        What::Other(|path| {
            fs::write(format!("{path}.real"), GOOD).unwrap();
            symlink(format!("{path}.real"), path).unwrap();
        }),
    );
    add("link-to-itself", What::Other(|path| symlink(path, path).unwrap()));
    add("link-to-nothing", What::Other(|path| symlink("/run/canary/nothing", path).unwrap()));
    add("link-to-another-file", What::Other(|path| symlink("/etc/hosts", path).unwrap()));
    add("link-to-zeros", What::Other(|path| symlink("/dev/zero", path).unwrap()));
    add("directory", What::Other(|path| fs::create_dir(path).unwrap()));
    add(
        "pipe",
        What::Other(|path| {
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
    );
    add("sparse", What::Other(|path| File::create(path).unwrap().set_len(1 << 40).unwrap()));
    cases
}
