//! What the user wants of a tunnel: its configuration file, found, read and understood.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

use config::file::Extensions;
use config::quick;
use config::wg::{Machine, Mode, Names, Refusal, Secret, Settings, from_file, peer_names};
use host::dns;
use proto::PublicKey;
use zeroize::Zeroizing;

use super::failure::{Failure, Kind, Outcome};
use crate::command::configuration::Errors;
use crate::command::source::Source;
use crate::command::wg::Here;

/// A tunnel as its file describes it.
pub struct Wish {
    /// Of the interface.
    pub name: String,
    /// The file, without symbolic links.
    pub path: PathBuf,
    /// What others than its owner may do with it, if anything.
    pub exposure: Option<String>,
    /// The keys of wg-quick(8).
    pub file: quick::File,
    /// The keys of wg(8). Endpoints are not looked up yet, and stand in [`Wish::endpoints`].
    pub settings: Settings,
    /// Where peers are, as it is written.
    pub endpoints: BTreeMap<PublicKey, Endpoint>,
    /// What the peers are called.
    pub names: Names,
    /// What the file says to adit alone.
    pub extensions: Extensions,
    /// Who is to be asked for names, and for which.
    pub dns: Option<dns::Settings>,
    /// The whole text.
    pub content: Zeroizing<Vec<u8>>,
}

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// For getaddrinfo(3).
    pub host: String,
    /// Likewise.
    pub service: String,
    /// Both, as they are written.
    pub text: String,
}

/// The interface that an argument is about, which is a name or the path of a file.
pub fn name(argument: &OsStr) -> Outcome<String> {
    let path = path(argument);
    let name = quick::interface(path.as_os_str()).or_else(|| quick::interface(argument));
    name.map(str::to_owned).ok_or_else(|| {
        let text = format!(
            "`{}' names no interface: it must be 1 to 15 of the letters a-z A-Z 0-9 _ = + . -, or \
             the path of a file of such a name with .conf behind it",
            argument.display()
        );
        Failure::new(Kind::Usage, text)
    })
}

impl Wish {
    /// Reads the file that an argument means: /etc/wireguard/NAME.conf, the file of this path, or
    /// where the tunnel came from when it came up.
    pub fn read(argument: &OsStr, known: Option<&Path>) -> Outcome<Self> {
        Self::of(name(argument)?, find(argument, known)?)
    }

    /// Reads what a file at `path` wants of the interface `name`.
    pub fn of(name: String, path: PathBuf) -> Outcome<Self> {
        let source =
            Source::of(path.clone()).map_err(|text| Failure::new(Kind::Configuration, text))?;
        let invalid = |text: &dyn std::fmt::Display| {
            let failure = Failure::new(Kind::Configuration, format!("{}: {text}", path.display()));
            with_line(failure, &path, &source.content)
        };
        let file = quick::File::parse(&source.content).map_err(|error| invalid(&error))?;
        if !has_interface(&file.rest) {
            // What an editor or a full disk has emptied is no wish for nothing, without a guard.
            return Err(invalid(&"no [Interface]"));
        }
        if has_hooks(&file)
            && let Some(who) = source.writable_by_others()
        {
            let text = format!(
                "{}: its hooks would run as root, and {who}: {}, or remove its hooks",
                path.display(),
                match path.parent() == Some(Path::new("/etc/wireguard")) {
                    true => "let only root write to it, by `chown root' and `chmod 600'",
                    false => "move the file to /etc/wireguard, owned by root with mode 600",
                }
            );
            return Err(Failure::new(Kind::Configuration, text));
        }
        let content = &source.content;
        let mut machine = Later::default();
        let settings = from_file(&file.rest, Mode::Append, &mut machine);
        let mut settings =
            settings.map_err(|text| invalid(&one_line(&String::from_utf8_lossy(&text))))?;
        let endpoints = machine.take_from(&mut settings);
        let names = peer_names(&String::from_utf8_lossy(content));
        let extensions = Extensions::parse(content)
            .map_err(|problems| problems.first().map_or_else(|| invalid(&""), |it| invalid(it)))?;
        let split = extensions.split_domains.iter().map(|domain| format!("~{domain}"));
        let domains: Vec<_> = file.search.iter().cloned().chain(split).collect();
        let dns = dns::Settings::read(&file.servers, &domains).map_err(|error| invalid(&error))?;
        let has_key = settings.private_key.is_some();
        let exposure = exposure(&source, has_key);
        let content = source.content;
        Ok(Self {
            name,
            path,
            exposure,
            file,
            settings,
            endpoints,
            names,
            extensions,
            dns,
            content,
        })
    }

    /// What has another meaning than it seems to have, and who can read the key, for whoever brings
    /// the tunnel up.
    pub fn warnings(&self) -> Vec<String> {
        let path = self.path.display();
        let taken = Errors::of(&self.content).taken.into_iter();
        taken.map(|error| format!("{path}:{error}")).chain(self.exposure.clone()).collect()
    }

    /// What is wrong with the file, with the line where that is, if one is.
    pub fn with_line(&self, failure: Failure) -> Failure {
        with_line(failure, &self.path, &self.content)
    }

