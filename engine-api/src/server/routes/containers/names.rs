//! Names of containers: how they are given, and what is said when one is taken.

use engine_core::{Engine, Name};

use crate::server::error::{ApiError, Result};

/// Reads the name of a container; Docker's documents have a slash before it.
pub(super) fn read(text: &str) -> Result<Name> {
    text.strip_prefix('/').unwrap_or(text).parse().map_err(|_| {
        ApiError::bad_request(format!(
            "Invalid container name ({text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at least 2 and at most 255 of them"
        ))
    })
}

/// Says who has a name, in the words by which clients know it.
pub(super) async fn taken(engine: &Engine, name: &Name) -> ApiError {
    let owner = engine.container(name.as_str()).await;
    let id = owner.map(|container| container.id().to_string()).unwrap_or_default();
    ApiError::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    ))
}
