//! The [`RegistryClient`] contract: content in registries.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;
use crate::reference::Reference;

/// Resolves, fetches and pushes content of registries.
///
/// # Contract
/// - Authentication, mirrors, retries and resuming a broken transfer are the client's business; an error it
///   returns is final for this call.
/// - Bytes of a manifest are checked against the digest they were asked by. A blob's stream is *not*: whoever
///   stores it hashes it. It never has more bytes than the descriptor says.
/// - Credentials reach only the origin they belong to, and no error, log or `Debug` output.
/// - Pushing what is there is `Ok`; a push whose future is dropped leaves nothing visible.
///
/// # Implementing
/// Check your type with [`testing::registry_client`](crate::testing) (feature `testing`).
#[async_trait]
pub trait RegistryClient: fmt::Debug + Send + Sync + 'static {
    /// Returns the descriptor a reference points at, without its content.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unauthenticated`](ErrorKind::Unauthenticated),
    /// [`PermissionDenied`](ErrorKind::PermissionDenied), [`Unavailable`](ErrorKind::Unavailable).
    async fn resolve(&self, reference: &Reference) -> Result<Descriptor>;

    /// Fetches a manifest or index, by digest if the reference has one, else by tag.
    async fn fetch_manifest(&self, reference: &Reference) -> Result<(Descriptor, Bytes)>;

    /// Streams a blob of the reference's repository from byte `offset` on.
    async fn fetch_blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<ByteStream>;

    /// Returns whether the repository has the blob.
    async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool>;

    /// Pushes a blob, whose content `source` opens anew for each try. With `mount_from`, the registry is first
    /// asked to take it over from that repository of its own.
    async fn push_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        mount_from: Option<&str>,
        source: &dyn BlobSource,
    ) -> Result<PushOutcome>;

    /// Pushes a manifest or index under the reference's tag or digest, byte for byte. One that has a subject is listed
    /// among the subject's referrers from then on.
    async fn push_manifest(&self, reference: &Reference, manifest: &Descriptor, bytes: Bytes) -> Result<()>;

    /// Returns the tags of the reference's repository.
    async fn list_tags(&self, reference: &Reference) -> Result<Vec<String>>;

    /// Returns the manifests whose subject is the digest of `subject`, which pins one; with `artifact_type` those of that
    /// type alone. None if the subject has none, or is not there.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the reference has no digest.
    async fn list_referrers(
        &self,
        subject: &Reference,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>>;

    /// Returns the repositories of `registry` (a host, with a port where it has one), as far as it tells.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if it does not list them.
    async fn catalog(&self, registry: &str) -> Result<Vec<String>>;

    /// Checks that `registry` (a host, with a port where it has one) accepts `credentials`.
    ///
    /// # Errors
    /// [`Unauthenticated`](ErrorKind::Unauthenticated) if it does not.
    async fn check_credentials(&self, registry: &str, credentials: &Credentials) -> Result<()>;

    /// Returns a client of the same registries that uses `credentials` at `registry` (a host, with a port where it has one), and
    /// elsewhere what this one uses. This one goes on as before, and learns nothing that is got by them.
    fn with_credentials(&self, registry: &str, credentials: Credentials) -> Arc<dyn RegistryClient>;
}

/// Opens the content of a blob that is being pushed.
#[async_trait]
pub trait BlobSource: fmt::Debug + Send + Sync {
    /// Opens the content from byte `offset` on.
    async fn open(&self, offset: u64) -> Result<ByteStream>;
}

/// How a pushed blob got there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PushOutcome {
    /// Its bytes were sent.
    Uploaded,
    /// It was there.
    Existed,
    /// The registry took it over from another repository.
    Mounted,
}

/// A user name and a secret, or an identity token. `Debug` shows neither secret.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum Credentials {
    /// A user name and a password or access token.
    Basic {
        /// The user name.
        username: String,
        /// The secret.
        password: String,
    },
    /// A refresh token of the registry's token service.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => {
                f.debug_struct("Basic").field("username", username).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => f.write_str("IdentityToken(..)"),
        }
    }
}

/// The registry client of an engine that was given none: every call says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRegistry;

fn none<T>(reference: impl fmt::Display) -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "reach registry")
        .with("reference", reference)
        .with_message("no registry client is configured")
        .with_hint("give one to Engine::builder(…).registry(…), such as engine_registry::OciRegistry"))
}

#[async_trait]
impl RegistryClient for NoRegistry {
    async fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        none(reference)
    }
    async fn fetch_manifest(&self, reference: &Reference) -> Result<(Descriptor, Bytes)> {
        none(reference)
    }
    async fn fetch_blob(&self, reference: &Reference, _: &Descriptor, _: u64) -> Result<ByteStream> {
        none(reference)
    }
    async fn has_blob(&self, reference: &Reference, _: &Digest) -> Result<bool> {
        none(reference)
    }
    async fn push_blob(
        &self,
        reference: &Reference,
        _: &Descriptor,
        _: Option<&str>,
        _: &dyn BlobSource,
    ) -> Result<PushOutcome> {
        none(reference)
    }
    async fn push_manifest(&self, reference: &Reference, _: &Descriptor, _: Bytes) -> Result<()> {
        none(reference)
    }
    async fn list_tags(&self, reference: &Reference) -> Result<Vec<String>> {
        none(reference)
    }
    async fn list_referrers(&self, subject: &Reference, _: Option<&str>) -> Result<Vec<Descriptor>> {
        none(subject)
    }
    async fn catalog(&self, registry: &str) -> Result<Vec<String>> {
        none(registry)
    }
    async fn check_credentials(&self, registry: &str, _: &Credentials) -> Result<()> {
        none(registry)
    }
    fn with_credentials(&self, _: &str, _: Credentials) -> Arc<dyn RegistryClient> {
        Arc::new(Self)
    }
}
