//! CDI files: which there are, what one may say, and reading it as JSON or YAML.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::yaml;
use crate::error::{Error, ErrorKind, Result};

/// Larger files are no descriptions of devices.
const MAX_FILE: u64 = 4 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    #[serde(default)]
    pub(super) container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) container_edits: ContainerEdits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerEdits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) mounts: Vec<BindMount>,
    pub(super) hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    pub(super) groups: Vec<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceNode {
    pub(super) path: PathBuf,
    pub(super) host_path: Option<PathBuf>,
    pub(super) permissions: Option<String>,
    pub(super) file_mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BindMount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) hook_name: Option<String>,
    pub(super) path: Option<String>,
}

/// Reads the files of `dirs`: directory by directory, each in the order of the names.
pub(super) fn read(dirs: &[PathBuf]) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for dir in dirs {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => files.push(parse(&path, from_json)?),
                Some("yaml" | "yml") => files.push(parse(&path, from_yaml)?),
                _ => {}
            }
        }
    }
    Ok(files)
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn parse(path: &Path, format: fn(&[u8]) -> std::result::Result<File, Cause>) -> Result<File> {
    let failed = |error| Error::from_io("read CDI file", error).with("path", path.display());
    let corrupt = || Error::new(ErrorKind::Corrupt, "read CDI file").with("path", path.display());
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(corrupt().with_message("it is no file, or too large for one that describes devices"));
    }
    let text = std::fs::read(path).map_err(failed)?;
    format(&text).map_err(|error| corrupt().with_source(error))
}

fn from_json(text: &[u8]) -> std::result::Result<File, Cause> {
    Ok(serde_json::from_slice(text)?)
}

fn from_yaml(text: &[u8]) -> std::result::Result<File, Cause> {
    // By way of JSON, as Go's libraries do it, with which the vendors' tools are tested.
    Ok(serde_json::from_value(yaml::value(std::str::from_utf8(text)?)?)?)
}
