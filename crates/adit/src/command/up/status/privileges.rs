//! What a daemon has kept of root's, as the kernel says (proc(5)). Of Landlock it says nothing.

use std::fs;

use rustix::net::sockopt::socket_peercred;

use crate::command::wg::interface;

/// Something that a daemon gives up if it can (docs/privileges.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It is root.
    User,
    /// It has some.
    Capabilities,
    /// It may make all.
    SystemCalls,
}

impl Privilege {
    /// As programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::SystemCalls => "systemCalls",
        }
    }

    /// As people read it.
    pub fn words(self) -> &'static str {
        match self {
            Self::User => "root's user",
            Self::Capabilities => "capabilities",
            Self::SystemCalls => "all system calls",
        }
    }
}

/// What whoever answers for this interface has kept. None if that cannot be seen, as of the kernel.
pub fn kept(name: &str) -> Option<Vec<Privilege>> {
    let daemon = interface::connect(name.as_ref()).ok().flatten()?;
    let process = socket_peercred(daemon).ok()?.pid;
    of(&fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).ok()?)
}

fn of(status: &str) -> Option<Vec<Privilege>> {
    let value = |name: &str| status.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'));
    // The real one, the effective one, and two more.
    let user = value("Uid")?.split_whitespace().nth(1)?;
    let capabilities = u64::from_str_radix(value("CapPrm")?.trim(), 16).ok()?;
    // A kernel that has no such filters has no such line.
    let filter = value("Seccomp").map_or("0", str::trim);
    let kept = [
        (Privilege::User, user == "0"),
        (Privilege::Capabilities, capabilities != 0),
        (Privilege::SystemCalls, filter != "2"),
    ];
    Some(kept.into_iter().filter(|(_, is_kept)| *is_kept).map(|(kept, _)| kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_seen() {
        use Privilege::{Capabilities, SystemCalls, User};
        let some = "Uid:\t1000\t65521\t65521\t65521\nCapPrm:\t0000000000000000\n";
        for (status, kept) in [
            (format!("{some}Seccomp:\t2\n"), Some(vec![])),
            (format!("{some}Seccomp:\t0\n"), Some(vec![SystemCalls])),
            (some.to_owned(), Some(vec![SystemCalls])),
            (some.replace("\t65521", "\t0"), Some(vec![User, SystemCalls])),
            (some.replace("00\n", "01\nSeccomp:\t2\n"), Some(vec![Capabilities])),
            (some.replace("CapPrm", "CapInh"), None),
            (some.replace("00\n", "0x\n"), None),
            (String::new(), None),
        ] {
            assert_eq!(of(&status), kept, "{status}");
        }
    }
}
