//! A container's scope, where systemd makes the groups: its name, its place, and its limits as systemd's properties.
//!
//! The scope is systemd's, and what is beneath it the engine's (`Delegate=yes`): `container`, where the limits are in force,
//! and `shim`, which keeps the scope alive between two runs, and with its end lets systemd take the scope away. So the
//! scope's own limits are only there to be seen, and for whoever counts on systemd's: the shim fits in beside the container.
//!
//! Sources: systemd's "Control Group APIs and Delegation"; runc's and crun's mapping; systemd.resource-control(5).

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::limits::{invalid, io_weight, weight_of_shares};
use crate::error::Result;
use crate::linux::systemd::Value;

/// The container's group beneath its scope.
pub(in crate::linux) const CONTAINER: &str = "container";
/// The shim's group beneath the scope.
pub(in crate::linux) const SHIM: &str = "shim";

/// What the shim and its helpers may need beside the container: memory, and processes.
const SHIM_MEMORY: u64 = 16 << 20;
const SHIM_TASKS: u64 = 64;

/// CPU time is limited by whole percents in systemd, and by a period of 100 ms unless another is named.
const PERCENT: u64 = 10_000;
const USUAL_PERIOD: u64 = 100_000;

/// A unit that this crate made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::linux) struct Scope {
    /// The unit's name.
    pub(in crate::linux) unit: String,
    /// Its group, as a path in the hierarchy.
    pub(in crate::linux) path: PathBuf,
}

impl Scope {
    /// The scope of a container: `slice` is the path of its slice's group.
    pub(in crate::linux) fn new(slice: &Path, owner: &str, id: &str) -> Self {
        let unit = format!("engine-{owner}-{id}.scope");
        Self { path: slice.join(&unit), unit }
    }

    /// The scope that has the container's group `path`; `None` for a group that the engine made itself.
    pub(in crate::linux) fn of(path: &Path) -> Option<Self> {
        let path = path.parent().filter(|_| path.file_name().is_some_and(|name| name == CONTAINER))?;
        let unit = path.file_name()?.to_str()?.to_owned();
        let ours = unit.starts_with("engine-") && unit.ends_with(".scope");
        ours.then(|| Self { unit, path: path.to_owned() })
    }

    /// The container's group.
    pub(in crate::linux) fn container(&self) -> PathBuf {
        self.path.join(CONTAINER)
    }
}

/// What every scope has beside its limits.
pub(in crate::linux) fn properties(id: &str, slice: &str) -> Vec<(&'static str, Value)> {
    let yes = Value::Bool(true);
    vec![
        ("Description", Value::Text(format!("container {id}"))),
        ("Slice", Value::Text(slice.to_owned())),
        ("Delegate", yes.clone()),
        // No order against other units: neither does it wait for any, nor goes it with `shutdown.target`'s conflicts alone.
        ("DefaultDependencies", Value::Bool(false)),
        // One that failed is not kept either.
        ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ("CPUAccounting", yes.clone()),
        ("MemoryAccounting", yes.clone()),
        ("IOAccounting", yes.clone()),
        ("TasksAccounting", yes),
    ]
}

