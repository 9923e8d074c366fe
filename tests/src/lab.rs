//! The laboratory: network namespaces, links and real daemons, configured by Debian's `wg`.
//!
//! Everything a test makes here belongs to a value and goes away with it, in order: daemons are
//! ended by their process id, namespaces are deleted, files removed. Nothing outside the
//! namespaces is touched, except the control sockets, whose names are global; so every interface
//! gets a name that no other test process uses.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

mod daemon;
mod differences;
mod echo;
mod keys;
mod namespace;
mod pair;
pub mod traffic;

pub(crate) use daemon::built_folder;
pub use daemon::{Daemon, Implementation, PeerState, only_child, parent};
pub use differences::known_difference;
pub use keys::{KeyPair, PresharedKey};
pub use namespace::{Background, Namespace};
pub use pair::{Family, Node, Pair, Pairing, Scenario, Solo};

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One experiment: a name space for names, a folder for files, and one of few places.
pub struct Lab {
    number: u32,
    folder: PathBuf,
    _place: Place,
}

impl Lab {
    /// Opens an experiment with these daemons, or says on stderr why the test is skipped.
    pub fn open(needed: &[Implementation]) -> Option<Self> {
        let missing =
            missing_requirement().or_else(|| needed.iter().find_map(|i| i.program().err()));
        if let Some(reason) = missing {
            skipped(&reason);
            return None;
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let place = Place::take();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("adit-lab-{}-{number}", process::id()));
        fs::create_dir_all(&folder).expect("a folder for the experiment");
        Some(Self { number, folder, _place: place })
    }

    /// A new network namespace; its loopback is up and IPv6 addresses are usable at once.
    pub fn namespace(&self, label: &str) -> Namespace {
        Namespace::create(&format!("adit{}-{}-{label}", process::id(), self.number))
    }

    /// A file of this experiment, gone with it.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, content).expect("a file of the experiment");
        path.display().to_string()
    }

    /// A new key pair, whose private half also lies in a file for `wg`.
    pub fn key_pair(&self) -> KeyPair {
        KeyPair::generate(self)
    }

    /// A new preshared key in a file for `wg`.
    pub fn preshared_key(&self) -> PresharedKey {
        PresharedKey::generate(self)
    }

    /// An interface name that nobody else on this machine has.
    pub fn interface_name() -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        format!("a{:x}n{:x}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A failed clean-up of a temporary folder must not hide the result of the test.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits until `condition` gives a value; ends the test if it does not in time.
#[track_caller]
pub fn await_some<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until `condition` holds; ends the test if it does not in time.
#[track_caller]
pub fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    await_some(what, || condition().then_some(()));
}

/// Says that the running test is skipped. It passes over the capture of the test harness: a
/// skipped test must be seen.
pub fn skipped(reason: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED: {test} ({reason})");
}

/// The first thing that every experiment needs and this machine lacks.
fn missing_requirement() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".into());
    }
    if !PathBuf::from("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".into());
    }
    ["ip", "wg", "ping", "nft", "timeout"]
        .iter()
        .find(|p| find_program(p).is_none())
        .map(|p| format!("no program {p}"))
}

/// Where PATH has this program.
pub fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// One of the places in the laboratory. Few experiments run at a time, however many threads the
/// test harness has: daemons that starve each other measure nothing.
struct Place;

static FREE_PLACES: Mutex<Option<usize>> = Mutex::new(None);
static PLACE_FREED: Condvar = Condvar::new();

impl Place {
    fn take() -> Self {
        let mut free = FREE_PLACES.lock().expect("no holder of this lock can panic");
        loop {
            let places =
                free.get_or_insert_with(|| thread::available_parallelism().map_or(2, Into::into));
            if let Some(fewer) = places.checked_sub(1) {
                *places = fewer;
                return Self;
            }
            free = PLACE_FREED.wait(free).expect("no holder of this lock can panic");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(mut free) = FREE_PLACES.lock() {
            *free = free.map(|places| places + 1);
        }
        PLACE_FREED.notify_one();
    }
}

/// One test for each of these scenarios and each pairing of implementations, in both roles.
///
/// `adit_with_wireguard_go::a_scenario` has adit on the left. The pairings of `control` are
/// without adit: they prove the laboratory. Those with the kernel are for one that has WireGuard,
/// perhaps that of a guest.
#[macro_export]
macro_rules! play_in_every_pairing {
    ($($scenario:ident),* $(,)?) => {
        $crate::play_in_every_pairing!(@ adit_with_adit, Adit, Adit, $($scenario),*);
        $crate::play_in_every_pairing!(@ adit_with_wireguard_go, Adit, WireguardGo, $($scenario),*);
        $crate::play_in_every_pairing!(@ wireguard_go_with_adit, WireguardGo, Adit, $($scenario),*);
        $crate::play_in_every_pairing!(@ adit_with_boringtun, Adit, Boringtun, $($scenario),*);
        $crate::play_in_every_pairing!(@ boringtun_with_adit, Boringtun, Adit, $($scenario),*);
        $crate::play_in_every_pairing!(@ adit_with_gotatun, Adit, Gotatun, $($scenario),*);
        $crate::play_in_every_pairing!(@ gotatun_with_adit, Gotatun, Adit, $($scenario),*);
        $crate::play_in_every_pairing!(@ control, WireguardGo, WireguardGo, $($scenario),*);
        $crate::play_in_every_pairing!(@guest adit_with_kernel, Adit, Kernel, $($scenario),*);
        $crate::play_in_every_pairing!(@guest kernel_with_adit, Kernel, Adit, $($scenario),*);
    };
    (@guest $module:ident, $left:ident, $right:ident, $($scenario:ident),*) => {
        mod $module {
            use $crate::lab::{Implementation, Pairing};
            $(#[test]
            #[ignore = "in a guest"]
            fn $scenario() {
                let pairing = Pairing::new(Implementation::$left, Implementation::$right);
                pairing.play(stringify!($scenario), super::$scenario);
            })*
        }
    };
    (@ $module:ident, $left:ident, $right:ident, $($scenario:ident),*) => {
        mod $module {
            use $crate::lab::{Implementation, Pairing};
            $(#[test]
            fn $scenario() {
                let pairing = Pairing::new(Implementation::$left, Implementation::$right);
                pairing.play(stringify!($scenario), super::$scenario);
            })*
        }
    };
}

/// One test for each of these solo scenarios, for adit and, as a control, for wireguard-go.
#[macro_export]
macro_rules! play_alone {
    ($($solo:ident),* $(,)?) => {
        $crate::play_alone!(@ adit_alone, Adit, $($solo),*);
        $crate::play_alone!(@ control_alone, WireguardGo, $($solo),*);
    };
    (@ $module:ident, $implementation:ident, $($solo:ident),*) => {
        mod $module {
            $(#[test]
            fn $solo() {
                $crate::lab::Implementation::$implementation.play(stringify!($solo), super::$solo);
            })*
        }
    };
}
