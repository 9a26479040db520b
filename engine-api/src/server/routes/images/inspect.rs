//! `GET /images/{name}/json`.

use axum::response::Response;
use engine_core::Platform;
use serde_json::{Value, json};

use super::{Named, summary};
use crate::documents::image_inspect;
use crate::server::error::{ApiError, Result};
use crate::server::reply;
use crate::server::version::ApiVersion;

pub(super) async fn inspect(Named { api, name, params, version, .. }: Named) -> Result<Response> {
    let manifests = version >= ApiVersion::v1(48) && params.flag("manifests");
    let platform = super::platform_since(&params, "platform", version, 49)?;
    if manifests && platform.is_some() {
        return Err(ApiError::bad_request(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let absent = |error| super::absent(&name, error);
    let wanted = platform.clone().unwrap_or_else(Platform::host);
    let image = api.engine.image_for(&name, &wanted).await.map_err(absent)?;
    if let Some(platform) = platform.filter(|platform| platform.rank(&image.platform()).is_none()) {
        return Err(ApiError::not_found(format!(
            "image with reference {name} was found but does not provide the specified platform ({platform})"
        )));
    }
    let mut document = serde_json::to_value(image_inspect(&image)).unwrap_or_default();
    if manifests {
        let platforms = api.engine.image_platforms(&name).await.map_err(absent)?;
        document["Manifests"] = summary::manifests(&platforms);
    }
    of_version(&mut document, version);
    Ok(reply::json(&document))
}

/// Puts in, and takes out, what this version has otherwise.
fn of_version(document: &mut Value, version: ApiVersion) {
    let Some(map) = document.as_object_mut() else { return };
    if version < ApiVersion::v1(44) {
        map.insert("VirtualSize".to_owned(), map["Size"].clone());
        map.entry("Created").or_insert_with(|| json!("0001-01-01T00:00:00Z"));
    }
    if version < ApiVersion::v1(45) {
        map.insert("Container".to_owned(), json!(""));
        map.insert("ContainerConfig".to_owned(), json!({}));
    }
    if version < ApiVersion::v1(48) {
        map.remove("Descriptor");
    }
    // When its names were given is not kept; this is Docker's "never".
    map.insert("Metadata".to_owned(), json!({ "LastTagTime": "0001-01-01T00:00:00Z" }));
    for (key, always) in [("Parent", false), ("DockerVersion", false), ("Comment", true), ("Author", true)] {
        if version < ApiVersion::v1(52) {
            map.entry(key).or_insert_with(|| json!(""));
        } else if always && map.get(key).and_then(Value::as_str).is_some_and(str::is_empty) {
            map.remove(key);
        }
    }
}
