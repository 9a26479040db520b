//! Which hierarchies the host has, and how a group is made in each.
//!
//! Invariant: a mount point is taken from /proc/self/mountinfo, never assumed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::files;
use crate::error::{Error, ErrorKind, Result};

/// How the host's control groups are laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// As v1, with a unified hierarchy that has few controllers or none beside it.
    Hybrid,
    /// One hierarchy for all.
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
            Self::V2 => "v2",
        })
    }
}

/// One mounted hierarchy.
#[derive(Clone, Debug)]
pub(in crate::linux) struct Mount {
    pub(in crate::linux) point: PathBuf,
    pub(in crate::linux) unified: bool,
    /// Controllers in their v1 words, where v2 has others: `io` is `blkio`. Of v1, they are the mount's options.
    controllers: Vec<String>,
}

impl Mount {
    /// The options that choose this hierarchy in a mount(2) of its own.
    pub(in crate::linux) fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        let options = if self.unified { &[] } else { &self.controllers[..] };
        options.iter().map(|option| option.split_once('=').unwrap_or((option, "")))
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The mounted hierarchies of the host.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    version: Version,
    mounts: Vec<Mount>,
}

impl Hierarchies {
    /// Finds the mounted hierarchies. Do it once: it reads the whole mount table.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if no hierarchy is mounted.
    pub fn detect() -> Result<Self> {
        let table = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| Error::from_io("find cgroup hierarchies", error))?;
        Self::parse(&table).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "find cgroup hierarchies")
                .with_message("no cgroup file system is mounted")
                .with_hint("mount cgroup2 on /sys/fs/cgroup")
        })
    }

    fn parse(table: &str) -> Option<Self> {
        let mut mounts: Vec<Mount> = Vec::new();
        for mount in table.lines().filter_map(parse_line) {
            // A hierarchy that is mounted twice counts once, where it was mounted first.
            let known = mounts.iter().any(|other| {
                other.unified == mount.unified && (mount.unified || other.controllers == mount.controllers)
            });
            if !known {
                mounts.push(mount);
            }
        }
        // Writeback of a container's dirty pages is charged rightly if it joins blkio before memory.
        mounts.sort_by_key(|mount| (mount.unified, mount.has("memory")));
        let unified = mounts.iter().any(|mount| mount.unified);
        let version = match (unified, mounts.len()) {
            (_, 0) => return None,
            (true, 1) => Version::V2,
            (true, _) => Version::Hybrid,
            (false, _) => Version::V1,
        };
        Some(Self { version, mounts })
    }

    /// How they are laid out.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The controllers that can be used, in v1's words (`blkio` for v2's `io`); `devices` and `freezer`, which are no
    /// controllers in v2, are left out there.
    #[must_use]
    pub fn controllers(&self) -> Vec<&str> {
        let all = self.mounts.iter().flat_map(|mount| &mount.controllers);
        all.map(String::as_str).filter(|name| !name.starts_with("name=")).collect()
    }

    pub(in crate::linux) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let (kind, _source, options) = (right.next()?, right.next()?, right.next()?);
    let point = PathBuf::from(unescape(left.split(' ').nth(4)?));
    match kind {
        "cgroup" => {
            // Beside its controllers, a hierarchy's options are these. A named one without controllers is kept as
            // `name=systemd`.
            let common =
                ["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"];
            let controllers = options
                .split(',')
                .filter(|option| !common.contains(option) && !option.starts_with("release_agent="));
            Some(Mount { point, unified: false, controllers: controllers.map(str::to_owned).collect() })
        }
        "cgroup2" => {
            let names = std::fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default();
            let names = names.split_ascii_whitespace().map(|name| if name == "io" { "blkio" } else { name });
            Some(Mount { point, unified: true, controllers: names.map(str::to_owned).collect() })
        }
        _ => None,
    }
}

/// Octal escapes of blanks in mount points.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Makes the group `dir`, with its parents where they are missing.
pub(super) fn make(mount: &Mount, dir: &Path) -> Result<()> {
    let failed = |error: io::Error| {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let made = Error::from_io("create cgroup", error).with("path", dir.display());
        if denied { made.with_hint("run as root, or give this user the cgroup") } else { made }
    };
    let parent = dir.parent().ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
    // The parent usually stands: it is made when mkdir(2) misses it, and again if a sweep took it away in between.
    let mut made = std::fs::create_dir(dir);
    for _ in 0..10 {
        if !matches!(&made, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            break;
        }
        match make_parent(mount, parent) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => made = std::fs::create_dir(dir),
        }
    }
    made.map_err(&failed)?;
    if mount.has("cpuset") && !mount.unified {
        inherit_cpuset(dir).map_err(|error| {
            let _ = std::fs::remove_dir(dir);
            failed(error)
        })?;
    }
    if mount.unified && !mount.controllers.is_empty() {
        enable_controllers(mount, parent);
    }
    Ok(())
}

