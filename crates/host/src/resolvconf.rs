//! DNS by the program `resolvconf` (openresolv, Debian's resolvconf, or systemd-resolved under that
//! name), as wg-quick(8) uses it: one record per link, which is of the highest priority and
//! exclusive.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Error;

/// The order of links in Debian's resolvconf, whose patterns demand a prefix of a record's name.
const INTERFACE_ORDER: &str = "/etc/resolvconf/interface-order";
/// Where Debian's resolvconf, which cannot list a record, keeps it.
const RECORDS: &str = "/etc/resolvconf/run/interface";
/// It may restart name servers of this machine, and others wait for us.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The record of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolvconf {
    program: PathBuf,
    record: String,
}

/// Where programs are looked for: in `PATH`, or where a shell looks if nobody has set that.
pub fn search_path() -> OsString {
    const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    env::var_os("PATH").unwrap_or_else(|| USUAL.into())
}

impl Resolvconf {
    /// Finds the program in `PATH`, and the name of a link's record. Changes nothing.
    ///
    /// # Errors
    ///
    /// That the program is not installed.
    pub fn find(link: &str) -> Result<Self, Error> {
        let program = env::split_paths(&search_path())
            .map(|directory| directory.join("resolvconf"))
            .find(|file| is_program(file))
            .ok_or_else(|| {
                let cause = "no program resolvconf in PATH: install openresolv or resolvconf, or \
                             remove DNS from the configuration";
                Error::new(format!("set the DNS of {link}"), io::Error::other(cause))
            })?;
        let order = fs::read_to_string(INTERFACE_ORDER).unwrap_or_default();
        // A symbolic link leads to resolvectl, which knows links by their own names.
        let prefix = if program.is_symlink() { None } else { tunnel_prefix(&order) };
        Ok(Self { program, record: prefix.unwrap_or_default() + link })
    }

    /// A record of this name, kept by this program.
    pub fn new(program: PathBuf, record: String) -> Self {
        Self { program, record }
    }

    /// Where the program is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The name of the record: that of the link, perhaps behind a prefix, as in `tun.wg0`.
    pub fn record(&self) -> &str {
        &self.record
    }

