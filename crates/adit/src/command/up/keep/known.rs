//! What a keeper knows, for whoever asks it.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Serialize, Deserialize)]
pub struct Known {
    /// What `adit status' tells as it is.
    #[serde(flatten)]
    pub keeper: Keeper,
    /// Since when peers have been called in vain, in seconds since the Unix epoch, by the base64 of
    /// their keys.
    #[serde(default)]
    pub calls: BTreeMap<String, u64>,
}

/// How it is (docs/up.md).
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keeper {
    /// Its number.
    pub process: u32,
    /// What it has put back, where it has found peers, and how the tunnel follows the network, the
    /// latest last.
    pub repairs: VecDeque<Repair>,
    /// Endpoints that nobody has found yet, as they are written.
    pub waiting_for: Vec<String>,
    /// Why not everything could be put back, if so.
    pub failure: Option<String>,
}

/// Something that it has done.
#[derive(Clone, Serialize, Deserialize)]
pub struct Repair {
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// What, and who had changed something.
    pub what: String,
}