/// The limits that are given, as properties. `memory_now` is the limit of memory in force, for a change that names swap
/// alone.
pub(in crate::linux) fn limits(
    resources: &LinuxResources,
    memory_now: Option<u64>,
) -> Result<Vec<(&'static str, Value)>> {
    let mut found = Vec::new();
    let mut set = |name, value| found.push((name, Value::Number(value)));
    // -1 is no limit, which systemd writes as the largest number; 0 is "not given".
    let bytes = |value: Option<i64>| value.filter(|v| *v != 0).map(|v| u64::try_from(v).unwrap_or(u64::MAX));
    let beside = |bytes: u64| bytes.saturating_add(SHIM_MEMORY);
    if let Some(memory) = resources.memory() {
        let limit = bytes(memory.limit());
        if let Some(limit) = limit {
            set("MemoryMax", beside(limit));
        }
        if let Some(reserved) = bytes(memory.reservation()) {
            set("MemoryLow", if reserved == u64::MAX { 0 } else { reserved });
        }
        if let Some(swap) = bytes(memory.swap()) {
            let memory = limit.or(memory_now).unwrap_or(0);
            set("MemorySwapMax", if swap == u64::MAX { swap } else { swap.saturating_sub(memory) });
        }
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
            set("CPUWeight", weight_of_shares(shares));
        }
        let period = cpu.period().filter(|period| *period > 0);
        if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
            let period = period.unwrap_or(USUAL_PERIOD);
            set(
                "CPUQuotaPerSecUSec",
                match u64::try_from(quota) {
                    Ok(quota) => per_second(quota, period),
                    Err(_) => u64::MAX,
                },
            );
        }
        if let Some(period) = period {
            set("CPUQuotaPeriodUSec", period);
        }
    }
    if let Some(pids) = resources.pids() {
        set(
            "TasksMax",
            u64::try_from(pids.limit()).ok().filter(|n| *n > 0).map_or(u64::MAX, |n| n + SHIM_TASKS),
        );
    }
    if let Some(weight) =
        resources.block_io().as_ref().and_then(|io| io.weight()).filter(|weight| *weight > 0)
    {
        set("IOWeight", u64::from(io_weight(weight)));
    }
    for (file, value) in resources.unified().iter().flatten() {
        let number = || match value.trim() {
            "max" => Some(u64::MAX),
            text => text.parse::<u64>().ok(),
        };
        // Others are files of the container's group alone, which refuses what makes no sense.
        let known = match file.as_str() {
            "memory.max" => number().map(|n| ("MemoryMax", beside(n))),
            "memory.high" => number().map(|n| ("MemoryHigh", beside(n))),
            "memory.low" => number().map(|n| ("MemoryLow", n)),
            "memory.min" => number().map(|n| ("MemoryMin", n)),
            "memory.swap.max" => number().map(|n| ("MemorySwapMax", n)),
            "pids.max" => number().map(|n| ("TasksMax", n.saturating_add(SHIM_TASKS))),
            "cpu.weight" => number().map(|n| ("CPUWeight", n)),
            _ => None,
        };
        if let Some((name, value)) = known {
            set(name, value);
        }
    }
    if let Some(cpu) = resources.cpu() {
        for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                let bits = bits(list).ok_or_else(|| invalid("list", list))?;
                found.push((name, Value::Bytes(bits)));
            }
        }
    }
    Ok(found)
}

/// A quota as microseconds in each second, a whole percent, and never less than what the container's own group has.
fn per_second(quota: u64, period: u64) -> u64 {
    let exact = (u128::from(quota) * 1_000_000).div_ceil(u128::from(period));
    u64::try_from(exact).unwrap_or(u64::MAX - PERCENT).div_ceil(PERCENT).saturating_mul(PERCENT)
}

