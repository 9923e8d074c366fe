//! Modules of a kernel, and in which order they are loaded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Those of one kernel, by name: `chacha_x86_64` for `chacha-x86_64.ko`.
pub(super) struct Modules(BTreeMap<String, PathBuf>);

impl Modules {
    /// Those below a folder.
    pub fn below(folder: &Path) -> Result<Self, String> {
        let mut modules = BTreeMap::new();
        collect(folder, &mut modules).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(modules))
    }

    /// These and what they depend on, each behind what it needs: the name and the content of its
    /// file. What a kernel has built in is in no file, and left out.
    pub fn with_dependencies(&self, names: &[&str]) -> Vec<(String, Vec<u8>)> {
        let mut order = Vec::new();
        names.iter().for_each(|name| self.add(name, &mut order));
        order
    }

    fn add(&self, name: &str, order: &mut Vec<(String, Vec<u8>)>) {
        let file = format!("{name}.ko");
        let Some(path) = self.0.get(name).filter(|_| order.iter().all(|(it, _)| *it != file))
        else {
            return;
        };
        let content = read(path);
        for needed in needs(&content) {
            self.add(&needed.replace('-', "_"), order);
        }
        order.push((file, content));
    }
}

fn collect(folder: &Path, modules: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            collect(&path, modules)?;
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some((name, "" | ".xz")) = name.split_once(".ko") {
            modules.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Vec<u8> {
    if path.extension().is_some_and(|end| end == "xz") {
        let output = Command::new("xz").arg("-dc").arg(path).output().expect("xz unpacks");
        assert!(output.status.success(), "xz -dc {}", path.display());
        return output.stdout;
    }
    fs::read(path).expect("a module")
}

/// What a module says that it depends on, in its section `.modinfo`.
fn needs(content: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let at = content.windows(KEY.len()).position(|window| window == KEY);
    let list = at.map_or(&[][..], |at| &content[at + KEY.len()..]);
    let list = list.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = list.split(|byte| *byte == b',').filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}
