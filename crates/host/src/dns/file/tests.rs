//! The file in a folder of the test's own: in every state that it can be found in, and in every
//! order in which tunnels come and go.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use crate::dns::Settings;
use crate::dns::stack::Stack;
use crate::dns::turns::boot;

use super::*;

/// A folder for one test, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("adit-resolv-conf-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("etc")).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("etc/resolv.conf")
    }

    fn file(&self) -> Turns<File> {
        turns(&self.path(), &self.0.join("kept"))
    }

    /// As if something were mounted at the file.
    fn mounted(&self) -> Turns<File> {
        let mut file = self.file();
        file.place.in_place = true;
        file
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    /// The servers that the file names.
    fn servers(&self) -> Vec<String> {
        let text = self.text();
        text.lines()
            .filter_map(|line| line.strip_prefix("nameserver "))
            .map(str::to_owned)
            .collect()
    }

    /// All that is there: names, kinds, modes, owners, times of files, contents.
    fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        for name in ["etc", "kept"] {
            let Ok(entries) = fs::read_dir(self.0.join(name)) else { continue };
            for entry in entries.map(Result::unwrap) {
                let (path, it) = (entry.path(), entry.metadata().unwrap());
                let content = match Content::of(&path) {
                    Ok(Content::Link(target)) => format!("to {}", target.display()),
                    Ok(Content::Bytes(bytes)) => format!("{:?} {bytes:?}", it.modified().unwrap()),
                    _ => String::new(),
                };
                let (mode, uid, gid) = (it.mode(), it.uid(), it.gid());
                all.push(format!("{} {mode:o} {uid} {gid} {content}", path.display()));
            }
        }
        all.sort();
        all
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn settings(words: &str) -> Settings {
    let words = words.split(' ').map(String::from);
    let (servers, domains): (Vec<_>, Vec<_>) =
        words.partition(|word| word.contains(':') || word.starts_with(char::is_numeric));
    Settings::read(&servers, &domains).unwrap().unwrap()
}

type Make = fn(&Folder);
/// Each way in which the file can be found, and how it is made in a folder.
const FOUND: [(&str, Make); 5] = [
    ("nothing", |_| {}),
    ("a file", |folder| folder.write("nameserver 192.0.2.53\n")),
    ("a file of an odd kind", |folder| {
        folder.write("nameserver 192.0.2.53\r\n\0no end of line");
        let file = OpenOptions::new().write(true).open(folder.path()).unwrap();
        let time = UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
        file.set_times(fs::FileTimes::new().set_modified(time)).unwrap();
        file.set_permissions(Permissions::from_mode(0o640)).unwrap();
        // Only root can give a file away.
        drop(fchown(&file, Some(1234), Some(4321)));
    }),
    ("a link", |folder| {
        let target = folder.0.join("target");
        fs::write(&target, "nameserver 192.0.2.53\n").unwrap();
        symlink("../target", folder.path()).unwrap();
    }),
    ("a link to nowhere", |folder| symlink("/nonexistent/conf", folder.path()).unwrap()),
];

#[test]
fn whatever_was_there_comes_back_as_it_was() {
    for (what, make) in FOUND {
        let folder = Folder::new();
        make(&folder);
        let before = folder.everything();
        let file = folder.file();
        file.check().unwrap();
        file.apply("wg0", &settings("10.0.0.1 fe80::1 lan corp.example")).unwrap();
        let text = folder.text();
        let (_, wanted) = text.split_once("original.\n").unwrap();
        assert_eq!(
            wanted,
            "nameserver 10.0.0.1\nnameserver fe80::1%wg0\nsearch lan corp.example\n"
        );
        assert_eq!(file.undo("wg0").unwrap(), "", "{what}");
        assert_eq!(folder.everything(), before, "{what}");
        assert_eq!(file.undo("wg0").unwrap(), "", "{what}: again");
        assert_eq!(folder.everything(), before, "{what}: again");
    }
}

#[test]
fn a_file_that_cannot_be_replaced_is_overwritten() {
    for (what, make) in FOUND.into_iter().filter(|(what, _)| what.starts_with("a file")) {
        let folder = Folder::new();
        make(&folder);
        let state = || {
            let it = folder.path().metadata().unwrap();
            (it.ino(), it.mode(), it.uid(), fs::read(folder.path()).unwrap())
        };
        let before = state();
        let file = folder.mounted();
        file.apply("wg0", &settings("10.0.0.1")).unwrap();
        assert_eq!(folder.servers(), ["10.0.0.1"]);
        file.undo("wg0").unwrap();
        assert_eq!(state(), before, "{what}");
    }
}

#[test]
fn tunnels_come_and_go_in_any_order() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let folder = Folder::new();
        folder.write("nameserver 192.0.2.53\n");
        let before = folder.everything();
        let file = folder.file();
        let servers = ["10.0.0.1", "10.0.1.1", "10.0.2.1"];
        for (number, server) in (0..).zip(servers) {
            file.apply(&format!("wg{number}"), &settings(server)).unwrap();
            assert_eq!(folder.servers(), [server]);
        }
        let mut left: Vec<_> = (0..).zip(servers).collect();
        for down in order {
            assert_eq!(file.undo(&format!("wg{down}")).unwrap(), "");
            left.retain(|(number, _)| *number != down);
            let expected = left.last().map_or("192.0.2.53", |(_, server)| server);
            assert_eq!(folder.servers(), [expected], "{order:?}: without wg{down}");
        }
        assert_eq!(folder.everything(), before, "{order:?}");
    }
}

