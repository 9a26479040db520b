//! What a test needs of the machine, and what happens where it is missing.
//!
//! Owns the probes and the policy: without a need met, a test prints one line and ends; with
//! `ENGINE_TEST_STRICT=1` (as in CI) it fails and names what is missing. A need listed in
//! `ENGINE_TEST_ELSEWHERE` (comma separated, as `cgroup_v2,skopeo`; `tools` stands for every program) is skipped in strict
//! mode too: it says that another part of the same CI run, the guest for one, covers it.

use std::{env, fs, path::Path, process::Command, sync::OnceLock};

/// Something a test needs of the machine it runs on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Requirement {
    /// Effective user 0 with all capabilities.
    Root,
    /// An overlay filesystem can be mounted.
    Overlayfs,
    /// Controllers of cgroup v1 are mounted (also true of a hybrid host).
    CgroupV1,
    /// `/sys/fs/cgroup` is a cgroup v2 tree with the memory, pids and cpu controllers.
    CgroupV2,
    /// Network namespaces can be made.
    NetworkNamespaces,
    /// User namespaces can be made.
    UserNamespaces,
    /// Layers of an overlay can be id-mapped mounts (Linux 6.15).
    ShiftedLayers,
    /// An NFS server to write to: `ENGINE_TEST_NFS` has its address, as in the guest with `--env ENGINE_TEST_NFS=127.0.0.1`.
    /// It exports a directory `export` by NFS 4.2.
    NfsServer,
    /// nf_tables works.
    Nftables,
    /// The kernel has interfaces of the kind ipvlan.
    Ipvlan,
    /// The kernel has interfaces for VLANs (802.1Q).
    Vlan,
    /// A loop device can be had.
    LoopDevices,
    /// A program is found in `PATH` or in the system's `sbin` directories.
    Tool(&'static str),
}

impl Requirement {
    /// Returns the word that [`require!`](crate::require) and `ENGINE_TEST_ELSEWHERE` use for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Overlayfs => "overlayfs",
            Self::CgroupV1 => "cgroup_v1",
            Self::CgroupV2 => "cgroup_v2",
            Self::NetworkNamespaces => "network_namespaces",
            Self::UserNamespaces => "user_namespaces",
            Self::ShiftedLayers => "shifted_layers",
            Self::NfsServer => "nfs_server",
            Self::Nftables => "nftables",
            Self::Ipvlan => "ipvlan",
            Self::Vlan => "vlan",
            Self::LoopDevices => "loop_devices",
            Self::Tool(name) => name,
        }
    }

    /// Returns whether this machine has it. Probes are made once per process.
    pub fn is_met(self) -> bool {
        static OVERLAY: OnceLock<bool> = OnceLock::new();
        static NFT: OnceLock<bool> = OnceLock::new();
        match self {
            Self::Root => rustix::process::geteuid().is_root() && has_all_capabilities(),
            Self::Overlayfs => *OVERLAY.get_or_init(|| {
                fs::read_to_string("/proc/filesystems")
                    .is_ok_and(|all| all.lines().any(|l| l.ends_with("\toverlay")))
            }),
            Self::CgroupV1 => {
                mounts("cgroup").any(|options| options.split(',').any(|o| o == "memory" || o == "pids"))
            }
            Self::CgroupV2 => fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|all| {
                ["memory", "pids", "cpu"].iter().all(|want| all.split_whitespace().any(|have| have == *want))
            }),
            Self::NetworkNamespaces => Path::new("/proc/self/ns/net").exists(),
            Self::UserNamespaces => {
                Path::new("/proc/self/ns/user").exists()
                    && fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() != "0")
            }
            Self::ShiftedLayers => kernel() >= (6, 15),
            Self::NfsServer => env::var_os("ENGINE_TEST_NFS").is_some(),
            Self::Nftables => *NFT.get_or_init(|| {
                Command::new("nft").args(["list", "tables"]).output().is_ok_and(|out| out.status.success())
            }),
            Self::Ipvlan => has_interfaces("ipvlan"),
            Self::Vlan => has_interfaces("vlan"),
            Self::LoopDevices => Path::new("/dev/loop-control").exists(),
            Self::Tool(name) => crate::tools::find(name).is_some(),
        }
    }
}

