//! What the host tells of itself in /proc, where documents show it beside a container.

use std::time::Duration;

/// The kernel's tick in /proc/stat, which has been the same on every Linux for ever (USER_HZ, time(7)).
const TICKS_PER_SECOND: u64 = 100;

/// Returns the CPU time of all CPUs since the boot, idle or not.
pub(super) fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        // Guests' time, behind the eighth number, is a part of users'.
        .skip(1)
        .take(8)
        .filter_map(|number| number.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * (1000 / TICKS_PER_SECOND))
}
