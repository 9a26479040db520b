//! `/containers/{id}/archive`, `/containers/{id}/export`: files as tar archives.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::ErrorKind;
use engine_core::files::{PathStat, UnpackFiles};
use engine_core::io::ByteStream;
use engine_core::time::rfc3339;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::left::Left;
use crate::server::params::Params;
use crate::server::{body, reply};

/// How long a client may go on to send an archive that is refused.
const PATIENCE: Duration = Duration::from_secs(2);
const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/containers/{id}/archive", get(copy_out).head(stat).put(copy_in))
        .route("/containers/{id}/export", get(export))
}

async fn stat(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let path = params.required("path")?;
    let container = api.engine.container(&name).await?;
    let stat = container.stat_path(path).await.map_err(|error| absent(error, path, &name))?;
    Ok(with_stat(reply::with_status(StatusCode::OK), &stat))
}

async fn copy_out(State(api): State<Arc<Api>>, Path(name): Path<String>, params: Params) -> Result<Response> {
    let path = params.required("path")?;
    let container = api.engine.container(&name).await?;
    let (stat, archive) = container.copy_out(path).await.map_err(|error| absent(error, path, &name))?;
    Ok(with_stat(reply::bytes(archive, reply::TAR), &stat))
}

async fn copy_in(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    params: Params,
    body: Body,
) -> Result<Response> {
    let (archive, left) = Left::of(body::stream(body), PATIENCE);
    let outcome = unpack(&api, &name, &params, archive).await;
    if outcome.is_err() {
        left.taken().await;
    }
    outcome
}

async fn unpack(api: &Api, name: &str, params: &Params, archive: ByteStream) -> Result<Response> {
    let path = params.required("path")?;
    let container = api.engine.container(name).await?;
    let mut options = UnpackFiles::default().with_keep_kinds(params.flag("noOverwriteDirNonDir"));
    if params.flag("copyUIDGID") {
        // As Docker: the copy is its user's, who is named by numbers in most images.
        options = options.with_owner(owner(&container.inspect().await?));
    }
    container.copy_in(path, archive, &options).await.map_err(|error| absent(error, path, name))?;
    Ok(reply::with_status(StatusCode::OK))
}

async fn export(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Response> {
    let archive = api.engine.container(&name).await?.export().await?;
    Ok(reply::bytes(archive, reply::TAR))
}

/// Says that a path is not there as Docker does, which clients look for.
fn absent(error: engine_core::Error, path: &str, name: &str) -> ApiError {
    match (error.kind(), error.subject()) {
        (ErrorKind::NotFound, Some(("container", _))) => error.into(),
        (ErrorKind::NotFound, _) => {
            ApiError::not_found(format!("Could not find the file {path} in container {name}"))
        }
        // What the archive holds is the client's to mend.
        (ErrorKind::Corrupt, _) => ApiError::bad_request(error.report()),
        _ => error.into(),
    }
}

/// The numbers of the user that the container's processes are, if they are given as numbers.
fn owner(info: &engine_core::ContainerInfo) -> Option<(u32, u32)> {
    let user = info.spec.user.as_ref().unwrap_or(&info.defaults.user);
    let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

fn with_stat(response: Response, stat: &PathStat) -> Response {
    let document = json!({
        "name": stat.name,
        "size": stat.size,
        "mode": go_mode(stat.mode),
        "mtime": rfc3339(stat.modified),
        "linkTarget": stat.link_target,
    });
    match HeaderValue::from_str(&STANDARD.encode(document.to_string())) {
        Ok(value) => reply::with_header(response, STAT, value),
        // Base64 is always a value.
        Err(_) => response,
    }
}

/// Turns an `st_mode` (inode(7)) into the bits of Go's `fs.FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        // A character device is a device, too.
        0o020_000 => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0).fold(0, |all, (_, bit)| all | bit);
    kind | special | mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o040_755), 1 << 31 | 0o755);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(0o104_755), 1 << 23 | 0o755);
    }
}
