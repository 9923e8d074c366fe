//! What a process gives up for ever, once it holds everything open that it will need.

use std::fmt;
use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Errno, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use rustix::time::{ClockId, clock_gettime};

// Numbers and arguments of system calls are those of one architecture.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod calls;

/// The user and the group that root becomes to carry packets. It has no account and owns no file: systemd
/// gives this number to nobody, and Debian keeps it back; and a container of 65,536 users has it, too.
pub const USER: u32 = 65_521;

/// Puts up every wall that the kernel has, around this thread and all that it will start: to be
/// called before there is any other. Returns the walls that could not be put up, and why.
pub fn confine(work: Work<'_>) -> Vec<(Wall, io::Error)> {
    // rustix looks for the vDSO, which tells the time without a call, when it is first asked for it.
    let _ = clock_gettime(ClockId::Monotonic);
    Wall::ALL.into_iter().filter_map(|wall| Some((wall, wall.raise(work).err()?))).collect()
}

/// What a process does behind its walls, for which they have doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work<'a> {
    /// Carries packets, by what it holds open.
    Carry,
    /// Opens sockets for another process, and follows an interface.
    Serve(Reach<'a>),
}

/// Where whoever serves finds files, whether these folders are there already or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reach<'a> {
    /// Files of it can be removed.
    pub removed: &'a Path,
    /// It can be listed.
    pub listed: &'a Path,
    /// Sockets of it can be connected to.
    pub called: &'a Path,
}

/// A wall that a process puts around itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wall {
    /// No program that is executed gives back what was given up (`no_new_privs`).
    NoNewPrivileges,
    /// Another user than root, if that is not whom others ask; without any group.
    User,
    /// No core is dumped, and nobody without CAP_SYS_PTRACE looks into the memory or follows the
    /// calls.
    Dump,
    /// None that root has (capabilities(7)), or those alone that its work takes.
    Capabilities,
    /// No files but those of its work, no TCP, and no signals or abstract sockets of others, as far as
    /// the kernel's version of Landlock knows of them. What is open stays as it is.
    Landlock,
    /// No system calls but those of its work; the others are answered by EPERM.
    Seccomp,
}

impl Wall {
    /// In the order in which they are put up: the last takes away the calls that raise the others.
    pub const ALL: [Self; 6] = [
        Self::NoNewPrivileges,
        Self::User,
        // Who becomes another user dumps again.
        Self::Dump,
        Self::Capabilities,
        Self::Landlock,
        Self::Seccomp,
    ];

    /// Puts up this one.
    ///
    /// # Errors
    ///
    /// `Unsupported` or what the kernel says, if it was built without; whatever a filter of somebody
    /// else says, in a container; `EPERM` or `EINVAL` where root may not be another user, there is none, or he
    /// could not have as many threads as may be needed.
    pub fn raise(self, work: Work<'_>) -> io::Result<()> {
        match self {
            Self::NoNewPrivileges => forbid_gains(work.capabilities()),
            Self::User => become_another(work),
            Self::Dump => forbid_dumps(),
            Self::Capabilities => drop_capabilities(work.capabilities()),
            Self::Landlock => close_files(work.files()),
            Self::Seccomp => filter_calls(work),
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNewPrivileges => "no new privileges",
            Self::User => "a user of its own",
            Self::Dump => "no dumps",
            Self::Capabilities => "no capabilities",
            Self::Landlock => "Landlock",
            Self::Seccomp => "seccomp",
        })
    }
}

impl<'a> Work<'a> {
    fn capabilities(self) -> CapabilitySet {
        match self {
            Self::Carry => CapabilitySet::empty(),
            Self::Serve(_) => {
                // Marks, large buffers, and which network an interface is in; what comes by ICMP; ports
                // below 1024; news of other networks; and to enter one.
                CapabilitySet::NET_ADMIN
                    | CapabilitySet::NET_RAW
                    | CapabilitySet::NET_BIND_SERVICE
                    | CapabilitySet::NET_BROADCAST
                    | CapabilitySet::SYS_ADMIN
            }
        }
    }

    fn files(self) -> Vec<(&'a Path, BitFlags<AccessFs>)> {
        match self {
            Self::Carry => Vec::new(),
            Self::Serve(Reach { removed, listed, called }) => vec![
                (removed, AccessFs::RemoveFile.into()),
                (listed, AccessFs::ReadDir.into()),
                (called, AccessFs::ResolveUnix.into()),
                // The settings of an interface.
                (Path::new("/proc/sys/net"), AccessFs::WriteFile | AccessFs::Truncate),
            ],
        }
    }
}

fn forbid_gains(kept: CapabilitySet) -> io::Result<()> {
    let each = (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number));
    // Ends at the first that this kernel does not know. Without CAP_SETPCAP nothing of it is allowed,
    // and nothing of it matters: it bounds what executing a program gives, which is nothing.
    let _ = each
        .filter(|capability| !kept.contains(*capability))
        .try_for_each(remove_capability_from_bounding_set);
    Ok(set_no_new_privs(true)?)
}

fn become_another(work: Work<'_>) -> io::Result<()> {
    if work != Work::Carry || !geteuid().is_root() {
        return Ok(());
    }
    /// Threads of all daemons together, each of which has about a dozen and one for each client.
    const MANY: Option<u64> = Some(4096);
    // Root's are not counted. This user's are.
    setrlimit(Resource::Nproc, Rlimit { current: None, maximum: None })
        .or_else(|_| setrlimit(Resource::Nproc, Rlimit { current: MANY, maximum: MANY }))?;
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

fn forbid_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // The limit does not hold for a program that the kernel pipes cores to (core(5)).
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn drop_capabilities(kept: CapabilitySet) -> io::Result<()> {
    let kept = kept & capabilities(None)?.permitted;
    let none = CapabilitySet::empty();
    // The ambient ones go with those that are inheritable.
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: none };
    Ok(set_capabilities(None, sets)?)
}

fn close_files(but: Vec<(&Path, BitFlags<AccessFs>)>) -> io::Result<()> {
    let but = but.into_iter().filter_map(|(path, access)| {
        // What is not there yet will be below what is.
        let there = path.ancestors().find_map(|path| PathFd::new(path).ok())?;
        Some(Ok::<_, RulesetError>(PathBeneath::new(there, access)))
    });
    let restrict = || {
        // Everything of files, of which no later version of Landlock can have too much. Not so of the
        // network: the tenth can forbid to send datagrams.
        Ruleset::default()
            .handle_access(AccessFs::from_all(ABI::V9))?
            .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?
            .create()?
            .add_rules(but)?
            .restrict_self()
    };
    let status =
        restrict().map_err(|error: RulesetError| io::Error::from_raw_os_error(*Errno::from(error)));
    match status?.ruleset {
        RulesetStatus::NotEnforced => Err(io::ErrorKind::Unsupported.into()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
fn filter_calls(work: Work<'_>) -> io::Result<()> {
    for filter in calls::filters(work).map_err(io::Error::other)? {
        seccompiler::apply_filter(&filter).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            error => io::Error::other(error),
        })?;
    }
    Ok(())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
fn filter_calls(_: Work<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
