//! Limits in Docker's terms become the runtime spec's.

use std::os::unix::fs::MetadataExt;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpu, LinuxCpuBuilder, LinuxDeviceCgroup, LinuxMemory,
    LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};

use crate::error::{Error, Result};
use crate::policy::defaults;
use crate::resources::{DeviceLimit, Resources};

use super::{failed, invalid};

/// The least memory a container may be limited to, as Docker has it: less does not hold its init.
const MIN_MEMORY: u64 = 6 << 20;
/// The period in which a CPU quota counts, if the caller names none, in microseconds.
const CPU_PERIOD: u64 = 100_000;

pub(super) fn linux_resources(wish: &Resources, devices: Vec<LinuxDeviceCgroup>) -> Result<LinuxResources> {
    let pids = wish.pids_limit.filter(|limit| *limit != 0).unwrap_or(defaults::PIDS_LIMIT);
    let mut builder = LinuxResourcesBuilder::default()
        .devices(devices)
        .cpu(cpu(wish)?)
        .pids(LinuxPidsBuilder::default().limit(pids).build().map_err(failed)?);
    if let Some(memory) = memory(wish)? {
        builder = builder.memory(memory);
    }
    if let Some(block_io) = block_io(wish)? {
        builder = builder.block_io(block_io);
    }
    if !wish.unified.is_empty() {
        builder =
            builder.unified(wish.unified.clone().into_iter().collect::<std::collections::HashMap<_, _>>());
    }
    builder.build().map_err(failed)
}

fn cpu(wish: &Resources) -> Result<LinuxCpu> {
    let mut builder = LinuxCpuBuilder::default();
    if let Some(nano_cpus) = wish.nano_cpus {
        if wish.cpu_quota.is_some() || wish.cpu_period.is_some() {
            return Err(invalid("CPUs and a CPU quota or period cannot be given together"));
        }
        let available = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        if nano_cpus < 10_000_000 || nano_cpus > available * 1_000_000_000 {
            return Err(invalid(format!("this host has {available} CPUs: give 0.01 to {available}"))
                .with("cpus", nano_cpus as f64 / 1e9));
        }
        let quota = i64::try_from(nano_cpus * CPU_PERIOD / 1_000_000_000).unwrap_or(i64::MAX);
        builder = builder.quota(quota).period(CPU_PERIOD);
    }
    if let Some(period) = wish.cpu_period {
        if !(1_000..=1_000_000).contains(&period) {
            return Err(invalid("a CPU period has 1,000 to 1,000,000 microseconds").with("period", period));
        }
        builder = builder.period(period);
    }
    if let Some(quota) = wish.cpu_quota {
        if quota > 0 && quota < 1_000 {
            return Err(invalid("a CPU quota has at least 1,000 microseconds").with("quota", quota));
        }
        builder = builder.quota(quota);
    }
    if let Some(shares) = wish.cpu_shares {
        builder = builder.shares(shares.clamp(2, 262_144));
    }
    if let Some(period) = wish.cpu_rt_period {
        builder = builder.realtime_period(period);
    }
    if let Some(runtime) = wish.cpu_rt_runtime {
        builder = builder.realtime_runtime(runtime);
    }
    if let Some(cpus) = &wish.cpuset_cpus {
        builder = builder.cpus(list(cpus, "CPUs")?);
    }
    if let Some(mems) = &wish.cpuset_mems {
        builder = builder.mems(list(mems, "memory nodes")?);
    }
    builder.build().map_err(failed)
}

/// Checks a list in the kernel's format, such as `0-2,7` (cpuset(7)).
fn list(text: &str, what: &str) -> Result<String> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(first), Ok(last)) if first <= last)
    };
    if text.split(',').all(range) {
        return Ok(text.to_owned());
    }
    Err(invalid(format!("the list of {what} must look like 0-2,7")).with("list", text))
}

fn memory(wish: &Resources) -> Result<Option<LinuxMemory>> {
    let mut builder = LinuxMemoryBuilder::default();
    let mut any = false;
    if let Some(limit) = wish.memory.filter(|limit| *limit != 0) {
        if limit < MIN_MEMORY {
            return Err(invalid("a memory limit is at least 6 MiB").with("memory", limit));
        }
        builder = builder.limit(signed(limit)?);
        // Docker's rule: without a word about swap, as much again.
        let total = match wish.memory_swap {
            None | Some(0) => signed(limit.saturating_mul(2))?,
            Some(-1) => -1,
            Some(total) if total < signed(limit)? => {
                return Err(
                    invalid("memory and swap together are less than memory alone").with("memory-swap", total)
                );
            }
            Some(total) => total,
        };
        builder = builder.swap(total);
        any = true;
    } else if wish.memory_swap.is_some_and(|total| total > 0) {
        return Err(invalid("a limit of memory and swap needs a limit of memory as well"));
    }
    if let Some(reservation) = wish.memory_reservation.filter(|bytes| *bytes != 0) {
        if wish.memory.is_some_and(|limit| limit != 0 && reservation > limit) {
            return Err(invalid("the memory reservation is above the limit").with("reservation", reservation));
        }
        builder = builder.reservation(signed(reservation)?);
        any = true;
    }
    if let Some(swappiness) = wish.memory_swappiness {
        if swappiness > 100 {
            return Err(invalid("swappiness is 0 to 100").with("swappiness", swappiness));
        }
        builder = builder.swappiness(swappiness);
        any = true;
    }
    if let Some(disable) = wish.oom_kill_disable {
        if disable && wish.memory.is_none_or(|limit| limit == 0) {
            // Docker warns; without a limit it is the host that would stand still.
            return Err(invalid("disabling the OOM killer needs a limit of memory"));
        }
        builder = builder.disable_oom_killer(disable);
        any = true;
    }
    if any { builder.build().map(Some).map_err(failed) } else { Ok(None) }
}

