//! A guest whose first process is Debian's systemd, on a disk that outlives its power: what is
//! installed runs there as it does with its users.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use super::archive::Archive;
use super::{END, Guest, MODULES, WAITING, judge};
use crate::lab::find_program;

/// What the disk and its file system need of the kernel, besides what tests do, and Docker.
const MORE_MODULES: [&str; 11] = [
    "virtio_pci",
    "virtio_blk",
    "bridge",
    "br_netfilter",
    "nf_conntrack_netlink",
    "nft_compat",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_conntrack",
    "xt_nat",
    "xt_tcpudp",
];
const DISK: &str = "1G";

/// Such a machine, and its disk.
pub struct System {
    guest: Guest,
    folder: PathBuf,
    files: Vec<(&'static str, &'static str)>,
    links: Vec<(&'static str, &'static str)>,
    copies: Vec<(PathBuf, String)>,
}

impl System {
    /// Makes the disk, which has these files and symbolic links besides Debian's, and copies of
    /// files of this machine, when it boots for the first time; or says what is missing here.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn prepare(
        files: &[(&'static str, &'static str)],
        links: &[(&'static str, &'static str)],
        copies: &[(PathBuf, String)],
    ) -> Result<Self, String> {
        let guest = Guest::prepare(&[])?;
        if !rustix::process::geteuid().is_root() {
            return Err("not root, to whom the files belong".into());
        }
        let make = find_program("mke2fs").ok_or("no program mke2fs")?;
        // `./test` puts packages of Debian there.
        let tree = guest.target.join("system");
        if !tree.is_dir() {
            return Err("no systemd for a guest".into());
        }
        let folder = env::temp_dir().join(format!("adit-system-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (files, links, copies) = (files.into(), links.into(), copies.into());
        let system = Self { guest, folder, files, links, copies };
        let mut make = Command::new(make);
        make.args(["-q", "-F", "-t", "ext4", "-d"]).arg(tree).arg(system.disk()).arg(DISK);
        let output = make.output().expect("mke2fs runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(system)
    }

    /// Boots and plays, one after the other, those tests of this program that are ignored elsewhere
    /// and have the first of these words in their names, then the second. Then it loses its power.
    #[track_caller]
    pub fn play(&self, words: &[&str], patience: Duration) {
        let drive = format!("file={},format=raw,if=virtio,cache=writeback", self.disk().display());
        let machine = [&WAITING[..], &["-drive", &drive]].concat();
        judge(|| self.guest.boot(self.archive(words), &machine, patience));
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// What is there before the disk, and puts on it what changes.
    fn archive(&self, words: &[&str]) -> Archive {
        let mut archive = Archive::default();
        let mut modules = String::new();
        let names: Vec<_> = MORE_MODULES.into_iter().chain(MODULES).collect();
        for (name, content) in self.guest.modules.with_dependencies(&names) {
            let path = format!("/modules/{name}");
            archive.file(Path::new(&path), 0o644, &content);
            modules += &format!(" {path}");
        }
        let busybox = self.guest.programs.last().expect("the last one");
        archive.file(Path::new("/bin/busybox"), 0o755, &fs::read(busybox).expect("busybox"));
        archive.file(Path::new("/init"), 0o755, init(&modules).as_bytes());
        let test = env::current_exe().expect("a test knows its executable");
        for (from, to) in
            [(&test, "debug/deps/test"), (&self.guest.adit, "debug/adit"), (busybox, "busybox")]
        {
            let to = Path::new("/add/adit").join(to);
            archive.file(&to, 0o755, &fs::read(from).expect("a program"));
        }
        archive.file(Path::new("/add/adit/play"), 0o755, play(words).as_bytes());
        let first = |path: &str| Path::new("/first").join(path.trim_start_matches('/'));
        for (path, content) in &self.files {
            archive.file(&first(path), 0o644, content.as_bytes());
        }
        for (from, path) in &self.copies {
            archive.file(&first(path), 0o644, &fs::read(from).expect("a file"));
        }
        for (path, target) in &self.links {
            archive.link(&first(path), target);
        }
        for folder in ["/dev", "/disk", "/first"] {
            archive.folder(Path::new(folder));
        }
        archive
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // A failed clean-up of a temporary folder must not hide the result of the test.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The first process, until there is systemd.
fn init(modules: &str) -> String {
    format!(
        r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for module in {modules}; do $b insmod $module; done
until [ -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 /dev/vda /disk
[ -e /disk/etc/machine-id ] || $b cp -a /first/. /disk/
$b cp -a /add/. /disk/
$b umount /dev
exec $b switch_root /disk /lib/systemd/systemd
"#
    )
}

/// What a unit is to run at the end of the boot.
fn play(words: &[&str]) -> String {
    let words = words.join(" ");
    format!(
        r#"#!/bin/bash
exec > /dev/ttyS0 2>&1
export RUST_BACKTRACE=1
code=0
for word in {words}; do
  /adit/debug/deps/test --ignored --test-threads 1 $word || code=$?
done
echo
echo "{END}$code"
sync
echo b > /proc/sysrq-trigger
"#
    )
}
