//! A configuration file as a person wrote it: each line as what it is, with nothing lost.
//!
//! [`quick`](crate::quick) and [`wg`](crate::wg) read a file as `wg-quick` and `wg` do, and stop at
//! what those stop at. Here all of it is looked at, comments included: what they say to us alone
//! ([`Extensions`]).

mod check;
mod explain;
mod extensions;
mod follow;
mod key;
mod line;
mod problem;
mod tidy;

pub use check::{Surroundings, check};
pub use explain::{Explanation, explain};
pub use extensions::{Exclusion, Extensions};
pub use follow::follow;
pub use key::{Key, Place};
pub use line::{Kind, Line, Section, lines};
pub(crate) use problem::is_invisible;
pub use problem::{Problem, Severity};
pub use tidy::tidy;