    /// The file, and the line of it where a key stands that counts where it stands last.
    pub fn place_of(&self, key: &str) -> String {
        let text = String::from_utf8_lossy(&self.content);
        let lines = (1..).zip(text.lines());
        let is_it = |line: &str| {
            line.split_once('=').is_some_and(|(word, _)| word.trim().eq_ignore_ascii_case(key))
        };
        let last = lines.filter(|(_, line)| is_it(line)).last();
        let line = last.map_or_else(String::new, |(number, _)| format!(":{number}"));
        format!("{}{line}", self.path.display())
    }

    /// What a peer is called, or its key in short.
    pub fn name_of(&self, peer: &PublicKey) -> String {
        self.names.get(peer).cloned().unwrap_or_else(|| config::key::abbreviated(peer))
    }
}

/// What others than its owner may do with a file that has a key or has none.
fn exposure(source: &Source, has_key: bool) -> Option<String> {
    let path = source.path.display();
    let what = match (source.is_readable_by_others() && has_key, source.is_written_by_others()) {
        (true, true) => format!("read the key in {path}, and write to that file"),
        (true, false) => format!("read the key in {path}"),
        (false, true) => format!("write to {path}"),
        (false, false) => return None,
    };
    Some(format!("others can {what}: `chmod 600' it"))
}

/// `adit config check' knows better than `wg' where it is, and what to write instead.
fn with_line(failure: Failure, path: &Path, content: &[u8]) -> Failure {
    let fatal = if failure.is_about_the_file() { Errors::of(content).fatal } else { None };
    match fatal {
        Some(error) => Failure::new(Kind::Configuration, format!("{}:{error}", path.display())),
        None => failure,
    }
}

/// The reason comes first; what follows says only that there is one.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or("it is wrong").to_owned()
}

/// The file that an argument stands for: what ends in `.conf' is one already, also where it could be
/// the name of an interface.
fn path(argument: &OsStr) -> PathBuf {
    match Path::new(argument).extension() {
        Some(extension) if extension == "conf" => argument.into(),
        _ => quick::path(argument),
    }
}

fn find(argument: &OsStr, known: Option<&Path>) -> Outcome<PathBuf> {
    let usual = path(argument);
    let candidates = [Some(usual.as_path()), known];
    let found = candidates.into_iter().flatten().find(|path| path.is_file());
    let path = found.ok_or_else(|| {
        let usual_path = usual.display();
        let text = match usual.exists() {
            true => format!("{usual_path} is not a file: write one, or name another"),
            false => format!("there is no file {usual_path}: write one, or name another"),
        };
        Failure::new(Kind::Configuration, text)
    })?;
    path.canonicalize().map_err(|error| Failure::io(path.display(), &error))
}

/// Whether a file begins its interface somewhere, as wg(8) reads it.
fn has_interface(content: &[u8]) -> bool {
    content.split(|byte| *byte == b'\n').any(|line| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let word = line.iter().filter(|byte| !byte.is_ascii_whitespace());
        word.map(u8::to_ascii_lowercase).eq(*b"[interface]")
    })
}

fn has_hooks(file: &quick::File) -> bool {
    let hooks = &file.hooks;
    [&hooks.pre_up, &hooks.post_up, &hooks.pre_down, &hooks.post_down]
        .iter()
        .any(|commands| !commands.is_empty())
}

/// A machine that looks no endpoint up: in its place stands an address of nobody, with the number
/// of what is to be looked up.
#[derive(Default)]
struct Later(Vec<Endpoint>);

impl Later {
    /// A file names no other file and no peer, so that it does not matter which interface it is
    /// about.
    fn here() -> Here<'static> {
        Here { interface: OsStr::new("") }
    }

    /// Takes the endpoints out again.
    fn take_from(self, settings: &mut Settings) -> BTreeMap<PublicKey, Endpoint> {
        let mut endpoints = BTreeMap::new();
        for peer in &mut settings.peers {
            let number = match peer.endpoint.take() {
                Some(SocketAddr::V6(address)) => address.scope_id(),
                _ => continue,
            };
            let endpoint = usize::try_from(number).ok().and_then(|number| self.0.get(number));
            endpoints.extend(endpoint.map(|endpoint| (peer.public_key, endpoint.clone())));
        }
        endpoints
    }
}

impl Machine for Later {
    fn port(&mut self, service: &[u8]) -> Result<u16, Refusal> {
        Self::here().port(service)
    }

    fn resolve(
        &mut self,
        host: &[u8],
        service: &[u8],
        endpoint: &[u8],
    ) -> Result<SocketAddr, Refusal> {
        // That is not to be asked of anybody.
        self.port(service)?;
        let unknown = || Refusal::of("Name or service not known", endpoint);
        let number = u32::try_from(self.0.len()).map_err(|_| unknown())?;
        self.0.push(Endpoint {
            host: str::from_utf8(host).map_err(|_| unknown())?.to_owned(),
            service: str::from_utf8(service).map_err(|_| unknown())?.to_owned(),
            text: String::from_utf8_lossy(endpoint).into_owned(),
        });
        Ok(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, number).into())
    }

    fn can_resolve(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn key_file(&mut self, path: &[u8]) -> Result<Secret, Refusal> {
        Self::here().key_file(path)
    }

    fn warn(&mut self, text: &[u8]) {
        eprintln!("adit: {}", String::from_utf8_lossy(text));
    }
}
