//! A place that only one tunnel can have at a time, and the stack of those that want it: the topmost
//! has it.
//!
//! Whatever is interrupted leaves the place in a state that the stack tells of: as it was at first, or
//! as one of the entries wants it. In any other state somebody else has changed it, and it is left
//! alone.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::Settings;
use super::file::{parent, replace};
use super::stack::{Entry, Stack};

/// What tunnels take turns at. Its first state is kept at a path, in a folder for what must survive
/// a power cut.
pub(super) trait Place {
    /// The first lines of what a link wants to be there.
    fn heading(&self, link: &str, kept: &Path) -> String;
    /// Whether this is there, and nothing else.
    fn has(&self, text: &str) -> io::Result<bool>;
    /// Puts this there.
    fn write(&self, text: &str) -> io::Result<()>;
    /// Whether what is there is what is kept, or nothing of either since writing was cut off.
    fn is_original(&self, kept: &Path) -> io::Result<bool>;
    /// Keeps what is there, at once.
    fn keep(&self, kept: &Path) -> io::Result<()>;
    /// Puts back what is kept.
    fn restore(&self, kept: &Path) -> io::Result<()>;
    /// Says that it is left as somebody else has changed it.
    fn left_alone(&self, kept: &Path) -> String;
}

/// The tunnels at a place.
pub(super) struct Turns<P> {
    pub(super) place: P,
    state: PathBuf,
}

impl<P: Place> Turns<P> {
    /// Whatever has to be kept is in this folder, which need not exist.
    pub(super) fn new(place: P, state: PathBuf) -> Self {
        Self { place, state }
    }

    /// The folder of what is kept.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// Gives the place to a tunnel, on top of those that have it.
    pub(super) fn apply(&self, link: &str, settings: &Settings) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut stack = self.stack()?;
        if !self.is_ours(&stack)? {
            // Whoever changed it knows better than those below.
            stack.clear();
            self.store(&stack)?;
            self.place.keep(&self.kept())?;
        }
        let entry = self.entry(link, settings)?;
        stack.push(entry.clone());
        self.store(&stack)?;
        self.place.write(&entry.text)?;
        stack.settle();
        self.store(&stack)
    }

    /// Whether the place is just as this tunnel wants it, or as one above it does, which will leave
    /// it to this one.
    pub(super) fn is_applied(&self, link: &str, settings: &Settings) -> io::Result<bool> {
        let stack = self.stack()?;
        let waits = stack.contains(&self.entry(link, settings)?);
        match stack.top() {
            Some(top) if waits => self.place.has(&top.text),
            _ => Ok(false),
        }
    }

    /// Takes the place from a tunnel: it goes to the next one, and from the last one back to what it
    /// was. Says what has to be known of it, usually nothing.
    pub(super) fn undo(&self, link: &str) -> io::Result<String> {
        if !self.state.exists() {
            return Ok(String::new());
        }
        let _lock = self.lock()?;
        let mut stack = self.stack()?;
        if !stack.has(link) {
            return self.sweep(&stack).map(|()| String::new());
        }
        let is_ours = self.is_ours(&stack)?;
        stack.remove(link, &boot()?);
        if is_ours {
            match stack.top() {
                Some(entry) => self.place.write(&entry.text)?,
                None => self.place.restore(&self.kept())?,
            }
        }
        self.store(&stack)?;
        match (is_ours, stack.top()) {
            (false, _) => Ok(self.place.left_alone(&self.kept())),
            (true, Some(_)) => Ok(String::new()),
            (true, None) => self.forget().map(|()| String::new()),
        }
    }

    /// Forgets a tunnel where there is no such place any more.
    pub(super) fn leave(&self, link: &str) -> io::Result<()> {
        if !self.state.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut stack = self.stack()?;
        stack.remove(link, &boot()?);
        match stack.top() {
            Some(_) => self.store(&stack),
            None => self.forget(),
        }
    }

    /// Whether the place is in a state that the stack tells of.
    pub(super) fn is_ours(&self, stack: &Stack) -> io::Result<bool> {
        for text in stack.texts() {
            if self.place.has(text)? {
                return Ok(true);
            }
        }
        Ok(stack.top().is_some() && self.place.is_original(&self.kept())?)
    }

    /// One at a time, until the descriptor is closed.
    pub(super) fn lock(&self) -> io::Result<fs::File> {
        let make = |folder| DirBuilder::new().recursive(true).mode(0o755).create(folder);
        let all = parent(&self.state);
        make(all)?;
        let lock = fs::File::open(all)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        make(&self.state)?;
        Ok(lock)
    }

    pub(super) fn stack(&self) -> io::Result<Stack> {
        match fs::read_to_string(self.state.join("stack")) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Stack::default()),
            text => text.map(|text| Stack::parse(&text)),
        }
    }

    pub(super) fn store(&self, stack: &Stack) -> io::Result<()> {
        replace(&self.state.join("stack"), stack.to_string().as_bytes())
    }

    /// Where the first state of the place is kept.
    pub(super) fn kept(&self) -> PathBuf {
        self.state.join("original")
    }

    pub(super) fn entry(&self, link: &str, settings: &Settings) -> io::Result<Entry> {
        let heading = self.place.heading(link, &self.kept());
        Ok(Entry::new(link, boot()?, heading, settings))
    }

    /// Removes what is kept for no tunnel, and of which nobody was told, as one leaves it that was killed
    /// right before it came or right after it went.
    fn sweep(&self, stack: &Stack) -> io::Result<()> {
        let kept = self.kept();
        if stack.top().is_some() {
            return Ok(());
        }
        if kept.symlink_metadata().is_ok() {
            if !self.place.is_original(&kept)? {
                return Ok(());
            }
            // There may be next to nothing in the place: then this is all that there is.
            self.place.restore(&kept)?;
        }
        self.forget()
    }

    /// Keeps nothing any more.
    fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.state)
    }
}

/// The name that the kernel has given to the time since it started.
pub(super) fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().into())
}
