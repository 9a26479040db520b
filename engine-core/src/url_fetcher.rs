//! The [`UrlFetcher`] contract: files behind URLs, for `ADD` and for contexts of builds.

use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;
use crate::limit::DEFAULT_MAX_BYTES;

/// Fetches files behind http and https URLs.
///
/// # Contract
/// - Whatever a server says, nothing but http and https is spoken, and nobody is led from https to http.
/// - Each wait for a server has an end. A stream that does not have all of the file ends in an error, and so does one of more bytes than
///   the request allows.
/// - The bytes are the file's own: not encoded for the transfer.
/// - A user and a password in the URL go to the URL's own origin, and into no error, log or `Debug` output.
///
/// [`MemoryUrls`](crate::memory::MemoryUrls) is one for tests.
#[async_trait]
pub trait UrlFetcher: fmt::Debug + Send + Sync + 'static {
    /// Asks for a file.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for what is no http or https URL; [`NotFound`](ErrorKind::NotFound),
    /// [`PermissionDenied`](ErrorKind::PermissionDenied), [`Unauthenticated`](ErrorKind::Unauthenticated),
    /// [`Unavailable`](ErrorKind::Unavailable) as the server has it; [`ResourceExhausted`](ErrorKind::ResourceExhausted) for one that is
    /// too large.
    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched>;
}

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FetchRequest {
    /// Where the file is.
    pub url: String,
    /// The version that is known already, which is not to be transferred again.
    pub known: Option<FileVersion>,
    /// The most bytes that the file may have. Default: [`DEFAULT_MAX_BYTES`].
    pub max_bytes: u64,
}

impl FetchRequest {
    /// Asks for the file behind `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), known: None, max_bytes: DEFAULT_MAX_BYTES }
    }

    /// Says which version is known already.
    #[must_use]
    pub fn with_known(mut self, version: Option<FileVersion>) -> Self {
        self.known = version;
        self
    }

    /// Sets the most bytes that the file may have.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }
}

/// What a server calls one version of a file (RFC 9110, section 8.8).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct FileVersion {
    /// Its `ETag`, as it came.
    pub etag: Option<String>,
    /// Its `Last-Modified`, as it came.
    pub last_modified: Option<String>,
}

impl FileVersion {
    /// Describes a version by what the server said of it; `None` if that was nothing.
    #[must_use]
    pub fn new(etag: Option<String>, last_modified: Option<String>) -> Option<Self> {
        (etag.is_some() || last_modified.is_some()).then_some(Self { etag, last_modified })
    }
}

/// The answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fetched {
    /// It is still the version that is known.
    Unchanged,
    /// The file.
    File(FetchedFile),
}

/// A file on its way.
#[non_exhaustive]
pub struct FetchedFile {
    /// What the server says it is called (`Content-Disposition`): a name, and never a path.
    pub name: Option<String>,
    /// What the server says it is (`Content-Type`), without parameters.
    pub media_type: Option<String>,
    /// When it was last modified, if the server says that.
    pub modified: Option<SystemTime>,
    /// Its version, if the server says that.
    pub version: Option<FileVersion>,
    /// Its bytes.
    pub content: ByteStream,
}

impl FetchedFile {
    /// Describes a file of which nothing but its bytes is known.
    #[must_use]
    pub fn new(content: ByteStream) -> Self {
        Self { name: None, media_type: None, modified: None, version: None, content }
    }
}

impl fmt::Debug for FetchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedFile")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The place of a fetcher in an engine that has none.
#[derive(Debug)]
pub(crate) struct NoUrls;

#[async_trait]
impl UrlFetcher for NoUrls {
    async fn fetch(&self, _: &FetchRequest) -> Result<Fetched> {
        Err(Error::new(ErrorKind::Unsupported, "fetch file")
            .with_message("this engine has nothing that fetches files behind URLs")
            .with_hint("give the builder one with `url_fetcher`, such as engine-registry's OciRegistry"))
    }
}
