//! The words of `wg-quick`(8): its configuration file, how one is named, what of it is for `wg`,
//! and the file that `save` makes of what is live (spec §4).

mod address;
mod file;
mod name;
mod save;

pub use address::{is_server, is_v6, prefix};
pub use file::{File, Hooks, NotABoolean};
pub use name::{interface, path};
pub use save::Live;
