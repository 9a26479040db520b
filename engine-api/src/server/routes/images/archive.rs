//! `GET /images/{name}/get`, `GET /images/get`, `POST /images/load`: images as archives.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use engine_core::Platform;
use engine_core::engine::{LayerProgress, LoadEvent, LoadOptions, LoadSource, LoadedImage, SaveOptions};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::Named;
use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::gone::Follower;
use crate::server::params::Params;
use crate::server::progress::{Listening, Told, counted};
use crate::server::version::ApiVersion;
use crate::server::{body, progress, reply};

/// What is written ahead of a client that reads slowly.
const AHEAD: usize = 256 << 10;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/images/get", get(save_several)).route("/images/load", post(load))
}

pub(super) async fn save(Named { api, name, params, version, .. }: Named) -> Result<Response> {
    archive(&api, vec![name], platform(&params, version)?).await
}

async fn save_several(State(api): State<Arc<Api>>, version: ApiVersion, params: Params) -> Result<Response> {
    let names: Vec<String> = params.all("names").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::bad_request("no image is named: give names"));
    }
    for name in &names {
        api.engine.image(name).await.map_err(|error| super::absent(name, error))?;
    }
    archive(&api, names, platform(&params, version)?).await
}

/// Of several platforms, one is saved: archives for all of them are what no platform means.
fn platform(params: &Params, version: ApiVersion) -> Result<Option<Platform>> {
    if version >= ApiVersion::v1(48) && params.all("platform").count() > 1 {
        return Err(ApiError::bad_request(
            "multiple platform parameters are not supported: give one, or none for all",
        ));
    }
    super::platform_since(params, "platform", version, 48)
}

async fn archive(api: &Api, names: Vec<String>, platform: Option<Platform>) -> Result<Response> {
    let (writer, reader) = tokio::io::duplex(AHEAD);
    let mut options = SaveOptions::default();
    options.platform = platform;
    // It ends with the client: the answer owns it.
    let operation = api.engine.save(&names, writer, options);
    let work = async move { operation.await.map(|()| None) };
    let mut pieces =
        ReaderStream::new(reader).map_err(|error| engine_core::Error::from_io("save image", error));
    let mut work = Box::pin(work.into_stream().fuse());
    // What fails before the first byte has a status.
    let first = loop {
        tokio::select! {
            biased;
            piece = pieces.next() => break piece.transpose()?,
            Some(ended) = work.next() => {
                ended.map_err(|error| super::absent(&names.join(" "), error))?;
            }
        }
    };
    let rest = stream::select(work, pieces.map_ok(Some)).try_filter_map(async |piece| Ok(piece));
    Ok(reply::bytes(stream::iter(first).map(Ok).chain(rest), reply::TAR))
}

async fn load(
    State(api): State<Arc<Api>>,
    follower: Follower,
    version: ApiVersion,
    params: Params,
    body: Body,
) -> Result<Response> {
    let mut options = LoadOptions::default();
    options.platform = platform(&params, version)?;
    let quiet = params.flag_or("quiet", true);
    let operation = api.engine.load(LoadSource::stream(body::stream(body)), options);
    let told = Told {
        event: Box::new(move |event| event_lines(event, quiet)),
        end: Box::new(|_| Vec::new()),
        error: Box::new(|error| match error.kind() {
            // What the archive holds is the client's to mend.
            engine_core::ErrorKind::Corrupt => ApiError::bad_request(error.report()),
            _ => error.into(),
        }),
    };
    progress::answer(Listening::new(&api, follower), operation, told).await
}

fn event_lines(event: LoadEvent, quiet: bool) -> Vec<Value> {
    match event {
        LoadEvent::Layer { layer, progress: LayerProgress::Transferring { done, total } } if !quiet => {
            vec![counted(layer.digest.short(), "Loading layer", done, total)]
        }
        LoadEvent::Loaded(LoadedImage { names, target, id, .. }) if names.is_empty() => {
            let id = id.unwrap_or(target.digest);
            vec![json!({ "stream": format!("Loaded image ID: {id}\n") })]
        }
        LoadEvent::Loaded(LoadedImage { names, .. }) => {
            let line = |name: &engine_core::Reference| json!({ "stream": format!("Loaded image: {}\n", name.familiar()) });
            names.iter().map(line).collect()
        }
        _ => Vec::new(),
    }
}
