//! Who is measured: which program, and how it is started.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// Something to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name in the table.
    pub name: String,
    /// The program and its arguments, `%i` standing for the interface; nothing at all if there is
    /// no daemon and the traffic goes straight over the wire.
    pub command: Vec<String>,
}

/// An implementation that this program knows how to start.
struct Known {
    name: &'static str,
    program: &'static str,
    arguments: &'static str,
    origin: Origin,
}

/// Where a program comes from.
enum Origin {
    /// `cargo build` of this workspace.
    Workspace,
    /// The Rust registry, under this name.
    Registry(&'static str),
    /// The distribution, under this name.
    Distribution(&'static str),
}

const ADIT: Known =
    Known { name: "adit", program: "adit", arguments: "daemon -f %i", origin: Origin::Workspace };

const KNOWN: &[Known] = &[
    ADIT,
    Known {
        name: "boringtun",
        program: "boringtun-cli",
        // More threads make it slower and let it reorder the packets of a flow.
        arguments: "-f --disable-drop-privileges --threads 1 %i",
        origin: Origin::Registry("boringtun-cli"),
    },
    Known {
        name: "gotatun",
        program: "gotatun",
        arguments: "-f -v error --disable-drop-privileges %i",
        origin: Origin::Registry("gotatun-cli"),
    },
    Known {
        name: "wireguard-go",
        program: "wireguard-go",
        arguments: "-f %i",
        origin: Origin::Distribution("wireguard-go"),
    },
];

/// No daemon: what the wire and the traffic generators alone can do.
const RAW: &str = "raw";

impl Candidate {
    /// Every known implementation, or what to do about its absence.
    pub fn known() -> impl Iterator<Item = Outcome<Self>> {
        KNOWN.iter().map(|known| Ok(known.candidate(known.name, &known.find()?)))
    }

    /// A known name, `raw`, `NAME=PATH` or `NAME=COMMAND WITH %i`. A path is started as the known
    /// implementation whose program has its file name, otherwise as adit.
    pub fn parse(text: &str) -> Outcome<Self> {
        let Some((name, value)) = text.split_once('=') else {
            if text == RAW {
                return Ok(Self { name: RAW.into(), command: Vec::new() });
            }
            let known = Known::named(text)?;
            return Ok(known.candidate(known.name, &known.find()?));
        };
        if value.contains("%i") {
            let command = value.split_whitespace().map(str::to_owned).collect();
            let name = name.to_owned();
            return Ok(Self { name, command });
        }
        let program = Path::new(value).canonicalize();
        let program = program.map_err(|error| format!("{name}={value}: {error}"))?;
        let file_name = program.file_name().unwrap_or_default();
        let known = KNOWN.iter().find(|known| file_name == known.program);
        Ok(known.unwrap_or(&ADIT).candidate(name, &program))
    }
}

/// Installs what can be installed of these names, or of all known ones, and is not there yet.
pub fn install(names: &[String]) -> Outcome<()> {
    for known in KNOWN {
        let wanted = names.is_empty() || names.iter().any(|name| name == known.name);
        let Origin::Registry(package) = known.origin else {
            continue;
        };
        if !wanted || known.find().is_ok() {
            continue;
        }
        let status = Command::new("cargo")
            .args(["install", "--locked", package, "--root"])
            .arg(peers_folder()?)
            .status()
            .map_err(|error| format!("start cargo: {error}"))?;
        if !status.success() {
            return Err(format!("cargo could not install {package}").into());
        }
    }
    Ok(())
}

impl Known {
    fn named(name: &str) -> Outcome<&'static Self> {
        KNOWN.iter().find(|known| known.name == name).ok_or_else(|| {
            let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
            format!("{name} is none of {}, {RAW}; anything else is NAME=PATH", names.join(", "))
                .into()
        })
    }

    fn candidate(&self, name: &str, program: &Path) -> Candidate {
        let program = program.to_string_lossy().into_owned();
        let arguments = self.arguments.split_whitespace().map(str::to_owned);
        Candidate {
            name: name.to_owned(),
            command: [program].into_iter().chain(arguments).collect(),
        }
    }

    /// Where its program is, or what to do about its absence.
    fn find(&self) -> Outcome<PathBuf> {
        let folder = match self.origin {
            Origin::Workspace => built_folder()?,
            Origin::Registry(_) | Origin::Distribution(_) => peers_folder()?.join("bin"),
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = [folder].into_iter().chain(env::split_paths(&path));
        let mut programs = folders.map(|folder| folder.join(self.program));
        programs.find(|program| program.is_file()).ok_or_else(|| {
            let remedy = match self.origin {
                Origin::Workspace => "build it with `cargo build --release`".to_owned(),
                Origin::Registry(_) => "have it built with --install".to_owned(),
                Origin::Distribution(package) => {
                    format!("install it with `apt install {package}`")
                }
            };
            format!("{}: no program {}; {remedy}", self.name, self.program).into()
        })
    }
}

/// `target/release`, beside this program.
fn built_folder() -> Outcome<PathBuf> {
    let program = env::current_exe()?;
    Ok(program.parent().ok_or("this program lies in no folder")?.to_owned())
}

/// `target/peers`, where `--install` puts the peers.
fn peers_folder() -> Outcome<PathBuf> {
    let built = built_folder()?;
    Ok(built.parent().ok_or("this program lies in no target folder")?.join("peers"))
}
