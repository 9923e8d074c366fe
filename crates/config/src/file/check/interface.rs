//! `[Interface]`: what is wrong with its settings, and with all of it.

use std::net::IpAddr;

use proto::PrivateKey;

use super::peer::Peers;
use super::value::{self, Wrong};
use super::{At, Problems, Seen, Surroundings};
use crate::file::{Key, Problem};
use crate::quick;

/// What is known of the interface.
#[derive(Default)]
pub(super) struct Interface {
    head: Option<usize>,
    seen: Seen,
    private_key: Option<PrivateKey>,
    /// The first hook, and whether any sets a key.
    hook: Option<usize>,
    hook_sets_key: bool,
    has_server: bool,
    /// The first domain to search in.
    search: Option<usize>,
    /// The first address of IPv6.
    v6: Option<usize>,
    mtu: Option<u32>,
    table_off: bool,
    has_own_table: bool,
    saves: bool,
    /// The first comment, wherever it is.
    pub(super) comment: Option<usize>,
}

impl Interface {
    pub(super) fn begin(&mut self, line: usize, problems: &mut Problems) {
        if let Some(first) = self.head.replace(line) {
            let what = format!("[Interface] begins in line {first} already");
            let instead = "put all that is about the interface below one head";
            problems.push(Problem::warning(line, "section-repeated", what, instead));
        }
    }

    pub(super) fn private_key(&self) -> Option<&PrivateKey> {
        self.private_key.as_ref()
    }

    /// Whether routes are somebody else's affair.
    pub(super) fn routes_nothing(&self) -> bool {
        self.table_off
    }

    /// Whether the datagrams of the tunnel may have a way of their own: by their mark, by a hook, or
    /// as the routes are in a table that others do not use.
    pub(super) fn may_steer(&self) -> bool {
        self.has_own_table || self.hook.is_some() || self.seen.contains_key(&Key::FwMark)
    }

    pub(super) fn setting(&mut self, at: At, value: &[u8], problems: &mut Problems) {
        if !at.key.is_hook() && !matches!(at.key, Key::Address | Key::Dns) {
            problems.repeated(at, &mut self.seen);
        }
        if let Err(wrong) = self.take(at, value, problems) {
            problems.push(wrong.into_problem(at));
        }
    }

    fn take(&mut self, at: At, value: &[u8], problems: &mut Problems) -> Result<(), Wrong> {
        match at.key {
            Key::PrivateKey => self.private_key = PrivateKey::new(*value::key(value)?),
            Key::ListenPort => drop(value::port(value, 0)?),
            Key::FwMark => value::fwmark(value)?,
            Key::Address => self.addresses(at, value, problems)?,
            Key::Dns => self.dns(at, value, problems)?,
            Key::Mtu => self.mtu = Some(value::mtu(value)?),
            Key::Table => {
                value::table(value)?;
                self.table_off = value == b"off";
                self.has_own_table = value != b"auto";
            }
            Key::SaveConfig => self.saves = value::boolean(value)?,
            _ => {
                self.hook.get_or_insert(at.line);
                self.hook_sets_key |= value.windows(11).any(|word| word == b"private-key");
            }
        }
        Ok(())
    }

    fn addresses(&mut self, at: At, value: &[u8], problems: &mut Problems) -> Result<(), Wrong> {
        for word in value::words(value)? {
            let right = "write addresses with their prefixes, as in `10.0.0.2/24, fd00::2/64'";
            let (address, length) =
                quick::prefix(word).ok_or_else(|| Wrong::about("no address", word, right))?;
            if address.is_ipv6() {
                self.v6.get_or_insert(at.line);
            }
            if is_network(address, length) {
                let what = format!("{word} is the address of the network itself");
                let instead = "write the address of this machine in it";
                problems.push(Problem::warning(at.line, "address-is-network", what, instead));
            }
        }
        Ok(())
    }

    fn dns(&mut self, at: At, value: &[u8], problems: &mut Problems) -> Result<(), Wrong> {
        for word in value::words(value)? {
            if quick::is_server(word) {
                let right = "write the addresses of name servers, and domains to search in";
                word.parse::<IpAddr>().map_err(|_| Wrong::about("no address", word, right))?;
                self.has_server = true;
            } else if let Some(domain) = word.strip_prefix('~') {
                if domain != "." {
                    value::domain(domain)?;
                }
                let what = format!("other tools take `{word}' for a domain to search in");
                let instead = &format!("write `#! DNS = {word}'");
                problems.push(Problem::warning(at.line, "dns-split", what, instead));
                self.search.get_or_insert(at.line);
            } else {
                value::domain(word)?;
                self.search.get_or_insert(at.line);
            }
        }
        Ok(())
    }

    pub(super) fn end(&self, around: &Surroundings<'_>, peers: &Peers, problems: &mut Problems) {
        let Some(head) = self.head else {
            let instead = "write [Interface], and `PrivateKey = …' below it";
            return problems.push(Problem::error(
                1,
                "interface-missing",
                "no [Interface]",
                instead,
            ));
        };
        let key = self.seen.get(&Key::PrivateKey).copied();
        let mut warn = |line, code, what: &str, instead: &str| {
            problems.push(Problem::warning(line, code, what, instead));
        };
        if key.is_none() && !self.hook_sets_key {
            let instead = "write `PrivateKey = …', as `adit genkey' makes it";
            warn(head, "private-key-missing", "without a key no peer can be reached", instead);
        }
        if peers.none_can_be_called() && !self.seen.contains_key(&Key::ListenPort) {
            let what = "no peer has an endpoint, and none can know the port here";
            warn(head, "listen-port-missing", what, "write `ListenPort = 51820', or an `Endpoint'");
        }
        if let (Some(line), false) = (self.search, self.has_server) {
            let what = "domains to search in do nothing without a name server";
            warn(line, "dns-without-server", what, "write the address of one into `DNS' too");
        }
        if let (Some(line), Some(..1280)) = (self.v6, self.mtu) {
            let what = "IPv6 needs an `MTU' of 1280 at least, and there is a smaller one";
            warn(line, "mtu-without-ipv6", what, "write `MTU = 1280' or more");
        }
        if let (Some(line), true) = (self.comment, self.saves) {
            let what = "`SaveConfig = true' makes `wg-quick down' remove all comments";
            warn(line, "comments-lost", what, "write `SaveConfig = false'");
        }
        if let (Some(line), true) = (key.or_else(|| peers.preshared_key()), around.readable) {
            let instead = "`chmod 600' the file";
            warn(line, "key-readable", "others can read this key", instead);
        }
        if let (Some(line), Some(why)) = (self.hook, around.writable) {
            let what = format!("this would run as root, and {why}");
            let instead = "make it root's own, or remove the hooks";
            problems.push(Problem::error(line, "hook-untrusted", what, instead));
        } else if around.shared {
            let what = "others can write to this file, and choose its keys and peers";
            warn(head, "file-writable", what, "`chmod 600' it");
        }
    }
}

/// Whether no machine can have this address.
fn is_network(address: IpAddr, length: u8) -> bool {
    let width = if address.is_ipv4() { 32 } else { 128 };
    let prefix = proto::Prefix::new(address, length);
    // The two addresses of a point-to-point link are both for machines (RFC 3021, RFC 6164), and a
    // lone address is whole.
    length + 1 < width && prefix.is_some_and(|prefix| prefix.address() == address)
}
