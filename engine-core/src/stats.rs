//! What a container uses, in numbers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// What a container uses, again and again.
pub type StatsStream = futures_util::stream::BoxStream<'static, crate::error::Result<Stats>>;

/// What a container uses. A number that the kernel does not tell is zero, empty or `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// When it was read; `None` once the container has ended.
    pub read_at: Option<SystemTime>,
    /// CPU time used since the start.
    pub cpu_time: Duration,
    /// CPU time in the kernel since the start.
    pub cpu_kernel_time: Duration,
    /// CPU time in user mode since the start.
    pub cpu_user_time: Duration,
    /// CPU time used since the start on each CPU (cgroup v1 alone counts it).
    pub cpu_time_by_cpu: Vec<Duration>,
    /// How many CPUs the host has online.
    pub online_cpus: u32,
    /// What a CPU quota did.
    pub throttling: Throttling,
    /// Memory in use, in bytes, without the page cache that can be dropped.
    pub memory: u64,
    /// Page cache charged to it, in bytes, whether or not it can be dropped.
    pub memory_cache: u64,
    /// The memory limit in bytes, if there is one.
    pub memory_limit: Option<u64>,
    /// The most memory ever in use, in bytes, where the kernel tells.
    pub memory_peak: Option<u64>,
    /// Bytes read from block devices.
    pub io_read: u64,
    /// Bytes written to block devices.
    pub io_written: u64,
    /// Reads and writes of each block device.
    pub io_devices: Vec<IoStats>,
    /// Processes and threads.
    pub pids: u64,
    /// How many they may be.
    pub pids_limit: Option<u64>,
    /// The interfaces of its own network namespace by name; empty where it uses another's.
    pub networks: BTreeMap<String, NetworkStats>,
    /// How long its tasks waited for resources.
    pub pressure: Option<PressureStats>,
}

impl Stats {
    /// Returns the share of one CPU that was used since `earlier`, in percent: 200 is two whole CPUs.
    #[must_use]
    pub fn cpu_percent_since(&self, earlier: &Self) -> f64 {
        let time = match (self.read_at, earlier.read_at) {
            (Some(now), Some(then)) => now.duration_since(then).unwrap_or_default().as_secs_f64(),
            _ => 0.0,
        };
        let used = self.cpu_time.saturating_sub(earlier.cpu_time).as_secs_f64();
        if time > 0.0 { used / time * 100.0 } else { 0.0 }
    }
}

/// What a CPU quota did since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Throttling {
    /// Periods in which the container ran.
    pub periods: u64,
    /// Those in which it was stopped for the rest.
    pub throttled_periods: u64,
    /// How long it was stopped.
    pub throttled_time: Duration,
}

/// What a container did with a block device since its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IoStats {
    /// The device's numbers.
    pub major: u32,
    /// See `major`.
    pub minor: u32,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// Counters of a network interface, as the container sees it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkStats {
    /// Bytes received.
    pub received: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets not received for an error.
    pub receive_errors: u64,
    /// Packets received and dropped.
    pub receive_dropped: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets not sent for an error.
    pub send_errors: u64,
    /// Packets dropped instead of sent.
    pub send_dropped: u64,
}

/// How long a container's tasks waited, by resource (the kernel's Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PressureStats {
    /// For a CPU.
    pub cpu: Pressure,
    /// For memory.
    pub memory: Pressure,
    /// For block devices.
    pub io: Pressure,
}

/// Time in which tasks waited for a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pressure {
    /// Share of the last 10 seconds in which some task waited, in percent.
    pub some_avg10: f64,
    /// Time in which some task waited, since the start.
    pub some_total: Duration,
    /// Share of the last 10 seconds in which all tasks waited, in percent.
    pub full_avg10: f64,
    /// Time in which all tasks waited, since the start.
    pub full_total: Duration,
}

/// A process of a container, as the host sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessInfo {
    /// The host's process id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// The host's number of its effective user.
    pub uid: u32,
    /// The host's number of its effective group.
    pub gid: u32,
    /// The state in one letter, as ps(1) shows it.
    pub state: char,
    /// The device of its terminal, 0 without one.
    pub terminal: u32,
    /// CPU time used.
    pub cpu_time: Duration,
    /// When it started.
    pub started_at: Option<SystemTime>,
    /// The nice value.
    pub nice: i32,
    /// The kernel's priority.
    pub priority: i32,
    /// Threads.
    pub threads: u32,
    /// Bytes of address space.
    pub virtual_memory: u64,
    /// Bytes in memory.
    pub resident_memory: u64,
    /// The name, of 15 bytes at most.
    pub name: String,
    /// The command line, empty for what has none.
    pub args: Vec<String>,
}
