//! The laboratory: two machines, a wire, and a tunnel through it.

mod daemon;
mod machine;
mod tunnel;
pub mod usage;
mod wire;

pub use daemon::Daemon;
pub use machine::{CABLE, Machine, join};
pub use tunnel::{Tunnel, private_key, round_trip};
pub use wire::Wire;
