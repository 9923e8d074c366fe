//! The configuration file of `wg` (spec §3.5).

use proto::PublicKey;

use super::value::{allowed_ips, endpoint, fwmark, key, persistent_keepalive, port, without_space};
use super::{Machine, PeerSettings, Refusal, Secret, Settings};

/// What the settings in a file mean for those that are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They go (`setconf`, `syncconf`).
    Replace,
    /// They stay (`addconf`).
    Append,
}

/// Reads a whole file. Sections may come in any order and repeat; the later of two values wins.
///
/// # Errors
///
/// What is wrong with the first line that is wrong, or with a peer, in the words for stderr.
pub fn from_file(
    content: &[u8],
    mode: Mode,
    machine: &mut impl Machine,
) -> Result<Settings, Vec<u8>> {
    let mut reader = Reader::new(mode);
    for line in content.split(|&byte| byte == b'\n') {
        reader.line(line, machine).map_err(|refusal| match refusal {
            Refusal::Words(text) => [&text[..], b"\nConfiguration parsing error"].concat(),
            Refusal::Environment(text) => text,
        })?;
    }
    reader
        .into_settings()
        .ok_or_else(|| b"A peer is missing a public key\nInvalid configuration".to_vec())
}

/// The section that a line belongs to.
#[derive(Clone, Copy)]
enum Section {
    None,
    Interface,
    Peer,
}

struct Reader {
    section: Section,
    interface: Settings,
    /// With whether the peer's key is known.
    peers: Vec<(bool, PeerSettings)>,
}

impl Reader {
    fn new(mode: Mode) -> Self {
        let interface = match mode {
            Mode::Append => Settings::default(),
            Mode::Replace => Settings {
                private_key: Some(Secret::default()),
                listen_port: Some(0),
                fwmark: Some(0),
                replace_peers: true,
                peers: Vec::new(),
            },
        };
        Self { section: Section::None, interface, peers: Vec::new() }
    }

    fn line(&mut self, line: &[u8], machine: &mut impl Machine) -> Result<(), Refusal> {
        let comment = line.iter().position(|&byte| byte == b'#' || byte == 0);
        let (line, _) = line.split_at(comment.unwrap_or(line.len()));
        let line = without_space(line);
        if line.is_empty() {
            return Ok(());
        }
        if line.eq_ignore_ascii_case(b"[Interface]") {
            self.section = Section::Interface;
        } else if line.eq_ignore_ascii_case(b"[Peer]") {
            self.section = Section::Peer;
            let mut peer = PeerSettings::new(PublicKey([0; 32]));
            peer.replace_allowed_ips = true;
            self.peers.push((false, peer));
        } else if !self.setting(&line, machine)? {
            return Err(Refusal::of("Line unrecognized", &line));
        }
        Ok(())
    }

    /// Whether this is one, in its section.
    fn setting(&mut self, line: &[u8], machine: &mut impl Machine) -> Result<bool, Refusal> {
        let equals = line.iter().position(|&byte| byte == b'=');
        let Some((name, [b'=', value @ ..])) = equals.and_then(|at| line.split_at_checked(at))
        else {
            return Ok(false);
        };
        let name = name.to_ascii_lowercase();
        match (self.section, self.peers.last_mut()) {
            _ if value.is_empty() => Ok(false),
            (Section::Interface, _) => of_interface(&mut self.interface, &name, value, machine),
            (Section::Peer, Some((known, peer))) => of_peer(peer, known, &name, value, machine),
            _ => Ok(false),
        }
    }

    /// None if a peer's key is not known.
    fn into_settings(self) -> Option<Settings> {
        let peers: Option<_> =
            self.peers.into_iter().map(|(known, peer)| known.then_some(peer)).collect();
        Some(Settings { peers: peers?, ..self.interface })
    }
}

fn of_interface(
    interface: &mut Settings,
    name: &[u8],
    value: &[u8],
    machine: &mut impl Machine,
) -> Result<bool, Refusal> {
    match name {
        b"listenport" => interface.listen_port = Some(port(machine, value)?),
        b"fwmark" => interface.fwmark = Some(fwmark(value)?),
        b"privatekey" => interface.private_key = Some(key(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn of_peer(
    peer: &mut PeerSettings,
    known: &mut bool,
    name: &[u8],
    value: &[u8],
    machine: &mut impl Machine,
) -> Result<bool, Refusal> {
    match name {
        b"endpoint" => peer.endpoint = Some(endpoint(machine, value)?),
        b"publickey" => {
            peer.public_key = PublicKey(*key(value)?.0);
            *known = true;
        }
        b"allowedips" => allowed_ips(machine, peer, value)?,
        b"persistentkeepalive" => peer.persistent_keepalive = Some(persistent_keepalive(value)?),
        b"presharedkey" => peer.preshared_key = Some(key(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}
