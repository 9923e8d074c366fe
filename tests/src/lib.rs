//! What the tests of adit share.

pub mod guest;
pub mod lab;
pub mod net;
pub mod scenarios;
pub mod tools;
