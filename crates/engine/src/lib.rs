//! engine

pub mod packet;
