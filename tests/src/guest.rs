//! A guest: a machine of its own with Debian's kernel, under qemu, that runs tests of this program.
//!
//! For what the kernel here does not have. A test that is ignored everywhere else is played there:
//! the guest has this very test program, adit, and the few other programs that tests need, all in
//! an initial file system that is made on the spot. Nothing of it is on a disk, and it has no
//! network but its own.

mod archive;
mod modules;
mod system;

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Background, Implementation, find_program, skipped};
use archive::Archive;
use modules::Modules;

pub use system::System;

/// Emulation, since /dev/kvm may be there and not work. Its time is that of its own work, however
/// busy this machine is. Few machines have less memory than this.
const MACHINE: &str =
    "-accel tcg -cpu max -m 1024 -nodefaults -display none -no-reboot -monitor none";
/// And its time leaps where it only waits, but for the clock that goes on while it sleeps.
const LEAPING: [&str; 4] = ["-icount", "shift=1,sleep=off", "-rtc", "clock=host"];
/// It waits as anybody does, since a disk takes time of ours.
const WAITING: [&str; 2] = ["-icount", "shift=1"];
const KERNEL_WORDS: &str =
    "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off apparmor=0";
/// What tests run, besides busybox, whose `timeout` would run its own `ip`.
const PROGRAMS: [&str; 10] =
    ["bash", "ip", "nft", "ping", "sysctl", "tcpdump", "timeout", "unshare", "wg", "wg-quick"];
/// What tests need of the kernel, besides what that needs.
const MODULES: [&str; 12] = [
    "wireguard",
    "tun",
    "veth",
    "overlay",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_reject_inet",
];
/// The line that ends a play, with the exit status of the tests.
const END: &str = "adit-guest: ";

/// Boots a guest and lets it play those tests of this program that are ignored elsewhere and have
/// one of these words in their names. Shows all that it said unless it succeeds in time.
#[track_caller]
pub fn play(words: &[&str], patience: Duration) {
    match Guest::prepare(&PROGRAMS) {
        Ok(guest) => judge(|| guest.boot(guest.archive(words), &LEAPING, patience)),
        Err(reason) => skipped(&reason),
    }
}

/// Expects that a guest says at its end that all has passed.
#[track_caller]
fn judge(boot: impl FnOnce() -> String) {
    let started = Instant::now();
    let said = boot();
    let elapsed = started.elapsed();
    let passed = said.lines().any(|line| line.trim_end() == format!("{END}0"));
    assert!(passed, "a guest has failed in {elapsed:.0?}:\n{said}");
    let told = ["test result: ", "SKIPPED: "];
    for line in said.lines().filter(|line| told.iter().any(|begin| line.starts_with(begin))) {
        // Past the harness, which keeps to itself what tests that pass print.
        let _ = writeln!(io::stderr(), "a guest, in {elapsed:.0?}: {line}");
    }
}

/// All that a guest is made of.
struct Guest {
    qemu: PathBuf,
    kernel: PathBuf,
    modules: Modules,
    programs: Vec<PathBuf>,
    adit: PathBuf,
    /// The folder of all that is built here.
    target: PathBuf,
}

impl Guest {
    /// With these programs; or what is missing here.
    fn prepare(programs: &[&str]) -> Result<Self, String> {
        let program = |name| find_program(name).ok_or(format!("no program {name}"));
        let qemu = program("qemu-system-x86_64")?;
        let adit = Implementation::Adit.program()?;
        let programs = programs.iter().copied().chain(["busybox"]).map(program);
        let programs = programs.collect::<Result<_, _>>()?;
        // `./test` puts a package of Debian there.
        let target = adit.parent().and_then(Path::parent).unwrap_or(&adit).to_owned();
        let root = Some(target.join("guest")).filter(|root| root.is_dir());
        let root = root.ok_or("no kernel for a guest")?;
        // From Debian 13 on all of it is below /usr, and from Linux 7 on the kernel is with its modules.
        let modules = [root.join("lib/modules"), root.join("usr/lib/modules")];
        let modules = modules.iter().find_map(|folder| only_entry(folder, "").ok());
        let modules = modules.ok_or("no modules of the kernel for a guest")?;
        let kernel = Some(modules.join("vmlinuz")).filter(|kernel| kernel.is_file());
        let kernel = kernel.map_or_else(|| only_entry(&root.join("boot"), "vmlinuz-"), Ok)?;
        let modules = Modules::below(&modules)?;
        Ok(Self { qemu, kernel, modules, programs, adit, target })
    }

