//! What the tests of adit share.

pub mod lab;
pub mod scenarios;
pub mod net;
