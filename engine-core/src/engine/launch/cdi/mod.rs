//! Devices by name, as vendors describe them: the Container Device Interface (CDI).
//!
//! A file of the host's administrator says what a device `vendor.com/class=name` is: nodes, mounts, variables, groups.
//! Only that is taken. Hooks, which other engines run on the host as root, are not run (SECURITY B10): they are skipped,
//! and said so. Names are looked up in what was read; they are never part of a path.

mod file;
mod yaml;

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::mount::{Mount, MountKind};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup};

use super::devices::{device_numbers, rule};
use super::{failed, invalid};
use file::{BindMount, ContainerEdits, DeviceNode};

/// What devices change in a container.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) devices: Vec<LinuxDevice>,
    pub(super) rules: Vec<LinuxDeviceCgroup>,
    pub(super) mounts: Vec<Mount>,
    pub(super) groups: Vec<u32>,
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
    let files = file::read(dirs)?;
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
            Error::new(ErrorKind::NotFound, "find CDI device")
                .with("device", wanted)
                .with_message(format!("no file in {} describes it", list.join(" or ")))
                .with_hint("the vendor's tool writes them, such as nvidia-ctk cdi generate")
        })?;
        edits.apply(&device.container_edits, wanted)?;
        if !used.contains(&at) {
            used.push(at);
            edits.apply(&files[at].container_edits, kind)?;
        }
    }
    Ok(edits)
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

fn bind(wanted: &BindMount, of: &str) -> Result<Mount> {
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

    /// As `nvidia-ctk cdi generate` lays it out, with what YAML has beyond JSON: comments, bare texts, octal numbers, one
    /// piece used twice.
    const YAML: &str = r#"---
# written by a vendor's tool
cdiVersion: 0.5.0
kind: example.com/null
containerEdits:
  env:
  - ALL=1
  mounts: &shared
  - hostPath: /etc
    containerPath: /vendor
    options: [ro, nosuid, bind]
devices:
- name: "0"
  containerEdits:
    mounts: *shared
    deviceNodes:
    - path: /dev/first
      hostPath: /dev/null
      fileMode: 0620
      permissions: r
    hooks:
    - hookName: createContainer
      path: /bin/touch
      args: [touch, /tmp/evil]
- name: second
"#;

    #[test]
    fn b10_yaml_says_the_same_as_json() {
        for name in ["vendor.yaml", "vendor.yml"] {
            let dir = dir(&[(name, YAML), ("notes.yaml.txt", ": no : yaml")]);
            let names = ["example.com/null=0".to_owned(), "example.com/null=second".to_owned()];
            let edits = resolve(&[dir.path().to_owned()], &names).unwrap();
            assert_eq!(edits.env, ["ALL=1"], "{name}");
            assert_eq!((edits.devices.len(), edits.devices[0].minor()), (1, 3));
            assert_eq!(edits.devices[0].file_mode(), Some(0o620));
            assert_eq!(edits.mounts.len(), 2, "of the device and of its file");
            assert_eq!(edits.mounts[0], edits.mounts[1]);
            assert!(edits.mounts[0].options.read_only && edits.mounts[0].options.nosuid);
        }
    }

    #[test]
    fn the_last_directory_wins_whatever_its_format() {
        let said = |value: &str| {
            format!("kind: a/b\ndevices:\n- name: c\n  containerEdits:\n    env: [FROM={value}]\n")
        };
        let json = r#"{"kind": "a/b", "devices": [{"name": "c", "containerEdits": {"env": ["FROM=json"]}}]}"#;
        let (yaml, json) = (dir(&[("x.yaml", &said("yaml"))]), dir(&[("x.json", json)]));
        let dirs = [yaml.path().to_owned(), json.path().to_owned()];
        let names = ["a/b=c".to_owned()];
        assert_eq!(resolve(&dirs, &names).unwrap().env, ["FROM=json"]);
        let dirs = dirs.into_iter().rev().collect::<Vec<_>>();
        assert_eq!(resolve(&dirs, &names).unwrap().env, ["FROM=yaml"]);
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_told() {
        let here = dir(&[("vendor.json", FILE)]);
        let ask = |name: &str| resolve(&[here.path().to_owned()], &[name.to_owned()]).unwrap_err();
        assert_eq!(ask("example.com/null=third").kind(), ErrorKind::NotFound);
        assert_eq!(ask("../x").kind(), ErrorKind::InvalidArgument);
        let deep = "[".repeat(100_000);
        let items = format!("[{}]", vec!["*a"; 20_000].join(","));
        let many = format!("kind: a/b\nx: &a [1]\ncontainerEdits: {{ env: {items} }}\n");
        for (name, text) in [
            ("x.json", "{"),
            ("x.yaml", "kind: [a"),
            ("x.yaml", "kind: a/b\nkind: a/b\n"),
            ("x.yaml", "- kind: a/b\n"),
            ("x.yaml", "devices: []\n"),
            ("x.yaml", "\u{1}"),
            ("x.yml", ""),
            ("x.yml", &deep),
            ("x.yml", &many),
        ] {
            let broken = dir(&[(name, text)]);
            let error = resolve(&[broken.path().to_owned()], &["a/b=c".to_owned()]).unwrap_err();
            let shown = &text[..text.len().min(40)];
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} {shown:?}");
            assert!(error.report().to_string().contains(name), "{name} {shown:?}");
        }
        assert!(resolve(&["/nonexistent".into()], &[]).is_ok());
    }
}
