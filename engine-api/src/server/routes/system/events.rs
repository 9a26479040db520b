//! `GET /events`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use engine_core::events::{Event, EventFilters, EventQuery, ObjectKind};
use futures_util::StreamExt as _;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::filters::Filters;
use crate::server::gone::Follower;
use crate::server::params::Params;
use crate::server::version::ApiVersion;
use crate::server::{reply, times};

/// Filters of things that are not there: nothing passes them.
const ABSENT: &[&str] = &["config", "daemon", "node", "plugin", "service"];
const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/events", get(events))
}

async fn events(
    State(api): State<Arc<Api>>,
    version: ApiVersion,
    params: Params,
    follower: Follower,
    headers: HeaderMap,
) -> Result<Response> {
    let (since, until) = (time(&params, "since")?, time(&params, "until")?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        let shown = |name| params.text(name).unwrap_or_default();
        return Err(ApiError::bad_request(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            shown("since"),
            shown("until")
        )));
    }
    let filters = params.filters()?.only(FILTERS)?;
    let nothing = ABSENT.iter().any(|name| !filters.get(name).is_empty())
        || !filters.any("scope", |scope| scope == "local");
    let mut query = EventQuery::default().with_filters(event_filters(&filters));
    (query.since, query.until) = (since, until);
    let secrets = filters.get("secret").to_vec();
    let framing = Framing::accepted(&headers, version);
    // The head goes out once what happens is no longer missed.
    let events = api.engine.events(query).await?;
    let lines = events.filter_map(move |event| {
        let line = match event {
            Ok(event) if !nothing && passes(&event, &secrets) => {
                Some(framing.line(&document(&event, version)))
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(error = %error.report(), "events ended");
                None
            }
        };
        std::future::ready(line.map(Ok::<_, Infallible>))
    });
    let body = Body::from_stream(lines.take_until(Box::pin(follower.end(api))));
    Ok(reply::with_header(Response::new(body), CONTENT_TYPE, framing.content_type()))
}

/// Reads a time; zero is none.
fn time(params: &Params, name: &str) -> Result<Option<SystemTime>> {
    match params.text(name) {
        None | Some("0") => Ok(None),
        Some(text) => times::parse(name, text).map(Some),
    }
}

fn event_filters(filters: &Filters) -> EventFilters {
    let mut wanted = EventFilters::default();
    wanted.objects = filters.get("type").iter().map(|kind| kind.as_str().into()).collect();
    wanted.actions = filters.get("event").iter().map(|action| action.as_str().into()).collect();
    wanted.containers = filters.get("container").to_vec();
    wanted.images = filters.get("image").to_vec();
    wanted.volumes = filters.get("volume").to_vec();
    wanted.networks = filters.get("network").to_vec();
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    wanted.labels = filters.get("label").iter().map(pair).collect();
    wanted
}

/// Returns whether the event is one of a wanted secret, if only those are wanted.
fn passes(event: &Event, secrets: &[String]) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    let is = |wanted: &String| event.id.starts_with(wanted.as_str()) || name.starts_with(wanted.as_str());
    secrets.is_empty() || (event.object == ObjectKind::Secret && secrets.iter().any(is))
}

/// Older clients look at fields that newer ones have elsewhere.
fn document(event: &Event, version: ApiVersion) -> Value {
    let mut document = serde_json::to_value(event).unwrap_or_default();
    if version < ApiVersion::v1(52) && matches!(event.object, ObjectKind::Container | ObjectKind::Image) {
        document["id"] = event.id.as_str().into();
        document["status"] = event.action.as_str().into();
        if event.object == ObjectKind::Container {
            let image = event.attributes.get("image").map_or("", String::as_str);
            document["from"] = image.into();
        }
    }
    document
}

/// How documents are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    /// As ever: by newlines, under a type that is not quite theirs.
    Json,
    /// By newlines.
    Lines,
    /// Each behind a separator (RFC 7464).
    Sequence,
}

impl Framing {
    /// Returns the one that the client names first of those that the version has.
    fn accepted(headers: &HeaderMap, version: ApiVersion) -> Self {
        if version < ApiVersion::v1(52) {
            return Self::Json;
        }
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut types = values.flat_map(|value| value.split(',')).map(|one| {
            let one = one.split(';').next().unwrap_or_default();
            one.trim().to_ascii_lowercase()
        });
        types
            .find_map(|one| match one.as_str() {
                "application/x-ndjson" | "application/jsonl" => Some(Self::Lines),
                "application/json-seq" => Some(Self::Sequence),
                "application/json" => Some(Self::Json),
                _ => None,
            })
            .unwrap_or(Self::Json)
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Sequence => "application/json-seq",
        })
    }

    fn line(self, document: &Value) -> Bytes {
        let mut line = if self == Self::Sequence { vec![0x1e] } else { Vec::new() };
        line.extend_from_slice(document.to_string().as_bytes());
        line.push(b'\n');
        line.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_how_documents_are_told_apart() {
        let of = |accept: &str, minor| {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            Framing::accepted(&headers, ApiVersion::v1(minor))
        };
        assert_eq!(of("application/x-ndjson", 52), Framing::Lines);
        assert_eq!(of("application/x-ndjson", 51), Framing::Json);
        assert_eq!(of("text/html, application/json-seq;q=0.9", 53), Framing::Sequence);
        assert_eq!(of("*/*", 53), Framing::Json);
        assert_eq!(Framing::Sequence.line(&Value::Null), &b"\x1enull\n"[..]);
    }
}
