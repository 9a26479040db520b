//! The end-points of the distribution specification, 1.1.1.
//!
//! Owns the way of a request: its path becomes a [`Route`](route::Route), the gate lets it pass, one function answers it.
//! Invariant: every error has the specification's body, and every answer says that this is a registry.

mod accept;
mod blobs;
mod body;
mod lists;
mod manifests;
mod query;
mod range;
mod route;
mod tell;
mod token;
mod uploads;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind};

use self::body::RequestBody;
pub(super) use self::query::Query;
use self::route::Route;
pub(super) use self::route::decode;
use super::cache::Cache;
use super::error::{ApiError, Code};
use super::events::EventListener;
use super::gate::{Gate, Operation};
use super::metrics::Metrics;
use super::names::{RepositoryName, Target};
use super::quota::{Quotas, Usage};
use super::record::Record;
use super::storage::Storage;
use super::tokens::Tokens;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) use self::manifests::checked;

type Answer = Result<Response, ApiError>;

/// What answers requests.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) gate: Gate,
    /// Where content comes from that the storage does not have.
    pub(super) cache: Option<Arc<Cache>>,
    pub(super) quotas: Quotas,
    /// Who gives tokens, if somebody does.
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) listeners: Vec<Arc<dyn EventListener>>,
    pub(super) metrics: Arc<Metrics>,
    /// What there is, where it took long to find out, and when that was.
    pub(super) usage: tokio::sync::Mutex<Option<(Instant, Option<Usage>)>>,
    /// How long a body may pause.
    pub(super) idle: Duration,
}

/// One request, without its body.
#[derive(Debug)]
struct Call<'a> {
    api: &'a Api,
    parts: &'a Parts,
    query: Query,
}

/// How long what there is may take to be counted for each scrape to do so, and how long it is told where it takes longer: of a
/// bucket, all repositories are listed.
const QUICK: Duration = Duration::from_millis(50);
const COUNTED: Duration = Duration::from_secs(60);

impl Api {
    /// Counts what there is, for figures that anybody may ask for: one at a time does.
    pub(super) async fn usage(&self) -> Option<Usage> {
        let mut counted = self.usage.lock().await;
        if let Some((at, usage)) = *counted
            && at.elapsed() < COUNTED
        {
            return usage;
        }
        let begun = Instant::now();
        let usage = self.storage.usage(None).await;
        if let Err(error) = &usage {
            tracing::warn!(error = %error.report(), "the storage does not say what there is");
        }
        let usage = usage.ok();
        let took = begun.elapsed();
        *counted = (took > QUICK).then(|| (Instant::now(), usage));
        usage
    }

