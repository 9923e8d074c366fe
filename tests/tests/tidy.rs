//! The rules of the house that no compiler checks (ARCHITECTURE.md).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The crates of the program, and what each may depend on. An arrow that is not drawn here is a
/// change of the design.
const ARROWS: [(&str, &[&str]); 6] = [
    ("proto", &[]),
    ("sys", &[]),
    ("engine", &["proto", "sys"]),
    ("config", &["proto"]),
    ("host", &["sys"]),
    ("adit", &["config", "engine", "host", "proto", "sys"]),
];
/// What whoever audits the tunnel has to read, and how long it may be: no longer than the module of Linux
/// 6.1, which is known for its 4,000 lines, and has as many as these in `drivers/net/wireguard`, without
/// blank lines, comments and its `selftest`.
const CORE: [&str; 3] = ["proto", "sys", "engine"];
const LONGEST_CORE: usize = 4_676;
const LONGEST_FILE: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the project: its path from the root, and its text.
fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    for folder in ["crates", "tests", "bench", "fuzz"] {
        collect(&root(), folder, &mut sources);
    }
    assert!(sources.len() > 50, "the project is elsewhere");
    sources
}

fn collect(root: &Path, folder: &str, sources: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries.map(|entry| entry.expect("a readable folder")) {
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = format!("{folder}/{name}");
        if entry.file_type().expect("a readable entry").is_dir() {
            if name != "target" {
                collect(root, &path, sources);
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).expect("sources are UTF-8");
            sources.insert(path, text);
        }
    }
}

/// Lines that are code, with their numbers: neither blank nor a comment.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
}

#[track_caller]
fn assert_none(faults: &[String], what: &str) {
    assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
}

#[test]
fn the_map_names_every_file_and_no_other() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let (_, map) = page.split_once("<!-- map -->").expect("the map begins");
    let (map, _) = map.split_once("<!-- /map -->").expect("the map ends");
    let named = map.lines().filter_map(|line| line.split_whitespace().next());
    let named: BTreeSet<_> = named.filter(|word| word.ends_with(".rs")).collect();
    let sources = sources();
    let mut faults = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| !named.contains(path.as_str())) {
        let about = text.lines().next().unwrap_or_default();
        faults.push(format!("+ {path}  {}", about.trim_start_matches("//! ")));
    }
    for path in named.iter().filter(|path| !sources.contains_key(**path)) {
        faults.push(format!("- {path}"));
    }
    assert_none(&faults, "ARCHITECTURE.md's map lacks (+) or has too much (-)");
}

#[test]
fn every_file_begins_with_what_it_is() {
    let begins = |text: &str| text.starts_with("//! ");
    let mut faults: Vec<_> = sources().into_iter().filter(|(_, text)| !begins(text)).collect();
    let faults: Vec<_> = faults.drain(..).map(|(path, _)| path).collect();
    assert_none(&faults, "files without a first line that says what they are");
}

#[test]
fn crates_depend_on_each_other_only_as_drawn() {
    let mut faults = Vec::new();
    for (name, allowed) in ARROWS {
        let manifest = root().join("crates").join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).expect("every crate has a manifest");
        for other in dependencies(&manifest) {
            let ours = ARROWS.iter().any(|(ours, _)| *ours == other);
            if ours && !allowed.contains(&other) {
                faults.push(format!("{name} → {other}"));
            }
        }
    }
    assert_none(&faults, "arrows that are not drawn");
}

/// What a crate is made with; what only its tests need does not matter.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = matches!(line, "[dependencies]" | "[build-dependencies]");
        } else if inside {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            names.push(name.trim_start_matches("adit-"));
        }
    }
    names
}

#[test]
fn only_sys_is_trusted_with_raw_memory() {
    let word = concat!("un", "safe");
    let mut faults = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !path.starts_with("crates/sys/")) {
        for (number, line) in code(text) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|found| found == word) {
                faults.push(format!("{path}:{number}"));
            }
        }
    }
    assert_none(&faults, "raw memory outside of sys");
}

#[test]
fn no_file_is_too_long_to_read() {
    let lengths = sources().into_iter().map(|(path, text)| (text.lines().count(), path));
    let long = lengths.filter(|(length, _)| *length > LONGEST_FILE);
    let faults: Vec<_> = long.map(|(length, path)| format!("{path}: {length} lines")).collect();
    assert_none(&faults, "files of more than 700 lines");
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let calls = [concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut faults = Vec::new();
    for (path, text) in &sources() {
        for (number, line) in (1..).zip(text.lines()) {
            if words.iter().chain(&calls).any(|word| line.contains(word)) {
                faults.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none(&faults, "left for later");
}

#[test]
fn a_test_that_is_ignored_says_why() {
    let mut faults = Vec::new();
    for (path, text) in &sources() {
        for (number, line) in code(text) {
            if line.starts_with(concat!("#[", "ignore")) && !line.contains(" = \"") {
                faults.push(format!("{path}:{number}"));
            }
        }
    }
    assert_none(&faults, "ignored without a reason");
}

#[test]
fn the_core_can_be_read_in_an_afternoon() {
    let sizes = sizes(&sources());
    let core: usize = CORE.iter().map(|name| sizes[*name]).sum();
    let mut report: String =
        sizes.iter().map(|(name, size)| format!("{name:8} {size:6} lines of code\n")).collect();
    report.push_str(&format!("proto + sys + engine: {core}\n"));
    // Past the harness, which keeps to itself what tests that pass print.
    std::io::stderr().write_all(report.as_bytes()).expect("somebody listens");
    assert!(core <= LONGEST_CORE, "the core has grown to {core} lines of code");
}

/// Lines of code of every crate: no blank lines, no comments, no tests.
fn sizes(sources: &BTreeMap<String, String>) -> BTreeMap<&'static str, usize> {
    let tests: BTreeSet<_> =
        sources.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let mut sizes = BTreeMap::new();
    for (name, _) in ARROWS {
        let folder = format!("crates/{name}/src/");
        let files = sources.iter().filter(|(path, _)| path.starts_with(&folder));
        let files = files.filter(|(path, _)| !tests.contains(*path));
        sizes.insert(name, files.map(|(_, text)| code(&without_tests(text)).count()).sum());
    }
    sizes
}

/// The files that hold nothing but the tests of the file `path`.
fn test_files(path: &str, text: &str) -> Vec<String> {
    let folder = match path.strip_suffix("/mod.rs").or(path.strip_suffix("/lib.rs")) {
        Some(folder) => folder,
        None => path.trim_end_matches(".rs"),
    };
    let after = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| rest.lines().next());
    let names = after.filter_map(|item| {
        item.trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(';')
    });
    names.map(|name| format!("{folder}/{name}.rs")).collect()
}

/// A file without its test modules, which begin and end at the left margin.
fn without_tests(text: &str) -> String {
    let mut parts = text.split("#[cfg(test)]\n");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let item = part.lines().next().unwrap_or_default();
        let rest = match item.ends_with('{') {
            true => part.split_once("\n}\n").map(|(_, rest)| rest),
            false => part.split_once('\n').map(|(_, rest)| rest),
        };
        kept.push_str(rest.unwrap_or_default());
    }
    kept
}
