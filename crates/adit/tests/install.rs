//! `adit install`, `uninstall` and `complete`, and the packages: what is installed and what is left,
//! and that other programs can read it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use adit_tests::lab::skipped;
use adit_tests::tools::{Tools, Version};

const OURS: &str = env!("CARGO_BIN_EXE_adit");

/// Everything below the prefix, apart from folders.
const TREE: &str = "\
bin/adit 755
bin/wg -> adit
bin/wg-quick -> adit
bin/wireguard-go -> adit
lib/systemd/system/adit@.service 644
lib/systemd/system/wg-quick.target 644
lib/systemd/system/wg-quick@.service -> adit@.service
share/adit/installed 644
share/bash-completion/completions/adit 644
share/bash-completion/completions/wg -> adit
share/bash-completion/completions/wg-quick -> adit
share/fish/vendor_completions.d/adit.fish 644
share/man/man1/adit.1 644
share/man/man8/wg-quick.8 644
share/man/man8/wg.8 644
share/zsh/site-functions/_adit 644
";

/// A folder that is gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("adit-install-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs adit, which must succeed.
fn adit(words: &[&str]) -> String {
    let output = Command::new(OURS).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// All files and links below a folder, as [`TREE`] has them.
fn tree(root: &Path) -> String {
    fn collect(root: &Path, folder: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                collect(root, &path, lines);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                lines.push(format!("{name} -> {}\n", target.display()));
            } else {
                lines.push(format!("{name} {:o}\n", metadata.permissions().mode() & 0o7777));
            }
        }
    }
    let mut lines = Vec::new();
    collect(root, root, &mut lines);
    lines.sort();
    lines.concat()
}

/// A program that is here, or a line on why the test is shorter without it.
fn find(program: &str) -> bool {
    let is_here = Command::new("which").arg(program).output().is_ok_and(|it| it.status.success());
    if !is_here {
        eprintln!("skipped in part: {program} is not installed");
    }
    is_here
}

fn run(program: &str, words: &[&str]) -> Output {
    Command::new(program).args(words).env("LC_ALL", "C.UTF-8").output().unwrap()
}

