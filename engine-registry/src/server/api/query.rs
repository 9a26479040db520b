//! Parameters of a request's query, and the part of a list that they ask for.

use axum::http::header::LINK;
use axum::http::{HeaderName, HeaderValue, Uri};
use reqwest::Url;

use super::super::error::{ApiError, Code};
use super::super::storage::PageRequest;

/// Entries of a page, whatever is asked for (SECURITY D5).
pub(super) const MAX_PAGE: usize = 1000;

/// The decoded parameters.
#[derive(Debug)]
pub(in crate::server) struct Query(Vec<(String, String)>);

impl Query {
    pub(in crate::server) fn of(uri: &Uri) -> Self {
        uri.query().map_or_else(|| Self(Vec::new()), Self::parse)
    }

    /// Reads a query's text, or a form.
    pub(super) fn parse(text: &str) -> Self {
        // Any text is a query of this URL.
        let parsed = Url::parse(&format!("query:?{text}"));
        Self(parsed.map_or_else(|_| Vec::new(), |url| url.query_pairs().into_owned().collect()))
    }

    pub(in crate::server) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns all values of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reads `n` and `last`.
    pub(super) fn page(&self) -> Result<PageRequest, ApiError> {
        let limit = match self.get("n") {
            None => MAX_PAGE,
            // More digits than a number has are still more than a page holds.
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE)
            }
            Some(_) => {
                return Err(ApiError::new(Code::PaginationNumberInvalid, "n is not a number of entries"));
            }
        };
        Ok(PageRequest::new(self.get("last").filter(|last| !last.is_empty()), limit))
    }
}

/// Returns the header that leads to the page after `last`.
pub(super) fn next_page(
    path: &str,
    limit: usize,
    last: &str,
    more: &[(&str, &str)],
) -> (HeaderName, HeaderValue) {
    let limit = limit.to_string();
    let mut query = String::new();
    if let Ok(mut url) = Url::parse("query:") {
        url.query_pairs_mut().append_pair("n", &limit).append_pair("last", last).extend_pairs(more);
        query = url.query().unwrap_or_default().to_owned();
    }
    // Path and query are escaped, hence ASCII without quotes.
    let value = HeaderValue::from_str(&format!("<{path}?{query}>; rel=\"next\""));
    (LINK, value.unwrap_or_else(|_| HeaderValue::from_static("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> Result<PageRequest, ApiError> {
        Query::of(&format!("/v2/a/tags/list?{query}").parse().unwrap()).page()
    }

    #[test]
    fn d5_pages_are_bounded_and_numbers_are_numbers() {
        for (query, limit) in
            [("", 1000), ("n=0", 0), ("n=7", 7), ("n=2147483648", 1000), ("n=99999999999999999999999", 1000)]
        {
            assert_eq!(page(query).unwrap().limit, limit, "{query}");
        }
        for query in ["n=-1", "n=", "n=1e3", "n=x", "n=%00"] {
            assert!(page(query).is_err(), "{query}");
        }
        assert_eq!(page("last=a%2Bb").unwrap().after.as_deref(), Some("a+b"));
    }

    #[test]
    fn the_link_leads_to_what_is_left() {
        let (_, value) = next_page("/v2/a/tags/list", 2, "b", &[("artifactType", "x/y+z")]);
        assert_eq!(value, "</v2/a/tags/list?n=2&last=b&artifactType=x%2Fy%2Bz>; rel=\"next\"");
    }
}
