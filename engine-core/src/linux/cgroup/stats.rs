//! What a container uses.
//!
//! cgroups-rs opens ten files for v1's memory alone and panics on some content, so this reads for itself the few files
//! whose numbers are shown. Invariant: a file the kernel lacks counts as zero, a group that is gone is an error.

use std::time::Duration;

use super::{Cgroup, Group, files};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Stats;

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
        Ok(stats)
    }
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
    stats.memory_limit = files::read_number(&group.dir, limit)?;
    stats.memory_peak = files::read_number(&group.dir, peak)?;
    Ok(())
}

fn io(group: &Group, stats: &mut Stats) -> Result<()> {
    if group.mount.unified {
        let text = files::read(&group.dir, "io.stat")?.unwrap_or_default();
        let sum = |key: &str| {
            text.split_ascii_whitespace()
                .filter_map(|field| field.strip_prefix(key)?.parse::<u64>().ok())
                .sum()
        };
        (stats.io_read, stats.io_written) = (sum("rbytes="), sum("wbytes="));
        return Ok(());
    }
    // With the bfq scheduler, the throttle files see nothing of what it does itself.
    for file in ["blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"] {
        let text = files::read(&group.dir, file)?.unwrap_or_default();
        let sum = |word: &str| {
            let lines = text.lines().filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                (fields.next()? == word).then(|| fields.next()?.parse::<u64>().ok())?
            });
            lines.sum::<u64>()
        };
        let (read, written) = (sum("Read"), sum("Write"));
        stats.io_read = stats.io_read.max(read);
        stats.io_written = stats.io_written.max(written);
    }
    Ok(())
}