    pub(super) async fn answer(&self, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        let route = Route::parse(parts.uri.path()).map(|route| route.map(|route| self.named(route, &parts)));
        let (operation, repository) = match &route {
            Ok(Some(route)) if route.takes(&parts.method) => {
                (route.operation(&parts.method), route.repository())
            }
            _ => ("none", None),
        };
        let record = Record::begin(&self.metrics, &mut parts, operation, repository);
        let mut body = RequestBody::new(body, self.idle, record.received());
        let answered = match route {
            Ok(route) => self.dispatch(route, &parts, &mut body).await,
            Err(error) => Err(error),
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                // A client that is still sending would not read what it did wrong; one that asked before it sends
                // (RFC 9110, 10.1.1) is not to begin.
                if !parts.headers.contains_key(EXPECT) {
                    body.drain().await;
                }
                error.into_response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        record.answer(response)
    }

    /// A client may name the registry that it takes this one for: then its repositories are those below that name.
    fn named(&self, mut route: Route, parts: &Parts) -> Route {
        if let Some(cache) =
            self.cache.as_ref().filter(|_| matches!(parts.method, Method::GET | Method::HEAD))
            && let Some(registry) = Query::of(&parts.uri).get("ns")
            && let Some(name) = route.repository_mut()
            && let Some(found) = cache.named(registry, name)
        {
            *name = found;
        }
        route
    }

    async fn dispatch(&self, route: Option<Route>, parts: &Parts, body: &mut RequestBody) -> Answer {
        let Some(route) = route else {
            return Err(ApiError::new(Code::NameUnknown, "there is no such end-point"));
        };
        if !route.takes(&parts.method) {
            let allowed = HeaderValue::from_static(route.methods());
            return Err(ApiError::new(Code::Unsupported, "the end-point does not have this method")
                .with_header(ALLOW, allowed));
        }
        let operation = match (&route, &parts.method) {
            (Route::Check, _) => Operation::Check,
            (Route::Catalog, _) => Operation::Catalog,
            // Giving up an upload removes nothing of the repository.
            (Route::Uploads(name) | Route::Upload(name, _), _) => Operation::Push(name),
            (Route::Manifest(name, _) | Route::Blob(name, _), &Method::DELETE) => Operation::Delete(name),
            (Route::Manifest(name, _), &Method::PUT) => Operation::Push(name),
            (
                Route::Manifest(name, _)
                | Route::Blob(name, _)
                | Route::Tags(name)
                | Route::Referrers(name, _),
                _,
            ) => Operation::Pull(name),
        };
        self.gate.admit(parts, operation).await?;
        let call = Call { api: self, parts, query: Query::of(&parts.uri) };
        match (route, &parts.method) {
            (Route::Check, _) => Ok(json(StatusCode::OK, "{}".to_owned())),
            (Route::Catalog, _) => call.catalog().await,
            (Route::Tags(name), _) => call.tags(&name).await,
            (Route::Referrers(name, digest), _) => call.referrers(&name, &digest).await,
            (Route::Manifest(name, target), &Method::PUT) => call.put_manifest(&name, &target, body).await,
            (Route::Manifest(name, target), &Method::DELETE) => call.delete_manifest(&name, &target).await,
            (Route::Manifest(name, target), _) => call.manifest(&name, &target).await,
            (Route::Blob(name, digest), &Method::DELETE) => call.delete_blob(&name, &digest).await,
            (Route::Blob(name, digest), _) => call.blob(&name, &digest).await,
            (Route::Uploads(name), _) => call.begin(&name, body).await,
            (Route::Upload(name, id), &Method::PATCH) => call.append(&name, &id, body).await,
            (Route::Upload(name, id), &Method::PUT) => call.close(&name, &id, body).await,
            (Route::Upload(name, id), &Method::DELETE) => call.cancel(&name, &id).await,
            (Route::Upload(name, id), _) => call.status(&name, &id).await,
        }
    }
}

impl Call<'_> {
    /// Brings a manifest up to date that comes from elsewhere.
    async fn refresh(&self, repository: &RepositoryName, target: &Target) -> Result<(), ApiError> {
        match &self.api.cache {
            Some(cache) => cache.refresh(repository, target).await,
            None => Ok(()),
        }
    }

    /// Returns the text of a header that is there once.
    fn header(&self, name: HeaderName) -> Option<&str> {
        let mut values = self.parts.headers.get_all(name).iter();
        let only = values.next().filter(|_| values.next().is_none())?;
        only.to_str().ok()
    }

    fn is_head(&self) -> bool {
        self.parts.method == Method::HEAD
    }

    /// Whether the client has what has this digest: `If-None-Match`.
    fn has(&self, digest: &Digest) -> bool {
        let Some(text) = self.header(IF_NONE_MATCH) else { return false };
        text.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"'))
            .any(|tag| tag == "*" || tag.parse::<Digest>().is_ok_and(|known| known == *digest))
    }
}

/// What goes wrong where a storage keeps a quota. Harbor has the same code and status for it.
fn over_quota(error: Error) -> ApiError {
    match error.kind() {
        ErrorKind::Conflict => ApiError::new(Code::Denied, error.to_string()),
        _ => error.into(),
    }
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: engine_core::Error| ApiError::new(Code::DigestInvalid, error.to_string()))
}

/// Makes an answer without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

fn json(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Adds a header whose value was made of what was checked.
fn set(response: &mut Response, name: HeaderName, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        response.headers_mut().insert(name, value);
    }
}

/// Says which content an answer is about.
fn set_digest(response: &mut Response, digest: &Digest) {
    set(response, CONTENT_DIGEST, digest.to_string());
    set(response, axum::http::header::ETAG, format!("\"{digest}\""));
}
