//! Processor time and memory, as `/proc` counts them (proc(5)).

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use crate::Outcome;

/// The unit of time in `/proc`, `USER_HZ`, is a hundredth of a second on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// What some processes have used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// The most it has ever been, in bytes.
    pub peak_resident: u64,
}

impl Usage {
    /// Of all processes of one process group.
    pub fn of_group(group: u32) -> Outcome<Self> {
        let mut sum = Self::default();
        let mut members = 0;
        for entry in fs::read_dir("/proc")? {
            let folder = entry?.path();
            // Whatever is no process has no such file, and a process may end at any time.
            let Ok(stat) = fs::read_to_string(folder.join("stat")) else {
                continue;
            };
            let Some((found, cpu)) = parse_stat(&stat) else {
                continue;
            };
            if found == group {
                let status = fs::read_to_string(folder.join("status"))?;
                sum.cpu += cpu;
                sum.resident += kibibytes(&status, "VmRSS:") << 10;
                sum.peak_resident += kibibytes(&status, "VmHWM:") << 10;
                members += 1;
            }
        }
        if members == 0 {
            return Err(format!("process {group} has ended").into());
        }
        Ok(sum)
    }
}

/// The process group and the processor time of a `/proc/PID/stat`.
fn parse_stat(stat: &str) -> Option<(u32, Duration)> {
    // The second field, the name, may contain anything, and ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ")?;
    let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<u32>().ok();
    Some((field(5)?, TICK * (field(14)? + field(15)?)))
}

fn kibibytes(status: &str, key: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Processor time of the whole machine, all processors together.
#[derive(Clone, Copy, Debug)]
pub struct MachineTime {
    /// Spent on anything, or taken away by the hypervisor.
    pub busy: Duration,
    /// That and idle time.
    pub total: Duration,
    /// Of it, what this process has spent.
    pub own: Duration,
}

impl MachineTime {
    pub fn now() -> Outcome<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let fields = stat.lines().next().unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user.
        let ticks: Vec<u32> = fields
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks.as_slice() else {
            return Err("/proc/stat does not begin with eight times".into());
        };
        let busy = user + nice + system + irq + softirq + steal;
        let own = fs::read_to_string("/proc/self/stat")?;
        Ok(Self {
            busy: TICK * busy,
            total: TICK * (busy + idle + iowait),
            own: parse_stat(&own).ok_or("/proc/self/stat is not as documented")?.1,
        })
    }
}

impl Sub for MachineTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            total: self.total.saturating_sub(earlier.total),
            own: self.own.saturating_sub(earlier.own),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) c) S 1 42 42 0 -1 4194560 1 0 0 0 150 25 0 0 20 0 1 0 5 6 7";
        let (group, cpu) = parse_stat(stat).unwrap();
        assert_eq!((group, cpu), (42, Duration::from_millis(1750)));
    }

    #[test]
    fn this_process_has_used_memory() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), 1024);
        assert_eq!(kibibytes(status, "VmHWM:"), 2048);
    }

    #[test]
    fn the_machine_is_never_busier_than_it_has_time() {
        let now = MachineTime::now().unwrap();
        assert!(now.own <= now.busy && now.busy <= now.total, "{now:?}");
    }
}
