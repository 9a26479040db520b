//! Pausing and limits: what a container's control group does while it runs.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
};

use super::container::not_running;
use super::{Inner, blocking};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::linux::cgroup::Cgroup;
use crate::linux::shim::StateStatus;
use crate::resources::{DeviceLimit, Resources};

/// The period a number of CPUs is spread over, in microseconds.
const CPU_PERIOD: u64 = 100_000;

impl Inner {
    /// Does something with a container's group, beside the async workers.
    pub(super) async fn with_group<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        id: &ContainerId,
        work: impl FnOnce(&Cgroup) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (inner, id) = (Arc::clone(self), id.clone());
        blocking(move || {
            let state = inner.state_file(operation, &id)?;
            if !state.is_alive() {
                return Err(not_running(operation, &id));
            }
            let group = inner.cgroups.group(&state.cgroup).ok_or_else(|| {
                Error::new(ErrorKind::Unsupported, operation)
                    .with("container", &id)
                    .with_message("this host has no control groups")
            })?;
            work(&group)
        })
        .await
    }

    pub(super) async fn freeze(self: &Arc<Self>, id: &ContainerId, frozen: bool) -> Result<()> {
        let operation = if frozen { "pause container" } else { "resume container" };
        // What is frozen before its start could not be started.
        if self.state_file(operation, id)?.status != StateStatus::Running {
            return Err(not_running(operation, id));
        }
        self.with_group(operation, id, move |group| if frozen { group.freeze() } else { group.thaw() }).await
    }

    pub(super) async fn update(self: &Arc<Self>, id: &ContainerId, resources: &Resources) -> Result<()> {
        let wanted = limits(resources)?;
        let inner = Arc::clone(self);
        self.with_group("update container", id, move |group| {
            inner.cgroups.can_follow(group)?;
            group.update(&wanted)?;
            inner.cgroups.follow(group, &wanted)
        })
        .await
    }
}

fn invalid(error: oci_spec::OciSpecError) -> Error {
    Error::new(ErrorKind::InvalidArgument, "update container").with_source(error)
}

/// The limits that `wish` names, and no others.
fn limits(wish: &Resources) -> Result<LinuxResources> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(nano_cpus) = wish.nano_cpus {
        cpu = cpu.period(CPU_PERIOD).quota(signed(nano_cpus * (CPU_PERIOD / 1000) / 1_000_000));
    }
    if let Some(period) = wish.cpu_period {
        cpu = cpu.period(period);
    }
    if let Some(quota) = wish.cpu_quota {
        cpu = cpu.quota(quota);
    }
    if let Some(shares) = wish.cpu_shares {
        cpu = cpu.shares(shares.clamp(2, 262_144));
    }
    if let Some(period) = wish.cpu_rt_period {
        cpu = cpu.realtime_period(period);
    }
    if let Some(runtime) = wish.cpu_rt_runtime {
        cpu = cpu.realtime_runtime(runtime);
    }
    if let Some(cpus) = &wish.cpuset_cpus {
        cpu = cpu.cpus(cpus.clone());
    }
    if let Some(mems) = &wish.cpuset_mems {
        cpu = cpu.mems(mems.clone());
    }
    let mut made = LinuxResourcesBuilder::default().cpu(cpu.build().map_err(invalid)?);
    let mut memory = LinuxMemoryBuilder::default();
    if let Some(limit) = wish.memory.filter(|limit| *limit > 0) {
        memory = memory.limit(signed(limit)).swap(match wish.memory_swap {
            None | Some(0) => signed(limit.saturating_mul(2)),
            Some(total) => total,
        });
    } else if let Some(total) = wish.memory_swap.filter(|total| *total != 0) {
        memory = memory.swap(total);
    }
    if let Some(reservation) = wish.memory_reservation {
        memory = memory.reservation(signed(reservation));
    }
    if let Some(swappiness) = wish.memory_swappiness {
        memory = memory.swappiness(swappiness);
    }
    if (wish.memory, wish.memory_swap, wish.memory_reservation, wish.memory_swappiness)
        != (None, None, None, None)
    {
        made = made.memory(memory.build().map_err(invalid)?);
    }
    if let Some(limit) = wish.pids_limit {
        made = made.pids(LinuxPidsBuilder::default().limit(limit).build().map_err(invalid)?);
    }
    if wish.blkio_weight.is_some() || !wish.blkio_devices.is_empty() {
        let pick = |rate: fn(&DeviceLimit) -> u64| -> Result<Vec<LinuxThrottleDevice>> {
            wish.blkio_devices
                .iter()
                .filter(|limit| rate(limit) > 0)
                .map(|limit| throttle(limit, rate(limit)))
                .collect()
        };
        let mut block_io = LinuxBlockIoBuilder::default()
            .throttle_read_bps_device(pick(|limit| limit.read_bps)?)
            .throttle_write_bps_device(pick(|limit| limit.write_bps)?)
            .throttle_read_iops_device(pick(|limit| limit.read_iops)?)
            .throttle_write_iops_device(pick(|limit| limit.write_iops)?);
        if let Some(weight) = wish.blkio_weight {
            block_io = block_io.weight(weight);
        }
        made = made.block_io(block_io.build().map_err(invalid)?);
    }
    if !wish.unified.is_empty() {
        made = made.unified(wish.unified.clone().into_iter().collect::<std::collections::HashMap<_, _>>());
    }
    made.build().map_err(invalid)
}

fn throttle(limit: &DeviceLimit, rate: u64) -> Result<LinuxThrottleDevice> {
    let failed = |error| Error::from_io("update container", error).with("device", &limit.path);
    let device = std::fs::metadata(&limit.path).map_err(failed)?.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate).build().map_err(invalid)
}
