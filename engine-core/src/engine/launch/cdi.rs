//! Devices by name, as vendors describe them: the Container Device Interface (CDI).
//!
//! A file of the host's administrator says what a device `vendor.com/class=name` is: nodes, mounts, variables, groups.
//! Only that is taken. Hooks, which other engines run on the host as root, are not run (SECURITY B10): they are skipped,
//! and said so. Names are looked up in what was read; they are never part of a path.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceType};
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::mount::{Mount, MountKind};

use super::devices::{device_numbers, rule};
use super::{failed, invalid};

/// Larger files are no descriptions of devices.
const MAX_FILE: u64 = 4 << 20;

/// What devices change in a container.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) devices: Vec<LinuxDevice>,
    pub(super) rules: Vec<LinuxDeviceCgroup>,
    pub(super) mounts: Vec<Mount>,
    pub(super) groups: Vec<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<CdiMount>,
    hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    groups: Vec<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceNode {
    path: PathBuf,
    host_path: Option<PathBuf>,
    permissions: Option<String>,
    file_mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CdiMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hook {
    hook_name: Option<String>,
    path: Option<String>,
}

/// Looks up devices such as `vendor.com/class=name` in the CDI files of `dirs`; the last directory wins.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a device that no file describes; [`ErrorKind::InvalidArgument`] for what is no such name;
/// [`ErrorKind::Corrupt`] for a file that cannot be read.
pub(in crate::engine) fn resolve(dirs: &[PathBuf], names: &[String]) -> Result<Edits> {
    let mut edits = Edits::default();
    if names.is_empty() {
        return Ok(edits);
    }
    let (files, foreign) = read(dirs)?;
    let mut used: Vec<usize> = Vec::new();
    for wanted in names {
        let (kind, name) = wanted
            .split_once('=')
            .filter(|(kind, name)| kind.contains('/') && !name.is_empty())
            .ok_or_else(|| invalid("a CDI device is named vendor.com/class=name").with("device", wanted))?;
        let found = files.iter().enumerate().rev().find_map(|(at, file)| {
            let device = file.devices.iter().find(|device| device.name == name)?;
            (file.kind == kind).then_some((at, device))
        });
        let (at, device) = found.ok_or_else(|| {
            let list: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            let error = Error::new(ErrorKind::NotFound, "find CDI device")
                .with("device", wanted)
                .with_message(format!("no file in {} describes it", list.join(" or ")));
            match &foreign {
                Some(yaml) => error.with_hint(format!(
                    "{} is YAML, which is not read here: write it as JSON, for example by nvidia-ctk cdi generate --format=json",
                    yaml.display()
                )),
                None => error.with_hint("the vendor's tool writes them, such as nvidia-ctk cdi generate --format=json"),
            }
        })?;
        edits.apply(&device.container_edits, wanted)?;
        if !used.contains(&at) {
            used.push(at);
            edits.apply(&files[at].container_edits, kind)?;
        }
    }
    Ok(edits)
}

/// Reads the files, and one that cannot be understood because it is YAML.
fn read(dirs: &[PathBuf]) -> Result<(Vec<File>, Option<PathBuf>)> {
    let (mut files, mut foreign) = (Vec::new(), None);
    for dir in dirs {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => files.push(file(&path)?),
                Some("yaml" | "yml") => foreign = Some(path),
                _ => {}
            }
        }
    }
    Ok((files, foreign))
}

fn file(path: &Path) -> Result<File> {
    let failed = |error| Error::from_io("read CDI file", error).with("path", path.display());
    let corrupt = || Error::new(ErrorKind::Corrupt, "read CDI file").with("path", path.display());
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(corrupt().with_message("it is no file, or too large for one that describes devices"));
    }
    let text = std::fs::read(path).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| corrupt().with_source(error))
}

impl Edits {
    fn apply(&mut self, edits: &ContainerEdits, of: &str) -> Result<()> {
        for variable in &edits.env {
            if !variable.contains('=') || variable.starts_with('=') || variable.contains('\0') {
                return Err(invalid("a variable of a CDI file is not NAME=value").with("device", of));
            }
            self.env.push(variable.clone());
        }
        for node in &edits.device_nodes {
            self.node(node)?;
        }
        for mount in &edits.mounts {
            self.mounts.push(bind(mount, of)?);
        }
        self.groups.extend(&edits.groups);
        for hook in &edits.hooks {
            tracing::warn!(
                device = of,
                hook = hook.hook_name.as_deref().unwrap_or_default(),
                path = hook.path.as_deref().unwrap_or_default(),
                "a hook of a CDI file was skipped: nothing from outside runs on the host"
            );
        }
        Ok(())
    }

