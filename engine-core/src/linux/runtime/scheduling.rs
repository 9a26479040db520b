//! What the kernel schedules and places a process by: I/O priority, scheduler, memory policy, personality, CPUs of execs.
//!
//! Words of the runtime spec become the numbers of the system calls; the shim only makes the calls. What the kernel of
//! the moment refuses is refused at the start.

use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};

use super::translate::invalid;
use crate::error::{Error, ErrorKind, Result};
use crate::launch::LaunchSpec;
use crate::linux::plan::ProcessPlan;

/// More CPUs or memory nodes than any kernel has (CONFIG_NR_CPUS is at most 8,192).
const MOST: u32 = 8192;

/// Fills the plan with what the spec asks.
pub(super) fn apply(launch: &LaunchSpec, process: &Process, plan: &mut ProcessPlan) -> Result<()> {
    if let Some(wish) = process.io_priority() {
        let class = match wish.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u32::try_from(wish.priority()).ok().filter(|level| *level < 8);
        let level = level.ok_or_else(|| {
            invalid("an I/O priority is 0 to 7 (ioprio_set(2))").with("priority", wish.priority())
        })?;
        plan.io_priority = Some((class << 13) | level);
    }
    plan.scheduler = process.scheduler().as_ref().map(scheduler).transpose()?;
    if let Some(wish) = process.exec_cpu_affinity() {
        for (when, list) in [(0, wish.initial()), (1, wish.cpu_affinity_final())] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                plan.exec_affinity.push((when, mask(list)?));
            }
        }
    }
    launch.oci.linux().as_ref().map_or(Ok(()), |linux| of_linux(linux, plan))
}

fn of_linux(linux: &Linux, plan: &mut ProcessPlan) -> Result<()> {
    if let Some(wish) = linux.personality() {
        if wish.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
            return Err(invalid("a personality has no flags that the runtime spec names"));
        }
        plan.personality = Some(match wish.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        });
    }
    if let Some(wish) = linux.memory_policy() {
        // The numbers of linux/mempolicy.h.
        let mut mode = match wish.mode() {
            MemoryPolicyModeType::MpolDefault => 0,
            MemoryPolicyModeType::MpolPreferred => 1,
            MemoryPolicyModeType::MpolBind => 2,
            MemoryPolicyModeType::MpolInterleave => 3,
            MemoryPolicyModeType::MpolLocal => 4,
            MemoryPolicyModeType::MpolPreferredMany => 5,
            MemoryPolicyModeType::MpolWeightedInterleave => 6,
        };
        for flag in wish.flags().iter().flatten() {
            mode |= match flag {
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            };
        }
        let nodes = match wish.nodes().as_deref().filter(|nodes| !nodes.is_empty()) {
            Some(nodes) => mask(nodes)?,
            None => vec![0; 8],
        };
        plan.memory_policy = Some((mode, nodes));
    }
    Ok(())
}

/// A struct sched_attr of the first size (sched_setattr(2)).
fn scheduler(wish: &Scheduler) -> Result<Vec<u8>> {
    let policy: u32 = match wish.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(Error::new(ErrorKind::Unsupported, "prepare container")
                .with_message("Linux has no scheduling policy SCHED_ISO"));
        }
    };
    let mut flags = 0_u64;
    for flag in wish.flags().iter().flatten() {
        flags |= match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 1,
            LinuxSchedulerFlag::SchedFlagReclaim => 2,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 4,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 8,
            LinuxSchedulerFlag::SchedFlagKeepParams => 16,
            // Their values have no place in the runtime spec.
            LinuxSchedulerFlag::SchedFlagUtilClampMin | LinuxSchedulerFlag::SchedFlagUtilClampMax => {
                return Err(invalid("utilization clamps of a scheduler cannot be given values"));
            }
        };
    }
    let nice = wish.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(invalid("a nice value is -20 to 19").with("nice", nice));
    }
    let priority = wish.priority().unwrap_or(0);
    let priority = u32::try_from(priority).ok().filter(|priority| *priority < 100);
    let priority = priority.ok_or_else(|| invalid("a scheduling priority is 0 to 99"))?;
    let mut attributes = Vec::with_capacity(48);
    attributes.extend(48_u32.to_ne_bytes());
    attributes.extend(policy.to_ne_bytes());
    attributes.extend(flags.to_ne_bytes());
    attributes.extend(nice.to_ne_bytes());
    attributes.extend(priority.to_ne_bytes());
    for time in [wish.runtime(), wish.deadline(), wish.period()] {
        attributes.extend(time.unwrap_or(0).to_ne_bytes());
    }
    Ok(attributes)
}

/// The bits of a list such as `0-2,7`, in whole words.
fn mask(list: &str) -> Result<Vec<u8>> {
    let wrong = || invalid("a list of CPUs or nodes looks like 0-2,7").with("list", list);
    let mut bits = vec![0_u64];
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n < MOST);
        let (Some(first), Some(last)) = (number(first), number(last)) else { return Err(wrong()) };
        if first > last {
            return Err(wrong());
        }
        for bit in first..=last {
            let word = (bit / 64) as usize;
            bits.resize(bits.len().max(word + 1), 0);
            bits[word] |= 1 << (bit % 64);
        }
    }
    Ok(bits.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::SchedulerBuilder;

    use super::*;

    #[test]
    fn lists_become_masks() {
        assert_eq!(mask("0-2,7").unwrap(), 0b1000_0111_u64.to_ne_bytes());
        assert_eq!(mask("64").unwrap().len(), 16);
        for bad in ["", "a", "3-1", "9000", "1,,2", "-1"] {
            assert!(mask(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn schedulers_are_checked() {
        let wish =
            SchedulerBuilder::default().policy(LinuxSchedulerPolicy::SchedBatch).nice(5).build().unwrap();
        let attributes = scheduler(&wish).unwrap();
        assert_eq!((attributes.len(), attributes[4], attributes[16]), (48, 3, 5));
        let wish =
            SchedulerBuilder::default().policy(LinuxSchedulerPolicy::SchedOther).nice(20).build().unwrap();
        assert!(scheduler(&wish).is_err());
    }
}