fn make_parent(mount: &Mount, dir: &Path) -> io::Result<()> {
    if dir == mount.point || dir.exists() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_parent(mount, parent)?;
        if mount.unified {
            enable_controllers(mount, parent);
        }
    }
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if mount.has("cpuset") && !mount.unified {
        inherit_cpuset(dir)?;
        // Groups beneath start with a copy of the sets then, which saves filling them one by one (cpusets(7)).
        files::try_write(dir, "cgroup.clone_children", "1")?;
    }
    Ok(())
}

/// A v1 cpuset starts empty, and no process can join it then.
fn inherit_cpuset(dir: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if std::fs::read_to_string(dir.join(file))?.trim().is_empty() {
            let parent = dir.parent().unwrap_or(dir);
            let above = std::fs::read_to_string(parent.join(file))?;
            files::try_write(dir, file, above.trim())?;
        }
    }
    Ok(())
}

/// Lets the groups beneath `dir` use the controllers. What cannot be enabled (`EBUSY`: `dir` has processes of its own;
/// `ENOENT`: not given to us) is found when a limit needs it.
fn enable_controllers(mount: &Mount, dir: &Path) {
    let on = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    let on: Vec<&str> = on.split_ascii_whitespace().collect();
    let wanted = ["cpuset", "cpu", "blkio", "memory", "hugetlb", "pids"].into_iter();
    let wanted = wanted.filter(|name| mount.has(name)).map(|name| if name == "blkio" { "io" } else { name });
    let missing: Vec<String> =
        wanted.filter(|name| !on.contains(name)).map(|name| format!("+{name}")).collect();
    if missing.is_empty() {
        return;
    }
    // With processes of its own, the kernel would still enable controllers that count threads, and take the groups beneath for
    // groups of threads then: no process could be made in them (cgroups(7), "Thread mode"). The root is an exception.
    let busy = |dir: &Path| std::fs::read(dir.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty());
    if dir != mount.point && busy(dir) {
        tracing::debug!(path = %dir.display(), "cgroup has processes: its controllers are not for groups beneath it");
        return;
    }
    if files::try_write(dir, "cgroup.subtree_control", &missing.join(" ")).is_ok() {
        return;
    }
    // The group above may have been kept from it when `dir` was made.
    let lacks = |name: &String| {
        let has = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        !has.split_ascii_whitespace().any(|one| one == &name[1..])
    };
    if dir != mount.point
        && missing.iter().any(lacks)
        && let Some(above) = dir.parent()
    {
        enable_controllers(mount, above);
    }
    // One that fails makes the whole write fail: each for itself then.
    for name in &missing {
        if let Err(error) = files::try_write(dir, "cgroup.subtree_control", name) {
            tracing::debug!(%error, path = %dir.display(), controller = %name, "cannot enable cgroup controller");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_apart() {
        let v1 = "30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                  31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  32 24 0:28 / /sys/fs/cgroup/blk\\040io rw - cgroup cgroup rw,blkio\n\
                  33 24 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n\
                  34 24 0:27 / /mnt/memory rw - cgroup cgroup rw,memory\n\
                  35 24 0:30 / /tmp rw - tmpfs tmpfs rw\n";
        let found = Hierarchies::parse(v1).unwrap();
        assert_eq!(found.version(), Version::V1);
        assert_eq!(found.controllers(), ["cpu", "cpuacct", "blkio", "memory"], "memory comes last");
        assert_eq!(found.mounts().len(), 4);
        assert_eq!(found.mounts()[1].point, Path::new("/sys/fs/cgroup/blk io"));
        assert_eq!(found.mounts()[0].options().collect::<Vec<_>>(), [("cpu", ""), ("cpuacct", "")]);
        assert_eq!(found.mounts()[2].options().collect::<Vec<_>>(), [("name", "systemd")]);
        let unified = "40 24 0:31 / /nowhere/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(Hierarchies::parse(&format!("{unified}{v1}")).unwrap().version(), Version::Hybrid);
        let unified = Hierarchies::parse(unified).unwrap();
        assert_eq!(unified.version(), Version::V2);
        assert_eq!(unified.mounts()[0].options().count(), 0, "a unified hierarchy needs no choice");
        assert!(Hierarchies::parse("35 24 0:30 / /tmp rw - tmpfs tmpfs rw\n").is_none());
        assert!(Hierarchies::parse("garbage - cgroup\n - - -\n").is_none());
    }
}
