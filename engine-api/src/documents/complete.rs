//! What only the engine at hand knows of a container, beside what its record says.

use std::collections::HashMap;

use bollard_stubs::models::{DriverData, OciDescriptor, OciPlatform};
use engine_core::engine::{Container, Image};
use engine_core::mount::MountKind;
use engine_core::{ContainerInfo, Engine, Error, ErrorKind, Name, Result};
use serde_json::{Value, json};

use super::{container_inspect, endpoint_settings};

/// Which parts of a container's document are shown.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Shown {
    /// What it has written, which is measured. Not by default.
    pub size: bool,
    /// Its place on the default network, beside the others': until API 1.52, and by default.
    pub default_network: bool,
    /// What describes the image's manifest: from API 1.48 on, and by default.
    pub manifest: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Self { size: false, default_network: true, manifest: true }
    }
}

impl Shown {
    /// Measures what it has written.
    #[must_use]
    pub fn with_size(mut self, size: bool) -> Self {
        self.size = size;
        self
    }

    /// Shows its place on the default network by itself.
    #[must_use]
    pub fn with_default_network(mut self, default_network: bool) -> Self {
        self.default_network = default_network;
        self
    }

    /// Describes the image's manifest.
    #[must_use]
    pub fn with_manifest(mut self, manifest: bool) -> Self {
        self.manifest = manifest;
        self
    }
}

/// Returns the answer of `GET /containers/{id}/json`, with what the engine knows of its parts.
///
/// # Errors
/// What volumes and the image store say.
pub async fn container_document(container: &Container, info: &ContainerInfo, shown: &Shown) -> Result<Value> {
    let engine = container.engine();
    let mut document = container_inspect(info);
    let parts = engine.info().await?;
    let driver = parts.image_store.driver;
    document.graph_driver = Some(graph_driver(container, &driver).await?);
    document.driver = Some(driver);
    for point in document.mounts.iter_mut().flatten() {
        let Some(Ok(name)) = point.name.as_ref().map(|name| name.parse::<Name>()) else { continue };
        let volume = match engine.volume(&name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            found => Some(found?),
        };
        point.source = volume.and_then(|v| v.mountpoint).map(|path| path.display().to_string());
        point.driver = Some(parts.volume_driver.clone());
    }
    if let Some(root) = parts.root {
        // They are there from the first start on.
        let file = |name: &str| {
            let path = root.join("containers").join(info.id.as_str()).join(name);
            Some(if path.exists() { path.display().to_string() } else { String::new() })
        };
        (document.hosts_path, document.resolv_conf_path) = (file("hosts"), file("resolv.conf"));
        document.log_path = file("container-json.log");
    }
    let image = match shown.size || shown.manifest {
        true => image(engine, info).await,
        false => None,
    };
    if shown.manifest {
        document.image_manifest_descriptor = image.as_ref().map(descriptor);
    }
    if shown.size {
        let written = engine.container_usage(&info.id).await?;
        let whole = written + image.as_ref().map_or(0, Image::size);
        (document.size_rw, document.size_root_fs) = (i64::try_from(written).ok(), i64::try_from(whole).ok());
    }
    let mut document = serde_json::to_value(document)
        .map_err(|error| Error::new(ErrorKind::Other, "show container").with_source(error))?;
    if shown.default_network {
        default_network(engine, info, &mut document["NetworkSettings"]);
    }
    Ok(document)
}

/// Returns the size of a container's image, 0 if it is not here any more.
pub async fn image_size(engine: &Engine, info: &ContainerInfo) -> u64 {
    image(engine, info).await.map_or(0, |image| image.size())
}

async fn image(engine: &Engine, info: &ContainerInfo) -> Option<Image> {
    engine.container_image(&info.id).await.ok()
}

fn descriptor(image: &Image) -> OciDescriptor {
    let platform = image.platform();
    OciDescriptor {
        media_type: Some(image.manifest.media_type.clone()),
        digest: Some(image.manifest.digest.to_string()),
        size: i64::try_from(image.manifest.size).ok(),
        platform: Some(OciPlatform {
            os: Some(platform.os.clone()),
            architecture: Some(platform.architecture.clone()),
            variant: platform.variant.clone(),
            ..OciPlatform::default()
        }),
        ..OciDescriptor::default()
    }
}

/// Where the root file system is. There is no merged directory: it is mounted in the container alone.
async fn graph_driver(container: &Container, driver: &str) -> Result<DriverData> {
    let mut data = HashMap::new();
    let mounts = match container.rootfs().await {
        Ok(mounts) => mounts,
        // It is on its way out.
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if let Some(MountKind::Overlay { lower, upper }) = mounts.first().map(|mount| &mount.kind) {
        let lower: Vec<String> = lower.iter().map(|path| path.display().to_string()).collect();
        data.insert("LowerDir".to_owned(), lower.join(":"));
        if let Some(upper) = upper {
            data.insert("UpperDir".to_owned(), upper.upper.display().to_string());
            data.insert("WorkDir".to_owned(), upper.work.display().to_string());
        }
    }
    data.insert("ID".to_owned(), container.id().to_string());
    Ok(DriverData { name: driver.to_owned(), data })
}

/// Adds what old clients look for: the place on the default network, beside the others'.
fn default_network(engine: &Engine, info: &ContainerInfo, settings: &mut Value) {
    let used = info.networks.iter().find(|used| engine.default_network() == Some(&used.name));
    let place =
        used.and_then(|used| serde_json::to_value(endpoint_settings(info, used)).ok()).unwrap_or_default();
    for key in ["EndpointID", "Gateway", "GlobalIPv6Address", "IPAddress", "IPv6Gateway", "MacAddress"] {
        settings[key] = place.get(key).cloned().unwrap_or_else(|| "".into());
    }
    for key in ["GlobalIPv6PrefixLen", "IPPrefixLen"] {
        settings[key] = place.get(key).cloned().unwrap_or_else(|| 0.into());
    }
    settings["Bridge"] = "".into();
    settings["HairpinMode"] = false.into();
    settings["LinkLocalIPv6Address"] = "".into();
    settings["LinkLocalIPv6PrefixLen"] = 0.into();
    for key in ["SecondaryIPAddresses", "SecondaryIPv6Addresses"] {
        settings[key] = json!(null);
    }
}