/// Whether the kernel has interfaces of this kind. What is asked for lacks a parent, so none is made.
fn has_interfaces(kind: &str) -> bool {
    let asked = Command::new("ip").args(["link", "add", "name", "probe", "type", kind]).output();
    asked.is_ok_and(|out| !String::from_utf8_lossy(&out.stderr).contains("Unknown device type"))
}

/// The first two numbers of the kernel's release.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn has_all_capabilities() -> bool {
    // CAP_SYS_ADMIN (21) and CAP_NET_ADMIN (12) tell a real root from one inside somebody's sandbox.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    bits & (1 << 21) != 0 && bits & (1 << 12) != 0
}

fn mounts(kind: &str) -> impl Iterator<Item = String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let kind = kind.to_owned();
    table.lines().map(str::to_owned).collect::<Vec<_>>().into_iter().filter_map(move |line| {
        let fields: Vec<_> = line.split(' ').collect();
        (fields.len() > 3 && fields[2] == kind).then(|| fields[3].to_owned())
    })
}

/// Returns what of `needs` this machine lacks; the work behind [`require!`](crate::require).
///
/// # Panics
/// With `ENGINE_TEST_STRICT=1`, when something is missing that `ENGINE_TEST_ELSEWHERE` does not list.
pub fn missing(needs: &[Requirement]) -> Vec<&'static str> {
    let missing: Vec<_> = needs.iter().copied().filter(|need| !need.is_met()).collect();
    let strict = env::var_os("ENGINE_TEST_STRICT").is_some_and(|value| value == "1");
    let elsewhere = env::var("ENGINE_TEST_ELSEWHERE").unwrap_or_default();
    let covered = |need: &Requirement| {
        let is =
            |word: &str| word == need.name() || (word == "tools" && matches!(need, Requirement::Tool(_)));
        elsewhere.split(',').any(|item| is(item.trim()))
    };
    let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
    if strict && !missing.is_empty() && !missing.iter().any(covered) {
        panic!("this machine lacks {} and ENGINE_TEST_STRICT=1 forbids to skip", names.join(", "));
    }
    names
}

/// Ends the test with a printed line unless the machine has everything named.
///
/// Names are those of [`Requirement`](crate::Requirement) in snake case; a string is a program to be found.
///
/// ```
/// fn unpacks_as_umoci_does() {
///     engine_testkit::require!(root, overlayfs, "skopeo", "umoci");
///     // …
/// }
/// # unpacks_as_umoci_does();
/// ```
#[macro_export]
macro_rules! require {
    ($($need:tt),+ $(,)?) => {
        let missing = $crate::missing(&[$($crate::require!(@ $need)),+]);
        if !missing.is_empty() {
            println!("skipped {}:{}: this machine lacks {}", file!(), line!(), missing.join(", "));
            return;
        }
    };
    (@ root) => { $crate::Requirement::Root };
    (@ overlayfs) => { $crate::Requirement::Overlayfs };
    (@ cgroup_v1) => { $crate::Requirement::CgroupV1 };
    (@ cgroup_v2) => { $crate::Requirement::CgroupV2 };
    (@ network_namespaces) => { $crate::Requirement::NetworkNamespaces };
    (@ user_namespaces) => { $crate::Requirement::UserNamespaces };
    (@ shifted_layers) => { $crate::Requirement::ShiftedLayers };
    (@ nfs_server) => { $crate::Requirement::NfsServer };
    (@ nftables) => { $crate::Requirement::Nftables };
    (@ ipvlan) => { $crate::Requirement::Ipvlan };
    (@ vlan) => { $crate::Requirement::Vlan };
    (@ loop_devices) => { $crate::Requirement::LoopDevices };
    (@ $tool:literal) => { $crate::Requirement::Tool($tool) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_does_not_exist_is_missing() {
        assert!(!Requirement::Tool("no-such-program-anywhere").is_met());
        assert!(Requirement::Tool("sh").is_met());
    }

    #[test]
    fn the_macro_takes_every_name() {
        require!(root, overlayfs, user_namespaces, "sh");
        assert!(rustix::process::geteuid().is_root());
    }
}
