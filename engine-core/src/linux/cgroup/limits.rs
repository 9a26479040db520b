//! Limits from a runtime spec into the files of each controller, but for memory and devices.
//!
//! cgroups-rs writes where it and the kernel agree; conversions from v1's scales to v2's are ours, and so is what depends
//! on the I/O scheduler. Invariant: a limit that was asked for and cannot be set is an error, but for the number of
//! processes (which everybody is given) and I/O weights (which few kernels have): those are logged.

use std::path::{Path, PathBuf};

use cgroups_rs::MaxValue;
use cgroups_rs::blkio::BlkIoController;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::hugetlb::HugeTlbController;
use cgroups_rs::pid::PidController;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxResources, LinuxThrottleDevice};

use super::{Cgroup, Group, files, memory};
use crate::error::{Error, ErrorKind, Result};

/// Sets every limit that is given.
pub(super) fn apply(cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    if let Some(limits) = resources.memory() {
        memory::apply(cgroup, limits)?;
    }
    if let Some(limits) = resources.cpu() {
        cpu(cgroup, limits)?;
    }
    if let Some(pids) = resources.pids() {
        processes(cgroup, pids.limit())?;
    }
    if let Some(limits) = resources.block_io() {
        block_io(cgroup, limits)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        if !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(invalid("hugepage size", size));
        }
        let file = ["limit_in_bytes", "max"].map(|last| format!("hugetlb.{size}.{last}"));
        let group = require(cgroup, "hugetlb", [&file[0], &file[1]])?;
        // -1 is no limit; what is larger than all memory is the same.
        let bytes = u64::try_from(limit.limit()).unwrap_or(i64::MAX as u64);
        HugeTlbController::new(group.dir.clone(), group.mount.unified)
            .set_limit_in_bytes(size, bytes)
            .map_err(|error| files::foreign(&group.dir, error))?;
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            let group = require(cgroup, "net_cls", ["net_cls.classid"; 2])?;
            files::write(&group.dir, "net_cls.classid", &class.to_string())?;
        }
        for priority in network.priorities().iter().flatten() {
            let group = require(cgroup, "net_prio", ["net_prio.ifpriomap"; 2])?;
            let value = format!("{} {}", priority.name(), priority.priority());
            files::write(&group.dir, "net_prio.ifpriomap", &value)?;
        }
    }
    if resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        return Err(unsupported("rdma"));
    }
    unified(cgroup, resources)
}

/// Values for files of v2 by name.
fn unified(cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    for (file, value) in resources.unified().iter().flatten() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        // `cgroup.procs` and its like move processes: they are not limits.
        if !file.bytes().all(plain) || !file.contains('.') || file.starts_with("cgroup.") {
            return Err(invalid("cgroup file", file));
        }
        let dir = cgroup.unified_dir().ok_or_else(|| unsupported("unified"))?;
        files::write(dir, file, value)?;
    }
    Ok(())
}

/// The group whose hierarchy has `controller`, switched on: it shows the file (of v1, of v2).
pub(super) fn require<'a>(cgroup: &'a Cgroup, controller: &str, file: [&str; 2]) -> Result<&'a Group> {
    let group = cgroup.with(controller).ok_or_else(|| unsupported(controller))?;
    let file = file[usize::from(group.mount.unified)];
    if group.dir.join(file).exists() {
        return Ok(group);
    }
    let error = unsupported(controller).with("file", file);
    match withheld(group, controller) {
        Some((dir, busy)) => Err(explain_withheld(error, &dir, busy)),
        None => Err(error),
    }
}

/// The group above that has a controller of v2 and does not let those beneath it use it, and whether it has processes of
/// its own, which is why the kernel does not let it (cgroups(7), "no internal processes").
fn withheld(group: &Group, controller: &str) -> Option<(PathBuf, bool)> {
    let name = if controller == "blkio" { "io" } else { controller };
    let lists = |dir: &Path, file| {
        files::read(dir, file)
            .ok()
            .flatten()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .any(|one| one == name)
    };
    let above = group.dir.ancestors().skip(1).take_while(|dir| dir.starts_with(&group.mount.point));
    let dir = group.mount.unified.then_some(above)?.find(|dir| lists(dir, "cgroup.controllers"))?;
    // The root may have both.
    let busy = dir != group.mount.point
        && files::read(dir, "cgroup.procs").ok().flatten().is_some_and(|pids| !pids.is_empty());
    (!lists(dir, "cgroup.subtree_control")).then(|| (dir.to_owned(), busy))
}

