//! The kernel's door: everything adit asks of Linux, as small safe types.
//!
//! This crate knows no WireGuard: it moves bytes between descriptors and memory, and says
//! truthfully what the kernel said. It is the only one of the workspace that may contain `unsafe`.
//! What `rustix` wraps is taken from there; what is left (batches of datagrams with control
//! messages, the ioctls of a TUN, a reuseport filter) is here, one operation a block.
//!
//! On the data path nothing allocates, and nothing waits but [`poll::Epoll::wait`].

mod batch;
pub mod clock;
mod control;
pub mod descriptor;
pub mod namespaces;
pub mod option;
pub mod poll;
pub mod random;
pub mod tun;
pub mod udp;