    /// All that it says until it ends, or is ended. It has these words more on its command line:
    /// which machine it is, and what belongs to that.
    fn boot(&self, archive: Archive, more: &[&str], patience: Duration) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("adit-guest-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (initial, console) = (folder.join("initial"), folder.join("console"));
        archive.write_to(&initial).expect("a file");
        let mut command = Command::new(&self.qemu);
        command
            .args(MACHINE.split_whitespace())
            .args(more)
            .args(["-append", KERNEL_WORDS, "-kernel"])
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&initial)
            .arg("-serial")
            .arg(format!("file:{}", console.display()));
        let output = File::create(folder.join("qemu")).expect("a file");
        let error = output.try_clone().expect("another descriptor");
        command.stdin(Stdio::null()).stdout(output).stderr(error);
        let mut machine = Background(command.spawn().expect("qemu starts"));
        let deadline = Instant::now() + patience;
        let ended = loop {
            match machine.0.try_wait().expect("a child of ours") {
                Some(status) => break status.to_string(),
                None if Instant::now() > deadline => break format!("ended after {patience:?}"),
                None => thread::sleep(Duration::from_millis(50)),
            }
        };
        drop(machine);
        let text = |name| fs::read(folder.join(name)).unwrap_or_default();
        let said = [text("qemu"), text("console")].concat();
        let said = String::from_utf8_lossy(&said).replace('\r', "");
        let _ = fs::remove_dir_all(&folder);
        format!("{said}\nqemu: {ended}\n")
    }

    /// The guest's file system.
    fn archive(&self, words: &[&str]) -> Archive {
        let mut archive = Archive::default();
        let mut modules = String::new();
        for (name, content) in self.modules.with_dependencies(&MODULES) {
            let path = format!("/modules/{name}");
            archive.file(Path::new(&path), 0o644, &content);
            modules += &format!(" {path}");
        }
        archive.file(Path::new("/init"), 0o755, init(&modules, words).as_bytes());
        // As where they were built: tests find adit by their own place.
        let test = env::current_exe().expect("a test knows its executable");
        for (from, to) in [(&test, "/adit/debug/deps/test"), (&self.adit, "/adit/debug/adit")] {
            archive.file(Path::new(to), 0o755, &fs::read(from).expect("a program"));
        }
        let programs = self.programs.iter().chain([&test, &self.adit]);
        let libraries: BTreeSet<_> = programs.flat_map(|program| libraries(program)).collect();
        for path in &libraries {
            archive.file(&in_usr(path), 0o755, &fs::read(path).expect("a library"));
        }
        for folder in ["peers/wireguard-tools/bin", "peers/wireguard-tools/lib"] {
            // Without them tests say that they are missing.
            for entry in fs::read_dir(self.target.join(folder)).into_iter().flatten().flatten() {
                let path = Path::new("/adit").join(folder).join(entry.file_name());
                archive.file(&path, 0o755, &fs::read(entry.path()).expect("a program"));
            }
        }
        // In one folder, so that nobody finds what busybox has by the same name.
        for path in &self.programs {
            let name = path.file_name().unwrap_or_default();
            let content = fs::read(path).expect("a program");
            archive.file(&Path::new("/usr/bin").join(name), 0o755, &content);
        }
        for (name, target) in
            [("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
        {
            archive.link(&Path::new("/").join(name), target);
        }
        archive.link(Path::new("/usr/sbin"), "bin");
        archive.link(Path::new("/usr/bin/sh"), "busybox");
        // Some tests know it by the place where it was built.
        archive.link(&self.adit, "/adit/debug/adit");
        for folder in
            ["/proc", "/sys", "/dev", "/run", "/tmp", "/etc/wireguard", "/etc/iproute2", "/var/lib"]
        {
            archive.folder(Path::new(folder));
        }
        archive.link(Path::new("/var/run"), "/run");
        archive.file(Path::new("/etc/hosts"), 0o644, b"127.0.0.1 localhost\n");
        archive.file(Path::new("/etc/passwd"), 0o644, b"root:x:0:0:root:/:/bin/sh\n");
        archive
    }
}

/// The first process: makes the system usable, plays, and turns the power off.
fn init(modules: &str, words: &[&str]) -> String {
    let words = words.join(" ");
    format!(
        r#"#!/bin/sh
export PATH=/usr/bin HOME=/ RUST_BACKTRACE=1
busybox mount -t proc proc /proc
# It says what is there already.
busybox --install -s /usr/bin 2>&-
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
mount -t tmpfs run /run
for module in {modules}; do insmod $module; done
ip link set lo up
/adit/debug/deps/test --ignored {words}
code=$?
echo
echo "{END}$code"
poweroff -f
"#
    )
}

/// The only entry of a folder that begins so.
fn only_entry(folder: &Path, begin: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut found = entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(begin.as_bytes()));
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => Err(format!("not one file {begin}* in {}", folder.display())),
    }
}

/// What a program is linked with; nothing for a script.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd comes with the C library");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).filter(|path| path.is_file()).collect()
}

/// Where a file is when /lib and /lib64 are links into /usr.
fn in_usr(path: &Path) -> PathBuf {
    if path.starts_with("/usr") {
        path.to_owned()
    } else {
        Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path))
    }
}
