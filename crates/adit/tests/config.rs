//! `adit config` from outside: exit codes, JSON, and what becomes of a file that is written.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const KEY: &str = "gJnSoFwHT6MgW23t6QkDfLOsw1Y2lwvEoVWVIp5rbkc=";

fn adit(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_adit"))
        .arg("config")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// A folder that is gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("adit-config-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_exit_code_tells_errors_from_warnings() {
    let good = format!("[Interface]\nPrivateKey = {KEY}\n");
    for (words, stdin, code) in [
        (&["check", "-"][..], good.as_str(), 0),
        (&["check", "-"], "[Interface]\n", 0),
        (&["check", "-"], "[Interface]\nMTUU = 5\n", 1),
        (&["check", "--json", "-"], "[Interface]\nMTUU = 5\n", 1),
        (&["check", "/nonexistent.conf"], "", 1),
        (&["explain", "-"], "[Interface]\nMTUU = 5\n", 0),
        (&["fmt", "-"], "[Interface]\nMTUU = 5\n", 1),
        (&["fmt", "--write", "-"], &good, 1),
        (&["check"], "", 2),
        (&["chekc", "-"], "", 2),
        (&["fmt", "--json", "-"], "", 2),
        (&["check", "-", "-"], "", 2),
        (&[], "", 2),
        (&["--help"], "", 0),
    ] {
        assert_eq!(adit(words, stdin).status.code(), Some(code), "{words:?} {stdin}");
    }
}

#[test]
fn problems_come_with_file_and_line_or_as_json() {
    let folder = Folder::new("check");
    let file = folder.file("wg0.conf", &format!("[Interface]\nPrivateKey = {KEY}\nMTUU = 5\n"));
    let output = adit(&["check", &file], "");
    let lines = format!(
        "{file}:2: warning: others can read this key; `chmod 600' the file\n{file}:3: there is no key \
         `MTUU'; did you mean `MTU'?\n"
    );
    assert_eq!((text(&output.stdout), text(&output.stderr)), (lines.as_str(), ""));
    let output = adit(&["check", "--json", &file], "");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!({
        "v": 1,
        "file": file,
        "errors": 1,
        "warnings": 1,
        "problems": [
            {
                "line": 2, "severity": "warning", "code": "key-readable",
                "what": "others can read this key", "instead": "`chmod 600' the file",
            },
            {
                "line": 3, "severity": "error", "code": "key-unknown",
                "what": "there is no key `MTUU'", "instead": "did you mean `MTU'?",
            },
        ],
    });
    assert_eq!(report, expected);
}

#[test]
fn a_written_file_keeps_its_owner_mode_and_link() {
    let folder = Folder::new("fmt");
    let content = format!("[interface]\nprivatekey={KEY}\n");
    let tidy = format!("[Interface]\nPrivateKey = {KEY}\n");
    let file = folder.file("real", &content);
    let link = folder.0.join("wg0.conf");
    symlink("real", &link).unwrap();
    let link = link.to_str().unwrap();
    assert_eq!(text(&adit(&["fmt", link], "").stdout), tidy);
    assert_eq!(fs::read_to_string(&file).unwrap(), content);
    let before = fs::metadata(&file).unwrap();
    assert_eq!(adit(&["fmt", "--write", link], "").status.code(), Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), tidy);
    let after = fs::metadata(&file).unwrap();
    let rights = |of: &fs::Metadata| (of.mode(), of.uid(), of.gid());
    assert_eq!(rights(&after), rights(&before));
    assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2, "nothing is left beside it");
    // What is tidy is not touched.
    adit(&["fmt", "--write", link], "");
    assert_eq!(fs::metadata(&file).unwrap().ino(), after.ino());
}

#[test]
fn explanations_stand_beside_the_lines() {
    let output =
        adit(&["explain", "-"], &format!("[Interface]\nPresharedKey = {KEY}\nMTU = 1420\n"));
    let expected = "[Interface]              # this machine's end of the tunnel; warning: without a key no \
         peer can be reached; write `PrivateKey = …', as `adit genkey' makes it\n\
         PresharedKey = (hidden)  # `PresharedKey' does not belong here; write it below [Peer]\n\
         MTU = 1420               # packets of up to 1420 bytes fit into the tunnel\n";
    assert_eq!(text(&output.stdout), expected);
    let output = adit(&["explain", "--json", "-"], "MTU = 5\n");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["lines"][0]["text"], "MTU = 5");
    assert_eq!(report["lines"][0]["severity"], "error");
}
