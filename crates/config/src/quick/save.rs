//! The file that `wg-quick save` writes (spec §4.7).

use zeroize::Zeroizing;

use super::File;

/// What an interface has while it is up.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    /// Its addresses with their prefixes.
    pub addresses: &'a [String],
    /// The name servers that are on record for it; none if that is not known.
    pub servers: &'a [String],
    /// Its MTU.
    pub mtu: u32,
    /// What `wg showconf` says of it.
    pub configuration: &'a str,
}

impl File {
    /// The file that would bring the interface up as it is now. Hooks, `Table` and the domains to
    /// search in stay as they were written, since nothing live tells them.
    #[must_use]
    pub fn saved(&self, live: &Live<'_>) -> Zeroizing<Vec<u8>> {
        const HEAD: &[u8] = b"[Interface]\n";
        let mut own = Vec::new();
        let mut line = |key: &str, value: &[u8]| {
            own.extend_from_slice(&[key.as_bytes(), b" = ", value, b"\n"].concat());
        };
        let servers = if live.servers.is_empty() { &self.servers } else { live.servers };
        live.addresses.iter().for_each(|address| line("Address", address.as_bytes()));
        servers.iter().chain(&self.search).for_each(|word| line("DNS", word.as_bytes()));
        self.mtu.iter().for_each(|_| line("MTU", live.mtu.to_string().as_bytes()));
        self.table.iter().for_each(|table| line("Table", table.as_bytes()));
        self.save.then(|| line("SaveConfig", b"true"));
        for (key, commands) in [
            ("PreUp", &self.hooks.pre_up),
            ("PostUp", &self.hooks.post_up),
            ("PreDown", &self.hooks.pre_down),
            ("PostDown", &self.hooks.post_down),
        ] {
            commands.iter().for_each(|command| line(key, command));
        }
        let rest = live.configuration.as_bytes();
        let rest = rest.strip_prefix(HEAD).unwrap_or(rest).trim_ascii_end();
        let end = if rest.is_empty() { &b""[..] } else { b"\n" };
        // Made in one piece, so that no copy of a key is left behind.
        Zeroizing::new([HEAD, &own, rest, end].concat())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const WRITTEN: &[u8] = b"[Interface]\n# comment\nPostUp = a && b # c\nAddress = 10.0.0.9/24\n\
        DNS = 1.1.1.1, corp.example\nMTU = 1400\nTable = 7\nPreDown = d\nSaveConfig = true\n";

    #[test]
    fn what_is_live_takes_the_place_of_what_was_written() {
        let file = File::parse(WRITTEN).unwrap();
        let addresses = ["10.0.0.1/24".to_owned(), "fd00::1/64".to_owned()];
        let servers = ["9.9.9.9".to_owned()];
        let configuration = "[Interface]\nListenPort = 5\n\n[Peer]\nPublicKey = k\n";
        let live = Live { addresses: &addresses, servers: &servers, mtu: 1380, configuration };
        let expected = "[Interface]\nAddress = 10.0.0.1/24\nAddress = fd00::1/64\nDNS = 9.9.9.9\n\
            DNS = corp.example\nMTU = 1380\nTable = 7\nSaveConfig = true\nPostUp = a && b # c\n\
            PreDown = d\nListenPort = 5\n\n[Peer]\nPublicKey = k\n";
        assert_eq!(str::from_utf8(&file.saved(&live)), Ok(expected));
        // It stays as it is when it is read and saved again.
        let again = File::parse(expected.as_bytes()).unwrap();
        assert_eq!(str::from_utf8(&again.saved(&live)), Ok(expected));
    }

    #[test]
    fn servers_that_nobody_remembers_stay() {
        let file = File::parse(b"[Interface]\nDNS = 1.1.1.1\n").unwrap();
        let configuration = "[Interface]\n\n";
        let live = Live { addresses: &[], servers: &[], mtu: 1420, configuration };
        assert_eq!(&*file.saved(&live), b"[Interface]\nDNS = 1.1.1.1\n");
    }
}
