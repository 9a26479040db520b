//! What this host offers: checked before an engine opens, and shown by `diagnose`.
//!
//! A check looks or tries; it changes nothing that outlives it.

use std::fs;
use std::path::Path;

use rustix::process::geteuid;

use crate::engine::{Check, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::CapabilitySet;

/// Capabilities of the engine's own process that starting a container takes.
const NEEDED: [&str; 9] =
    ["SYS_ADMIN", "CHOWN", "DAC_OVERRIDE", "FOWNER", "MKNOD", "SETUID", "SETGID", "SYS_CHROOT", "KILL"];

/// Fails with all that is missing, if this host or this user cannot run containers.
///
/// # Errors
/// [`ErrorKind::PermissionDenied`] if the user lacks rights; [`ErrorKind::Unsupported`] if the kernel lacks
/// something.
pub fn check_host(root: &Path) -> Result<()> {
    let missing: Vec<Check> = diagnose(root).into_iter().filter(|c| c.verdict == Verdict::Required).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let kind =
        if first.subject == "privileges" { ErrorKind::PermissionDenied } else { ErrorKind::Unsupported };
    let story: Vec<String> = missing.iter().map(|c| format!("{}: {}", c.subject, c.detail)).collect();
    let hint = match kind {
        ErrorKind::PermissionDenied => {
            "run it as root, for example with sudo; rootless containers come later"
        }
        _ => "see what `info` or Engine::diagnose says of this host",
    };
    Err(Error::new(kind, "open engine")
        .with("root", root.display())
        .with_message(story.join("; "))
        .with_hint(hint))
}

/// Looks at the host and returns one finding a subject.
#[must_use]
pub fn diagnose(root: &Path) -> Vec<Check> {
    vec![
        privileges(),
        kernel(),
        namespaces(),
        user_namespaces(),
        overlayfs(),
        cgroups(),
        seccomp(),
        lsm(),
        root_fs(root),
    ]
}

fn privileges() -> Check {
    let euid = geteuid().as_raw();
    let held = effective_capabilities();
    let lacking: Vec<&str> = NEEDED.into_iter().filter(|name| !held.contains(name)).collect();
    if euid == 0 && lacking.is_empty() {
        return Check::new("privileges", Verdict::Works, "root with all capabilities it needs");
    }
    let detail = if euid == 0 {
        format!("root without the capabilities {}", lacking.join(", "))
    } else {
        format!(
            "user {euid} is not root, and starting containers needs root's capabilities ({} are missing)",
            lacking.join(", ")
        )
    };
    Check::new("privileges", Verdict::Required, detail)
}

/// The effective capabilities of this process, from /proc/self/status (proc_pid_status(5)).
fn effective_capabilities() -> CapabilitySet {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    CapabilitySet::from_bits(line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0))
}

/// The kernel's release, and its first two numbers.
fn release() -> (String, (u32, u32)) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (release, version)
}

/// Containers whose ids are others outside take layers seen through id maps, which overlayfs has by descriptor of a
/// detached mount since 6.15.
fn user_namespaces() -> Check {
    let subject = "shifted ids";
    if !Path::new("/proc/self/ns/user").exists() {
        return Check::new(subject, Verdict::Missing, "the kernel has no user namespaces");
    }
    match release() {
        (_, version) if version >= (6, 15) => Check::new(subject, Verdict::Works, "id-mapped layers"),
        (release, _) => Check::new(
            subject,
            Verdict::Missing,
            format!(
                "Linux {release} is older than 6.15: containers with --userns of shifted ids do not start"
            ),
        ),
    }
}

fn kernel() -> Check {
    let (release, version) = release();
    // Overlay mounts name their layers with `lowerdir+`, which Linux has since 6.5 (fsconfig strings stop at 255
    // bytes); mount_setattr(2), fsopen, openat2, clone3 and pidfds are older.
    if version >= (6, 5) {
        Check::new("kernel", Verdict::Works, release)
    } else {
        Check::new("kernel", Verdict::Required, format!("Linux {release} is older than 6.5"))
    }
}

fn namespaces() -> Check {
    let missing: Vec<&str> = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"]
        .into_iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .collect();
    let verdict = match missing[..] {
        [] => Verdict::Works,
        ["user"] => Verdict::Missing,
        _ => Verdict::Required,
    };
    let detail = if missing.is_empty() {
        "all seven kinds".to_owned()
    } else {
        format!("the kernel or /proc lacks {}", missing.join(", "))
    };
    Check::new("namespaces", verdict, detail)
}

fn overlayfs() -> Check {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay") {
        return Check::new("overlayfs", Verdict::Works, "in the kernel");
    }
    Check::new(
        "overlayfs",
        Verdict::Degraded,
        "not (yet) in the kernel: `modprobe overlay`, else each container gets a full copy of its image",
    )
}

fn cgroups() -> Check {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_type = |kind: &str| mounts.lines().filter(|line| line.split(' ').nth(2) == Some(kind)).count();
    let (v1, v2) = (of_type("cgroup"), of_type("cgroup2"));
    let (verdict, detail) = match (v1, v2) {
        (0, 0) => {
            (Verdict::Missing, "no hierarchy is mounted at /sys/fs/cgroup: limits do not work".to_owned())
        }
        (0, _) => (Verdict::Works, "v2".to_owned()),
        (n, 0) => (Verdict::Works, format!("v1, {n} hierarchies")),
        (n, _) => (Verdict::Works, format!("hybrid: {n} v1 hierarchies beside v2")),
    };
    Check::new("cgroups", verdict, detail)
}

fn seccomp() -> Check {
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        Check::new("seccomp", Verdict::Works, "filters")
    } else {
        Check::new("seccomp", Verdict::Missing, "the kernel has no filters: use an unconfined profile")
    }
}

fn lsm() -> Check {
    let active = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let named: Vec<&str> =
        active.trim().split(',').filter(|l| matches!(*l, "apparmor" | "selinux")).collect();
    if named.is_empty() {
        Check::new("security modules", Verdict::Works, "neither AppArmor nor SELinux is active")
    } else {
        Check::new(
            "security modules",
            Verdict::Degraded,
            format!("{} is active and not used yet", named.join(", ")),
        )
    }
}

fn root_fs(root: &Path) -> Check {
    // The nearest directory that exists: the root itself is made at the first open.
    let Some(dir) = root.ancestors().find(|dir| dir.exists()) else {
        return Check::new(
            "root directory",
            Verdict::Missing,
            format!("{} cannot be reached", root.display()),
        );
    };
    match rustix::fs::statvfs(dir) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
            let verdict = if free < 64 { Verdict::Degraded } else { Verdict::Works };
            Check::new("root directory", verdict, format!("{}: {free} MiB free", dir.display()))
        }
        Err(error) => Check::new("root directory", Verdict::Missing, format!("{}: {error}", dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_is_reported_once() {
        let checks = diagnose(Path::new("/nonexistent/engine"));
        let mut subjects: Vec<&str> = checks.iter().map(|c| c.subject.as_str()).collect();
        subjects.sort_unstable();
        subjects.dedup();
        assert_eq!(subjects.len(), checks.len());
        assert!(checks.iter().all(|c| !c.detail.is_empty()));
    }
}
