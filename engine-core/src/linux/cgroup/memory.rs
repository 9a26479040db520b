//! Memory limits. v1 counts memory and swap together, as the runtime spec and Docker do; v2 counts swap alone.
//!
//! Invariant: limits are written in the order in which the kernel takes them, whichever way they change.

use cgroups_rs::memory::MemController;
use oci_spec::runtime::LinuxMemory;

use super::limits::{invalid, require};
use super::{Cgroup, Group, files};
use crate::error::{Error, ErrorKind, Result};

const V1_SWAP: &str = "memory.memsw.limit_in_bytes";
const V2_SWAP: &str = "memory.swap.max";

/// Sets what is given. Zero is "not given", -1 is "no limit".
pub(super) fn apply(cgroup: &Cgroup, limits: &LinuxMemory) -> Result<()> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0).map(|value| value.max(-1));
    let (limit, swap) = (given(limits.limit()), given(limits.swap()));
    let reservation = given(limits.reservation());
    if limit.is_none() && swap.is_none() && reservation.is_none() {
        return rest(cgroup, limits);
    }
    if let (Some(limit), Some(swap)) = (limit, swap)
        && swap != -1
        && (limit == -1 || swap < limit)
    {
        return Err(invalid("memory and swap together", &swap.to_string())
            .with("memory", limit)
            .with_message("the limit of both must not be less than that of memory alone"));
    }
    let group = require(cgroup, "memory", ["memory.limit_in_bytes", "memory.max"])?;
    let swap = swap.filter(|swap| {
        let file = if group.mount.unified { V2_SWAP } else { V1_SWAP };
        let counted = group.dir.join(file).exists();
        if !counted {
            tracing::warn!(swap, "swap is not limited: this kernel does not account it");
        }
        counted
    });
    if group.mount.unified {
        set_v2(group, limit, swap, limits.check_before_update() == Some(true))?;
    } else {
        set_v1(group, limit, swap)?;
    }
    if let Some(reservation) = reservation {
        let value = if group.mount.unified { reservation.max(0) } else { reservation };
        controller(group).set_soft_limit(value).map_err(|error| files::foreign(&group.dir, error))?;
    }
    rest(cgroup, limits)
}

fn controller(group: &Group) -> MemController {
    MemController::new(group.dir.clone(), group.mount.unified)
}

/// `limit` must never exceed `swap` on the way: whichever grows is written first.
fn set_v1(group: &Group, limit: Option<i64>, swap: Option<i64>) -> Result<()> {
    let memory = controller(group);
    let set_limit = || limit.map_or(Ok(()), |limit| memory.set_limit(limit));
    let set_swap = || swap.map_or(Ok(()), |swap| memory.set_memswap_limit(swap));
    let grows = match swap {
        Some(-1) => true,
        Some(swap) => files::read_number(&group.dir, V1_SWAP)?
            .is_some_and(|now| now < u64::try_from(swap).unwrap_or(u64::MAX)),
        None => false,
    };
    let result =
        if grows { set_swap().and_then(|()| set_limit()) } else { set_limit().and_then(|()| set_swap()) };
    result.map_err(|error| explain(group, limit, files::foreign(&group.dir, error)))
}

fn set_v2(group: &Group, limit: Option<i64>, swap: Option<i64>, check: bool) -> Result<()> {
    if let (true, Some(limit)) = (check, limit.and_then(|limit| u64::try_from(limit).ok()))
        && files::read_number(&group.dir, "memory.current")?.is_some_and(|used| used > limit)
    {
        // v1 refuses by itself; v2 would kill.
        return Err(explain(
            group,
            i64::try_from(limit).ok(),
            Error::new(ErrorKind::Conflict, "set cgroup limit"),
        ));
    }
    if let Some(swap) = swap {
        let value = if swap == -1 {
            -1
        } else {
            // The limit that will be in force, and without one there is nothing to take from the sum.
            let memory = match limit {
                Some(limit) => Some(limit),
                None => files::read_number(&group.dir, "memory.max")?.and_then(|now| i64::try_from(now).ok()),
            };
            let memory = memory.filter(|memory| (0..=swap).contains(memory)).ok_or_else(|| {
                invalid("memory and swap together", &swap.to_string())
                    .with_message("it needs a limit of memory that is not larger")
            })?;
            swap - memory
        };
        controller(group).set_memswap_limit(value).map_err(|error| files::foreign(&group.dir, error))?;
    }
    limit
        .map_or(Ok(()), |limit| controller(group).set_limit(limit))
        .map_err(|error| explain(group, limit, files::foreign(&group.dir, error)))
}

/// Makes a sentence of `EBUSY`.
fn explain(group: &Group, limit: Option<i64>, error: Error) -> Error {
    if error.kind() != ErrorKind::Conflict {
        return error;
    }
    let file = if group.mount.unified { "memory.current" } else { "memory.usage_in_bytes" };
    let used = files::read_number(&group.dir, file).ok().flatten().unwrap_or(0);
    let limit = limit.unwrap_or(-1);
    error.with_message(format!(
        "the container uses {used} bytes of memory, more than the new limit of {limit}"
    ))
}

/// What only v1 has.
fn rest(cgroup: &Cgroup, limits: &LinuxMemory) -> Result<()> {
    let Some(group) = cgroup.with("memory").filter(|group| !group.mount.unified) else { return Ok(()) };
    if let Some(swappiness) = limits.swappiness() {
        if swappiness > 100 {
            return Err(invalid("swappiness", &swappiness.to_string()).with_message("it goes from 0 to 100"));
        }
        controller(group).set_swappiness(swappiness).map_err(|error| files::foreign(&group.dir, error))?;
    }
    if let Some(disable) = limits.disable_oom_killer() {
        files::write(&group.dir, "memory.oom_control", if disable { "1" } else { "0" })?;
    }
    Ok(())
}
