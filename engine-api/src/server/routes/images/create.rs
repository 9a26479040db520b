//! `POST /images/create`: pull, or import.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use engine_core::engine::{ImportOptions, LayerProgress, PullEvent, PullOptions};
use engine_core::registry_client::Credentials;
use engine_core::{Error, ErrorKind, Reference, image_changes};
use futures_util::{StreamExt as _, stream};
use hyper::header::HeaderMap;
use serde_json::Value;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::gone::Follower;
use crate::server::params::Params;
use crate::server::progress::{self, Listening, Told, counted, line, status};
use crate::server::version::ApiVersion;
use crate::server::{body, registry_auth, reply};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/images/create", post(create))
}

async fn create(
    State(api): State<Arc<Api>>,
    version: ApiVersion,
    params: Params,
    follower: Follower,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let platform = super::platform_since(&params, "platform", version, 32)?;
    if let Some(name) = params.text("fromImage") {
        let mut options = PullOptions::default();
        options.credentials = registry_auth::of(&headers);
        options.platform = platform.unwrap_or(options.platform);
        let listening = Listening::new(&api, follower);
        return pull(&api, name, params.text("tag"), options, listening).await;
    }
    let source = params.text("fromSrc").unwrap_or_default();
    if source != "-" {
        return Err(match source {
            "" => ApiError::bad_request("fromImage, or fromSrc=- and an archive, is needed"),
            _ => {
                ApiError::unsupported("importing from an URL is not there: send the archive, with fromSrc=-")
            }
        });
    }
    let name = params.text("repo").map(|repo| super::target(repo, params.text("tag"))).transpose()?;
    let mut options = ImportOptions::default();
    let changes: Vec<_> = params.all("changes").flat_map(instructions).collect();
    image_changes::apply(&mut options.config, &changes)?;
    options.platform = platform;
    options.comment = Some(params.text("message").unwrap_or("Imported from -").to_owned());
    options.created = Some(SystemTime::now());
    let image =
        api.engine.import_stream(name.as_ref(), body::stream(body), options).await.map_err(|error| {
            match error.kind() {
                // What the archive holds is the client's to mend.
                ErrorKind::Corrupt | ErrorKind::Unsupported => ApiError::bad_request(error.report()),
                _ => error.into(),
            }
        })?;
    Ok(reply::json_lines(stream::iter([status(image.id().to_string())])))
}

/// Clients send each instruction for itself, or several as lines.
pub(super) fn instructions(changes: &str) -> Vec<String> {
    let joined = changes.replace("\\\n", " ");
    joined.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

async fn pull(
    api: &Api,
    name: &str,
    tag: Option<&str>,
    options: PullOptions,
    listening: Listening,
) -> Result<Response> {
    // "pull --all-tags" has been sending a colon for long.
    let name = name.trim_end_matches(':');
    let named = super::reference(name)?;
    if named.familiar_name() == "scratch" {
        return Err(ApiError::new(hyper::StatusCode::FORBIDDEN, "'scratch' is a reserved name"));
    }
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    let wanted = match tag {
        // It may be a digest.
        Some(tag) => match tag.parse() {
            Ok(digest) => named.with_digest(digest),
            Err(_) => named.with_tag(tag).map_err(|_| ApiError::bad_request("invalid tag format"))?,
        },
        None if has_tag => named,
        None => return pull_all(api, &named, &options, listening).await,
    };
    progress::answer(listening, api.engine.pull(&wanted, options), told(&wanted)).await
}

/// Pulls each tag that the repository has, one after the other.
async fn pull_all(
    api: &Api,
    named: &Reference,
    options: &PullOptions,
    listening: Listening,
) -> Result<Response> {
    let registry = with_credentials(api, named, options.credentials.as_ref())?;
    let tags = registry.list_tags(named).await.map_err(|error| refused(error, named))?;
    let wanted: Vec<Reference> = tags.iter().filter_map(|tag| named.with_tag(tag).ok()).collect();
    let (engine, options) = (api.engine.clone(), options.clone());
    let lines = stream::iter(wanted).flat_map(move |wanted| {
        progress::lines(engine.pull(&wanted, options.clone()), told(&wanted)).boxed()
    });
    Ok(listening.answer(progress::until_failure(lines)))
}

pub(super) fn with_credentials(
    api: &Api,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Arc<dyn engine_core::RegistryClient>> {
    let registry = registry(api)?;
    Ok(match credentials {
        Some(credentials) => registry.with_credentials(reference.registry(), credentials.clone()),
        None => registry,
    })
}

/// The engine's client of registries.
pub(super) fn registry(api: &Api) -> Result<Arc<dyn engine_core::RegistryClient>> {
    match api.engine.local() {
        Some(local) => Ok(Arc::clone(local.registry())),
        None => Err(ApiError::unsupported("this engine is elsewhere: ask registries there")),
    }
}

fn told(wanted: &Reference) -> Told<PullEvent, engine_core::engine::Image> {
    let (events, errors) = (wanted.clone(), wanted.clone());
    let mut arriving = HashSet::new();
    Told {
        event: Box::new(move |event| event_lines(event, &events, &mut arriving)),
        end: Box::new(|_| Vec::new()),
        error: Box::new(move |error| refused(error, &errors)),
    }
}

fn event_lines(event: PullEvent, wanted: &Reference, arriving: &mut HashSet<String>) -> Vec<Value> {
    match event {
        PullEvent::Resolved { .. } => {
            let mut line = status(format!("Pulling from {}", wanted.repository()));
            line["id"] = wanted.tag_or_digest().into();
            vec![line]
        }
        PullEvent::Done { target, unchanged } => {
            let what = if unchanged { "Image is up to date for" } else { "Downloaded newer image for" };
            vec![
                status(format!("Digest: {}", target.digest)),
                status(format!("Status: {what} {}", wanted.familiar())),
            ]
        }
        event => layer_lines(event, arriving),
    }
}

/// What is told of a layer on its way.
pub(in crate::server::routes) fn layer_lines(event: PullEvent, arriving: &mut HashSet<String>) -> Vec<Value> {
    let PullEvent::Layer { layer, progress } = event else { return Vec::new() };
    let id = layer.digest.short();
    match progress {
        LayerProgress::Waiting => vec![line(id, "Pulling fs layer")],
        LayerProgress::Exists => vec![line(id, "Already exists")],
        LayerProgress::Transferring { done, total } => {
            arriving.insert(id.to_owned());
            vec![counted(id, "Downloading", done, total)]
        }
        LayerProgress::Unpacking => {
            let mut lines = Vec::new();
            if arriving.contains(id) {
                lines = vec![line(id, "Verifying Checksum"), line(id, "Download complete")];
            }
            // It was unpacked as it came.
            lines.push(counted(id, "Extracting", layer.size, layer.size));
            lines
        }
        LayerProgress::Done => vec![line(id, "Pull complete")],
        _ => Vec::new(),
    }
}

/// What a registry refused, in the words that clients look for.
pub(super) fn refused(error: Error, wanted: &Reference) -> ApiError {
    let cause = error.report();
    let is_platform = cause.contains("select platform");
    match error.kind() {
        ErrorKind::NotFound if is_platform => ApiError::not_found(cause),
        ErrorKind::NotFound => ApiError::not_found(format!(
            "manifest for {} not found: manifest unknown: {cause}",
            wanted.familiar()
        )),
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => ApiError::not_found(format!(
            "pull access denied for {}, repository does not exist or may require 'docker login': {cause}",
            wanted.familiar_name()
        )),
        _ => error.into(),
    }
}
