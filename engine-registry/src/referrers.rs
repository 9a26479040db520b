//! Referrers: manifests that are about another one (signatures, SBOMs, whatever is attached).
//!
//! Owns the referrers API and, for registries without it, the index under a tag made of the subject's digest.
//! Source: OCI distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema".

use bytes::Bytes;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_core::error::ErrorKind;
use engine_core::manifest::{ImageIndex, MAX_MANIFEST_SIZE, Manifest};
use engine_core::reference::Reference;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::manifests::{self, next_page};
use crate::push::Push;
use crate::session::{Ask, Session, Target};

const MAX_PAGES: usize = 1000;

/// Returns the manifests whose subject is `digest`.
pub(crate) async fn list(
    session: &Session,
    endpoint: &Endpoint,
    reference: &Reference,
    digest: &Digest,
    scopes: &[String],
) -> Result<Vec<Descriptor>, Fault> {
    let first = format!("/v2/{}/referrers/{digest}", reference.repository());
    let mut found = Vec::new();
    let mut next = None;
    for _ in 0..MAX_PAGES {
        let mut ask = Ask::new(Method::GET, next.as_ref().map_or(Target::Path(&first), Target::Url), scopes);
        ask.headers.insert(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
        let answer = session.send(endpoint, &ask, session.retry.attempts).await?;
        // A registry without the API does not know the path, or takes it for something else.
        let is_index = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| {
            kind.to_str()
                .is_ok_and(|kind| kind.split(';').next().unwrap_or_default().trim() == media_type::OCI_INDEX)
        });
        match answer.status() {
            StatusCode::OK if is_index => {}
            StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED if next.is_none() => {
                return Ok(tagged(session, endpoint, reference, digest, scopes).await?.unwrap_or_default());
            }
            _ => {
                session.expect(endpoint, answer, &[]).await?;
                return Err(Fault::corrupt("its list of referrers is malformed"));
            }
        }
        let more = next_page(session, &answer)?;
        let body = session.transport.body(answer.response, MAX_MANIFEST_SIZE).await?;
        found.extend(index_of(&body)?.manifests);
        match more {
            None => return Ok(found),
            Some(url) => next = Some(url),
        }
    }
    Err(Fault::corrupt("its list of referrers does not end"))
}

/// Adds `manifest`, which was pushed, to the index under its subject's tag.
pub(crate) async fn add(
    push: &Push<'_>,
    reference: &Reference,
    subject: &Digest,
    manifest: Descriptor,
) -> Result<(), Fault> {
    let known = tagged(push.session, push.endpoint, reference, subject, &push.scopes).await?;
    let mut entries = known.unwrap_or_default();
    if entries.iter().any(|entry| entry.digest == manifest.digest) {
        return Ok(());
    }
    entries.push(manifest);
    let document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": entries,
    });
    let bytes = Bytes::from(document.to_string());
    let index = Descriptor::of(media_type::OCI_INDEX, &bytes);
    push.manifest(&tag_of(subject), &index, bytes).await.map(drop)
}

/// Returns what the index under the subject's tag lists; `None` if there is none.
async fn tagged(
    session: &Session,
    endpoint: &Endpoint,
    reference: &Reference,
    subject: &Digest,
    scopes: &[String],
) -> Result<Option<Vec<Descriptor>>, Fault> {
    let tag = reference
        .with_tag(&tag_of(subject))
        .map_err(|error| Fault::new(error.kind(), "the subject's digest makes no tag").source(error))?;
    match manifests::get(session, endpoint, &tag, scopes, session.retry.attempts).await {
        Ok((descriptor, bytes)) if descriptor.media_type == media_type::OCI_INDEX => {
            Ok(Some(index_of(&bytes)?.manifests))
        }
        Ok(_) => Err(Fault::corrupt("the tag of its referrers is no index")),
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn index_of(bytes: &[u8]) -> Result<ImageIndex, Fault> {
    match Manifest::parse(bytes, media_type::OCI_INDEX) {
        Ok(Manifest::Index(index)) => Ok(index),
        Ok(_) => Err(Fault::corrupt("its list of referrers is no index")),
        Err(error) => Err(Fault::new(error.kind(), "its list of referrers was refused").source(error)),
    }
}

/// `sha256-` and the hex digits, of which 64 are kept.
fn tag_of(subject: &Digest) -> String {
    let hex = subject.hex();
    format!("{}-{}", subject.algorithm().as_str(), &hex[..hex.len().min(64)])
}
