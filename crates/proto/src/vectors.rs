//! Known answers for what only this crate can see; `tests/tests/vectors.rs` has those for the rest.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use alloc::vec::Vec;

use serde_json::Value;

/// The part of `tests/vectors.json` that is called `name`.
pub fn load(name: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../../../tests/vectors.json")).unwrap();
    all[name].clone()
}

/// The entries of a list, which must not be empty.
pub fn entries(list: &Value) -> &[Value] {
    let entries = list.as_array().unwrap();
    assert!(!entries.is_empty());
    entries
}

/// Hexadecimal digits as bytes.
pub fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes();
    let pair = |pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks_exact(2).map(pair).collect()
}

/// Hexadecimal digits as exactly `N` bytes.
pub fn array<const N: usize>(hex: &Value) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}
