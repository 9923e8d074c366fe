//! Network namespaces of a test's own, and what the usual tools say in them.

#![allow(dead_code, clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Output};

use host::namespace;
use host::{Network, Prefix};

pub const ALICE: Prefix = Prefix::v4(Ipv4Addr::new(192, 0, 2, 1), 24);
pub const BOB: Prefix = Prefix::v4(Ipv4Addr::new(192, 0, 2, 2), 24);

/// A namespace with its loopback only, or a printed skip.
pub fn a_namespace() -> Option<OwnedFd> {
    match namespace::create() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!("skipped: making a network namespace needs CAP_SYS_ADMIN");
            None
        }
        namespace => Some(namespace.unwrap()),
    }
}

/// Access to a namespace with its loopback only, or a printed skip.
pub fn a_network() -> Option<Network> {
    a_namespace().map(|namespace| Network::open_in(namespace.as_fd()).unwrap())
}

pub fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
}

/// What a tool prints in a namespace, or a printed skip where it is not installed.
pub fn said(namespace: &OwnedFd, command: &str) -> Option<String> {
    let Output { status, stdout, stderr } = ran(namespace, command)?;
    assert!(status.success(), "{command}: {}", String::from_utf8_lossy(&stderr));
    Some(String::from_utf8(stdout).unwrap())
}

/// Whether a tool succeeds in a namespace, or a printed skip where it is not installed.
pub fn succeeds(namespace: &OwnedFd, command: &str) -> Option<bool> {
    ran(namespace, command).map(|output| output.status.success())
}

fn ran(namespace: &OwnedFd, command: &str) -> Option<Output> {
    let mut words = command.split(' ');
    let program = words.next().unwrap();
    let mut command = Command::new(program);
    command.args(words);
    match namespace::within(namespace.as_fd(), || command.output()).unwrap() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: {program} is not installed");
            None
        }
        output => Some(output.unwrap()),
    }
}
