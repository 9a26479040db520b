//! What `inspect` shows: `engine-api`'s documents of Docker's API, with what only the engine at hand knows.

use engine_core::engine::Image;
use engine_core::network::NetworkInfo;
use engine_core::secret::{Secret, SecretData};
use engine_core::volume_driver::Volume;
use engine_core::{ContainerInfo, Engine};
use serde_json::Value;

use crate::failure::{Failure, Result};

/// Returns a container as Docker shows it.
pub(crate) async fn container(engine: &Engine, info: &ContainerInfo) -> Result<Value> {
    let mut document = engine_api::container_inspect(info);
    document.driver = Some(engine.image_store().capabilities().driver);
    for point in document.mounts.iter_mut().flatten() {
        if let Some(Ok(name)) = point.name.as_ref().map(|name| name.parse()) {
            let volume = engine.volume_driver().inspect(&name).await?;
            point.source = volume.and_then(|v| v.mountpoint).map(|path| path.display().to_string());
            point.driver = Some(engine.volume_driver().name().to_owned());
        }
    }
    let mut document = serde_json::to_value(document).map_err(|e| Failure::usage(e.to_string()))?;
    legacy_network(engine, info, &mut document["NetworkSettings"]);
    document["Scoped"] = info.scoped.into();
    document["Config"]["Secrets"] = engine_api::container_secrets(info);
    Ok(document)
}

/// Adds what old clients look for: the place on the default network, beside the others'.
fn legacy_network(engine: &Engine, info: &ContainerInfo, settings: &mut Value) {
    let used = info.networks.iter().find(|used| engine.default_network() == Some(&used.name));
    let place = used
        .and_then(|used| serde_json::to_value(engine_api::endpoint_settings(info, used)).ok())
        .unwrap_or_default();
    for key in ["EndpointID", "Gateway", "GlobalIPv6Address", "IPAddress", "IPv6Gateway", "MacAddress"] {
        settings[key] = place.get(key).cloned().unwrap_or_else(|| "".into());
    }
    for key in ["GlobalIPv6PrefixLen", "IPPrefixLen"] {
        settings[key] = place.get(key).cloned().unwrap_or_else(|| 0.into());
    }
}

/// Returns a network as Docker shows it.
pub(crate) fn network(network: &NetworkInfo) -> Result<Value> {
    serde_json::to_value(engine_api::network_inspect(network)).map_err(|e| Failure::usage(e.to_string()))
}

/// Returns a secret as Podman shows it, with its content if that was asked for.
pub(crate) fn secret(secret: &Secret, content: Option<&SecretData>) -> Value {
    engine_api::secret_inspect(secret, content)
}

/// Returns an image as Docker shows it.
pub(crate) fn image(image: &Image) -> Result<Value> {
    serde_json::to_value(engine_api::image_inspect(image)).map_err(|e| Failure::usage(e.to_string()))
}

/// Returns a volume as Docker shows it, with what it takes if that was measured.
pub(crate) fn volume(volume: &Volume, usage: Option<(Option<u64>, usize)>) -> Result<Value> {
    serde_json::to_value(engine_api::volume_inspect(volume, usage)).map_err(|e| Failure::usage(e.to_string()))
}
