//! Generic netlink: families of commands that parts of the kernel register by name, such as
//! `wireguard` (linux/genetlink.h).

use std::io;

use crate::change::terminated;
pub use crate::netlink::{Attributes, DUMP, Message};
use crate::netlink::{Protocol, Reply, Socket};

/// `genlmsghdr`: command, version, reserved.
const HEADER: usize = 1 + 1 + 2;
/// The family of families (`GENL_ID_CTRL`), and its version.
const CONTROL: (u16, u8) = (0x10, 2);
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// One family, in the network namespace that it was opened in.
#[derive(Debug)]
pub struct Generic {
    socket: Socket,
    kind: u16,
    version: u8,
}

impl Generic {
    /// The family of this name, in this version of it. The kernel may load a module for it.
    ///
    /// # Errors
    ///
    /// ENOENT if the kernel has no such family.
    pub fn open(name: &str, version: u8) -> io::Result<Self> {
        let (kind, control_version) = CONTROL;
        let mut socket = Socket::open(Protocol::Generic)?;
        let question = Message::new(kind, 0, &header(CTRL_CMD_GETFAMILY, control_version))
            .with(CTRL_ATTR_FAMILY_NAME, &terminated(name));
        let replies = socket.request(&question)?;
        let kind = replies.iter().find_map(|reply| {
            attributes(reply).get(CTRL_ATTR_FAMILY_ID)?.try_into().ok().map(u16::from_ne_bytes)
        });
        let kind = kind.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { socket, kind, version })
    }

    /// Begins a request for a command; of the flags only [`DUMP`] has a meaning here.
    pub fn command(&self, command: u8, flags: u16) -> Message {
        Message::new(self.kind, flags, &header(command, self.version))
    }

    /// Sends a request and hands every message of its answer to `read`, which may tell that one
    /// makes no sense by returning none.
    ///
    /// # Errors
    ///
    /// The kernel's own errno, or EPROTO for what makes no sense.
    pub fn request(
        &mut self,
        request: &Message,
        mut read: impl FnMut(Attributes<'_>) -> Option<()>,
    ) -> io::Result<()> {
        let replies = self.socket.request(request)?;
        let read = replies.iter().try_for_each(|reply| read(attributes(reply)));
        read.ok_or_else(|| rustix::io::Errno::PROTO.into())
    }
}

fn header(command: u8, version: u8) -> [u8; HEADER] {
    [command, version, 0, 0]
}

fn attributes(reply: &Reply) -> Attributes<'_> {
    Attributes::after(HEADER, &reply.payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_by_its_name() {
        // The family of families is itself one, with a number that never changes.
        let mut family = Generic::open("nlctrl", CONTROL.1).expect("every kernel has it");
        assert_eq!(family.kind, CONTROL.0);
        let all = family.command(CTRL_CMD_GETFAMILY, DUMP);
        let mut names = Vec::new();
        let told = family.request(&all, |attributes| {
            names.push(attributes.get(CTRL_ATTR_FAMILY_NAME)?.to_vec());
            Some(())
        });
        assert!(told.is_ok() && names.contains(&b"nlctrl\0".to_vec()), "{told:?} {names:?}");
    }

    #[test]
    fn a_family_that_nobody_registered_is_not_there() {
        let missing = Generic::open("adit-none", 1).expect_err("nobody calls a family so");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