fn explain_withheld(error: Error, dir: &Path, busy: bool) -> Error {
    let error = error.with("cgroup", dir.display());
    if busy {
        error
            .with_message("this group has the controller and processes of its own, so no group beneath it can have it")
            .with_hint("move its processes into a group beneath it (DelegateSubgroup= of systemd), or choose another group")
    } else {
        error
            .with_message("this group has the controller, and does not let groups beneath it have it")
            .with_hint("write the controller's name with a + into its cgroup.subtree_control")
    }
}

pub(super) fn unsupported(controller: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "set cgroup limit")
        .with("controller", controller)
        .with_message("this host does not have this cgroup controller, or did not give it to us")
}

pub(super) fn invalid(what: &'static str, value: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "set cgroup limit").with(what, value)
}

fn cpu(cgroup: &Cgroup, limits: &LinuxCpu) -> Result<()> {
    if let Some(shares) = limits.shares().filter(|shares| *shares > 0) {
        let group = require(cgroup, "cpu", ["cpu.shares", "cpu.weight"])?;
        let value = if group.mount.unified { weight_of_shares(shares) } else { shares };
        controller(group).set_shares(value).map_err(|error| files::foreign(&group.dir, error))?;
    }
    let (quota, period) = (limits.quota().filter(|q| *q != 0), limits.period().filter(|p| *p > 0));
    if quota.is_some() || period.is_some() {
        let group = require(cgroup, "cpu", ["cpu.cfs_quota_us", "cpu.max"])?;
        let cpu = controller(group);
        let set = || -> cgroups_rs::error::Result<()> {
            if group.mount.unified {
                return cpu.set_cfs_quota_and_period(quota, period);
            }
            // Either order can be the one that passes through a ratio the parent forbids: the other is tried then.
            if let Some(period) = period
                && cpu.set_cfs_period(period).is_err()
            {
                quota.map_or(Ok(()), |quota| cpu.set_cfs_quota(quota))?;
                return cpu.set_cfs_period(period);
            }
            quota.map_or(Ok(()), |quota| cpu.set_cfs_quota(quota))
        };
        set().map_err(|error| files::foreign(&group.dir, error))?;
    }
    if let Some(burst) = limits.burst() {
        let group = require(cgroup, "cpu", ["cpu.cfs_burst_us", "cpu.max.burst"])?;
        let file = if group.mount.unified { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
        files::write(&group.dir, file, &burst.to_string())?;
    }
    if let Some(idle) = limits.idle() {
        let group = require(cgroup, "cpu", ["cpu.idle"; 2])?;
        files::write(&group.dir, "cpu.idle", &idle.to_string())?;
    }
    let real_time = [
        ("cpu.rt_period_us", limits.realtime_period().map(|value| value.to_string())),
        ("cpu.rt_runtime_us", limits.realtime_runtime().map(|value| value.to_string())),
    ];
    for (file, value) in real_time {
        if let Some(value) = value.filter(|value| value != "0") {
            let group = require(cgroup, "cpu", [file; 2])?;
            files::write(&group.dir, file, &value)?;
        }
    }
    let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let (cpus, mems) = (text(limits.cpus()), text(limits.mems()));
    if cpus.is_some() || mems.is_some() {
        let group = require(cgroup, "cpuset", ["cpuset.cpus"; 2])?;
        let cpuset = CpuSetController::new(group.dir.clone(), group.mount.unified);
        let failed = |error| files::foreign(&group.dir, error);
        cpus.map_or(Ok(()), |cpus| cpuset.set_cpus(&cpus)).map_err(failed)?;
        mems.map_or(Ok(()), |mems| cpuset.set_mems(&mems)).map_err(failed)?;
    }
    Ok(())
}

fn controller(group: &Group) -> CpuController {
    CpuController::new(group.dir.clone(), group.mount.unified)
}

/// v1's shares (2 to 262,144, usually 1,024) as v2's weight (1 to 10,000, usually 100): the curve that runc 1.4 and
/// crun 1.23 use, which maps both ends and both usual values onto each other.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144) as f64;
    let l = shares.log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    // Powers such as 10^2 come out a hair above.
    (10f64.powf(exponent) - 1e-9).ceil() as u64
}

