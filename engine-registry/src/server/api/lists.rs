//! Lists: tags (end-8), referrers (end-12), and the repositories (Docker's `_catalog`).

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::Response;
use engine_core::descriptor::media_type;
use serde_json::json;

use super::query::{MAX_PAGE, next_page};
use super::{Answer, Api, Call, OCI_FILTERS, digest, json as answer, set};
use crate::server::error::{ApiError, Code};
use crate::server::names::{RepositoryName, Tag};
use crate::server::storage::{Page, PageRequest};

impl Api {
    /// Fills a page with repositories that the client may know of. That there are more is said of those only.
    pub(in crate::server) async fn visible_repositories(
        &self,
        parts: &Parts,
        page: &PageRequest,
    ) -> Result<Page<RepositoryName>, ApiError> {
        let (mut entries, mut after, mut step) = (Vec::new(), page.after.clone(), page.limit + 1);
        while page.limit > 0 && entries.len() <= page.limit {
            let found = self.storage.repositories(&PageRequest::new(after.as_deref(), step)).await?;
            after = found.entries.last().map(|last| last.as_str().to_owned());
            entries.extend(self.gate.visible(parts, found.entries).await?);
            if !found.more || after.is_none() {
                break;
            }
            // Whoever sees little of much is not to wait for many small steps.
            step = MAX_PAGE;
        }
        let more = entries.len() > page.limit && page.limit > 0;
        entries.truncate(page.limit);
        Ok(Page { entries, more })
    }
}

impl Call<'_> {
    pub(super) async fn catalog(&self) -> Answer {
        let page = self.query.page()?;
        let found = self.api.visible_repositories(self.parts, &page).await?;
        let names: Vec<&str> = found.entries.iter().map(RepositoryName::as_str).collect();
        let mut response = answer(StatusCode::OK, json!({ "repositories": names }).to_string());
        self.link(&mut response, page.limit, found.more, names.last().copied(), &[]);
        Ok(response)
    }

    pub(super) async fn tags(&self, repository: &RepositoryName) -> Answer {
        let page = self.query.page()?;
        let elsewhere = match &self.api.cache {
            Some(cache) => cache.tags(repository).await,
            None => None,
        };
        let found = match elsewhere {
            Some(tags) => Some(part(tags, |tag| tag.as_str().to_owned(), &page)),
            None => self.api.storage.tags(repository, &page).await?,
        };
        let Some(found) = found else {
            return Err(ApiError::new(Code::NameUnknown, "there is no such repository"));
        };
        let names: Vec<&str> = found.entries.iter().map(Tag::as_str).collect();
        let text = json!({ "name": repository.as_str(), "tags": names }).to_string();
        let mut response = answer(StatusCode::OK, text);
        self.link(&mut response, page.limit, found.more, names.last().copied(), &[]);
        Ok(response)
    }

    /// Of a subject, or a repository, that is not there: nothing, as the specification has it.
    pub(super) async fn referrers(&self, repository: &RepositoryName, text: &str) -> Answer {
        let subject = digest(text)?;
        let page = self.query.page()?;
        let kind = self.query.get("artifactType").filter(|kind| !kind.is_empty());
        let elsewhere = match &self.api.cache {
            Some(cache) => cache.referrers(repository, &subject, kind).await,
            None => None,
        };
        let found = match elsewhere {
            Some(found) => part(found, |entry| entry.digest.to_string(), &page),
            None => self.api.storage.referrers(repository, &subject, kind, &page).await?,
        };
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": found.entries,
        });
        let mut response = answer(StatusCode::OK, index.to_string());
        set(&mut response, CONTENT_TYPE, media_type::OCI_INDEX);
        let mut filter = Vec::new();
        if let Some(kind) = kind {
            set(&mut response, OCI_FILTERS, "artifactType");
            filter.push(("artifactType", kind));
        }
        let last = found.entries.last().map(|entry| entry.digest.to_string());
        self.link(&mut response, page.limit, found.more, last.as_deref(), &filter);
        Ok(response)
    }

    fn link(
        &self,
        response: &mut Response,
        limit: usize,
        more: bool,
        last: Option<&str>,
        with: &[(&str, &str)],
    ) {
        if let Some(last) = last.filter(|_| more) {
            let (name, value) = next_page(self.parts.uri.path(), limit, last, with);
            response.headers_mut().insert(name, value);
        }
    }
}

/// Takes a page out of what is all there, in order.
fn part<T>(entries: Vec<T>, name: impl Fn(&T) -> String, page: &PageRequest) -> Page<T> {
    let later = |entry: &T| page.after.as_ref().is_none_or(|last| name(entry) > *last);
    let mut entries: Vec<T> = entries.into_iter().filter(later).take(page.limit + 1).collect();
    let more = entries.len() > page.limit && page.limit > 0;
    entries.truncate(page.limit);
    Page { entries, more }
}
