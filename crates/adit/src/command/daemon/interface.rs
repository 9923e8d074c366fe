//! The interface of a tunnel: made here, or handed down by somebody else.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use host::{Change, Network, sysctl};
use sys::tun::Tun;

use super::failure::Failure;

/// Makes the interface `name`, down, with a queue for each of the workers where the kernel has several.
pub fn create(name: &str, workers: usize) -> Result<Vec<Tun>, Failure> {
    let tuns = Tun::create(name, workers).or_else(|error| match error.kind() {
        // Some kernels, such as gVisor, know no interfaces of several queues.
        io::ErrorKind::InvalidInput if workers > 1 => Tun::create(name, 1),
        _ => Err(error),
    });
    let tuns = tuns.map_err(|error| Failure::Interface(name.to_owned(), error))?;
    let mtu = Change::SetMtu(name, engine::DEFAULT_MTU.into());
    Network::open().and_then(|mut network| network.apply(mtu)).map_err(Failure::Prepare)?;
    behave_as_a_tunnel(name);
    Ok(tuns)
}

/// Makes a TUN what the kernel's own interface is: without addresses that nobody has given it, and
/// without telling peers that they could reach each other directly, since they cannot.
pub fn behave_as_a_tunnel(name: &str) {
    for (setting, value) in [
        (format!("net/ipv6/conf/{name}/addr_gen_mode"), "1"), // IN6_ADDR_GEN_MODE_NONE
        (format!("net/ipv4/conf/{name}/send_redirects"), "0"),
        // It holds if either says so.
        ("net/ipv4/conf/all/send_redirects".to_owned(), "0"),
    ] {
        // Where /proc/sys is read-only, or there is no IPv6, the tunnel still works.
        let _ = sysctl::set(&setting, value);
    }
}

/// A queue of an interface that somebody else has made, with the name and MTU that it has.
///
/// # Errors
///
/// Those of [`Tun::from_fd`], and `InvalidData` if the name is not UTF-8.
pub fn inherit(queue: OwnedFd) -> io::Result<(String, Vec<Tun>)> {
    let tun = Tun::from_fd(queue)?;
    let name = tun.name()?.into_string().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((name, vec![tun]))
}

/// A queue once more. If this process is killed, the kernel closes what has the highest number first: to be
/// made before the socket is opened, which must not take clients when the interface is gone.
///
/// # Errors
///
/// `EMFILE`.
pub fn once_more(tun: &Tun) -> io::Result<Tun> {
    Tun::from_fd(tun.as_fd().try_clone_to_owned()?)
}