#[test]
fn what_was_installed_is_removed_and_nothing_else() {
    let root = Folder::new("tree");
    root.write("usr/share/man/other", "x");
    let words = |verb| [verb, "--destdir", root.path(), "--prefix", "/usr"];
    adit(&[&words("install")[..], &["--dry-run"]].concat());
    assert_eq!(tree(&root.0), "share/man/other 644\n".replace("share", "usr/share"));
    let told = adit(&words("install"));
    assert_eq!(told.lines().count(), TREE.lines().count() - 1, "{told}");
    fs::remove_file(root.0.join("usr/share/man/other")).unwrap();
    assert_eq!(tree(&root.0.join("usr")), TREE);
    let version = run(root.0.join("usr/bin/wg").to_str().unwrap(), &["--version"]);
    assert!(text(&version.stdout).starts_with("wireguard-tools v"), "{version:?}");
    let unit = root.read("usr/lib/systemd/system/adit@.service");
    assert!(unit.contains("ExecStart=/usr/bin/adit up --foreground %i\n"), "{unit}");
    // Once more changes nothing, and without the names takes them away.
    adit(&words("install"));
    assert_eq!(tree(&root.0.join("usr")), TREE);
    adit(&[&words("install")[..], &["--no-names"]].concat());
    assert!(!root.0.join("usr/bin/wg").exists() && root.0.join("usr/bin/adit").exists());
    root.write("usr/share/man/other", "x");
    adit(&[&words("uninstall")[..], &["--dry-run"]].concat());
    assert!(root.0.join("usr/bin/adit").exists());
    adit(&words("uninstall"));
    assert_eq!(tree(&root.0), "usr/share/man/other 644\n");
    assert!(!root.0.join("usr/bin").exists() && root.0.join("usr/share/man").exists());
    let again = run(OURS, &words("uninstall"));
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn what_is_somebody_elses_is_left_or_kept() {
    let root = Folder::new("others");
    root.write("usr/bin/wg", "theirs");
    root.write("usr/share/man/man8/wg-quick.8", "theirs");
    let words = |verb, prefix| [verb, "--destdir", root.path(), "--prefix", prefix];
    let told = adit(&words("install", "/usr"));
    for line in
        ["leave out wg: /usr/bin/wg is there", "leave out wg-quick: /usr/share/man/man8/wg-quick.8"]
    {
        assert!(told.contains(line), "{told}");
    }
    assert_eq!(root.read("usr/bin/wg"), "theirs");
    assert!(
        !root.0.join("usr/bin/wg-quick").exists()
            && !root.0.join("usr/share/man/man8/wg.8").exists()
    );
    assert!(root.0.join("usr/bin/wireguard-go").is_symlink());
    // A program elsewhere is not to be hidden either.
    let told = adit(&words("install", "/usr/local"));
    assert!(told.contains("leave out wg: /usr/bin/wg is there"), "{told}");
    adit(&words("uninstall", "/usr/local"));

    adit(&[&words("install", "/usr")[..], &["--replace"]].concat());
    assert_eq!(root.read("usr/bin/wg.before-adit"), "theirs");
    assert!(root.0.join("usr/bin/wg").is_symlink());
    // What was kept is not replaced by ours the second time.
    adit(&[&words("install", "/usr")[..], &["--replace"]].concat());
    adit(&words("uninstall", "/usr"));
    assert_eq!(tree(&root.0), "usr/bin/wg 644\nusr/share/man/man8/wg-quick.8 644\n");
    assert_eq!(root.read("usr/bin/wg"), "theirs");

    root.write("usr/bin/adit", "theirs");
    let refused = run(OURS, &words("install", "/usr"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("/usr/bin/adit is somebody else's"), "{refused:?}");
    assert_eq!(root.read("usr/bin/adit"), "theirs");
}

#[test]
fn manual_pages_are_well_formed_and_name_every_command() {
    let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("share/man");
    let (man, mandoc) = (find("man"), find("mandoc"));
    for page in ["adit.1", "wg.8", "wg-quick.8"] {
        let path = share.join(page);
        let path = path.to_str().unwrap();
        if man {
            let checked = run("man", &["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path]);
            assert_eq!(text(&checked.stderr), "", "{page}");
        }
        if mandoc {
            assert_eq!(text(&run("mandoc", &["-T", "lint", path]).stdout), "", "{page}");
        }
    }
    let page = fs::read_to_string(share.join("adit.1")).unwrap().replace('\\', "");
    let commands = adit(&["complete", "--", "adit", ""]);
    let unsaid = ["help", "complete", "--help", "--version"];
    for command in commands.lines().filter(|command| !unsaid.contains(command)) {
        assert!(page.contains(&format!("adit {command}")), "adit.1 says nothing of {command}");
    }
}

#[test]
fn what_may_come_next_is_known() {
    for (line, expected) in [
        ("adit conf", "config\n"),
        ("adit config ", "check explain fmt"),
        ("adit config fmt --w", "--write\n"),
        ("adit up --", "--dry-run --foreground --guard --help --kernel --no-guard"),
        ("adit up --dry-run --d", ""),
        ("adit wg sync", "syncconf\n"),
        ("adit wg-quick ", "down save strip up"),
        ("wg show wg0 t", "transfer\n"),
        ("wg set wg0 ", "fwmark listen-port peer private-key"),
        ("wg set wg0 fwmark ", ""),
        ("wg set wg0 listen-port 1 ", "fwmark peer private-key"),
        (
            "wg set wg0 fwmark 1 peer x ",
            "allowed-ips endpoint peer persistent-keepalive preshared-key remove",
        ),
        (
            "wg set wg0 peer x endpoint y peer z allowed-ips a ",
            "endpoint peer persistent-keepalive preshared-key remove",
        ),
        ("wg set wg0 peer x remove ", "peer\n"),
        ("wg set wg0 private-key peer fw", "fwmark\n"),
        ("adit install --prefix ", ""),
        ("adit nothing ", ""),
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let found = adit(&[&["complete", "--"], &words[..]].concat());
        let found: Vec<_> = found.lines().collect();
        assert_eq!(found, expected.split_whitespace().collect::<Vec<_>>(), "{line}");
    }
}

#[test]
fn every_option_of_a_command_is_offered() {
    for command in ["up", "reload", "down", "status", "install", "uninstall", "demo"] {
        let usage = adit(&[command, "--help"]);
        let offered = adit(&["complete", "--", "adit", command, "--"]);
        let options = usage.split(|it: char| !it.is_ascii_lowercase() && it != '-');
        for option in options.filter(|word| word.starts_with("--") && word.len() > 2) {
            assert!(offered.lines().any(|line| line == option), "{command} {option}: {offered}");
        }
    }
}

#[test]
fn each_shell_completes() {
    let root = Folder::new("shells");
    adit(&["install", "--destdir", root.path(), "--prefix", "/usr"]);
    let path = format!("{}:{}", root.0.join("usr/bin").display(), std::env::var("PATH").unwrap());
    let file = |name: &str| root.0.join("usr/share").join(name).display().to_string();
    let complete = |shell: &str, script: String| {
        let mut command = Command::new(shell);
        let output = command.args(["-c", &script]).env("PATH", &path).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{shell}");
        text(&output.stdout)
    };
    if find("bash") {
        let script = format!(
            ". {}; COMP_LINE='adit config '; COMP_POINT=12; _adit; echo ${{COMPREPLY[@]}}
             COMP_LINE='/usr/bin/wg showc'; COMP_POINT=17; _adit; echo ${{COMPREPLY[@]}}
             complete -p wg-quick",
            file("bash-completion/completions/adit")
        );
        let expected = "check explain fmt\nshowconf\ncomplete -o default -F _adit wg-quick\n";
        assert_eq!(complete("bash", script), expected);
    }
    if find("zsh") {
        // What compadd is given, without a terminal.
        let script = format!(
            "compadd() {{ print -- ${{(P)2}} }}; words=(adit config ''); CURRENT=3; . {}",
            file("zsh/site-functions/_adit")
        );
        assert_eq!(complete("zsh", script), "check explain fmt\n");
    }
    if find("fish") {
        let script = format!(
            "source {}; complete -C 'adit config '",
            file("fish/vendor_completions.d/adit.fish")
        );
        let lines = complete("fish", script);
        for word in ["check", "explain", "fmt"] {
            assert!(lines.lines().any(|line| line == word), "{lines}");
        }
    }
}

#[test]
fn a_unit_has_its_place_where_that_of_wg_quick_has_it() {
    const UNIT: &str = include_str!("../share/systemd/adit@.service");
    let words = |unit: &str| -> BTreeSet<String> {
        let places = ["After=", "Before=", "Wants=", "PartOf=", "WantedBy=", "Environment="];
        let lines = unit.lines().filter_map(|line| {
            let place = places.iter().find(|place| line.starts_with(**place))?;
            Some(line.strip_prefix(place)?.split(' ').map(move |word| format!("{place}{word}")))
        });
        lines.flatten().collect()
    };
    for tools in Tools::all().iter().filter(|tools| tools.version == Version::Of2026) {
        let Ok(theirs) = fs::read_to_string(tools.unit()) else {
            skipped("the newest wireguard-tools are not unpacked here");
            continue;
        };
        let missing: Vec<_> = words(&theirs).difference(&words(UNIT)).cloned().collect();
        assert!(words(&theirs).len() > 5 && missing.is_empty(), "{missing:?}");
    }
}

#[test]
fn systemd_accepts_the_units_and_finds_them_well_walled() {
    if !find("systemd-analyze") {
        return;
    }
    let prefix = Folder::new("units");
    adit(&["install", "--replace", "--prefix", prefix.path()]);
    let unit = prefix.0.join("lib/systemd/system/adit@test.service");
    symlink("adit@.service", &unit).unwrap();
    let unit = unit.to_str().unwrap();
    let verified = run("systemd-analyze", &["verify", "--man=no", unit]);
    assert!(verified.status.success(), "{verified:?}");
    let ours = text(&verified.stderr);
    let ours: Vec<_> = ours.lines().filter(|line| line.contains("adit")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    // In tenths; the unit of a plain wg-quick has 96.
    let threshold = ["security", "--offline=yes", "--threshold=40", unit];
    let walls = run("systemd-analyze", &threshold);
    if text(&walls.stderr).contains("unrecognized option") {
        eprintln!("skipped in part: this systemd-analyze judges no files");
        return;
    }
    assert!(walls.status.success(), "{}", text(&walls.stdout));
}

#[test]
fn packages_install_and_go_again() {
    if !find("dpkg-deb") {
        return;
    }
    let folder = Folder::new("packages");
    let package = |name: &str| {
        let out = folder.0.join(name);
        let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../package"))
            .arg(&out)
            .envs([("ADIT", OURS), ("SOURCE_DATE_EPOCH", "1700000000")])
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        let mut files: Vec<_> =
            fs::read_dir(out).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    };
    let (first, second) = (package("first"), package("second"));
    assert_eq!(first.len(), 2);
    for (one, other) in first.iter().zip(&second) {
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{one:?} is not reproducible");
    }
    // Extracted as dpkg does, they are the tree, with what Debian wants of it.
    let root = folder.0.join("root");
    for file in &first {
        let extracted = run("dpkg-deb", &["-x", file.to_str().unwrap(), root.to_str().unwrap()]);
        assert!(extracted.status.success(), "{extracted:?}");
    }
    let mut expected: Vec<_> = TREE
        .lines()
        .filter(|line| !line.starts_with("share/adit/"))
        .map(|line| {
            let line = if line.starts_with("share/man") {
                line.replace(" 644", ".gz 644")
            } else {
                line.to_owned()
            };
            format!("usr/{line}\n")
        })
        .collect();
    for package in ["adit", "adit-wireguard-tools"] {
        for file in ["changelog.gz", "copyright"] {
            expected.push(format!("usr/share/doc/{package}/{file} 644\n"));
        }
    }
    expected.sort();
    assert_eq!(tree(&root), expected.concat());
    let secret = fs::metadata(root.join("etc/wireguard")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o700);
    let control = run("dpkg-deb", &["-f", first[0].to_str().unwrap(), "Conflicts", "Provides"]);
    assert!(text(&control.stdout).contains("wireguard-tools"), "{control:?}");

    if !run("id", &["-u"]).stdout.starts_with(b"0\n") {
        eprintln!("skipped in part: only root can install packages");
        return;
    }
    let system = folder.0.join("system");
    let database = system.join("var/lib/dpkg");
    fs::create_dir_all(database.join("updates")).unwrap();
    fs::create_dir_all(database.join("info")).unwrap();
    fs::write(database.join("status"), "").unwrap();
    let dpkg = |words: &[&str]| {
        let root = format!("--root={}", system.display());
        let log = format!("--log={}", system.join("log").display());
        let common = [
            root.as_str(),
            &log,
            "--force-depends",
            "--force-script-chrootless",
            "--force-not-root",
        ];
        let output = run("dpkg", &[&common, words].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    // The program before its names.
    dpkg(&["-i", first[1].to_str().unwrap(), first[0].to_str().unwrap()]);
    assert!(system.join("usr/bin/wg").exists());
    dpkg(&["-P", "adit-wireguard-tools", "adit"]);
    assert!(!system.join("usr").exists() && !system.join("etc").exists());
}

/// Up, reload and down with the capabilities of the unit alone; then the system calls that were made
/// without its leave.
const WALLS: &str = r#"
set -e
mount -t tmpfs none /run && mkdir -p /run/etc /run/work /run/lib
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
mount --bind /run/lib /var/lib
mkdir -p -m 700 /etc/wireguard && rm -rf /etc/wireguard/*
ip link set lo up
ip link add outside type veth peer name far && ip link set far up && ip link set outside up
ip address add 192.0.2.2/24 dev outside && ip route add default via 192.0.2.1
umask 077
key=$("$ADIT" genkey)
cat > /etc/wireguard/walls.conf <<END
[Interface]
PrivateKey = $key
Address = 10.0.0.2/24, fd00::2/64
DNS = 10.0.0.1
PostUp = true
[Peer]
PublicKey = $("$ADIT" genkey | "$ADIT" pubkey)
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 192.0.2.7:51820
END
# The shell says its number and becomes adit under it.
strace -f -qq -o /run/trace setpriv --bounding-set="-all$CAPABILITIES" --no-new-privs \
    sh -c 'echo $$ > /run/number; exec "$ADIT" up --foreground walls' > /run/said 2>&1 &
until "$ADIT" reload walls > /run/reload 2>&1; do
    kill -0 $! 2>&- || { cat /run/said /run/reload; exit 1; }
done
ping -c 1 -W 1 10.0.0.9 > /run/ping || true
kill -TERM "$(cat /run/number)"
wait $! || { cat /run/said; exit 1; }
if ip link show walls 2>&-; then echo "it is still there"; fi
calls() {
    for name; do
        case $name in
        @*) calls $(systemd-analyze syscall-filter "$name" | grep -vE '^ *#|^@') ;;
        *) echo "$name" ;;
        esac
    done
}
calls $FILTER | sort -u > /run/allowed
sed -nE 's/^[0-9]+ +([a-z0-9_]+)\(.*/\1/p' /run/trace | sort -u > /run/made
grep -q 'setresuid(65521, 65521, 65521) *= 0' /run/trace
grep -qx sendmsg /run/made && grep -qx sendmsg /run/allowed
comm -23 /run/made /run/allowed
"#;

#[test]
fn the_walls_of_the_unit_leave_room_for_the_work() {
    const UNSHARE: [&str; 6] =
        ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let tools = ["systemd-analyze", "strace", "setpriv", "ping"];
    let may = run("unshare", &[&UNSHARE[..], &["true"]].concat()).status.success();
    if !tools.iter().all(|tool| find(tool)) || !may || !Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: this needs {tools:?}, /dev/net/tun and the right to make namespaces");
        return;
    }
    let unit = include_str!("../share/systemd/adit@.service");
    let capabilities =
        unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let capabilities: String = capabilities
        .split(' ')
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_ascii_lowercase()))
        .collect();
    let filters: Vec<_> =
        unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    let output = Command::new("timeout")
        .args(["120", "unshare"])
        .args(UNSHARE)
        .args(["bash", "-c", WALLS])
        .envs([("ADIT", OURS), ("CAPABILITIES", &capabilities), ("FILTER", &filters.join(" "))])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout), "", "system calls that the unit forbids");
}
