//! What the virtual Ethernet link between the two machines does with large packets.

use std::process::Command;

use super::{CABLE, Machine};
use crate::Outcome;

/// One of three kinds of wire, each the model of something real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Super-packets cross it whole: two containers on one host.
    Offload,
    /// Packets of 1500 bytes, joined again on receipt: two hosts whose network cards do GRO.
    NicGro,
    /// Packets of 1500 bytes, each received alone.
    Plain,
}

impl Wire {
    pub const ALL: [Self; 3] = [Self::Offload, Self::NicGro, Self::Plain];

    pub fn name(self) -> &'static str {
        match self {
            Self::Offload => "offload",
            Self::NicGro => "nicgro",
            Self::Plain => "plain",
        }
    }

    /// Makes this machine's end of the cable such a wire.
    pub fn apply(self, machine: &Machine) -> Outcome<()> {
        let gro = match self {
            // What a veth does by itself.
            Self::Offload => return Ok(()),
            Self::NicGro => "on",
            Self::Plain => "off",
        };
        let mut ethtool = Command::new("ethtool");
        ethtool.args(["-K", CABLE, "tso", "off", "gso", "off"]);
        ethtool.args(["tx-udp-segmentation", "off", "gro", gro]);
        let output = machine.within(|| ethtool.output())?.map_err(|error| {
            format!("the wire {} needs the program ethtool: {error}", self.name())
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("ethtool on the wire {}: {}", self.name(), said.trim()).into())
    }
}
