//! That only one at a time changes a tunnel, and nobody meets a daemon of it that is starting.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::failure::{Failure, Kind, Outcome};
use super::tunnel::RUNTIME;

/// Whoever holds it is the only one who changes something. Let go when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// That of one tunnel.
    pub fn of(name: &str) -> Outcome<Self> {
        Self::take(file(name, ".lock"))
    }

    /// That of starting the keeper of one tunnel.
    pub fn of_keeper(name: &str) -> Outcome<Self> {
        Self::take(file(name, " keeper.lock"))
    }

    /// That of what all tunnels share: the numbers of tables and marks.
    pub fn of_all() -> Outcome<Self> {
        // No interface has a name that begins with a space.
        Self::take(file("", " .lock"))
    }

    /// That of taking back what several tunnels may have made.
    pub fn of_undoing() -> Outcome<Self> {
        Self::take(file("", " undo.lock"))
    }

    fn take(path: PathBuf) -> Outcome<Self> {
        let fail = |error: io::Error| {
            let failure = Failure::io(format!("lock {}", path.display()), &error);
            match error.kind() {
                io::ErrorKind::ReadOnlyFilesystem => {
                    failure.with("mount /run writable, as by `--tmpfs /run' of a container")
                }
                _ => failure,
            }
        };
        DirBuilder::new().recursive(true).mode(0o755).create(RUNTIME).map_err(fail)?;
        let file = in_time(&path, || {
            let file = open(&path).map_err(fail)?;
            // Whoever had it before may have taken its file away.
            let is_ours = is_free(&file).map_err(fail)? && is_at(&file, &path);
            Ok(is_ours.then_some(file))
        })?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be removed is locked by the next one all the same.
        let _ = fs::remove_file(&self.path);
    }
}

/// Says that a daemon of a tunnel is starting, for as long as the file or a copy of it is open
/// anywhere: whoever starts it may be killed meanwhile, and it comes up all the same.
pub fn announce_start(name: &str) -> io::Result<File> {
    let file = open(&file(name, ".start"))?;
    file.lock()?;
    Ok(file)
}

/// Waits until no daemon of a tunnel is starting any more, if somebody left one alone with that.
pub fn await_start(name: &str) -> Outcome {
    let path = file(name, ".start");
    let fail = |error: io::Error| Failure::io(format!("wait for {}", path.display()), &error);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(fail)?,
    };
    in_time(&path, || Ok(is_free(&file).map_err(fail)?.then_some(())))?;
    fs::remove_file(&path).map_err(fail)
}

/// Tries until it succeeds. Nobody is told when the lock of a file is free but whoever waits for it
/// without an end.
fn in_time<T>(path: &Path, mut attempt: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    const PATIENCE: Duration = Duration::from_secs(60);
    const PAUSE: Duration = Duration::from_millis(20);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        thread::sleep(PAUSE);
    }
    let text = format!(
        "another adit has been working on this tunnel for a minute (it holds {}): let it finish",
        path.display()
    );
    Err(Failure::new(Kind::Timeout, text))
}

/// Whether nobody else had locked it, so that it is ours now.
fn is_free(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |it: fs::Metadata| (it.dev(), it.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(there)) => identity(file) == identity(there),
        _ => false,
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn file(name: &str, suffix: &str) -> PathBuf {
    Path::new(RUNTIME).join(format!("{name}{suffix}"))
}
