//! `adit up`, `reload`, `down` and `status` on machines of their own: what they make, what they
//! leave, and what becomes of it when something goes wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod answering;
mod causes;
mod disturbed;
mod elsewhere;
mod following;
mod healing;
mod interrupted;
mod reloading;
mod stage;
mod status;
mod transaction;
