//! The mounts of a launch plan: root file system, the kernel's file systems, volumes, small files.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDeviceType, Mount as OciMount};

use super::cgroups::Host;
use super::translate::invalid;
use crate::error::Result;
use crate::launch::{LaunchSpec, Lifetime};
use crate::linux::plan::format::{PRIVATE_FILES, mount};
use crate::linux::plan::{EntryStep, LaunchPlan, MountStep};
use crate::mount::{Mount, MountKind, MountOptions, Propagation};
use crate::policy::defaults;

const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;
pub(super) const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// Whether the root becomes read-only.
pub(super) fn root_is_read_only(launch: &LaunchSpec) -> bool {
    launch.rootfs.first().is_some_and(|root| root.options.read_only)
        || launch.oci.root().as_ref().is_some_and(|root| root.readonly() == Some(true))
}

/// Adds all mounts and the entries on them to `plan`, in the order in which they are attached.
pub(super) fn translate(
    launch: &LaunchSpec,
    linux: &Linux,
    cgroups: &Host,
    plan: &mut LaunchPlan,
) -> Result<()> {
    for (index, wanted) in launch.rootfs.iter().enumerate() {
        let mut step = engine_mount(wanted)?;
        if index == 0 {
            if step.target != b"/" {
                return Err(invalid("the first mount of a root file system is its root"));
            }
            // Last, once everything else has its place.
            step.attributes &= !RDONLY;
            if launch.lifetime == Lifetime::Scoped {
                forget_on_power_loss(&mut step, wanted)?;
            }
        }
        plan.mounts.push(step);
    }
    if plan.mounts.is_empty() {
        return Err(invalid("a container needs a root file system"));
    }
    for wanted in launch.oci.mounts().iter().flatten() {
        kernel_mount(wanted, launch, linux, cgroups, plan)?;
    }
    // Behind /dev/pts, where the terminal is: before Linux 6.15, only what is attached can be bound (open_tree(2)).
    if launch.terminal.is_some() && plan.entries.iter().any(|entry| entry.path == "console") {
        plan.mounts.push(MountStep {
            kind: mount::CONSOLE,
            target: b"/dev/console".to_vec(),
            ..MountStep::default()
        });
    }
    for wanted in &launch.mounts {
        plan.mounts.push(engine_mount(wanted)?);
    }
    for (index, file) in launch.files.iter().enumerate() {
        let name = format!("{index}");
        plan.entries.push(EntryStep {
            mount: PRIVATE_FILES,
            mode: S_IFREG | (file.mode & 0o777),
            path: name.clone(),
            data: file.content.clone(),
            ..EntryStep::default()
        });
        plan.mounts.push(MountStep {
            kind: mount::FILE,
            attributes: NOSUID | NODEV | NOEXEC,
            source: name.into_bytes(),
            target: target(&file.path)?,
            ..MountStep::default()
        });
    }
    for (index, file) in launch.secret_files.iter().enumerate() {
        let name = format!("secret-{index}");
        plan.entries.push(EntryStep {
            mount: PRIVATE_FILES,
            mode: S_IFREG | (file.mode & 0o777),
            uid: file.uid,
            gid: file.gid,
            path: name.clone(),
            data: file.content.reveal().to_vec(),
            ..EntryStep::default()
        });
        plan.mounts.push(MountStep {
            kind: mount::FILE,
            attributes: RDONLY | NOSUID | NODEV | if file.mode & 0o111 == 0 { NOEXEC } else { 0 },
            source: name.into_bytes(),
            target: target(&file.path)?,
            ..MountStep::default()
        });
    }
    Ok(())
}

