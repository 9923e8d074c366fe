//! `adit install` and `adit uninstall`: the program among the others of a machine, and away again.
//!
//! What is there already and not ours is not touched, nor is a program of the same name elsewhere
//! put out of reach, unless the user asks for it. A list of what was made is kept beside it.

mod record;
mod tree;

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, ValueExt};

use super::words;
use record::{Made, Record};
use tree::{Group, Item, What};

const INSTALL: &str = "\
Usage: adit install [--prefix DIR] [--destdir DIR] [--replace] [--no-names] [--dry-run]

Installs this program, manual pages, completions for bash, zsh and fish, units for systemd, and the
names wg, wg-quick and wireguard-go with what belongs to them. A name that somebody else has on this
machine is left out, and no file of anybody else is touched.

  --prefix DIR    where to (default /usr/local)
  --destdir DIR   what to take for the root folder, for packages
  --replace       takes the names all the same. A file in the way is kept as FILE.before-adit, and
                  put back by `adit uninstall'; a program elsewhere stays where it is, behind ours
  --no-names      leaves out wg, wg-quick and wireguard-go
  --dry-run       prints what would be done, and changes nothing
";
const UNINSTALL: &str = "\
Usage: adit uninstall [--prefix DIR] [--destdir DIR] [--dry-run]

Removes what `adit install' has installed there, and nothing else.

  --prefix DIR    where from (default /usr/local)
  --destdir DIR   what to take for the root folder
  --dry-run       prints what would be done, and changes nothing
";

/// Behind the name of a file that had to make way.
const KEPT: &str = "before-adit";

#[derive(Debug)]
struct Options {
    prefix: PathBuf,
    destdir: PathBuf,
    replace: bool,
    names: bool,
    dry_run: bool,
}

/// Whatever went wrong, in one sentence.
type Outcome<T = ()> = Result<T, String>;

/// Runs `adit install`.
pub fn install(arguments: Vec<OsString>) -> ExitCode {
    run(arguments, "install", INSTALL, Installation::install)
}

/// Runs `adit uninstall`.
pub fn uninstall(arguments: Vec<OsString>) -> ExitCode {
    run(arguments, "uninstall", UNINSTALL, Installation::uninstall)
}