#[test]
fn what_holds_is_known() {
    let folder = Folder::new();
    folder.write("nameserver 192.0.2.53\n");
    let file = folder.file();
    let (one, other) = (settings("10.0.0.1"), settings("10.0.0.2"));
    assert!(!file.is_applied("wg0", &one).unwrap());
    file.apply("wg0", &one).unwrap();
    assert!(file.is_applied("wg0", &one).unwrap());
    assert!(!file.is_applied("wg0", &other).unwrap());
    file.apply("wg0", &other).unwrap();
    assert!(file.is_applied("wg0", &other).unwrap());
    assert!(!file.is_applied("wg0", &one).unwrap(), "the other has taken its place");
    file.apply("wg1", &one).unwrap();
    assert!(file.is_applied("wg0", &other).unwrap(), "its turn comes again");
    folder.write("nameserver 192.0.2.99\n");
    assert!(!file.is_applied("wg0", &other).unwrap(), "somebody else has the file");
    assert!(!file.is_applied("wg1", &one).unwrap(), "somebody else has the file");
    file.apply("wg0", &other).unwrap();
    file.apply("wg1", &one).unwrap();
    file.undo("wg1").unwrap();
    assert!(file.is_applied("wg0", &other).unwrap());
    folder.write("nameserver 192.0.2.53\n");
    assert!(!file.is_applied("wg0", &other).unwrap(), "somebody has put the old one back");
    file.apply("wg0", &other).unwrap();
    file.undo("wg0").unwrap();
    assert_eq!(folder.servers(), ["192.0.2.53"]);
}

#[test]
fn what_somebody_else_wrote_is_left_alone() {
    let folder = Folder::new();
    folder.write("nameserver 192.0.2.53\n");
    let file = folder.file();
    file.apply("wg0", &settings("10.0.0.1")).unwrap();
    file.apply("wg1", &settings("10.0.1.1")).unwrap();
    folder.write("nameserver 192.0.2.99\n");
    let words = file.undo("wg0").unwrap();
    assert!(words.contains("left as somebody else has written it"), "{words}");
    let (_, kept) = words.split_once("is in ").unwrap();
    assert_eq!(fs::read_to_string(kept).unwrap(), "nameserver 192.0.2.53\n");
    assert_eq!(folder.servers(), ["192.0.2.99"]);

    // A new tunnel takes it as it is now, and gives that back; the one below has lost it.
    file.apply("wg2", &settings("10.0.2.1")).unwrap();
    assert_eq!(file.undo("wg1").unwrap(), "");
    assert_eq!(folder.servers(), ["10.0.2.1"]);
    assert_eq!(file.undo("wg2").unwrap(), "");
    assert_eq!(folder.servers(), ["192.0.2.99"]);
}

