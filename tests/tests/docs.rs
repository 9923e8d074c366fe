//! What the pages tell their readers to type works: every block of code is run here, or marked as
//! an example.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use adit_tests::lab::{Implementation, skipped};
use serde_json::Value;

/// The commands that stand on the pages, and how each of them is tried here.
const COMMANDS: [(&str, fn()); 2] =
    [("cargo run --release -- demo", the_demo_runs), ("./test", the_tests_can_be_started)];

#[test]
fn every_command_on_a_page_works_and_no_other_is_tried() {
    let mut documented = BTreeSet::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page is text");
        let commands = commands(&text);
        let commands = commands.unwrap_or_else(|error| panic!("{}, {error}", page.display()));
        documented.extend(commands);
    }
    let tried = COMMANDS.map(|(command, _)| command.to_owned());
    assert_eq!(documented, BTreeSet::from(tried), "on the pages, and tried here");
    for (_, attempt) in COMMANDS {
        attempt();
    }
}

#[test]
fn a_block_that_is_neither_commands_nor_marked_is_found() {
    for (page, expected) in [
        ("Run\n\n```sh\n./a -b   # does it\n\n# and then\n./c\n```\n", Ok(vec!["./a -b", "./c"])),
        ("- like this:\n  ```sh\n  ./a\n  ```\n", Ok(vec!["./a"])),
        ("With care (example):\n\n```sh\nrm -r /\n```\n", Ok(vec![])),
        ("With care\n(example):\n```toml\na = 1\n```\n", Ok(vec![])),
        ("An (example).\n\nNo more.\n\n```sh\n./a\n```\n", Ok(vec!["./a"])),
        ("```text\n./a\n```\n", Ok(vec![])),
        ("Run\n\n```\n./a\n```\n", Err("line 3: a block of `' is neither run nor marked")),
        ("```toml\na = 1\n```\n", Err("line 1: a block of `toml' is neither run nor marked")),
        ("An\n```sh\n./a\n", Err("line 2: a block without an end")),
    ] {
        let expected = expected
            .map(|commands| commands.into_iter().map(str::to_owned).collect())
            .map_err(str::to_owned);
        assert_eq!(commands(page), expected, "{page}");
    }
}

/// The commands of a page, without comments; or where it has a block that is neither a list of
/// commands, nor marked as an example: by `text` behind the fence, or `(example)` in the paragraph
/// before it.
fn commands(page: &str) -> Result<Vec<String>, String> {
    const FENCE: &str = "```";
    let lines: Vec<&str> = page.lines().map(str::trim).collect();
    let mut fences = (0..).zip(&lines).filter(|(_, line)| line.starts_with(FENCE));
    let mut commands = Vec::new();
    while let Some((start, fence)) = fences.next() {
        let error = |what: &str| format!("line {}: {what}", start + 1);
        let (end, _) = fences.next().ok_or_else(|| error("a block without an end"))?;
        let before = lines[..start].iter().rev().skip_while(|line| line.is_empty());
        let mut paragraph = before.take_while(|line| !line.is_empty());
        match &fence[FENCE.len()..] {
            "text" => {}
            _ if paragraph.any(|line| line.contains("(example)")) => {}
            "sh" => {
                commands.extend(lines[start + 1..end].iter().copied().filter_map(without_comment))
            }
            kind => return Err(error(&format!("a block of `{kind}' is neither run nor marked"))),
        }
    }
    Ok(commands)
}

fn without_comment(line: &str) -> Option<String> {
    let command = line.split_once('#').map_or(line, |(command, _)| command).trim();
    (!command.is_empty()).then(|| command.to_owned())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Everything that is written for readers.
fn pages() -> Vec<PathBuf> {
    let folders = [root().to_owned(), root().join("docs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let paths = files.map(|file| file.expect("a file").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// `cargo run` means adit, and its demo succeeds. Built for release, it would be the same program.
fn the_demo_runs() {
    let metadata = ["metadata", "--no-deps", "--offline", "--format-version=1"];
    let output = Command::new(env!("CARGO")).args(metadata).current_dir(root()).output();
    let metadata: Value = serde_json::from_slice(&output.expect("cargo").stdout).expect("JSON");
    let default = metadata["workspace_default_members"].as_array().expect("a list");
    let packages = metadata["packages"].as_array().expect("a list");
    let meant: Vec<_> =
        packages.iter().filter(|package| default.contains(&package["id"])).collect();
    assert!(matches!(meant[..], [adit] if adit["name"] == "adit"), "cargo run means {default:?}");

    let adit = match Implementation::Adit.program() {
        Ok(adit) => adit,
        Err(reason) => return skipped(&reason),
    };
    let output = Command::new(adit).args(["demo", "--seconds", "1"]).output().expect("adit");
    let said = String::from_utf8_lossy(&output.stderr);
    if ["no right to make namespaces", "the TUN device"].iter().any(|lack| said.contains(lack)) {
        return skipped(&said);
    }
    assert!(output.status.success(), "{said}");
}

/// It is this script that runs this test, so it cannot be run by it.
fn the_tests_can_be_started() {
    let script = root().join("test");
    let mode = fs::metadata(&script).expect("the script").permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "executable");
    let status = Command::new("bash").arg("-n").arg(script).status();
    assert!(status.expect("bash").success(), "its syntax");
}
