//! Which of the kernel's offloads are in use. Each can be lost at run time, and is then done without.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use sys::tun::{Offload, Tun};

/// An offload of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP super-packets to and from the TUN (and checksums left to us).
    TunTcp,
    /// UDP super-packets to and from the TUN.
    TunUdp,
    /// Many datagrams in one send (`UDP_SEGMENT`).
    UdpSegment,
    /// Many datagrams in one receipt (`UDP_GRO`).
    UdpGro,
}

impl Kind {
    /// All of them, in the order of their numbers (`as usize`).
    pub const ALL: [Self; 4] = [Self::TunTcp, Self::TunUdp, Self::UdpSegment, Self::UdpGro];
}

/// What is in use at present. Shared by all threads.
#[derive(Debug)]
pub(crate) struct Offloads {
    in_use: [AtomicBool; Kind::ALL.len()],
    /// What to make up, so that falling back can be tested where nothing fails by itself.
    faults: Vec<(Kind, i32)>,
}

impl Offloads {
    /// Everything but `without`, as far as the TUN takes it.
    pub fn probe(tun: &Tun, without: &[Kind], faults: &[(Kind, i32)]) -> io::Result<Self> {
        let in_use = Kind::ALL.map(|kind| AtomicBool::new(!without.contains(&kind)));
        let offloads = Self { in_use, faults: faults.to_vec() };
        // USO is the youngest of them (Linux 6.2). An inherited TUN may take none.
        for youngest in [Kind::TunUdp, Kind::TunTcp] {
            if tun.set_offload(offloads.of_tun()).is_ok() {
                return Ok(offloads);
            }
            offloads.lose(youngest);
        }
        tun.set_offload(offloads.of_tun())?;
        Ok(offloads)
    }

    /// Those of the TUN.
    pub fn of_tun(&self) -> Offload {
        Offload { tcp: self.has(Kind::TunTcp), udp: self.has(Kind::TunUdp) }
    }

    pub fn has(&self, kind: Kind) -> bool {
        self.in_use.get(kind as usize).is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Asked before `kind` is used: fails as that would, if it is to.
    pub fn make_up(&self, kind: Kind) -> io::Result<()> {
        let fault = self.faults.iter().find(|(known, _)| *known == kind);
        fault.map_or(Ok(()), |(_, errno)| Err(io::Error::from_raw_os_error(*errno)))
    }

    /// Does without `kind` from now on; true the first time.
    pub fn lose(&self, kind: Kind) -> bool {
        self.in_use.get(kind as usize).is_some_and(|flag| flag.swap(false, Ordering::Relaxed))
    }
}