fn signed(bytes: u64) -> Result<i64> {
    i64::try_from(bytes).map_err(|_| invalid("a size is out of range").with("bytes", bytes))
}

fn block_io(wish: &Resources) -> Result<Option<LinuxBlockIo>> {
    let mut builder = LinuxBlockIoBuilder::default();
    if wish.blkio_weight.is_none() && wish.blkio_devices.is_empty() {
        return Ok(None);
    }
    if let Some(weight) = wish.blkio_weight {
        if !(10..=1000).contains(&weight) {
            return Err(invalid("a block I/O weight is 10 to 1000").with("weight", weight));
        }
        builder = builder.weight(weight);
    }
    let mut weights = Vec::new();
    for limit in wish.blkio_devices.iter().filter(|limit| limit.weight > 0) {
        if !(10..=1000).contains(&limit.weight) {
            return Err(invalid("a block I/O weight is 10 to 1000").with("weight", limit.weight));
        }
        let (major, minor) = numbers(&limit.path)?;
        let weight = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(limit.weight);
        weights.push(weight.build().map_err(failed)?);
    }
    builder = builder.weight_device(weights);
    let pick = |rate: fn(&DeviceLimit) -> u64| -> Result<Vec<LinuxThrottleDevice>> {
        wish.blkio_devices
            .iter()
            .filter(|limit| rate(limit) > 0)
            .map(|limit| throttle(limit, rate(limit)))
            .collect()
    };
    builder
        .throttle_read_bps_device(pick(|l| l.read_bps)?)
        .throttle_write_bps_device(pick(|l| l.write_bps)?)
        .throttle_read_iops_device(pick(|l| l.read_iops)?)
        .throttle_write_iops_device(pick(|l| l.write_iops)?)
        .build()
        .map(Some)
        .map_err(failed)
}

fn throttle(limit: &DeviceLimit, rate: u64) -> Result<LinuxThrottleDevice> {
    let (major, minor) = numbers(&limit.path)?;
    LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate).build().map_err(failed)
}

/// The numbers of the block device at `path`.
fn numbers(path: &str) -> Result<(i64, i64)> {
    let metadata = std::fs::metadata(path)
        .map_err(|e| Error::from_io("look up block device", e).with("device", path))?;
    let device = metadata.rdev();
    let number = |n: u64| i64::try_from(n).map_err(|_| invalid("a device number is out of range"));
    Ok((
        number(((device >> 8) & 0xfff) | ((device >> 32) & !0xfff))?,
        number((device & 0xff) | ((device >> 12) & !0xff))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(change: impl FnOnce(&mut Resources)) -> Result<LinuxResources> {
        let mut wish = Resources::default();
        change(&mut wish);
        linux_resources(&wish, Vec::new())
    }

    #[test]
    fn without_wishes_only_processes_are_limited() {
        let made = resources(|_| {}).unwrap();
        assert_eq!(made.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit), Some(2048));
        assert!(made.memory().is_none());
    }

    #[test]
    fn memory_swaps_as_much_again_by_default() {
        let made = resources(|w| w.memory = Some(64 << 20)).unwrap();
        assert_eq!(made.memory().as_ref().and_then(LinuxMemory::swap), Some(128 << 20));
    }

    #[test]
    fn impossible_limits_are_refused() {
        assert!(resources(|w| w.memory = Some(1)).is_err());
        assert!(resources(|w| w.nano_cpus = Some(u64::MAX / 1_000_000)).is_err());
        assert!(resources(|w| w.cpuset_cpus = Some("3-1".to_owned())).is_err());
        assert!(resources(|w| w.cpuset_cpus = Some("x".to_owned())).is_err());
        assert!(resources(|w| w.blkio_weight = Some(5)).is_err());
        assert!(resources(|w| w.memory_swap = Some(1 << 30)).is_err());
        assert!(resources(|w| (w.memory, w.memory_swap) = (Some(64 << 20), Some(1 << 20))).is_err());
    }
}
