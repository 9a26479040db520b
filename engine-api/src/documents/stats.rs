//! What a container uses, as `docker stats` reads it.

use std::time::Duration;

use engine_core::stats::{IoStats, Stats};
use engine_core::time::rfc3339;
use serde_json::{Value, json};

/// The time Docker shows for what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A sample: what the container used, and the whole host, both since their start.
#[derive(Clone, Debug, Default)]
pub struct StatsSample {
    /// The container's.
    pub stats: Stats,
    /// CPU time of the host, idle or not, over all its CPUs.
    pub host_cpu: Duration,
    /// The host's memory, which is the limit of a container without one.
    pub host_memory: u64,
}

/// Returns the answer of `GET /containers/{id}/stats`: a sample, and the one before it if there was one.
#[must_use]
pub fn container_stats(id: &str, name: &str, now: &StatsSample, before: Option<&StatsSample>) -> Value {
    let stats = &now.stats;
    let time = |sample: Option<&StatsSample>| {
        sample.and_then(|sample| sample.stats.read_at).map_or_else(|| NEVER.to_owned(), rfc3339)
    };
    let mut document = json!({
        "id": id,
        "name": format!("/{name}"),
        "os_type": "linux",
        "read": time(Some(now)),
        "preread": time(before),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": before_or_now(Some(now)),
        "precpu_stats": before_or_now(before),
        "pids_stats": {},
        "blkio_stats": {},
        "memory_stats": {},
    });
    if stats.read_at.is_none() {
        return document;
    }
    document["pids_stats"] = json!({ "current": stats.pids, "limit": stats.pids_limit.unwrap_or(u64::MAX) });
    document["memory_stats"] = json!({
        // Without the cache that can be dropped, which clients would take off by themselves.
        "usage": stats.memory,
        "max_usage": stats.memory_peak,
        "stats": { "cache": stats.memory_cache },
        "limit": stats.memory_limit.unwrap_or(now.host_memory),
    });
    document["blkio_stats"] = json!({
        "io_service_bytes_recursive": entries(&stats.io_devices, |io| (io.read, io.written)),
        "io_serviced_recursive": entries(&stats.io_devices, |io| (io.reads, io.writes)),
    });
    let networks = stats.networks.iter().map(|(name, net)| {
        let counters = json!({
            "rx_bytes": net.received,
            "rx_packets": net.received_packets,
            "rx_errors": net.receive_errors,
            "rx_dropped": net.receive_dropped,
            "tx_bytes": net.sent,
            "tx_packets": net.sent_packets,
            "tx_errors": net.send_errors,
            "tx_dropped": net.send_dropped,
        });
        (name.clone(), counters)
    });
    let networks: serde_json::Map<_, _> = networks.collect();
    if !networks.is_empty() {
        document["networks"] = networks.into();
    }
    document
}

fn before_or_now(sample: Option<&StatsSample>) -> Value {
    let empty = StatsSample::default();
    let StatsSample { stats, host_cpu, .. } = sample.unwrap_or(&empty);
    let mut cpu = json!({
        "cpu_usage": {
            "total_usage": nanos(stats.cpu_time),
            "usage_in_kernelmode": nanos(stats.cpu_kernel_time),
            "usage_in_usermode": nanos(stats.cpu_user_time),
        },
        "throttling_data": {
            "periods": stats.throttling.periods,
            "throttled_periods": stats.throttling.throttled_periods,
            "throttled_time": nanos(stats.throttling.throttled_time),
        },
    });
    if !stats.cpu_time_by_cpu.is_empty() {
        cpu["cpu_usage"]["percpu_usage"] = stats.cpu_time_by_cpu.iter().copied().map(nanos).collect();
    }
    if stats.read_at.is_some() {
        cpu["system_cpu_usage"] = nanos(*host_cpu).into();
        cpu["online_cpus"] = stats.online_cpus.into();
    }
    cpu
}

fn entries(devices: &[IoStats], of: fn(&IoStats) -> (u64, u64)) -> Value {
    let each = devices.iter().flat_map(|io| {
        let (read, written) = of(io);
        [("read", read), ("write", written)]
            .map(|(op, value)| json!({ "major": io.major, "minor": io.minor, "op": op, "value": value }))
    });
    each.collect()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
