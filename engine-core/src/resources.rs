//! Limits of a container, in Docker's terms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The limits of a container. What is `None` is not limited, or keeps its value in an update.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Resources {
    /// CPU time in billionths of a CPU: 1.5 CPUs are 1,500,000,000 (Docker's `--cpus`).
    pub nano_cpus: Option<u64>,
    /// The relative weight of CPU time, 2 to 262,144; the kernel's default is 1,024.
    pub cpu_shares: Option<u64>,
    /// The length of the period in which `cpu_quota` counts, in microseconds.
    pub cpu_period: Option<u64>,
    /// CPU time in each period, in microseconds.
    pub cpu_quota: Option<i64>,
    /// The CPUs it may run on: `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes it may use.
    pub cpuset_mems: Option<String>,
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Memory it keeps under pressure, in bytes.
    pub memory_reservation: Option<u64>,
    /// Memory and swap together, in bytes; -1 is no limit.
    pub memory_swap: Option<i64>,
    /// How willingly its memory is swapped out, 0 to 100 (cgroup v1).
    pub memory_swappiness: Option<u64>,
    /// Processes and threads; -1 is no limit.
    pub pids_limit: Option<i64>,
    /// The relative weight of block I/O, 10 to 1,000.
    pub blkio_weight: Option<u16>,
    /// Limits of single block devices.
    pub blkio_devices: Vec<DeviceLimit>,
    /// The period in which `cpu_rt_runtime` counts, in microseconds (cgroup v1 with real-time groups).
    pub cpu_rt_period: Option<u64>,
    /// CPU time of real-time tasks in each period, in microseconds (cgroup v1 with real-time groups).
    pub cpu_rt_runtime: Option<i64>,
    /// Stops instead of kills when memory runs out (cgroup v1).
    pub oom_kill_disable: Option<bool>,
    /// Values for files of cgroup v2 by name: `memory.high`.
    pub unified: BTreeMap<String, String>,
}

/// The limits of one block device. A limit of zero is none.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DeviceLimit {
    /// The path of the device on the host.
    pub path: String,
    /// Bytes read in a second.
    pub read_bps: u64,
    /// Bytes written in a second.
    pub write_bps: u64,
    /// Reads in a second.
    pub read_iops: u64,
    /// Writes in a second.
    pub write_iops: u64,
    /// The relative weight of its I/O, 10 to 1,000; 0 is none of its own.
    pub weight: u16,
}

impl DeviceLimit {
    /// Creates a limit for the device at `path` that limits nothing yet.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}
