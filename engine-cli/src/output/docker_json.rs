//! What `inspect` shows: `engine-api`'s documents of Docker's API, with what only the engine at hand knows.

use engine_core::ContainerInfo;
use engine_core::engine::{Container, Image};
use engine_core::network::NetworkInfo;
use engine_core::secret::{Secret, SecretData};
use engine_core::volume_driver::Volume;
use serde_json::Value;

use crate::failure::{Failure, Result};

/// Returns a container as Docker shows it.
pub(crate) async fn container(container: &Container, info: &ContainerInfo, size: bool) -> Result<Value> {
    let shown = engine_api::Shown::default().with_size(size);
    let mut document = engine_api::container_document(container, info, &shown).await?;
    document["Scoped"] = info.scoped.into();
    document["Config"]["Secrets"] = engine_api::container_secrets(info);
    Ok(document)
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