/// Makes an overlay `volatile`: it syncs nothing, at the container's end least of all. For containers that no power loss
/// leaves alive. The kernel's own mark of this must go before the next mount (Documentation/filesystems/overlayfs.rst).
fn forget_on_power_loss(step: &mut MountStep, wanted: &Mount) -> Result<()> {
    if let MountKind::Overlay { upper: Some(upper), .. } = &wanted.kind {
        step.options.push(("volatile".to_owned(), Vec::new()));
        match std::fs::remove_dir_all(upper.work.join("work/incompat")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(crate::error::Error::from_io("prepare container", error)
                    .with("path", upper.work.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The target of a mount, without `.` and `..`: those mean what they mean in the container, where `/..` is `/`.
fn target(path: &Path) -> Result<Vec<u8>> {
    if !path.is_absolute() {
        return Err(invalid("a mount's target is an absolute path").with("target", path.display()));
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    Ok(clean.as_os_str().as_bytes().to_vec())
}

fn attributes(options: &MountOptions) -> u64 {
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    bit(options.read_only || options.recursive_read_only, RDONLY)
        | bit(options.nosuid, NOSUID)
        | bit(options.nodev, NODEV)
        | bit(options.noexec, NOEXEC)
}

/// A mount in the engine's own words.
fn engine_mount(wanted: &Mount) -> Result<MountStep> {
    let options = &wanted.options;
    let mut step = MountStep {
        attributes: attributes(options),
        target: target(&wanted.target)?,
        subpath: subpath(wanted)?,
        ..MountStep::default()
    };
    if options.copy_up && !matches!(wanted.kind, MountKind::Tmpfs { .. }) {
        return Err(invalid("only a tmpfs is filled by a copy of what is at its target")
            .with("target", wanted.target.display()));
    }
    match &wanted.kind {
        MountKind::Bind { source, recursive } => {
            bind(&mut step, source, *recursive);
            step.propagation = match options.propagation {
                Propagation::Private | Propagation::Rprivate => MS_PRIVATE,
                Propagation::Slave | Propagation::Rslave => MS_SLAVE,
                Propagation::Shared | Propagation::Rshared => MS_SHARED,
            };
            if options.recursive_read_only {
                step.flags |= mount::RECURSIVE_ATTRIBUTES;
            }
            if options.id_mapped {
                step.flags |= mount::IDMAP;
            }
            if options.create_source {
                make_source(source)?;
            }
        }
        MountKind::Overlay { lower, upper: None } if lower.len() == 1 => {
            // Overlayfs wants two layers, or one and a writable one.
            bind(&mut step, &lower[0], false);
            step.attributes |= RDONLY;
            if options.id_mapped {
                step.flags |= mount::IDMAP;
            }
        }
        MountKind::Overlay { lower, upper } => {
            step.kind = mount::FILESYSTEM;
            step.fstype = "overlay".to_owned();
            step.source = b"overlay".to_vec();
            let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
            step.options.extend(lower.iter().map(|path| ("lowerdir+".to_owned(), bytes(path))));
            if let Some(upper) = upper {
                step.options.push(("upperdir".to_owned(), bytes(&upper.upper)));
                step.options.push(("workdir".to_owned(), bytes(&upper.work)));
            }
        }
        MountKind::Tmpfs { size, mode, uid, gid } => {
            step.kind = mount::FILESYSTEM;
            step.fstype = "tmpfs".to_owned();
            step.source = b"tmpfs".to_vec();
            let mut option =
                |key: &str, value: String| step.options.push((key.to_owned(), value.into_bytes()));
            option("mode", format!("{mode:o}"));
            for (key, id) in [("uid", uid), ("gid", gid)] {
                if *id != 0 {
                    option(key, id.to_string());
                }
            }
            if let Some(size) = size {
                option("size", size.to_string());
            }
            if options.copy_up {
                step.flags |= mount::COPY_UP;
                seal_later(&mut step);
            }
        }
        MountKind::Filesystem { kind, source, options } => {
            step.kind = mount::FILESYSTEM;
            step.fstype.clone_from(kind);
            step.source = source.as_bytes().to_vec();
            step.options.extend(options.iter().map(|(key, value)| (key.clone(), value.as_bytes().to_vec())));
        }
    }
    Ok(step)
}

/// What is copied into a file system comes before it is read-only.
fn seal_later(step: &mut MountStep) {
    if step.attributes & RDONLY != 0 {
        step.attributes &= !RDONLY;
        step.flags |= mount::SEAL;
    }
}

/// The part of a mount that is shown: a plain path, beneath what is mounted.
fn subpath(wanted: &Mount) -> Result<Vec<u8>> {
    let Some(path) = &wanted.subpath else { return Ok(Vec::new()) };
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || path.as_os_str().is_empty() {
        return Err(invalid("a subpath is a relative path without \"..\"").with("subpath", path.display()));
    }
    Ok(path.as_os_str().as_bytes().to_vec())
}

fn bind(step: &mut MountStep, source: &Path, recursive: bool) {
    step.kind = mount::BIND;
    step.source = source.as_os_str().as_bytes().to_vec();
    step.propagation = MS_PRIVATE;
    if recursive {
        step.flags |= mount::RECURSIVE;
    }
}

fn make_source(source: &Path) -> Result<()> {
    if !source.exists() {
        std::fs::create_dir_all(source).map_err(|error| {
            crate::error::Error::from_io("make mount source", error).with("path", source.display())
        })?;
    }
    Ok(())
}

/// A mount of the OCI spec.
fn kernel_mount(
    wanted: &OciMount,
    launch: &LaunchSpec,
    linux: &Linux,
    cgroups: &Host,
    plan: &mut LaunchPlan,
) -> Result<()> {
    let mut step = MountStep { target: target(wanted.destination())?, ..MountStep::default() };
    let mut recursive = false;
    for option in wanted.options().iter().flatten() {
        match option.as_str() {
            "ro" => step.attributes |= RDONLY,
            "nosuid" => step.attributes |= NOSUID,
            "nodev" => step.attributes |= NODEV,
            "noexec" => step.attributes |= NOEXEC,
            "noatime" => step.attributes |= 0x10,
            "strictatime" => step.attributes |= 0x20,
            "nodiratime" => step.attributes |= 0x80,
            "rbind" => recursive = true,
            "rro" => {
                step.attributes |= RDONLY;
                step.flags |= mount::RECURSIVE_ATTRIBUTES;
            }
            "private" | "rprivate" => step.propagation = MS_PRIVATE,
            "slave" | "rslave" => step.propagation = MS_SLAVE,
            "shared" | "rshared" => step.propagation = MS_SHARED,
            "tmpcopyup" if wanted.typ().as_deref() == Some("tmpfs") => step.flags |= mount::COPY_UP,
            "idmap" | "ridmap" => {
                step.flags |= mount::IDMAP;
                if option == "ridmap" {
                    step.flags |= mount::RECURSIVE_ATTRIBUTES;
                }
            }
            "bind" | "rw" | "suid" | "dev" | "exec" | "relatime" | "atime" | "defaults" | "diratime" => {}
            other => {
                let (key, value) = other.split_once('=').unwrap_or((other, ""));
                step.options.push((key.to_owned(), value.as_bytes().to_vec()));
            }
        }
    }
    let kind = wanted.typ().as_deref().unwrap_or("bind");
    let source = wanted.source().clone().unwrap_or_default();
    match kind {
        "bind" | "none" => {
            let (attributes, propagation) = (step.attributes, step.propagation);
            bind(&mut step, &source, recursive);
            step.attributes = attributes;
            if propagation != 0 {
                step.propagation = propagation;
            }
            step.options.clear();
            plan.mounts.push(step);
        }
        "cgroup" | "cgroup2" => cgroups.mounts(step, plan),
        _ => {
            step.kind = mount::FILESYSTEM;
            step.fstype = kind.to_owned();
            step.source = source.as_os_str().as_bytes().to_vec();
            // These show the namespaces of whoever mounts them; the others need no more than the host's right.
            if matches!(kind, "proc" | "sysfs" | "mqueue") {
                step.flags |= mount::IN_CONTAINER;
            }
            if kind == "mqueue" {
                step.flags |= mount::OPTIONAL;
            }
            if kind == "devpts" {
                step.flags |= mount::DEVPTS;
            }
            if matches!(step.target.as_slice(), b"/proc" | b"/sys" | b"/dev") {
                step.flags |= mount::REAL_TARGET;
            }
            if step.flags & mount::COPY_UP != 0 {
                seal_later(&mut step);
            }
            let devices = step.target == b"/dev" && kind == "tmpfs";
            plan.mounts.push(step);
            if devices {
                fill_dev(launch, linux, plan)?;
            }
        }
    }
    Ok(())
}

/// Puts nodes and links on the /dev that was added last, and the place of a console.
fn fill_dev(launch: &LaunchSpec, linux: &Linux, plan: &mut LaunchPlan) -> Result<()> {
    let dev = u32::try_from(plan.mounts.len() - 1).expect("mounts are few");
    let mut made = BTreeSet::new();
    let mut add = |plan: &mut LaunchPlan, entry: EntryStep| {
        // Directories above it first, each once; the first of two entries of one name wins.
        let parents: Vec<usize> = entry.path.match_indices('/').map(|(at, _)| at).collect();
        for at in parents {
            let parent = entry.path[..at].to_owned();
            if made.insert(parent.clone()) {
                plan.entries.push(EntryStep {
                    mount: dev,
                    mode: S_IFDIR | 0o755,
                    path: parent,
                    ..EntryStep::default()
                });
            }
        }
        if made.insert(entry.path.clone()) {
            plan.entries.push(EntryStep { mount: dev, ..entry });
        }
    };
    for device in defaults::DEVICES {
        let mode = 0o020_000 | device.mode;
        let number = device_number(device.major, device.minor);
        add(
            plan,
            EntryStep {
                mode,
                device: number,
                path: below_dev(Path::new(device.path))?,
                ..EntryStep::default()
            },
        );
    }
    for (path, link) in defaults::DEVICE_LINKS {
        let data = [link.as_bytes(), b"\0"].concat();
        add(
            plan,
            EntryStep {
                mode: S_IFLNK | 0o777,
                path: below_dev(Path::new(path))?,
                data,
                ..EntryStep::default()
            },
        );
    }
    for device in linux.devices().iter().flatten() {
        let kind = match device.typ() {
            LinuxDeviceType::B => 0o060_000,
            LinuxDeviceType::P => 0o010_000,
            _ => 0o020_000,
        };
        let part =
            |number: i64| u32::try_from(number).map_err(|_| invalid("a device number is out of range"));
        add(
            plan,
            EntryStep {
                mode: kind | (device.file_mode().unwrap_or(0o666) & 0o777),
                uid: device.uid().unwrap_or(0),
                gid: device.gid().unwrap_or(0),
                device: device_number(part(device.major())?, part(device.minor())?),
                path: below_dev(device.path())?,
                ..EntryStep::default()
            },
        );
    }
    if launch.terminal.is_some() {
        add(plan, EntryStep { mode: S_IFREG | 0o600, path: "console".to_owned(), ..EntryStep::default() });
    }
    Ok(())
}

fn below_dev(path: &Path) -> Result<String> {
    let below = path
        .strip_prefix("/dev")
        .ok()
        .filter(|rest| rest.components().all(|c| matches!(c, Component::Normal(_))));
    match below.and_then(Path::to_str) {
        Some(rest) if !rest.is_empty() => Ok(rest.to_owned()),
        _ => Err(invalid("a device's path is one beneath /dev").with("device", path.display())),
    }
}

/// A device number as mknod(2) takes it on Linux.
fn device_number(major: u32, minor: u32) -> u64 {
    u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}
