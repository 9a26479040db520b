//! `DELETE /images/{name}`.

use axum::response::Response;
use engine_core::engine::{Image, RemovedImage};
use engine_core::{Digest, Engine, Error, ErrorKind, Platform, Reference};
use serde_json::{Value, json};

use super::Named;
use crate::server::error::{ApiError, Result};
use crate::server::reply;
use crate::server::version::ApiVersion;

pub(super) async fn remove(Named { api, name, params, version, .. }: Named) -> Result<Response> {
    let mut removed = RemovedImage::default();
    let platforms: Vec<_> = match version >= ApiVersion::v1(50) {
        true => params.all("platforms").map(super::platform).collect::<Result<_>>()?,
        false => Vec::new(),
    };
    let absent = |error| super::absent(&name, error);
    let image = api.engine.image(&name).await;
    if platforms.is_empty() {
        removed = match api.engine.remove_image(&name, params.flag("force")).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                return Err(conflict(&api.engine, &name, image.as_ref().ok(), error).await);
            }
            removed => removed.map_err(absent)?,
        };
    }
    // All of them are there, or none is removed.
    if platforms.len() > 1 {
        let there = api.engine.image_platforms(&name).await.map_err(absent)?;
        let there = there.iter().filter(|known| known.size.is_some()).map(|known| &known.platform);
        let there: Vec<_> = there.map(normal).collect();
        if let Some(missing) = platforms.iter().find(|platform| !there.contains(&normal(platform))) {
            return Err(ApiError::not_found(format!("No such image: {name} of the platform {missing}")));
        }
    }
    for platform in &platforms {
        let part = api.engine.remove_image_platform(&name, platform).await.map_err(absent)?;
        removed.untagged.extend(part.untagged);
        removed.deleted.extend(part.deleted);
    }
    let id = image.as_ref().ok().map(Image::id);
    Ok(reply::json(&records(&removed.untagged, removed.deleted, |digest| Some(digest) == id)))
}

fn normal(platform: &Platform) -> Platform {
    Platform::new(&platform.os, &platform.architecture, platform.variant.as_deref())
}

/// Returns what was removed, image ids before the rest of the content.
pub(super) fn records(
    untagged: &[Reference],
    mut deleted: Vec<Digest>,
    is_id: impl Fn(&Digest) -> bool,
) -> Vec<Value> {
    deleted.sort_by_key(|digest| !is_id(digest));
    let untagged = untagged.iter().map(|name| json!({ "Untagged": name.familiar() }));
    untagged.chain(deleted.iter().map(|digest| json!({ "Deleted": digest }))).collect()
}

/// Says why an image stays as Docker does.
async fn conflict(engine: &Engine, name: &str, image: Option<&Image>, error: Error) -> ApiError {
    let (Some(image), Ok(containers)) = (image, engine.containers().await) else { return error.into() };
    let id = image.id();
    let by_name = name.parse::<Reference>().is_ok_and(|name| image.names.contains(&name));
    let users = || containers.iter().filter(|container| container.image_id == *id);
    let running = users().find(|container| container.state.status.is_running());
    let short = id.short();
    ApiError::conflict(match (running.or_else(|| users().next()), by_name) {
        (Some(user), true) => format!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {short}",
            user.id.short()
        ),
        (_, false) if image.names.len() > 1 => format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        ),
        (Some(user), false) => {
            let (how, state) = match running {
                Some(_) => ("cannot be forced", "running"),
                None => ("must be forced", "stopped"),
            };
            format!(
                "conflict: unable to delete {short} ({how}) - image is being used by {state} container {}",
                user.id.short()
            )
        }
        (None, _) => return error.into(),
    })
}
