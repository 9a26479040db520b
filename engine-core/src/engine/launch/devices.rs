//! Device nodes, and the rules of which may be opened.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use crate::container_spec::{ContainerSpec, DeviceSpec};
use crate::error::{Error, Result};
use crate::policy::defaults;

use super::{cdi, failed, invalid};

/// Returns the device nodes beyond those every container has, and the rules, which begin by denying all.
pub(super) fn devices(
    spec: &ContainerSpec,
    cdi: &cdi::Edits,
) -> Result<(Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>)> {
    if spec.privileged {
        let mut nodes = Vec::new();
        host_devices(Path::new("/dev"), &mut nodes)?;
        nodes.extend(cdi.devices.iter().cloned());
        return Ok((nodes, vec![rule(true, LinuxDeviceType::A, None, None, "rwm")?]));
    }
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")?];
    for (major, minor) in defaults::DEVICE_RULES {
        rules.push(rule(true, LinuxDeviceType::C, Some(major.into()), minor.map(Into::into), "rw")?);
    }
    let mut nodes = Vec::new();
    for wish in &spec.devices {
        let access = &wish.permissions;
        if access.is_empty() || !access.bytes().all(|b| b"rwm".contains(&b)) {
            return Err(
                invalid("a device's permissions are some of r, w and m").with("device", &wish.host_path)
            );
        }
        for node in of_wish(wish)? {
            rules.push(rule(true, node.typ(), Some(node.major()), Some(node.minor()), access)?);
            nodes.push(node);
        }
    }
    for text in &spec.device_cgroup_rules {
        rules.push(cgroup_rule(text)?);
    }
    nodes.extend(cdi.devices.iter().cloned());
    rules.extend(cdi.rules.iter().cloned());
    Ok((nodes, rules))
}

pub(super) fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup> {
    let mut builder = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    builder.build().map_err(failed)
}

/// The nodes of a wish: of a directory, those of all devices in it.
fn of_wish(wish: &DeviceSpec) -> Result<Vec<LinuxDevice>> {
    let (host, inside) = (Path::new(&wish.host_path), Path::new(&wish.container_path));
    let metadata = fs::metadata(host)
        .map_err(|e| Error::from_io("look up device", e).with("device", &wish.host_path))?;
    let mut nodes = Vec::new();
    if metadata.is_dir() {
        host_devices(host, &mut nodes)?;
        for node in &mut nodes {
            let below = node.path().strip_prefix(host).map(Path::to_owned).unwrap_or_default();
            node.set_path(inside.join(below));
        }
    } else {
        nodes.extend(node(inside, &metadata)?);
    }
    if nodes.is_empty() {
        return Err(
            invalid("it is no device node, nor a directory with some").with("device", &wish.host_path)
        );
    }
    Ok(nodes)
}

/// Kind and numbers of the device that `metadata` describes; `None` if that is no device.
pub(super) fn device_numbers(metadata: &fs::Metadata) -> Result<Option<(LinuxDeviceType, i64, i64)>> {
    let file_type = metadata.file_type();
    let kind = match (file_type.is_char_device(), file_type.is_block_device()) {
        (true, _) => LinuxDeviceType::C,
        (_, true) => LinuxDeviceType::B,
        _ => return Ok(None),
    };
    // The encoding of dev_t that glibc and the kernel's stat use, see makedev(3).
    let device = metadata.rdev();
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
    let minor = (device & 0xff) | ((device >> 12) & !0xff);
    let number = |n: u64| i64::try_from(n).map_err(|_| invalid("a device number is out of range"));
    Ok(Some((kind, number(major)?, number(minor)?)))
}

/// Returns the node like the one `metadata` describes, at `path`; `None` if that is no device.
fn node(path: &Path, metadata: &fs::Metadata) -> Result<Option<LinuxDevice>> {
    let Some((kind, major, minor)) = device_numbers(metadata)? else { return Ok(None) };
    LinuxDeviceBuilder::default()
        .path(path)
        .typ(kind)
        .major(major)
        .minor(minor)
        .file_mode(metadata.mode() & 0o777)
        .uid(metadata.uid())
        .gid(metadata.gid())
        .build()
        .map(Some)
        .map_err(failed)
}

/// Collects the host's device nodes, for privileged containers.
fn host_devices(dir: &Path, nodes: &mut Vec<LinuxDevice>) -> Result<()> {
    let failed = |e| Error::from_io("list devices", e).with("directory", dir.display());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // A device may disappear between the listing and the look: then it is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let own = ["pts", "shm", "fd", "mqueue", "console", "ptmx", "tty"]
            .iter()
            .any(|n| path == Path::new("/dev").join(n))
            || defaults::DEVICES.iter().any(|d| path == Path::new(d.path));
        if own {
            continue;
        }
        if metadata.is_dir() {
            host_devices(&path, nodes)?;
        } else if let Some(node) = node(&path, &metadata)? {
            nodes.push(node);
        }
    }
    Ok(())
}

/// The numbers of a device that a rule names: `c 1:3 rwm`, `b 8:* r`, `a *:* rwm`.
fn cgroup_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let wrong = || invalid("a device rule looks like c 1:3 rwm").with("rule", text);
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = fields[..] else { return Err(wrong()) };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(wrong()),
    };
    if access.is_empty() || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(wrong());
    }
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| wrong()),
    };
    rule(true, kind, number(major)?, number(minor)?, access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_rules_are_parsed() {
        let made = cgroup_rule("c 1:* rw").unwrap();
        assert_eq!((made.typ(), made.major(), made.minor()), (Some(LinuxDeviceType::C), Some(1), None));
        for wrong in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 x", "c -1:3 r", "c 1:3 rwm extra"] {
            assert!(cgroup_rule(wrong).is_err(), "{wrong:?}");
        }
    }
}
