//! What a container gets when it asks for nothing, as data (SECURITY section 2).
//!
//! Capabilities and the seccomp profile stand in modules of their own; `sysctl` holds the allow-list.
//! Invariant: each list is the stricter of Docker's and Podman's, or the union of what both hide.

/// Paths that a container must not read: files read empty, directories list empty. Those that a kernel lacks are skipped.
pub const MASKED_PATHS: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Masked too in every directory `cpu0`, `cpu1`, … under this one: one directory for each processor of the host.
pub const MASKED_PER_CPU: (&str, &str) = ("/sys/devices/system/cpu", "thermal_throttle");

/// Paths that are read-only in a container.
pub const READONLY_PATHS: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// All masked paths of this host: [`MASKED_PATHS`] and what stands for [`MASKED_PER_CPU`] here.
#[must_use]
pub fn masked_paths() -> Vec<String> {
    let mut paths: Vec<String> = MASKED_PATHS.iter().map(|path| (*path).to_owned()).collect();
    let (dir, leaf) = MASKED_PER_CPU;
    let Ok(entries) = std::fs::read_dir(dir) else { return paths };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut cpus: Vec<u32> = names.filter_map(|name| name.strip_prefix("cpu")?.parse().ok()).collect();
    cpus.sort_unstable();
    for cpu in cpus {
        let path = format!("{dir}/cpu{cpu}/{leaf}");
        if std::path::Path::new(&path).exists() {
            paths.push(path);
        }
    }
    paths
}

/// A device node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct DeviceNode {
    /// Path inside the container.
    pub path: &'static str,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
}

const fn character(path: &'static str, major: u32, minor: u32) -> DeviceNode {
    DeviceNode { path, major, minor, mode: 0o666 }
}

/// The character devices that every container's `/dev` has. `console`, `ptmx` and `pts` come with devpts.
pub const DEVICES: [DeviceNode; 6] = [
    character("/dev/null", 1, 3),
    character("/dev/zero", 1, 5),
    character("/dev/full", 1, 7),
    character("/dev/random", 1, 8),
    character("/dev/urandom", 1, 9),
    character("/dev/tty", 5, 0),
];

/// Symbolic links in every container's `/dev`: name and target.
pub const DEVICE_LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/core", "/proc/kcore"),
];

/// Device numbers a container may read and write, not make: major, and minor or any.
pub const DEVICE_RULES: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    // /dev/console and /dev/ptmx
    (5, Some(1)),
    (5, Some(2)),
    // Unix98 terminals: /dev/pts/*
    (136, None),
];

/// The most processes and threads in one container.
pub const PIDS_LIMIT: i64 = 2048;
/// Size of `/dev/shm` in bytes.
pub const SHM_SIZE: u64 = 64 << 20;
/// Soft limit of open files.
pub const NOFILE_SOFT: u64 = 1024;
/// Hard limit of open files, where the host program's own allows it.
pub const NOFILE_HARD: u64 = 524_288;

/// A resource limit: the `RLIMIT_…` name of the OCI runtime spec, soft and hard value.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Rlimit {
    /// `RLIMIT_…`
    pub name: &'static str,
    /// The value in force.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// The limits that are set; all others are inherited. `own_hard_nofile` is the hard limit of the host program, which
/// may be less than ours: the limit is cut then, and the start does not fail.
#[must_use]
pub fn rlimits(own_hard_nofile: u64) -> [Rlimit; 2] {
    let hard = NOFILE_HARD.min(own_hard_nofile);
    [
        Rlimit { name: "RLIMIT_NOFILE", soft: NOFILE_SOFT.min(hard), hard },
        Rlimit { name: "RLIMIT_CORE", soft: 0, hard: 0 },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b4_masked_and_read_only_paths_are_absolute_and_distinct() {
        let mut all: Vec<String> = masked_paths();
        assert!(all.len() >= MASKED_PATHS.len());
        assert!(
            all.iter()
                .chain(READONLY_PATHS.map(str::to_owned).iter())
                .all(|path| { path.starts_with("/proc/") || path.starts_with("/sys/") })
        );
        all.sort();
        all.dedup();
        assert_eq!(all.len(), masked_paths().len());
    }

    #[test]
    fn every_default_device_may_be_used() {
        for node in DEVICES {
            assert!(
                DEVICE_RULES.contains(&(node.major, Some(node.minor))),
                "{} stands in /dev but is denied",
                node.path
            );
            assert_eq!(node.mode, 0o666);
        }
        assert!(!DEVICE_RULES.iter().any(|(major, _)| *major == 10), "no misc device such as fuse");
    }

    #[test]
    fn limits_are_cut_to_what_the_host_has() {
        assert_eq!(rlimits(u64::MAX)[0].hard, NOFILE_HARD);
        assert_eq!(rlimits(512)[0], Rlimit { name: "RLIMIT_NOFILE", soft: 512, hard: 512 });
    }
}
