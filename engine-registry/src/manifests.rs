//! Manifests and tags.
//!
//! Owns resolving and fetching. Invariant: bytes that leave here were hashed, have the digest they were asked by, are of
//! the type that Content-Type says, and are not to be read in two ways (SECURITY D1).

use bytes::Bytes;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_core::error::ErrorKind;
use engine_core::manifest::{MAX_MANIFEST_SIZE, Manifest};
use engine_core::reference::Reference;
use oci_distribution::client::TagResponse;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK};
use reqwest::{Method, StatusCode, Url};
use tokio::time::sleep;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::origin::Origin;
use crate::session::{Answer, Ask, Session, Target};

pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const MAX_TAG_PAGE: u64 = 16 << 20;
const MAX_NAMES: usize = 1_000_000;
const MAX_PAGES: usize = 10_000;

fn accepted() -> HeaderValue {
    let types = [
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_INDEX,
        media_type::DOCKER_MANIFEST,
    ];
    HeaderValue::from_str(&types.join(", ")).unwrap_or(HeaderValue::from_static("*/*"))
}

fn path(reference: &Reference) -> String {
    format!("/v2/{}/manifests/{}", reference.repository(), reference.tag_or_digest())
}

/// Returns what HEAD tells, or `None` if the registry does not tell it all that way.
pub(crate) async fn head(
    session: &Session,
    endpoint: &Endpoint,
    reference: &Reference,
    scopes: &[String],
    attempts: u32,
) -> Result<Option<Descriptor>, Fault> {
    let path = path(reference);
    let mut ask = Ask::new(Method::HEAD, Target::Path(&path), scopes);
    ask.headers.insert(ACCEPT, accepted());
    let answer = session.send(endpoint, &ask, attempts).await?;
    if matches!(answer.status().as_u16(), 400 | 405 | 501) {
        return Ok(None);
    }
    let answer = session.expect(endpoint, answer, &[StatusCode::OK]).await?;
    let headers = answer.headers();
    let size = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let (Some(size), Some(kind), Some(told)) = (size, content_type(headers), told_digest(headers)?) else {
        return Ok(None);
    };
    if let Some(wanted) = reference.digest() {
        // Digests of another algorithm cannot be compared without the bytes.
        if wanted.algorithm() != told.algorithm() {
            return Ok(None);
        }
        if *wanted != told {
            return Err(Fault::corrupt(format!("it answers for {wanted} with {told}")));
        }
    }
    if !media_type::is_manifest(&kind) && !media_type::is_index(&kind) {
        return Err(unknown_type(&kind));
    }
    if size > MAX_MANIFEST_SIZE {
        return Err(Fault::corrupt(format!("the manifest has {size} bytes, more than {MAX_MANIFEST_SIZE}")));
    }
    Ok(Some(Descriptor::new(kind, told, size)))
}

/// Fetches and checks a manifest.
pub(crate) async fn get(
    session: &Session,
    endpoint: &Endpoint,
    reference: &Reference,
    scopes: &[String],
    attempts: u32,
) -> Result<(Descriptor, Bytes), Fault> {
    let path = path(reference);
    let mut ask = Ask::get(&path, scopes);
    ask.headers.insert(ACCEPT, accepted());
    let mut failed = 0;
    let (headers, bytes) = loop {
        let answer = session.send(endpoint, &ask, attempts).await?;
        let answer = session.expect(endpoint, answer, &[StatusCode::OK]).await?;
        let headers = answer.headers().clone();
        match session.transport.body(answer.response, MAX_MANIFEST_SIZE).await {
            Ok(bytes) => break (headers, bytes),
            Err(fault) => {
                failed += 1;
                if !fault.is_retryable() || failed >= attempts {
                    return Err(fault);
                }
                sleep(session.retry.delay(failed, None).unwrap_or_default()).await;
            }
        }
    };
    check(reference, &headers, bytes)
}

/// Checks a manifest against its reference and the headers it came with.
fn check(reference: &Reference, headers: &HeaderMap, bytes: Bytes) -> Result<(Descriptor, Bytes), Fault> {
    let kind = content_type(headers).ok_or_else(|| Fault::corrupt("the manifest has no Content-Type"))?;
    if let Some(told) = told_digest(headers)? {
        let actual = told.rehash(&bytes);
        if actual != told {
            return Err(Fault::corrupt(format!(
                "the manifest has digest {actual}, and its header says {told}"
            )));
        }
    }
    let digest = match reference.digest() {
        Some(wanted) => {
            let actual = wanted.rehash(&bytes);
            if actual != *wanted {
                return Err(Fault::corrupt(format!("the manifest has digest {actual}, not {wanted}")));
            }
            wanted.clone()
        }
        None => Digest::sha256(&bytes),
    };
    if !media_type::is_manifest(&kind) && !media_type::is_index(&kind) {
        return Err(unknown_type(&kind));
    }
    Manifest::parse(&bytes, &kind)
        .map_err(|error| Fault::new(error.kind(), "the manifest was refused").source(error))?;
    Ok((Descriptor::new(kind, digest, bytes.len() as u64), bytes))
}

fn unknown_type(kind: &str) -> Fault {
    let kind: String = kind.chars().filter(|c| !c.is_control()).take(100).collect();
    Fault::new(ErrorKind::Unsupported, format!("it sent a manifest of type {kind:?}"))
        .hint("push the image again with a current tool, or check that the name is an image's")
}