#[test]
fn tunnels_of_an_earlier_boot_are_gone() {
    let folder = Folder::new();
    folder.write("nameserver 192.0.2.53\n");
    let before = folder.everything();
    let file = folder.file();
    file.apply("wg0", &settings("10.0.0.1")).unwrap();
    file.apply("wg1", &settings("10.0.1.1")).unwrap();
    let stack = file.state().join("stack");
    let earlier = fs::read_to_string(&stack).unwrap().replace(&boot().unwrap(), "earlier");
    fs::write(&stack, earlier).unwrap();
    file.apply("wg2", &settings("10.0.2.1")).unwrap();
    file.undo("wg2").unwrap();
    assert_eq!(folder.everything(), before);
}

#[test]
fn a_crash_before_the_file_is_written_is_undone() {
    let folder = Folder::new();
    folder.write("nameserver 192.0.2.53\n");
    let before = folder.everything();
    let file = folder.file();
    let lock = file.lock().unwrap();
    file.place.keep(&file.kept()).unwrap();
    let mut stack = Stack::default();
    stack.push(file.entry("wg0", &settings("10.0.0.1")).unwrap());
    file.store(&stack).unwrap();
    fs::write(temporary(&file.place.path), "# Written by").unwrap();
    drop(lock);
    assert_eq!(file.undo("wg0").unwrap(), "");
    assert_eq!(folder.everything(), before);

    let file = folder.mounted();
    for cut_off in ["", "nameserver 192.0.2.53\n\n\n"] {
        file.apply("wg0", &settings("10.0.0.1")).unwrap();
        folder.write(cut_off);
        assert_eq!(file.undo("wg0").unwrap(), "");
        assert_eq!(folder.text(), "nameserver 192.0.2.53\n", "cut off while it was overwritten");
    }
    file.apply("wg0", &settings("10.0.0.1")).unwrap();
    folder.write(&(folder.text() + "\n"));
    assert!(file.is_applied("wg0", &settings("10.0.0.1")).unwrap());
    assert_eq!(file.undo("wg0").unwrap(), "");
    assert_eq!(folder.text(), "nameserver 192.0.2.53\n", "cut off before it was shortened");
}

#[test]
fn what_is_kept_for_nobody_goes_unless_somebody_was_told_of_it() {
    let folder = Folder::new();
    folder.write("nameserver 192.0.2.53\n");
    let before = folder.everything();
    let file = folder.file();
    let lock = file.lock().unwrap();
    file.store(&Stack::default()).unwrap();
    file.place.keep(&file.kept()).unwrap();
    fs::write(temporary(&file.kept()), "nameserver").unwrap();
    drop(lock);
    assert_eq!(file.undo("wg0").unwrap(), "");
    assert_eq!(folder.everything(), before);
    assert!(!file.state().exists());

    file.apply("wg0", &settings("10.0.0.1")).unwrap();
    folder.write("nameserver 192.0.2.99\n");
    for told in [true, false] {
        assert_eq!(file.undo("wg0").unwrap().contains("what it was before is in"), told);
        assert_eq!(fs::read_to_string(file.kept()).unwrap(), "nameserver 192.0.2.53\n");
    }
    // Whoever has told of it may have been cut off since, where it can only be overwritten.
    folder.write("");
    assert_eq!(folder.mounted().undo("wg0").unwrap(), "");
    assert_eq!(folder.text(), "nameserver 192.0.2.53\n");
    assert!(!file.state().exists());
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is_touched() {
    let folder = Folder::new();
    let nowhere = turns(Path::new("/proc/self/nowhere/resolv.conf"), &folder.0);
    let refusal = nowhere.check().unwrap_err().to_string();
    assert_eq!(
        refusal,
        "/proc/self/nowhere cannot be written: No such file or directory (os error 2)"
    );
}
