//! Scenes of `wg genkey`, `genpsk` and `pubkey`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::set::PRIVATE;
use crate::stage::{OURS, Stage, scene};

pub fn scenes(stage: &Stage) {
    let mut scenes = Vec::new();
    for command in ["genkey", "genpsk", "pubkey"] {
        for argument in ["x", "''", "-h", "--help", "help"] {
            scenes.push(scene(&format!("{command} {argument}")));
        }
    }
    scenes.extend(public().into_iter().map(|input| scene("pubkey").reading(input)));
    stage.alike(&scenes);
    for mode in [0o600, 0o660, 0o601, 0o602, 0o604, 0o666, 0] {
        for command in ["genkey", "genpsk"] {
            let [theirs, ours] = [stage.tools.wg(), OURS.into()].map(|program| {
                let file = File::create("key").unwrap();
                fs::set_permissions("key", Permissions::from_mode(mode)).unwrap();
                let mut wg = Command::new(program);
                wg.arg0("wg").arg(command).stdin(Stdio::null()).stdout(file);
                let output = wg.output().unwrap();
                (output.status.code(), output.stderr, fs::read("key").unwrap().len())
            });
            assert_eq!(theirs, ours, "{command} {mode:o}");
        }
    }
}

/// What comes instead of a private key, or around it.
fn public() -> Vec<Vec<u8>> {
    let key = PRIVATE.as_bytes();
    let around = |before: &[u8], after: &[u8]| [before, key, after].concat();
    let mut inputs: Vec<_> = [
        &b""[..],
        b"\n",
        b"\n\n",
        b" \t\r\n",
        b"\x0b\x0c",
        b"\0",
        b"\0\0\n",
        b"\n\0",
        b"x",
        b"\nx",
        b"=",
        b"\xa0",
        b"\xff",
    ]
    .map(|after| around(b"", after))
    .into();
    inputs.extend([&b" "[..], b"\n", b"\0", b"x"].map(|before| around(before, b"")));
    inputs.extend([key.len() - 1, 20, 0].map(|length| key[..length].to_vec()));
    inputs.extend([b"\0", b"A", b"-", b"\xff", b"="].map(|byte| byte.repeat(44)));
    inputs.push(key.repeat(2));
    inputs.push(around(b"", &b"\n".repeat(100_000)));
    inputs.push([&b"A".repeat(43)[..], b"="].concat());
    inputs
}