/// A weight of 10 to 1,000 as one of `io.weight`, which goes from 1 to 10,000.
pub(super) fn io_weight(weight: u16) -> u32 {
    1 + (u32::from(weight).saturating_sub(10)) * 9999 / 990
}

fn processes(cgroup: &Cgroup, limit: i64) -> Result<()> {
    let value = if limit > 0 { MaxValue::Value(limit) } else { MaxValue::Max };
    match require(cgroup, "pids", ["pids.max"; 2]) {
        Ok(group) => PidController::new(group.dir.clone(), group.mount.unified)
            .set_pid_max(value)
            .map_err(|error| files::foreign(&group.dir, error)),
        Err(_) => {
            tracing::warn!(limit, "the number of processes is not limited: no pids controller");
            Ok(())
        }
    }
}

fn block_io(cgroup: &Cgroup, limits: &LinuxBlockIo) -> Result<()> {
    if let Some(weight) = limits.weight().filter(|weight| *weight > 0) {
        let group = cgroup.with("blkio").ok_or_else(|| unsupported("blkio"))?;
        let set = if group.mount.unified {
            files::write_first(&group.dir, &["io.bfq.weight"], &weight.to_string())?
                || files::write_first(&group.dir, &["io.weight"], &io_weight(weight).to_string())?
        } else {
            files::write_first(&group.dir, &["blkio.weight", "blkio.bfq.weight"], &weight.to_string())?
        };
        if !set {
            tracing::warn!(weight, "the I/O weight has no effect: no scheduler of this kernel has weights");
        }
    }
    for device in limits.weight_device().iter().flatten() {
        if let (Some(weight), Some(group)) = (device.weight(), cgroup.with("blkio")) {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            let names: &[&str] = if group.mount.unified {
                &["io.bfq.weight"]
            } else {
                &["blkio.weight_device", "blkio.bfq.weight_device"]
            };
            if !files::write_first(&group.dir, names, &value)? {
                tracing::warn!(value, "the I/O weight of a device has no effect on this kernel");
            }
        }
    }
    type Throttle = fn(&BlkIoController, u64, u64, u64) -> cgroups_rs::error::Result<()>;
    let limits: [(&Option<Vec<LinuxThrottleDevice>>, &str, Throttle); 4] = [
        (
            limits.throttle_read_bps_device(),
            "blkio.throttle.read_bps_device",
            BlkIoController::throttle_read_bps_for_device,
        ),
        (
            limits.throttle_write_bps_device(),
            "blkio.throttle.write_bps_device",
            BlkIoController::throttle_write_bps_for_device,
        ),
        (
            limits.throttle_read_iops_device(),
            "blkio.throttle.read_iops_device",
            BlkIoController::throttle_read_iops_for_device,
        ),
        (
            limits.throttle_write_iops_device(),
            "blkio.throttle.write_iops_device",
            BlkIoController::throttle_write_iops_for_device,
        ),
    ];
    for (devices, file, set) in limits {
        for device in devices.iter().flatten() {
            let group = require(cgroup, "blkio", [file, "io.max"])?;
            throttle(&group.dir, group.mount.unified, device, set)?;
        }
    }
    Ok(())
}

fn throttle(
    dir: &Path,
    unified: bool,
    device: &LinuxThrottleDevice,
    set: fn(&BlkIoController, u64, u64, u64) -> cgroups_rs::error::Result<()>,
) -> Result<()> {
    let number = |value: i64| u64::try_from(value).map_err(|_| invalid("device number", &value.to_string()));
    let (major, minor) = (number(device.major())?, number(device.minor())?);
    // Zero is "no limit" in v1's files; in v2 that has a word of its own, which cgroups-rs cannot write.
    let rate = if unified && device.rate() == 0 { u64::MAX } else { device.rate() };
    set(&BlkIoController::new(dir.to_owned(), unified), major, minor, rate)
        .map_err(|error| files::foreign(dir, error).with("device", format!("{major}:{minor}")))
}
