//! `adit genkey`, `genpsk` and `pubkey`: as `wg` has them, to the byte (spec §3.6).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use config::key::{self, BASE64_LEN};
use config::wg::is_space;
use proto::PrivateKey;

const WORLD_ACCESSIBLE: &str = "Warning: writing to world accessible file.\n\
    Consider setting the umask to 077 and trying again.";
const NOT_A_KEY: &str = "Key is not the correct length or format";
const TRAILING: &str = "Trailing characters found after key";

/// `adit genkey`.
pub fn genkey(arguments: Vec<OsString>) -> ExitCode {
    generate_private("adit", &arguments)
}

/// `adit genpsk`.
pub fn genpsk(arguments: Vec<OsString>) -> ExitCode {
    generate_preshared("adit", &arguments)
}

/// `adit pubkey`.
pub fn pubkey(arguments: Vec<OsString>) -> ExitCode {
    derive_public("adit", &arguments)
}

/// Writes a private key. `program` is what we call ourselves, here and below.
pub fn generate_private(program: &str, arguments: &[OsString]) -> ExitCode {
    if !arguments.is_empty() {
        return usage(program, "genkey");
    }
    warn_if_world_accessible();
    say_key(program, clamped(random()).as_bytes())
}

/// Writes a preshared key.
pub fn generate_preshared(program: &str, arguments: &[OsString]) -> ExitCode {
    if !arguments.is_empty() {
        return usage(program, "genpsk");
    }
    warn_if_world_accessible();
    say_key(program, &random())
}

/// Reads a private key and writes its public key.
pub fn derive_public(program: &str, arguments: &[OsString]) -> ExitCode {
    if !arguments.is_empty() {
        return usage(program, "pubkey");
    }
    match read_key(io::stdin().lock()) {
        Ok(key) => say_key(program, &clamped(key).public_key().0),
        Err(reason) => {
            eprintln!("{program}: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// A key may be followed by white space and zero bytes.
fn read_key(mut input: impl BufRead) -> Result<[u8; 32], &'static str> {
    let mut text = [0; BASE64_LEN];
    input.read_exact(&mut text).map_err(|_| NOT_A_KEY)?;
    for byte in input.bytes() {
        match byte {
            Ok(byte) if byte == 0 || is_space(byte) => {}
            Ok(_) => return Err(TRAILING),
            Err(_) => return Err(NOT_A_KEY),
        }
    }
    key::from_base64(text).map(|key| *key).ok_or(NOT_A_KEY)
}

fn random() -> [u8; 32] {
    let mut key = [0; 32];
    sys::random::fill(&mut key);
    key
}

fn clamped(mut key: [u8; 32]) -> PrivateKey {
    // Clamping sets this bit in any case. Set first, zeros make a key here, too.
    let [.., last] = &mut key;
    *last |= 0b0100_0000;
    PrivateKey::new(key).expect("only zeros are no key")
}

fn say_key(program: &str, key: &[u8; 32]) -> ExitCode {
    super::say_as(program, format!("{}\n", *key::to_base64(key)).as_bytes())
}

fn usage(program: &str, command: &str) -> ExitCode {
    eprintln!("Usage: {program} {command}");
    ExitCode::FAILURE
}

fn warn_if_world_accessible() {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    if stdout
        .and_then(|file| file.metadata())
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o007 != 0)
    {
        eprintln!("{WORLD_ACCESSIBLE}");
    }
}