/// Returns the media type, without parameters.
fn content_type(headers: &HeaderMap) -> Option<String> {
    // Two values would be two ways to read the document.
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return None };
    let kind = only.to_str().ok()?.split(';').next()?.trim();
    (!kind.is_empty()).then(|| kind.to_owned())
}

/// Returns the digest that a header claims.
pub(crate) fn told_digest(headers: &HeaderMap) -> Result<Option<Digest>, Fault> {
    let mut values = headers.get_all(DOCKER_CONTENT_DIGEST).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let parsed = first.to_str().ok().and_then(|text| text.parse().ok());
    match (parsed, values.next()) {
        (Some(digest), None) => Ok(Some(digest)),
        _ => Err(Fault::corrupt("its Docker-Content-Digest header is malformed")),
    }
}

/// Lists the tags of a repository, page after page.
pub(crate) async fn tags(
    session: &Session,
    endpoint: &Endpoint,
    repository: &str,
    scopes: &[String],
) -> Result<Vec<String>, Fault> {
    let first = format!("/v2/{repository}/tags/list");
    names(session, endpoint, &first, scopes, "tags", |body| {
        serde_json::from_slice::<TagResponse>(body).map(|page| page.tags)
    })
    .await
}

/// Lists the repositories of a registry, page after page.
pub(crate) async fn catalog(session: &Session, endpoint: &Endpoint) -> Result<Vec<String>, Fault> {
    #[derive(serde::Deserialize)]
    struct Page {
        repositories: Vec<String>,
    }
    let scopes = ["registry:catalog:*".to_owned()];
    let listed = names(session, endpoint, "/v2/_catalog?n=1000", &scopes, "repositories", |body| {
        serde_json::from_slice::<Page>(body).map(|page| page.repositories)
    });
    match listed.await {
        Err(fault) if fault.kind() == ErrorKind::NotFound => {
            Err(Fault::new(ErrorKind::Unsupported, "it does not list its repositories"))
        }
        listed => listed,
    }
}

/// Returns the URL of the page after `answer`, if there is one: of the same registry.
pub(crate) fn next_page(session: &Session, answer: &Answer) -> Result<Option<Url>, Fault> {
    let Some(link) = answer.headers().get(LINK).and_then(|value| next_link(value.to_str().ok()?)) else {
        return Ok(None);
    };
    let from = answer.response.url();
    let url = from.join(link).map_err(|_| Fault::corrupt("the link to its next page is no URL"))?;
    // A next page elsewhere would not be this registry's list.
    if Origin::of(&url).as_ref() != Some(&answer.origin) {
        return Err(Fault::corrupt("the link to its next page leads to another origin"));
    }
    session.transport.rules.check(&answer.origin, &url, "next page")?;
    Ok(Some(url))
}

/// Lists names, page after page.
async fn names(
    session: &Session,
    endpoint: &Endpoint,
    first: &str,
    scopes: &[String],
    what: &str,
    parse: impl Fn(&[u8]) -> serde_json::Result<Vec<String>>,
) -> Result<Vec<String>, Fault> {
    let mut next = None;
    let mut names = Vec::new();
    for _ in 0..MAX_PAGES {
        let target = next.as_ref().map_or(Target::Path(first), Target::Url);
        let ask = Ask::new(Method::GET, target, scopes);
        let answer = session.send(endpoint, &ask, session.retry.attempts).await?;
        let answer = session.expect(endpoint, answer, &[StatusCode::OK]).await?;
        let more = next_page(session, &answer)?;
        let body = session.transport.body(answer.response, MAX_TAG_PAGE).await?;
        let page =
            parse(&body).map_err(|e| Fault::corrupt(format!("its list of {what} is malformed")).source(e))?;
        if page.is_empty() && more.is_some() && more == next {
            return Err(Fault::corrupt(format!("its list of {what} does not end")));
        }
        names.extend(page);
        if names.len() > MAX_NAMES {
            return Err(Fault::new(
                ErrorKind::ResourceExhausted,
                format!("it lists more than {MAX_NAMES} {what}"),
            ));
        }
        match more {
            None => return Ok(names),
            Some(url) => next = Some(url),
        }
    }
    Err(Fault::corrupt(format!("its list of {what} does not end")))
}

/// Returns the target of `rel="next"` (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, params) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = params.split(';').map(str::trim).any(|param| matches!(param, "rel=\"next\"" | "rel=next"));
        next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_links_are_found() {
        assert_eq!(
            next_link(r#"</v2/a/tags/list?last=b&n=2>; rel="next""#),
            Some("/v2/a/tags/list?last=b&n=2")
        );
        assert_eq!(next_link(r#"<x>; rel="prev", <y>; rel=next"#), Some("y"));
        for none in ["", "x", "<x>", r#"<x>; rel="prev""#] {
            assert_eq!(next_link(none), None);
        }
    }

    #[test]
    fn d1_one_content_type_and_one_digest() {
        let two = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type::OCI_MANIFEST))]);
        assert_eq!(content_type(&two).as_deref(), Some(media_type::OCI_MANIFEST));
        let mut two = two;
        two.append(CONTENT_TYPE, HeaderValue::from_static(media_type::OCI_INDEX));
        assert_eq!(content_type(&two), None);
        let mut headers = HeaderMap::new();
        assert!(told_digest(&headers).unwrap().is_none());
        headers.insert(DOCKER_CONTENT_DIGEST, HeaderValue::from_static("sha256:x"));
        assert!(told_digest(&headers).is_err());
    }
}
