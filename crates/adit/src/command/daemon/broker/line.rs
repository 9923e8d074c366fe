//! What the two processes speak over: messages of JSON, and descriptors beside them (unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, sendmsg, shutdown, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longer than any message that means something. The longest names a path.
const LONGEST: usize = 8192;
/// More descriptors than ever come together: the sockets of both families.
const MOST: usize = 64;

/// One end.
#[derive(Debug)]
pub struct Line(OwnedFd);

impl Line {
    /// Both ends.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE`.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// Sends one message.
    ///
    /// # Errors
    ///
    /// `EPIPE` if nobody is there any more; `EMSGSIZE` if the other end could not read it as a whole.
    pub fn say(&self, words: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(words)?;
        if bytes.len() > LONGEST {
            return Err(Errno::MSGSIZE.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        // Without any, the kernel wants no empty message either.
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let pieces = [IoSlice::new(&bytes)];
        retry_on_intr(|| sendmsg(&self.0, &pieces, &mut beside, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Waits for one message. None if nobody is there any more who could send one.
    ///
    /// # Errors
    ///
    /// `EMFILE` if there was no room for its descriptors: then it is lost, and others may follow.
    /// `InvalidData` if it makes no sense.
    pub fn hear<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let told = retry_on_intr(|| {
            let mut pieces = [IoSliceMut::new(&mut bytes)];
            recvmsg(&self.0, &mut pieces, &mut beside, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        if told.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Errno::MFILE.into());
        }
        match bytes.get(..told.bytes) {
            None | Some([]) => Ok(None),
            Some(bytes) => Ok(Some((serde_json::from_slice(bytes)?, descriptors))),
        }
    }

    /// Says that nothing more is to come from here.
    pub fn hang_up(&self) {
        // Where nobody is any more, nobody has to know.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Line {
    fn from(end: OwnedFd) -> Self {
        Self(end)
    }
}
