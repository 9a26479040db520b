//! `/_ping`, `/version`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA};
use serde_json::json;

use crate::server::api::Api;
use crate::server::reply;
use crate::server::version::ApiVersion;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/_ping", get(ping)).route("/version", get(version))
}

/// The answer to HEAD is the same without its body.
async fn ping() -> Response {
    let mut response = Response::new("OK".into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    response
}

async fn version(State(api): State<Arc<Api>>) -> Response {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let architecture = engine_core::Platform::host().architecture;
    let version = &api.info.version;
    let (newest, oldest) = (ApiVersion::NEWEST.to_string(), ApiVersion::OLDEST.to_string());
    reply::json(&json!({
        "Platform": { "Name": api.info.platform },
        "Components": [{
            "Name": "Engine",
            "Version": version,
            "Details": {
                "ApiVersion": newest,
                "Arch": architecture,
                "Experimental": "false",
                "KernelVersion": kernel,
                "MinAPIVersion": oldest,
                "Os": "linux",
            },
        }],
        "Version": version,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": kernel,
    }))
}
