//! Limits: those of `HostConfig`, which an update may change.

use engine_core::container_spec::Ulimit;
use engine_core::resources::DeviceLimit;
use engine_core::{ContainerSpec, Resources};

use crate::models::{HostConfig, ThrottleDevice};
use crate::server::error::Result;

use super::{bad, text};

/// Reads the limits. Zero is none, and for the number of processes our default: clients send it for what nobody asked for.
pub(in crate::server::routes) fn resources(host: &HostConfig) -> Result<Resources> {
    let mut limits = Resources::default();
    limits.nano_cpus = unsigned("HostConfig.NanoCpus", host.nano_cpus)?;
    limits.cpu_shares = unsigned("HostConfig.CpuShares", host.cpu_shares)?;
    limits.cpu_period = unsigned("HostConfig.CpuPeriod", host.cpu_period)?;
    limits.cpu_quota = host.cpu_quota.filter(|quota| *quota != 0);
    limits.cpu_rt_period = unsigned("HostConfig.CpuRealtimePeriod", host.cpu_realtime_period)?;
    limits.cpu_rt_runtime = host.cpu_realtime_runtime.filter(|time| *time != 0);
    limits.cpuset_cpus = text(host.cpuset_cpus.as_ref());
    limits.cpuset_mems = text(host.cpuset_mems.as_ref());
    limits.memory = unsigned("HostConfig.Memory", host.memory)?;
    limits.memory_reservation = unsigned("HostConfig.MemoryReservation", host.memory_reservation)?;
    limits.memory_swap = host.memory_swap.filter(|bytes| *bytes != 0);
    if let Some(bytes) = limits.memory_swap.filter(|bytes| *bytes < -1) {
        return Err(bad("HostConfig.MemorySwap", format!("{bytes} is less than -1")));
    }
    // -1 is Docker's "the kernel's own".
    limits.memory_swappiness = match host.memory_swappiness {
        None | Some(-1) => None,
        Some(value) => {
            let value = u64::try_from(value).ok().filter(|value| *value <= 100);
            Some(value.ok_or_else(|| bad("HostConfig.MemorySwappiness", "it is not between 0 and 100"))?)
        }
    };
    limits.pids_limit = host.pids_limit.filter(|limit| *limit != 0).map(|limit| limit.max(-1));
    limits.blkio_weight = host.blkio_weight.filter(|weight| *weight != 0);
    limits.oom_kill_disable = host.oom_kill_disable.filter(|disable| *disable);
    limits.blkio_devices = devices(host)?;
    Ok(limits)
}

/// Writes the limits that stay as they are.
pub(in crate::server::routes) fn apply(spec: &mut ContainerSpec, host: &HostConfig) -> Result<()> {
    // An IPC namespace without /dev/shm has said so already.
    spec.shm_size = spec.shm_size.or(unsigned("HostConfig.ShmSize", host.shm_size)?);
    spec.oom_score_adj = match host.oom_score_adj.filter(|score| *score != 0) {
        None => None,
        Some(score) => {
            let narrow = i32::try_from(score).ok().filter(|score| (-1000..=1000).contains(score));
            Some(narrow.ok_or_else(|| {
                bad(
                    "HostConfig.OomScoreAdj",
                    format!("Invalid value {score}, range for oom score adj is [-1000, 1000]"),
                )
            })?)
        }
    };
    for limit in host.ulimits.iter().flatten() {
        let name = text(limit.name.as_ref()).ok_or_else(|| bad("HostConfig.Ulimits", "one has no name"))?;
        let (soft, hard) = (limit.soft.unwrap_or(0), limit.hard.unwrap_or(0));
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(bad(
                "HostConfig.Ulimits",
                format!(
                    "ulimit soft limit must be less than or equal to hard limit: {name}, {soft} > {hard}"
                ),
            ));
        }
        spec.ulimits.push(Ulimit { name, soft, hard });
    }
    Ok(())
}

/// Joins the limits of each block device.
fn devices(host: &HostConfig) -> Result<Vec<DeviceLimit>> {
    let mut devices: Vec<DeviceLimit> = Vec::new();
    let mut place = |path: Option<&String>, field: &str| {
        let path =
            text(path).filter(|path| path.starts_with('/')).ok_or_else(|| bad(field, "one has no path"))?;
        let at = devices.iter().position(|limit| limit.path == path).unwrap_or(devices.len());
        if at == devices.len() {
            devices.push(DeviceLimit::new(path));
        }
        Ok::<_, crate::server::error::ApiError>(at)
    };
    let mut found = Vec::new();
    type Slot = fn(&mut DeviceLimit) -> &mut u64;
    let kinds: [(&str, &Option<Vec<ThrottleDevice>>, Slot); 4] = [
        ("HostConfig.BlkioDeviceReadBps", &host.blkio_device_read_bps, |limit| &mut limit.read_bps),
        ("HostConfig.BlkioDeviceWriteBps", &host.blkio_device_write_bps, |limit| &mut limit.write_bps),
        ("HostConfig.BlkioDeviceReadIOps", &host.blkio_device_read_iops, |limit| &mut limit.read_iops),
        ("HostConfig.BlkioDeviceWriteIOps", &host.blkio_device_write_iops, |limit| &mut limit.write_iops),
    ];
    for (field, list, slot) in kinds {
        for device in list.iter().flatten() {
            let at = place(device.path.as_ref(), field)?;
            found.push((at, slot, unsigned(field, device.rate)?.unwrap_or(0)));
        }
    }
    let mut weights = Vec::new();
    for device in host.blkio_weight_device.iter().flatten() {
        const FIELD: &str = "HostConfig.BlkioWeightDevice";
        let at = place(device.path.as_ref(), FIELD)?;
        let weight = device.weight.unwrap_or(0);
        if !(10..=1000).contains(&weight) {
            return Err(bad(FIELD, format!("the weight {weight} is not between 10 and 1000")));
        }
        weights.push((at, u16::try_from(weight).unwrap_or(1000)));
    }
    for (at, slot, rate) in found {
        *slot(&mut devices[at]) = rate;
    }
    for (at, weight) in weights {
        devices[at].weight = weight;
    }
    Ok(devices)
}

fn unsigned(field: &str, value: Option<i64>) -> Result<Option<u64>> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) => match u64::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(bad(field, format!("{value} is less than 0"))),
        },
    }
}
