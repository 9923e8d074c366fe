//! Noticing that somebody who may be told of a tunnel's servers has ended or started: what it was
//! told, it may have forgotten, and whom programs ask may be another one now.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::Patience;
use super::dbus::Bus;
use super::{network_manager, resolved};

/// Its descriptor is readable when there may be a reason to look.
#[derive(Debug)]
pub struct Watch(UnixStream);

impl Watch {
    /// Watches all of them that are on the system's bus.
    ///
    /// # Errors
    ///
    /// There is no bus.
    pub fn new() -> io::Result<Self> {
        let services = [resolved::SERVICE, network_manager::SERVICE];
        let stream =
            Bus::connect_for(Patience::Short.time()).and_then(|bus| bus.into_word_of(&services))?;
        Ok(Self(stream))
    }

    /// Takes all that there is, without waiting; whether there was anything. Nothing else comes than
    /// what was asked for, so that nobody has to read it.
    ///
    /// # Errors
    ///
    /// The bus itself has ended, and this watch with it.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut any = false;
        loop {
            match self.0.read(&mut [0; 4096]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
