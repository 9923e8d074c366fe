//! Which network namespace this is, and whether another one is still there.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where ip(8) gives names to network namespaces.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// The way into a network namespace. Reads as what comes before a command there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It has a name for ip(8).
    Named(String),
    /// It is mounted there.
    Mounted(PathBuf),
    /// This process is in it.
    Process(u32),
}

/// What tells the calling thread's network namespace from all others that are there.
pub fn here() -> io::Result<String> {
    of(Path::new("/proc/thread-self"))
}

/// The way into the namespace that [`here`] called so once; none if nobody holds it any more, so that
/// it is gone with all that was in it.
pub fn find(identity: &str) -> Option<Whereabouts> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = mounts.lines().find_map(|line| mount_of(line, identity));
    mounted.map(Whereabouts::of_mount).or_else(|| process_in(identity))
}

fn of(process: &Path) -> io::Result<String> {
    let link = fs::read_link(process.join("ns/net"))?;
    Ok(link.to_string_lossy().into_owned())
}

/// Where a line of mountinfo (proc(5)) mounts this namespace: number, parent, device, root, mount
/// point, and what follows.
fn mount_of(line: &str, identity: &str) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(3);
    let is_it = words.next() == Some(identity);
    words.next().filter(|_| is_it).map(PathBuf::from)
}

fn process_in(identity: &str) -> Option<Whereabouts> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    let is_in = |number: &u32| {
        let process = PathBuf::from(format!("/proc/{number}"));
        of(&process).is_ok_and(|found| found == identity)
    };
    numbers.into_iter().find(is_in).map(Whereabouts::Process)
}

impl Whereabouts {
    fn of_mount(path: PathBuf) -> Self {
        let named = NAMED.iter().find_map(|folder| path.strip_prefix(folder).ok());
        match named.and_then(Path::to_str) {
            Some(name) => Self::Named(name.to_owned()),
            None => Self::Mounted(path),
        }
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "ip netns exec {name}"),
            Self::Mounted(path) => write!(f, "nsenter --net={}", path.display()),
            Self::Process(number) => write!(f, "nsenter --net --target {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_namespace_is_found_while_somebody_is_in_it() {
        let here = here().unwrap();
        assert!(here.starts_with("net:["), "{here}");
        assert!(find(&here).is_some());
        assert_eq!(find("net:[1]"), None);
    }

    #[test]
    fn a_mount_tells_the_way() {
        let line = "93 24 0:4 net:[4026532300] /run/netns/blue rw shared:38 - nsfs nsfs rw";
        let path = mount_of(line, "net:[4026532300]").unwrap();
        assert_eq!(Whereabouts::of_mount(path).to_string(), "ip netns exec blue");
        assert_eq!(mount_of(line, "net:[402653230]"), None);
        let other = Whereabouts::of_mount("/tmp/net".into());
        assert_eq!(other.to_string(), "nsenter --net=/tmp/net");
        assert_eq!(Whereabouts::Process(7).to_string(), "nsenter --net --target 7");
    }
}