    /// Adds or replaces the record: addresses of servers, and domains to search in. Tells what the
    /// program warned of, usually nothing.
    pub fn set(&self, servers: &[String], search: &[String]) -> Result<String, Error> {
        let mut text: String =
            servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        if !search.is_empty() {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        let said = self.run("set", &["-a", &self.record, "-m", "0", "-x"], &text, PATIENCE)?;
        Ok(said.warnings)
    }

    /// Deletes the record, or does nothing if there is none. Tells what the program warned of.
    pub fn remove(&self) -> Result<String, Error> {
        Ok(self.run("remove", &["-d", &self.record, "-f"], "", PATIENCE)?.warnings)
    }

    /// Finds out whether the program answers at all.
    ///
    /// # Errors
    ///
    /// That it does not.
    pub fn check(&self, patience: Duration) -> Result<(), Error> {
        // Without a record it says that it has failed.
        let is_late = |error: &Error| error.cause().kind() == io::ErrorKind::TimedOut;
        self.servers(patience).err().filter(is_late).map_or(Ok(()), Err)
    }

    /// The servers on record, if the program lists them in time.
    pub fn servers(&self, patience: Duration) -> Result<Vec<String>, Error> {
        let listed = match self.run("list", &["-l", &self.record], "", patience) {
            Ok(said) => said.output,
            Err(error) => {
                fs::read_to_string(Path::new(RECORDS).join(&self.record)).map_err(|_| error)?
            }
        };
        let servers = listed.lines().filter_map(|line| line.trim().strip_prefix("nameserver "));
        Ok(servers.map(|server| server.trim().into()).collect())
    }

    fn run(
        &self,
        verb: &str,
        arguments: &[&str],
        input: &str,
        patience: Duration,
    ) -> Result<Said, Error> {
        let Self { program, record } = self;
        let attempt = || format!("{verb} DNS record {record} with {}", program.display());
        let (status, said) = run(program, arguments, input, patience)
            .map_err(|cause| Error::new(attempt(), cause))?;
        match status.success() {
            true => Ok(said),
            false => {
                let cause =
                    if said.warnings.is_empty() { status.to_string() } else { said.warnings };
                Err(Error::new(attempt(), io::Error::other(cause)))
            }
        }
    }
}

/// What a program said: its output as it is, and its complaints on one line.
struct Said {
    output: String,
    warnings: String,
}

/// Its words pass through files, not pipes: a daemon that the program restarts may inherit them and
/// keep them open for as long as it runs. One that does not end in time is killed.
fn run(
    program: &Path,
    arguments: &[&str],
    input: &str,
    patience: Duration,
) -> io::Result<(ExitStatus, Said)> {
    let (mut stdin, mut stdout, mut stderr) = (in_memory()?, in_memory()?, in_memory()?);
    stdin.write_all(input.as_bytes())?;
    stdin.rewind()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(stdin);
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let status = end_of(command.spawn()?, patience)?;
    let complaints = read_whole(&mut stderr)?;
    let lines: Vec<&str> =
        complaints.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Ok((status, Said { output: read_whole(&mut stdout)?, warnings: lines.join("; ") }))
}

/// How a program has ended.
fn end_of(mut child: Child, patience: Duration) -> io::Result<ExitStatus> {
    if ends_within(&child, patience) {
        return child.wait();
    }
    child.kill()?;
    child.wait()?;
    let words = format!("no answer in {} seconds", patience.as_secs());
    Err(io::Error::new(io::ErrorKind::TimedOut, words))
}

fn ends_within(child: &Child, patience: Duration) -> bool {
    // Before Linux 5.3 nobody can be told, and it is waited for without an end.
    let Ok(process) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else { return true };
    let patience = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)) {
            Err(Errno::INTR) => {}
            ready => return ready != Ok(0),
        }
    }
}

fn in_memory() -> io::Result<File> {
    Ok(memfd_create("resolvconf", MemfdFlags::CLOEXEC)?.into())
}

fn read_whole(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// The first pattern of nothing but a name and `*`, with a dot in place of that: what has a place in
/// the order comes before what has none.
fn tunnel_prefix(order: &str) -> Option<String> {
    order.lines().find_map(|line| {
        let name = line.trim().strip_suffix('*')?;
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (plain && !name.is_empty()).then(|| format!("{name}."))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use super::*;

    #[test]
    fn a_program_that_hangs_is_waited_for_so_long_and_no_longer() {
        let run = |program, arguments: &[&str], patience| {
            run(Path::new(program), arguments, "", Duration::from_secs(patience))
        };
        let start = Instant::now();
        let cause = run("sleep", &["60"], 1).map(drop).unwrap_err();
        assert_eq!(cause.to_string(), "no answer in 1 seconds");
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        let (status, said) = run("echo", &["10.9.0.1"], 30).unwrap();
        assert!(status.success());
        assert_eq!(said.output, "10.9.0.1\n");
    }

    #[test]
    fn the_prefix_is_the_first_plain_pattern_of_the_order() {
        let debian = "# interface-order(5)\nlo.inet6\nlo.inet\nlo.@(dhclient|dhcpcd)\nlo.!(pppd)*\n\
                      lo\ntun*\ntap*\nhso*\n";
        for (order, prefix) in [
            (debian, Some("tun.")),
            ("a-b9*\n", Some("a-b9.")),
            (" ppp* \n", Some("ppp.")),
            ("*\n@(br)*([^.]).inet6\neth0\n", None),
            ("", None),
        ] {
            assert_eq!(tunnel_prefix(order).as_deref(), prefix, "{order}");
        }
    }
}
