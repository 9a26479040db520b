//! What a container uses.
//!
//! cgroups-rs opens ten files for v1's memory alone and panics on some content, so this reads for itself the few files
//! whose numbers are shown. Invariant: a file the kernel lacks counts as zero, a group that is gone is an error.

use std::time::Duration;

use super::{Cgroup, Group, files};
use crate::error::{Error, ErrorKind, Result};
use crate::stats::{IoStats, PressureStats, Stats, Throttling};

impl Cgroup {
    /// Reads the counters.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the group is gone.
    pub fn stats(&self) -> Result<Stats> {
        if !self.exists() {
            return Err(
                Error::new(ErrorKind::NotFound, "read cgroup statistics").with_message("no such cgroup")
            );
        }
        let mut stats = Stats::default();
        if let Some(group) = self.with("cpuacct").or_else(|| self.with("cpu")) {
            cpu(group, &mut stats)?;
        }
        if let Some(group) = self.with("cpu") {
            stats.throttling = throttling(group)?;
        }
        if let Some(group) = self.with("memory") {
            memory(group, &mut stats)?;
        }
        if let Some(group) = self.with("blkio") {
            io(group, &mut stats)?;
        }
        if let Some(group) = self.with("pids") {
            stats.pids = files::read_number(&group.dir, "pids.current")?.unwrap_or(0);
            stats.pids_limit = files::read_number(&group.dir, "pids.max")?;
        }
        if let (Some(cpu), Some(memory), Some(io)) =
            (self.pressure("cpu")?, self.pressure("memory")?, self.pressure("io")?)
        {
            stats.pressure = Some(PressureStats { cpu, memory, io });
        }
        Ok(stats)
    }
}

fn throttling(group: &Group) -> Result<Throttling> {
    let text = files::read(&group.dir, "cpu.stat")?.unwrap_or_default();
    let number = |key| files::keyed(&text, key).unwrap_or(0);
    let throttled_time = match files::keyed(&text, "throttled_usec") {
        Some(time) => Duration::from_micros(time),
        None => Duration::from_nanos(number("throttled_time")),
    };
    Ok(Throttling {
        periods: number("nr_periods"),
        throttled_periods: number("nr_throttled"),
        throttled_time,
    })
}

fn cpu(group: &Group, stats: &mut Stats) -> Result<()> {
    if group.mount.unified {
        let text = files::read(&group.dir, "cpu.stat")?.unwrap_or_default();
        let time = |key| Duration::from_micros(files::keyed(&text, key).unwrap_or(0));
        stats.cpu_time = time("usage_usec");
        stats.cpu_user_time = time("user_usec");
        stats.cpu_kernel_time = time("system_usec");
    } else {
        let time = |file| -> Result<Duration> {
            Ok(Duration::from_nanos(files::read_number(&group.dir, file)?.unwrap_or(0)))
        };
        stats.cpu_time = time("cpuacct.usage")?;
        stats.cpu_user_time = time("cpuacct.usage_user")?;
        stats.cpu_kernel_time = time("cpuacct.usage_sys")?;
        let text = files::read(&group.dir, "cpuacct.usage_percpu")?.unwrap_or_default();
        let times = text.split_ascii_whitespace().filter_map(|time| time.parse().ok());
        stats.cpu_time_by_cpu = times.map(Duration::from_nanos).collect();
    }
    Ok(())
}

fn memory(group: &Group, stats: &mut Stats) -> Result<()> {
    let (usage, limit, peak, cache) = if group.mount.unified {
        ("memory.current", "memory.max", "memory.peak", "inactive_file")
    } else {
        ("memory.usage_in_bytes", "memory.limit_in_bytes", "memory.max_usage_in_bytes", "total_inactive_file")
    };
    let used = files::read_number(&group.dir, usage)?.unwrap_or(0);
    let text = files::read(&group.dir, "memory.stat")?.unwrap_or_default();
    // What Docker's client shows: page cache that nobody looked at lately can be dropped at any time.
    stats.memory = used.saturating_sub(files::keyed(&text, cache).unwrap_or(0));
    let page_cache = if group.mount.unified { "file" } else { "total_cache" };
    stats.memory_cache = files::keyed(&text, page_cache).unwrap_or(0);
    stats.memory_limit = files::read_number(&group.dir, limit)?;
    stats.memory_peak = files::read_number(&group.dir, peak)?;
    Ok(())
}

fn io(group: &Group, stats: &mut Stats) -> Result<()> {
    if group.mount.unified {
        let text = files::read(&group.dir, "io.stat")?.unwrap_or_default();
        stats.io_devices = text.lines().filter_map(of_line).collect();
    } else {
        stats.io_devices = devices_v1(group)?;
    }
    let sum = |of: fn(&IoStats) -> u64| stats.io_devices.iter().map(of).sum();
    (stats.io_read, stats.io_written) = (sum(|device| device.read), sum(|device| device.written));
    Ok(())
}

/// One line of v2's io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn of_line(line: &str) -> Option<IoStats> {
    let (device, fields) = line.split_once(' ')?;
    let number =
        |key: &str| fields.split(' ').find_map(|field| field.strip_prefix(key)?.parse().ok()).unwrap_or(0);
    let (major, minor) = numbers(device)?;
    Some(IoStats {
        major,
        minor,
        read: number("rbytes="),
        written: number("wbytes="),
        reads: number("rios="),
        writes: number("wios="),
    })
}

fn numbers(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// v1 has a file for bytes and one for operations, each with lines `8:0 Read 1`. With the bfq scheduler, the throttle files
/// see nothing of what it does itself: the larger number counts.
fn devices_v1(group: &Group) -> Result<Vec<IoStats>> {
    let mut devices: Vec<IoStats> = Vec::new();
    for source in ["bfq", "throttle"] {
        for (file, bytes) in [("io_service_bytes_recursive", true), ("io_serviced_recursive", false)] {
            let text = files::read(&group.dir, &format!("blkio.{source}.{file}"))?.unwrap_or_default();
            for line in text.lines() {
                let fields: Vec<&str> = line.split(' ').collect();
                let [device, kind, value] = fields[..] else { continue };
                let (Some((major, minor)), Ok(value)) = (numbers(device), value.parse::<u64>()) else {
                    continue;
                };
                let at = devices.iter().position(|known| (known.major, known.minor) == (major, minor));
                let at = at.unwrap_or_else(|| {
                    devices.push(IoStats { major, minor, ..IoStats::default() });
                    devices.len() - 1
                });
                let known = &mut devices[at];
                let slot = match (kind, bytes) {
                    ("Read", true) => &mut known.read,
                    ("Write", true) => &mut known.written,
                    ("Read", false) => &mut known.reads,
                    ("Write", false) => &mut known.writes,
                    _ => continue,
                };
                *slot = value.max(*slot);
            }
        }
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_block_devices_are_read() {
        let read = of_line("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0").unwrap();
        assert_eq!((read.major, read.read, read.written, read.reads, read.writes), (254, 4096, 8192, 1, 2));
        assert!(of_line("garbage").is_none() && of_line("a:b rbytes=1").is_none());
    }
}