fn run(
    arguments: Vec<OsString>,
    name: &str,
    usage: &str,
    act: fn(&mut Installation) -> Outcome,
) -> ExitCode {
    let options = match parse(arguments, name == "install") {
        Ok(Some(options)) => options,
        Ok(None) => return super::say(usage),
        Err(error) => {
            eprintln!("adit {name}: {error}\n{usage}");
            return ExitCode::from(2);
        }
    };
    match Installation::new(options).and_then(|mut installation| act(&mut installation)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adit {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// None asks for help.
fn parse(arguments: Vec<OsString>, installs: bool) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        prefix: "/usr/local".into(),
        destdir: "/".into(),
        replace: false,
        names: true,
        dry_run: false,
    };
    let mut words = lexopt::Parser::from_args(arguments);
    while let Some(word) = words.next()? {
        match word {
            Arg::Long("prefix") => options.prefix = words.value()?.parse()?,
            Arg::Long("destdir") => options.destdir = words.value()?.parse()?,
            Arg::Long("replace") if installs => options.replace = true,
            Arg::Long("no-names") if installs => options.names = false,
            Arg::Long("dry-run") => options.dry_run = true,
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            word => return Err(word.unexpected()),
        }
    }
    // The list has a line for each, and a unit names the program by its path.
    let is_plain = |path: &Path| path.to_str().is_some_and(|path| !path.contains(char::is_control));
    if !options.prefix.is_absolute() || !is_plain(&options.prefix) {
        return Err("--prefix must be an absolute path".into());
    }
    Ok(Some(options))
}

struct Installation {
    options: Options,
    record: Record,
}

impl Installation {
    fn new(options: Options) -> Outcome<Self> {
        let path = options.prefix.join(record::PATH);
        let mut installation = Self { options, record: Record::default() };
        let path = installation.real(&path);
        installation.record = Record::read(&path).map_err(|error| failed("read", &path, &error))?;
        Ok(installation)
    }

    /// Where a path is now.
    fn real(&self, path: &Path) -> PathBuf {
        self.options.destdir.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn install(&mut self) -> Outcome {
        let outcome = self.install_groups();
        // Also if it failed, so that what is there is known to be ours.
        self.write_record().and(outcome)
    }

    fn install_groups(&mut self) -> Outcome {
        let mut wanted: Vec<PathBuf> = vec![self.options.prefix.join(record::PATH)];
        for group in tree::groups(self.options.names) {
            match (self.other(&group), group.name) {
                (Some(other), Some(name)) => {
                    tell("leave out", format_args!("{name}: {} is there", other.display()));
                    continue;
                }
                (Some(other), None) => {
                    let other = other.display();
                    return Err(format!("{other} is somebody else's; --replace keeps it aside"));
                }
                (None, _) => {}
            }
            for item in group.items {
                let path = self.options.prefix.join(&item.path);
                self.put(&path, &item.what)?;
                wanted.push(path);
            }
        }
        // What an earlier adit had and this one has not.
        let is_old = |path: &PathBuf, made: Made| made != Made::Folder && !wanted.contains(path);
        let old: Vec<_> =
            self.record.0.iter().filter(|(path, made)| is_old(path, **made)).collect();
        let old: Vec<_> = old.into_iter().map(|(path, _)| path.clone()).collect();
        old.iter().try_for_each(|path| self.remove(path))
    }

    /// A file of somebody else in the way of a group, or a program that ours would hide.
    fn other(&self, group: &Group) -> Option<PathBuf> {
        const FOLDERS: [&str; 6] =
            ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        if self.options.replace {
            return None;
        }
        let is_other = |path: &PathBuf| {
            fs::symlink_metadata(self.real(path)).is_ok() && !self.record.0.contains_key(path)
        };
        let files = group.items.iter().map(|item: &Item| self.options.prefix.join(&item.path));
        // /bin may be the same folder as /usr/bin.
        let folder = |path: &Path| self.real(path).canonicalize().ok();
        let ours = folder(&self.options.prefix.join("bin"));
        let programs = group
            .name
            .into_iter()
            .flat_map(|name| FOLDERS.iter().map(Path::new).map(move |folder| folder.join(name)));
        let programs = programs.filter(|path| path.parent().and_then(folder) != ours);
        files.chain(programs).find(is_other)
    }

    /// Makes a file: all of it or nothing, in the place of whatever was there.
    fn put(&mut self, path: &Path, what: &What) -> Outcome {
        tell("install", path.display());
        if self.options.dry_run {
            return Ok(());
        }
        self.make_folders(path)?;
        let real = self.real(path);
        let fail = |error: io::Error| failed("write", &real, &error);
        let is_ours = self.record.0.contains_key(path);
        let is_there = fs::symlink_metadata(&real).is_ok();
        let new = beside(&real, "adit-new");
        // From an attempt that did not come to its end.
        let _ = fs::remove_file(&new);
        match what {
            What::Link(target) => symlink(target, &new).map_err(fail)?,
            What::Text(text) => {
                let bin = self.options.prefix.join("bin");
                let text = text.replace("@BIN@", &bin.to_string_lossy());
                write(&new, 0o644, &mut text.as_bytes()).map_err(fail)?;
            }
            What::Program => {
                let mut program = File::open("/proc/self/exe").map_err(fail)?;
                write(&new, 0o755, &mut program).map_err(fail)?;
            }
        }
        if is_there && !is_ours {
            fs::rename(&real, beside(&real, KEPT)).map_err(fail)?;
            self.record.0.insert(path.to_owned(), Made::Replacing);
        }
        fs::rename(&new, &real).map_err(fail)?;
        self.record.0.entry(path.to_owned()).or_insert(Made::New);
        Ok(())
    }

    /// Those on the way to a file that are not there yet.
    fn make_folders(&mut self, path: &Path) -> Outcome {
        let missing: Vec<_> =
            path.ancestors().skip(1).take_while(|folder| !self.real(folder).exists()).collect();
        for folder in missing.into_iter().rev() {
            let real = self.real(folder);
            let made = fs::create_dir(&real)
                .and_then(|()| fs::set_permissions(&real, Permissions::from_mode(0o755)));
            made.map_err(|error| failed("make", &real, &error))?;
            self.record.0.insert(folder.to_owned(), Made::Folder);
        }
        Ok(())
    }

    fn write_record(&mut self) -> Outcome {
        let path = self.options.prefix.join(record::PATH);
        if self.options.dry_run {
            return Ok(());
        }
        self.make_folders(&path)?;
        self.record.0.insert(path.clone(), Made::New);
        let real = self.real(&path);
        let new = beside(&real, "adit-new");
        let written = write(&new, 0o644, &mut self.record.to_text().as_bytes());
        let written = written.and_then(|()| fs::rename(&new, &real));
        written.map_err(|error| failed("write", &real, &error))
    }

    fn uninstall(&mut self) -> Outcome {
        if self.record.0.is_empty() {
            return Err(format!("nothing is installed in {}", self.options.prefix.display()));
        }
        // What is inside of a folder has the longer path, and the list goes last of all files.
        let list = self.options.prefix.join(record::PATH);
        let mut paths: Vec<_> = self.record.0.keys().cloned().collect();
        paths.sort_by_key(|path| {
            let is_folder = self.record.0.get(path) == Some(&Made::Folder);
            (is_folder, *path == list, std::cmp::Reverse(path.clone()))
        });
        paths.iter().try_for_each(|path| self.remove(path))
    }

    fn remove(&mut self, path: &Path) -> Outcome {
        let Some(made) = self.record.0.get(path).copied() else { return Ok(()) };
        let real = self.real(path);
        if made != Made::Folder {
            tell("remove", path.display());
        }
        if self.options.dry_run {
            return Ok(());
        }
        let removed = match made {
            // What others have put there since stays, and the folder with it.
            Made::Folder => fs::remove_dir(&real).or(Ok(())),
            Made::New => fs::remove_file(&real),
            Made::Replacing => fs::rename(beside(&real, KEPT), &real),
        };
        self.record.0.remove(path);
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &real, &error))
            }
            _ => Ok(()),
        }
    }
}

/// A line about a step. Nobody has to listen.
fn tell(verb: &str, what: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{verb} {what}");
}

/// A file in the same folder.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Writes a new file, with its mode whatever the umask is.
fn write(path: &Path, mode: u32, content: &mut impl io::Read) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    io::copy(content, &mut file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.flush()?;
    file.sync_all()
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {verb} {}: {}", path.display(), words(error))
}
