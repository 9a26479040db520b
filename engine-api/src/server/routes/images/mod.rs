//! `/images/…`, `/commit`, `/distribution/…`, `/auth`.
//!
//! Names of images have slashes in them: what a path asks for is its last part.

mod archive;
mod auth;
mod commit;
mod create;
mod distribution;
mod history;
mod inspect;
mod list;
mod prune;
mod push;
mod remove;
mod search;
mod summary;
mod tag;

pub(super) use create::layer_lines;
pub(super) use summary::Listed;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts as _, Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use engine_core::{Error, ErrorKind, Platform, Reference};
use hyper::Method;
use hyper::header::HeaderMap;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::gone::Follower;
use crate::server::params::Params;
use crate::server::routes::absent;
use crate::server::version::ApiVersion;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .merge(archive::routes())
        .merge(auth::routes())
        .merge(commit::routes())
        .merge(create::routes())
        .merge(distribution::routes())
        .merge(list::routes())
        .merge(prune::routes())
        .merge(search::routes())
        .route("/images/{*rest}", get(named).post(named).delete(named))
}

/// A request about the image of this name.
struct Named {
    api: Arc<Api>,
    name: String,
    params: Params,
    version: ApiVersion,
    headers: HeaderMap,
    follower: Follower,
}

async fn named(State(api): State<Arc<Api>>, Path(rest): Path<String>, request: Request) -> Result<Response> {
    let (mut parts, _) = request.into_parts();
    let Ok(params) = Params::from_request_parts(&mut parts, &()).await;
    let Ok(version) = ApiVersion::from_request_parts(&mut parts, &()).await;
    let Ok(follower) = Follower::from_request_parts(&mut parts, &()).await;
    let about = |name: &str| {
        if name.trim().is_empty() {
            return Err(ApiError::bad_request("image name cannot be blank"));
        }
        Ok(Named { api, name: name.to_owned(), params, version, headers: parts.headers, follower })
    };
    if parts.method == Method::DELETE {
        return remove::remove(about(&rest)?).await;
    }
    let (name, last) = rest.rsplit_once('/').unwrap_or(("", &rest));
    match (&parts.method, last) {
        (&Method::GET | &Method::HEAD, "json") => inspect::inspect(about(name)?).await,
        (&Method::GET | &Method::HEAD, "history") => history::history(about(name)?).await,
        (&Method::GET | &Method::HEAD, "get") => archive::save(about(name)?).await,
        (&Method::POST, "push") => push::push(about(name)?).await,
        (&Method::POST, "tag") => tag::tag(about(name)?).await,
        _ => Err(absent::no_such_page().await),
    }
}

/// Says that an image is not there as Docker does: by the whole of its name.
fn absent(name: &str, error: Error) -> ApiError {
    if error.kind() != ErrorKind::NotFound || error.subject().is_none_or(|(key, _)| key != "image") {
        return error.into();
    }
    let whole = match name.parse::<Reference>() {
        // It may be the beginning of an id as well.
        Ok(reference) if !is_id(name) => reference.familiar(),
        _ => name.to_owned(),
    };
    ApiError::not_found(format!("No such image: {whole}"))
}

fn is_id(name: &str) -> bool {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    hex.len() >= 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Joins the two parameters by which clients name an image that is to be: `repo` and `tag`.
fn target(repo: &str, tag: Option<&str>) -> Result<Reference> {
    let reference = reference(repo)?;
    if reference.digest().is_some() {
        return Err(ApiError::bad_request("cannot import digest reference"));
    }
    match tag {
        Some(tag) => reference.with_tag(tag).map_err(|_| ApiError::bad_request("invalid tag format")),
        None => Ok(reference),
    }
}

pub(super) fn reference(name: &str) -> Result<Reference> {
    name.parse().map_err(|error: Error| match name.chars().any(char::is_uppercase) {
        true => ApiError::bad_request(format!(
            "invalid reference format: repository name ({name}) must be lowercase"
        )),
        false => ApiError::bad_request(format!("invalid reference format: {}", error.report())),
    })
}

/// Reads a platform: `linux/arm64`, or a document, as the newer parameters have it.
pub(super) fn platform(text: &str) -> Result<Platform> {
    let wrong = || ApiError::bad_request(format!("invalid platform {text:?}"));
    if text.trim_start().starts_with('{') {
        let platform: Platform = serde_json::from_str(text).map_err(|_| wrong())?;
        return Ok(Platform::new(&platform.os, &platform.architecture, platform.variant.as_deref()));
    }
    text.parse().map_err(|_| wrong())
}

/// Reads a parameter that is a platform, in versions that have it.
fn platform_since(params: &Params, name: &str, version: ApiVersion, since: u16) -> Result<Option<Platform>> {
    if version < ApiVersion::v1(since) {
        return Ok(None);
    }
    params.text(name).map(platform).transpose()
}
