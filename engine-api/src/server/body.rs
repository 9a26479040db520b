//! Documents and archives that clients send.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use engine_core::io::ByteStream;
use engine_core::{Error, ErrorKind};
use futures_util::{StreamExt as _, TryStreamExt as _};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api::Api;
use super::error::{ApiError, Result};

/// A document in JSON. Fields that are null count as left out, as they do for Docker.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

/// A document in JSON; without one, what [`Default`] says.
#[derive(Debug)]
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self> {
        match document(request, api).await? {
            Some(value) => parsed(value).map(Self),
            None => Err(ApiError::bad_request("invalid JSON: got EOF while reading request body")),
        }
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Arc<Api>> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self> {
        document(request, api).await?.map_or_else(|| Ok(T::default()), parsed).map(Self)
    }
}

/// Reads a document in JSON whole, if there is one.
pub(super) async fn document(request: Request, api: &Api) -> Result<Option<Value>> {
    let mut document = raw_document(request, api).await?;
    document.iter_mut().for_each(forget_nulls);
    Ok(document)
}

/// As [`document`], with the nulls that are in it.
pub(super) async fn raw_document(request: Request, api: &Api) -> Result<Option<Value>> {
    let (head, body) = request.into_parts();
    let bytes = whole(body, api).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    require_json(&head.headers)?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))
}

/// Makes a document of what was read; one that is wrong is told with the field it is wrong in.
pub(super) fn parsed<T: DeserializeOwned>(value: Value) -> Result<T> {
    T::deserialize(&value).map_err(|error| {
        let why = error.to_string();
        let field = culprit::<T>(&value, &why);
        let colon = if field.is_empty() { "" } else { ": " };
        ApiError::bad_request(format!("invalid JSON: {field}{colon}{why}"))
    })
}

/// Finds the path of the field that makes reading `value` fail with `why`: the one that alone does so, too.
fn culprit<T: DeserializeOwned>(value: &Value, why: &str) -> String {
    let mut path: Vec<&str> = Vec::new();
    let mut place = value;
    while let Value::Object(map) = place {
        let fails = |(key, inner): &(&String, &Value)| {
            let mut alone = json!({ key.as_str(): inner });
            for outer in path.iter().rev() {
                alone = json!({ *outer: alone });
            }
            T::deserialize(&alone).err().is_some_and(|error| error.to_string() == why)
        };
        let Some((key, inner)) = map.iter().find(fails) else { break };
        path.push(key);
        place = inner;
    }
    path.join(".")
}

async fn whole(body: Body, api: &Api) -> Result<Bytes> {
    let mut pieces = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let read = async {
        while let Some(piece) = pieces.next().await {
            let piece =
                piece.map_err(|error| ApiError::bad_request(format!("cannot read the body: {error}")))?;
            if bytes.len() + piece.len() > api.limits.document {
                return Err(ApiError::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body is larger than {} bytes", api.limits.document),
                ));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    };
    match tokio::time::timeout(api.limits.body, read).await {
        Ok(read) => read?,
        Err(_) => return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
    Ok(bytes.freeze())
}

/// A page of the web can send a form or plain text without being asked, but not this (SECURITY E6).
fn require_json(headers: &HeaderMap) -> Result<()> {
    let given = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "unsupported Content-Type header ({}): must be 'application/json'",
        given.unwrap_or("none")
    )))
}

/// Clients send `null` for what they leave out, where the types want a map or a number.
pub(super) fn forget_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(forget_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(forget_nulls),
        _ => {}
    }
}

/// The body as it comes: an archive.
pub(super) fn stream(body: Body) -> ByteStream {
    Box::pin(body.into_data_stream().map_err(|error| {
        Error::new(ErrorKind::Unavailable, "read request")
            .with_message("the client's body broke off")
            .with_source(error)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ContainerCreateBody;

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        for (document, field) in [
            (json!({"Image": "a", "Tty": "yes"}), "Tty: "),
            (json!({"Image": "a", "HostConfig": {"Init": true, "Memory": "1g"}}), "HostConfig.Memory: "),
            (json!({"HostConfig": {"LogConfig": {"Config": {"a": 1}}}}), "HostConfig.LogConfig.Config.a: "),
            (json!({"HostConfig": {"RestartPolicy": {"Name": "never"}}}), "HostConfig.RestartPolicy.Name: "),
            (json!([]), ""),
        ] {
            let error = parsed::<ContainerCreateBody>(document).unwrap_err();
            assert_eq!(error.status.as_u16(), 400);
            assert!(error.message.starts_with(&format!("invalid JSON: {field}")), "{}", error.message);
        }
    }
}
