//! The targets, one file each.

pub mod answers;
pub mod file;
pub mod messages;
pub mod neighbours;
pub mod netlink;
mod packets;
pub mod resolvers;
pub mod segments;
pub mod sessions;
pub mod story;
pub mod uapi;
pub mod words;
