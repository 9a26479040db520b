//! [`MemoryUrls`]: files behind URLs that are nowhere but here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::{Faults, lock};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::url_fetcher::{FetchRequest, Fetched, FetchedFile, FileVersion, UrlFetcher};

/// A [`UrlFetcher`] over files in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryUrls {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    faults: Faults,
}

impl MemoryUrls {
    /// Returns one without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file behind a URL, in the place of what is there.
    pub fn put(&self, url: &str, content: impl Into<Bytes>) {
        lock(&self.files).insert(url.to_owned(), content.into());
    }

    /// Shares `faults` with other parts.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }
}

#[async_trait]
impl UrlFetcher for MemoryUrls {
    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched> {
        self.faults.check("urls.fetch", &request.url).await?;
        let fail = |kind, why| Error::new(kind, "fetch file").with("url", &request.url).with_message(why);
        let content = lock(&self.files).get(&request.url).cloned();
        let content = content.ok_or_else(|| fail(ErrorKind::NotFound, "there is no such file"))?;
        if content.len() as u64 > request.max_bytes {
            return Err(fail(ErrorKind::ResourceExhausted, "it is too large"));
        }
        let version = FileVersion::new(Some(format!("\"{}\"", Digest::sha256(&content).hex())), None);
        if version == request.known {
            return Ok(Fetched::Unchanged);
        }
        let mut file = FetchedFile::new(stream::once(async { Ok(content) }).boxed());
        file.version = version;
        Ok(Fetched::File(file))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_known_is_not_sent_again() {
        let urls = MemoryUrls::new();
        urls.put("http://x/y", "one");
        let request = FetchRequest::new("http://x/y");
        let Fetched::File(file) = urls.fetch(&request).await.unwrap() else { panic!("it is new") };
        assert_eq!(file.content.try_collect::<Vec<_>>().await.unwrap().concat(), b"one");
        let request = request.with_known(file.version);
        assert!(matches!(urls.fetch(&request).await.unwrap(), Fetched::Unchanged));
        urls.put("http://x/y", "two");
        assert!(matches!(urls.fetch(&request).await.unwrap(), Fetched::File(_)));
        let too_large = urls.fetch(&FetchRequest::new("http://x/y").with_max_bytes(2)).await.unwrap_err();
        assert_eq!(too_large.kind(), ErrorKind::ResourceExhausted);
        let missing = urls.fetch(&FetchRequest::new("http://x/z")).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}
