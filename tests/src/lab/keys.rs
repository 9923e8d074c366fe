//! Keys as Debian's `wg` makes them and wants them: in files.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Lab;
use super::namespace::command_output;

/// A private key in a file and its public key, both in base64.
#[derive(Clone, Debug)]
pub struct KeyPair {
    pub private: String,
    pub public: String,
    pub file: String,
}

/// A preshared key in a file.
#[derive(Clone, Debug)]
pub struct PresharedKey {
    pub secret: String,
    pub file: String,
}

impl KeyPair {
    pub(super) fn generate(lab: &Lab) -> Self {
        let private = command_output(Command::new("wg").arg("genkey")).expect("wg genkey");
        let mut pubkey = Command::new("wg");
        pubkey.arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut pubkey = pubkey.spawn().expect("wg pubkey");
        pubkey
            .stdin
            .take()
            .expect("a pipe")
            .write_all(private.as_bytes())
            .expect("wg pubkey reads");
        let public = pubkey.wait_with_output().expect("wg pubkey").stdout;
        let public = String::from_utf8(public).expect("base64").trim().to_owned();
        Self {
            file: lab.file(&file_name("private"), &private),
            private: private.trim().to_owned(),
            public,
        }
    }
}

impl PresharedKey {
    pub(super) fn generate(lab: &Lab) -> Self {
        let secret = command_output(Command::new("wg").arg("genpsk")).expect("wg genpsk");
        Self { file: lab.file(&file_name("preshared"), &secret), secret: secret.trim().to_owned() }
    }
}

fn file_name(kind: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{kind}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}
