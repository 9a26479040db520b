//! What a process may use, and where and when it runs.

use super::arch::nr;
use super::call::sys;
use super::errno::Result;

pub(crate) fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    sys!(nr::PRLIMIT64, 0_usize, resource, limit.as_ptr(), 0_usize).map(drop)
}

/// The hard limit of a resource.
pub(crate) fn hard_limit(resource: u32) -> u64 {
    let mut limit = [0_u64; 2];
    let _ = sys!(nr::PRLIMIT64, 0_usize, resource, 0_usize, limit.as_mut_ptr());
    limit[1]
}

pub(crate) fn set_io_priority(priority: u32) -> Result<()> {
    // IOPRIO_WHO_PROCESS, this one.
    sys!(nr::IOPRIO_SET, 1_usize, 0_usize, priority).map(drop)
}

/// Sets the scheduler; `attributes` is a struct sched_attr.
pub(crate) fn set_scheduler(attributes: &[u8]) -> Result<()> {
    sys!(nr::SCHED_SETATTR, 0_usize, attributes.as_ptr(), 0_usize).map(drop)
}

pub(crate) fn set_affinity(mask: &[u8]) -> Result<()> {
    sys!(nr::SCHED_SETAFFINITY, 0_usize, mask.len(), mask.as_ptr()).map(drop)
}

pub(crate) fn set_memory_policy(mode: u32, nodes: &[u8]) -> Result<()> {
    // The kernel counts one bit less than it is told, and takes a number of bits (set_mempolicy(2)).
    let empty = nodes.iter().all(|byte| *byte == 0);
    let (mask, bits) = if empty { (0, 0) } else { (nodes.as_ptr() as usize, nodes.len() * 8 + 1) };
    sys!(nr::SET_MEMPOLICY, mode, mask, bits).map(drop)
}

pub(crate) fn set_personality(persona: u32) -> Result<()> {
    sys!(nr::PERSONALITY, persona).map(drop)
}
