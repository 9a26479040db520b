//! `GET /distribution/{name}/json`: what a registry has under a name.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use engine_core::descriptor::Descriptor;
use engine_core::image_config::ImageConfig;
use engine_core::manifest::{MAX_CONFIG_SIZE, Manifest};
use engine_core::{Error, ErrorKind, Platform, Reference, RegistryClient};
use futures_util::TryStreamExt as _;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::json;

use super::create::with_credentials;
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::routes::absent;
use crate::server::{registry_auth, reply};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/distribution/{*rest}", get(inspect))
}

async fn inspect(
    State(api): State<Arc<Api>>,
    Path(rest): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let Some(name) = rest.strip_suffix("/json") else { return Err(absent::no_such_page().await) };
    let reference = super::reference(name)?;
    let registry = with_credentials(&api, &reference, registry_auth::of(&headers).as_ref())?;
    let (target, bytes) = registry.fetch_manifest(&reference).await.map_err(refused)?;
    let platforms: Vec<Platform> = match Manifest::parse(&bytes, &target.media_type).map_err(refused)? {
        Manifest::Index(index) => index.manifests.into_iter().filter_map(|entry| entry.platform).collect(),
        Manifest::Image(image) if image.is_container_image() => {
            vec![platform(&*registry, &reference, &image.config).await.map_err(refused)?]
        }
        _ => Vec::new(),
    };
    Ok(reply::json(&json!({
        "Descriptor": { "mediaType": target.media_type, "digest": target.digest, "size": target.size },
        "Platforms": platforms,
    })))
}

/// Reads the platform of an image that is of one.
async fn platform(
    registry: &dyn RegistryClient,
    reference: &Reference,
    config: &Descriptor,
) -> engine_core::Result<Platform> {
    let wrong = |why: &'static str| {
        Error::new(ErrorKind::Corrupt, "fetch blob").with("digest", &config.digest).with_message(why)
    };
    if config.size > MAX_CONFIG_SIZE {
        return Err(wrong("the configuration is too large"));
    }
    let pieces = registry.fetch_blob(reference, config, 0).await?;
    let bytes = pieces
        .try_fold(Vec::new(), async |mut all, piece| {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await?;
    if config.digest.rehash(&bytes) != config.digest {
        return Err(wrong("its content does not match its digest"));
    }
    Ok(ImageConfig::parse(&bytes)?.platform())
}

/// What the registry says is not this server's failure.
fn refused(error: Error) -> ApiError {
    let cause = error.report();
    match error.kind() {
        ErrorKind::NotFound => ApiError::not_found(format!("manifest unknown: {cause}")),
        ErrorKind::Unauthenticated => {
            ApiError::new(StatusCode::UNAUTHORIZED, format!("unauthorized: authentication required: {cause}"))
        }
        ErrorKind::PermissionDenied => ApiError::new(
            StatusCode::FORBIDDEN,
            format!("denied: requested access to the resource is denied: {cause}"),
        ),
        _ => error.into(),
    }
}
