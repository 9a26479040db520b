//! `GET /info`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use engine_core::time::rfc3339;
use engine_core::{ContainerStatus, Digest};
use serde_json::{Value, json};

use crate::server::api::Api;
use crate::server::error::Result;
use crate::server::reply;
use crate::server::version::ApiVersion;

/// What runs containers: no program of others.
const RUNTIME: &str = "engine-shim";

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/info", get(info))
}

async fn info(State(api): State<Arc<Api>>, version: ApiVersion) -> Result<Response> {
    let engine = &api.engine;
    let (mut running, mut paused, mut stopped) = (0, 0, 0);
    for container in engine.containers().await? {
        match container.state.status {
            ContainerStatus::Paused => paused += 1,
            status if status.is_running() => running += 1,
            _ => stopped += 1,
        }
    }
    let mut images: Vec<_> = engine.images().await?.into_iter().map(|image| image.target.digest).collect();
    images.sort_unstable();
    images.dedup();
    let parts = engine.info().await?;
    let (root, runtime) = (parts.root.unwrap_or_default(), parts.runtime);
    // A hybrid host is one of version 1.
    let cgroup = if runtime.cgroup == "v2" { "2" } else { "1" };
    let (limits, v1) = (runtime.limits, cgroup == "1");
    let system = Os::read();
    let forwarding = forwarding();
    let uname = rustix::system::uname();
    let what = json!({
        "ID": id(&root),
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": images.len(),
        "Driver": "overlayfs",
        "DriverStatus": [["Backing Filesystem", file_system(&root)]],
        "Plugins": {
            "Volume": [parts.volume_driver],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
    });
    let can = json!({
        "MemoryLimit": limits,
        "SwapLimit": limits,
        "CpuCfsPeriod": limits,
        "CpuCfsQuota": limits,
        "CPUShares": limits,
        "CPUSet": limits,
        "PidsLimit": limits,
        "OomKillDisable": limits && v1,
        "IPv4Forwarding": forwarding,
        "Debug": false,
        "LoggingDriver": "json-file",
        "CgroupDriver": runtime.cgroup_driver,
        "CgroupVersion": cgroup,
        // Containers do not notice a server's end.
        "LiveRestoreEnabled": true,
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "Warnings": warnings(forwarding, limits),
    });
    let host = json!({
        "NFd": fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "NGoroutines": fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
        "SystemTime": rfc3339(SystemTime::now()),
        "NEventsListener": 0,
        "KernelVersion": uname.release().to_string_lossy(),
        "OperatingSystem": system.name,
        "OSVersion": system.version,
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": parts.host.memory,
        "Name": uname.nodename().to_string_lossy(),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
    });
    let rest = json!({
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": {
                "docker.io": { "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true },
            },
            "Mirrors": null,
        },
        "GenericResources": null,
        "DockerRootDir": root,
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": api.info.version,
        "Runtimes": { RUNTIME: { "path": RUNTIME } },
        "DefaultRuntime": RUNTIME,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        "Isolation": "",
        "InitBinary": "",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
    });
    let mut document = Value::Object(
        [what, can, host, rest]
            .into_iter()
            .flat_map(|part| part.as_object().cloned().unwrap_or_default())
            .collect(),
    );
    of_version(&mut document, version);
    Ok(reply::json(&document))
}

/// Puts in what older versions have as well, and what newer ones do.
fn of_version(document: &mut Value, version: ApiVersion) {
    if version < ApiVersion::v1(47) {
        let config = &mut document["RegistryConfig"];
        config["AllowNondistributableArtifactsCIDRs"] = Value::Null;
        config["AllowNondistributableArtifactsHostnames"] = Value::Null;
    }
    if version < ApiVersion::v1(49) {
        for commit in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            document[commit]["Expected"] = json!("");
        }
    } else {
        document["FirewallBackend"] = json!({ "Driver": "nftables" });
    }
    if version < ApiVersion::v1(50) {
        document["BridgeNfIptables"] = json!(false);
        document["BridgeNfIp6tables"] = json!(false);
    }
}

/// An id in Docker's form that stays the same: of this machine and this directory.
fn id(root: &Path) -> String {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let digest = Digest::sha256(format!("engine-api {} {}", machine.trim(), root.display()).as_bytes());
    let hex = digest.hex();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// The words of os-release(5).
#[derive(Debug, Default)]
struct Os {
    name: String,
    version: String,
}

impl Os {
    fn read() -> Self {
        let text = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|file| fs::read_to_string(file).ok())
            .unwrap_or_default();
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let name = Some(field("PRETTY_NAME")).filter(|name| !name.is_empty());
        Self { name: name.unwrap_or_else(|| "Linux".to_owned()), version: field("VERSION_ID") }
    }
}

/// The name of the file system of a directory, in Docker's words (statfs(2)).
fn file_system(path: &Path) -> &'static str {
    match rustix::fs::statfs(path).map(|found| found.f_type) {
        Ok(0xef53) => "extfs",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x794c_7630) => "overlayfs",
        Ok(0x0102_1994) => "tmpfs",
        Ok(0x2fc1_2fc1) => "zfs",
        _ => "<unknown>",
    }
}

fn forwarding() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1")
}

fn warnings(forwarding: bool, limits: bool) -> Value {
    let mut list = Vec::new();
    if !limits {
        list.push("WARNING: No memory limit support");
    }
    if !forwarding {
        list.push("WARNING: IPv4 forwarding is disabled");
    }
    if list.is_empty() { Value::Null } else { json!(list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_its_directory() {
        assert_eq!(id(Path::new("/a")), id(Path::new("/a")));
        assert_ne!(id(Path::new("/a")), id(Path::new("/b")));
        assert_eq!(id(Path::new("/a")).len(), 36);
    }
}