    fn node(&mut self, node: &DeviceNode) -> Result<()> {
        let host = node.host_path.as_ref().unwrap_or(&node.path);
        let metadata = std::fs::metadata(host)
            .map_err(|error| Error::from_io("look up device", error).with("device", host.display()))?;
        let (kind, major, minor) = device_numbers(&metadata)?
            .ok_or_else(|| invalid("it is no device node").with("device", host.display()))?;
        let access = node.permissions.as_deref().unwrap_or("rw");
        self.rules.push(rule(true, kind, Some(major), Some(minor), access)?);
        use std::os::unix::fs::MetadataExt as _;
        let made = LinuxDeviceBuilder::default()
            .path(&node.path)
            .typ(kind)
            .major(major)
            .minor(minor)
            .file_mode(node.file_mode.unwrap_or_else(|| metadata.mode() & 0o777))
            .uid(node.uid.unwrap_or_else(|| metadata.uid()))
            .gid(node.gid.unwrap_or_else(|| metadata.gid()));
        self.devices.push(made.build().map_err(failed)?);
        Ok(())
    }
}

fn bind(wanted: &CdiMount, of: &str) -> Result<Mount> {
    let wrong = |why: String| {
        invalid(format!("a mount of a CDI file {why}"))
            .with("device", of)
            .with("target", wanted.container_path.display())
    };
    if !matches!(wanted.kind.as_deref(), None | Some("" | "bind" | "none")) {
        return Err(wrong("is no bind".to_owned()));
    }
    if !wanted.host_path.is_absolute() || !wanted.container_path.is_absolute() {
        return Err(wrong("has a relative path".to_owned()));
    }
    let mut mount = Mount::bind(&wanted.host_path, &wanted.container_path);
    let mut recursive = false;
    for option in &wanted.options {
        let options = &mut mount.options;
        match option.as_str() {
            "ro" => options.read_only = true,
            "nosuid" => options.nosuid = true,
            "nodev" => options.nodev = true,
            "noexec" => options.noexec = true,
            "rbind" => recursive = true,
            "bind" | "rw" | "private" | "rprivate" => {}
            other => return Err(wrong(format!("has the unknown option {other}"))),
        }
    }
    mount.kind = MountKind::Bind { source: wanted.host_path.clone(), recursive };
    Ok(mount)
}

/// The numbers of a device that a rule names: `c 1:3 rwm`, `b 8:* r`, `a *:* rwm`.
pub(super) fn cgroup_rule(text: &str) -> Result<LinuxDeviceCgroup> {
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

    const FILE: &str = r#"{
        "cdiVersion": "0.6.0", "kind": "example.com/null",
        "containerEdits": { "env": ["ALL=1"] },
        "devices": [{ "name": "first", "containerEdits": {
            "env": ["FIRST=yes"],
            "deviceNodes": [{ "path": "/dev/first", "hostPath": "/dev/null", "permissions": "r" }],
            "mounts": [{ "hostPath": "/etc", "containerPath": "/vendor", "options": ["ro", "nosuid", "bind"] }],
            "additionalGids": [1234],
            "hooks": [{ "hookName": "createContainer", "path": "/bin/touch", "args": ["touch", "/tmp/evil"] }]
        }}, { "name": "second" }]
    }"#;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn b10_a_device_is_what_its_file_says_but_for_hooks() {
        let dir = dir(&[("vendor.json", FILE), ("README", "no")]);
        let names = ["example.com/null=first".to_owned(), "example.com/null=second".to_owned()];
        let edits = resolve(&[dir.path().to_owned()], &names).unwrap();
        assert_eq!(edits.env, ["FIRST=yes", "ALL=1"]);
        assert_eq!(edits.groups, [1234]);
        assert_eq!((edits.devices.len(), edits.devices[0].major(), edits.devices[0].minor()), (1, 1, 3));
        assert_eq!(edits.rules[0].access().as_deref(), Some("r"));
        assert!(edits.mounts[0].options.read_only && edits.mounts[0].options.nosuid);
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_told() {
        let here = dir(&[("vendor.json", FILE), ("other.yaml", "kind: x")]);
        let ask = |name: &str| resolve(&[here.path().to_owned()], &[name.to_owned()]).unwrap_err();
        assert_eq!(ask("example.com/null=third").kind(), ErrorKind::NotFound);
        assert!(ask("example.com/null=third").report().to_string().contains("YAML"));
        assert_eq!(ask("../x").kind(), ErrorKind::InvalidArgument);
        let broken = dir(&[("x.json", "{")]);
        let error = resolve(&[broken.path().to_owned()], &["a/b=c".to_owned()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(resolve(&["/nonexistent".into()], &[]).is_ok());
    }

    #[test]
    fn device_rules_are_parsed() {
        let made = cgroup_rule("c 1:* rw").unwrap();
        assert_eq!((made.typ(), made.major(), made.minor()), (Some(LinuxDeviceType::C), Some(1), None));
        for wrong in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 x", "c -1:3 r", "c 1:3 rwm extra"] {
            assert!(cgroup_rule(wrong).is_err(), "{wrong:?}");
        }
    }
}