/// A list such as `0-2,5` as bits, the first in the first byte.
fn bits(list: &str) -> Option<Vec<u8>> {
    const MOST: usize = 8192;
    let mut bits = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        for bit in first..=last {
            if bits.len() <= bit / 8 {
                bits.resize(bit / 8 + 1, 0);
            }
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str, memory_now: Option<u64>) -> Vec<(&'static str, Value)> {
        limits(&serde_json::from_str(json).unwrap(), memory_now).unwrap()
    }

    fn number(found: &[(&str, Value)], name: &str) -> Option<u64> {
        found.iter().find_map(|(key, value)| match value {
            Value::Number(number) if *key == name => Some(*number),
            _ => None,
        })
    }

    #[test]
    fn a_scope_is_known_by_its_groups_path() {
        let scope = Scope::new(Path::new("/user.slice"), "0a1b", "cafe");
        assert_eq!(scope.container(), Path::new("/user.slice/engine-0a1b-cafe.scope/container"));
        assert_eq!(Scope::of(&scope.container()), Some(scope.clone()));
        for none in
            ["/engine/0a1b-cafe", "/a.scope/container", "/engine-a.scope", "/engine-a.scope/shim", "/", ""]
        {
            assert_eq!(Scope::of(Path::new(none)), None, "{none}");
        }
    }

    #[test]
    fn limits_are_those_of_runc_and_crun() {
        let found = of(
            r#"{"memory":{"limit":33554432,"swap":50331648,"reservation":1048576},
                "cpu":{"shares":1024,"quota":150000,"period":100000,"cpus":"0-2,9","mems":"0"},
                "pids":{"limit":10},"blockIO":{"weight":10},"unified":{"memory.high":"1048576","memory.min":"x"}}"#,
            None,
        );
        assert_eq!(number(&found, "MemoryMax"), Some((32 << 20) + SHIM_MEMORY));
        assert_eq!(number(&found, "MemorySwapMax"), Some(16 << 20));
        assert_eq!(number(&found, "MemoryLow"), Some(1 << 20));
        assert_eq!(number(&found, "MemoryHigh"), Some((1 << 20) + SHIM_MEMORY));
        assert_eq!(number(&found, "MemoryMin"), None);
        assert_eq!(number(&found, "CPUWeight"), Some(100));
        assert_eq!(number(&found, "CPUQuotaPerSecUSec"), Some(1_500_000));
        assert_eq!(number(&found, "CPUQuotaPeriodUSec"), Some(100_000));
        assert_eq!(number(&found, "TasksMax"), Some(10 + SHIM_TASKS));
        assert_eq!(number(&found, "IOWeight"), Some(1));
        assert!(found.contains(&("AllowedCPUs", Value::Bytes(vec![0b111, 0b10]))), "{found:?}");
        assert!(found.contains(&("AllowedMemoryNodes", Value::Bytes(vec![1]))), "{found:?}");
    }

    #[test]
    fn no_limit_is_the_largest_number_and_what_is_not_given_is_left() {
        assert_eq!(of("{}", None), []);
        assert_eq!(of(r#"{"memory":{"limit":0},"cpu":{"quota":0,"period":0,"cpus":""}}"#, None), []);
        let found = of(
            r#"{"memory":{"limit":-1,"swap":-1,"reservation":-1},"cpu":{"quota":-1},"pids":{"limit":-1}}"#,
            None,
        );
        for name in ["MemoryMax", "MemorySwapMax", "CPUQuotaPerSecUSec", "TasksMax"] {
            assert_eq!(number(&found, name), Some(u64::MAX), "{name}");
        }
        assert_eq!(number(&found, "MemoryLow"), Some(0));
        // Swap alone: the sum less the limit that is in force.
        assert_eq!(of(r#"{"memory":{"swap":300}}"#, Some(100)), [("MemorySwapMax", Value::Number(200))]);
    }

    #[test]
    fn quotas_are_rounded_up_to_percents() {
        assert_eq!(per_second(1, 100_000), PERCENT);
        assert_eq!(per_second(50_500, 100_000), 510_000);
        assert_eq!(per_second(20_000, 50_000), 400_000);
        assert!(per_second(u64::MAX, 1) >= u64::MAX - PERCENT);
    }

    #[test]
    fn lists_become_bits() {
        assert_eq!(bits("0"), Some(vec![1]));
        assert_eq!(bits("7-8\n"), Some(vec![0x80, 1]));
        for wrong in ["", ",", "2-1", "x", "1-", "9000", "0-99999999999"] {
            assert_eq!(bits(wrong), None, "{wrong}");
        }
        assert!(limits(&serde_json::from_str(r#"{"cpu":{"cpus":"2-1"}}"#).unwrap(), None).is_err());
    }
}
