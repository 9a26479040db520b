//! The registry for people: pages of its repositories, tags and manifests.
//!
//! Owns the way of a page's request: its path, the gate, an answer in HTML. `read` collects what a page shows, `view` writes it.
//! Invariants: nothing is shown that the gate does not let its viewer pull; pages run no script and load nothing from
//! elsewhere, and say so to the browser.

mod read;
mod view;

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, VARY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use engine_core::digest::Digest;
use maud::Markup;

use super::api::{Api, Query, decode};
use super::basic;
use super::error::{ApiError, Code};
use super::gate::Operation;
use super::names::{RepositoryName, Target};
use super::record::Record;
use super::storage::PageRequest;

const STYLE: &str = include_str!("style.css");
/// Entries of a page's table.
const PAGE: usize = 100;

type Answer<T> = Result<T, ApiError>;

/// What a path of a page names.
#[derive(Debug, Eq, PartialEq)]
enum Place {
    Repositories,
    Repository(RepositoryName),
    Manifest(RepositoryName, Target),
}

/// Answers a request for a page.
pub(super) async fn answer(api: Arc<Api>, mut parts: Parts) -> Response {
    let record = Record::begin(&api.metrics, &mut parts, "page", None);
    let mut response = match page(&api, &parts).await {
        Ok(markup) => html(StatusCode::OK, markup),
        Err(error) => failed(error),
    };
    let headers = response.headers_mut();
    let policy =
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // What one viewer may see, another may not.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(VARY, HeaderValue::from_static("authorization"));
    record.answer(response)
}

/// The style of all pages, which tells nothing about the registry.
pub(super) fn style() -> Response {
    let headers: [(HeaderName, &str); 2] =
        [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "public, max-age=3600")];
    (headers, STYLE).into_response()
}

async fn page(api: &Api, parts: &Parts) -> Answer<Markup> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(ApiError::new(Code::Unsupported, "a page is only read")
            .with_header(ALLOW, HeaderValue::from_static("GET, HEAD")));
    }
    let place = Place::parse(parts.uri.path())?;
    let operation = match &place {
        Place::Repositories => Operation::Catalog,
        Place::Repository(name) | Place::Manifest(name, _) => Operation::Pull(name),
    };
    api.gate.admit(parts, operation).await?;
    let query = Query::of(&parts.uri);
    let wanted = PageRequest::new(query.get("last").filter(|last| !last.is_empty()), PAGE);
    match place {
        Place::Repositories => {
            let found = api.visible_repositories(parts, &wanted).await?;
            Ok(view::repositories(&found, wanted.after.is_some()))
        }
        Place::Repository(name) => {
            let tags = read::tags(&*api.storage, &name, &wanted).await?;
            Ok(view::repository(&name, &tags, wanted.after.is_some()))
        }
        Place::Manifest(name, target) => {
            let shown = read::manifest(&*api.storage, &name, &target, &wanted).await?;
            Ok(view::manifest(host(parts), &name, &target, &shown))
        }
    }
}

/// Under which name the viewer knows this registry, for commands to copy.
fn host(parts: &Parts) -> &str {
    let header = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
    let known = parts.uri.authority().map(|authority| authority.as_str()).or(header);
    let is_host = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
    known.filter(is_host).unwrap_or("REGISTRY")
}

fn html(status: StatusCode, markup: Markup) -> Response {
    let mut response = Response::new(Body::from(markup.into_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// An error as people read it. A browser asks for a name and a password only where it is asked for Basic ones.
fn failed(error: ApiError) -> Response {
    let text = error.message().to_owned();
    let mut response = error.into_response();
    let status = response.status();
    let body = html(status, view::failure(status, &text));
    for (name, value) in body.headers() {
        response.headers_mut().insert(name, value.clone());
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(basic::CHALLENGE));
    }
    *response.body_mut() = body.into_body();
    response
}

impl Place {
    /// Reads a path: `/`, `/repositories/NAME`, `/repositories/NAME:TAG`, `/repositories/NAME@DIGEST`.
    fn parse(path: &str) -> Answer<Self> {
        let nowhere = || ApiError::new(Code::NameUnknown, "there is no such page");
        if path == "/" {
            return Ok(Self::Repositories);
        }
        let reference = path.strip_prefix("/repositories/").ok_or_else(nowhere)?;
        let words: Vec<String> =
            reference.split('/').map(decode).collect::<Option<_>>().ok_or_else(nowhere)?;
        let reference = words.join("/");
        let (name, target) = match (reference.split_once('@'), reference.split_once(':')) {
            (Some((name, digest)), _) => {
                let digest: Digest = digest.parse().map_err(|_| nowhere())?;
                (name, Some(Target::Digest(digest)))
            }
            (None, Some((name, tag))) => (name, Some(Target::Tag(tag.parse().map_err(|_| nowhere())?))),
            (None, None) => (reference.as_str(), None),
        };
        let name = name.parse().map_err(|_| nowhere())?;
        Ok(match target {
            Some(target) => Self::Manifest(name, target),
            None => Self::Repository(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_references() {
        let name: RepositoryName = "a/b".parse().unwrap();
        let digest = Digest::sha256(b"x");
        let place = |path: &str| Place::parse(path).unwrap();
        assert_eq!(place("/"), Place::Repositories);
        assert_eq!(place("/repositories/a/b"), Place::Repository(name.clone()));
        let tagged = Place::Manifest(name.clone(), Target::Tag("1.0".parse().unwrap()));
        assert_eq!(place("/repositories/a/b:1.0"), tagged);
        assert_eq!(place("/repositories/a/b%3A1.0"), tagged);
        assert_eq!(
            place(&format!("/repositories/a/b@{digest}")),
            Place::Manifest(name, Target::Digest(digest))
        );
        for path in [
            "/x",
            "/repositories/",
            "/repositories/A",
            "/repositories/a:",
            "/repositories/a@b",
            "/repositories/a%2fb",
            "/repositories/../a",
            "/repositories/a/",
        ] {
            assert!(Place::parse(path).is_err(), "{path}");
        }
    }
}
