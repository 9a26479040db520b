//! [`OciRegistry`]: the contract, carried out.
//!
//! Owns which endpoints an operation goes to (mirrors for pulling, the registry alone for everything else) and what
//! its errors are about.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::io::ByteStream;
use engine_core::manifest::Manifest;
use engine_core::reference::Reference;
use engine_core::registry_client::{BlobSource, Credentials, PushOutcome, RegistryClient};
use reqwest::StatusCode;

use crate::blob_stream::BlobStream;
use crate::builder::RegistryBuilder;
use crate::credentials::CredentialSource;
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::manifests;
use crate::push::Push;
use crate::referrers;
use crate::session::{Ask, Session};

/// Tries at a mirror, before the next place is tried.
const MIRROR_ATTEMPTS: u32 = 2;

/// A client of registries that speak the OCI distribution protocol (Docker Hub, GHCR, Harbor, distribution, …).
///
/// It keeps connections and tokens, so make one and share it: clones are cheap and share both.
#[derive(Clone, Debug)]
pub struct OciRegistry {
    session: Arc<Session>,
    mirrors: Arc<HashMap<String, Vec<Endpoint>>>,
}

impl Default for OciRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl OciRegistry {
    /// Returns an anonymous client with the default options.
    ///
    /// # Panics
    /// Never: the default options are valid.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build().expect("the default options are valid")
    }

    /// Returns the options of a client.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    pub(crate) fn from_parts(session: Session, mirrors: HashMap<String, Vec<Endpoint>>) -> Self {
        Self { session: Arc::new(session), mirrors: Arc::new(mirrors) }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the size of a blob, if the registry has it.
    #[cfg(feature = "server")]
    pub(crate) async fn blob_size(&self, reference: &Reference, digest: &Digest) -> Result<Option<u64>> {
        let work = async {
            let endpoint = Endpoint::registry(reference.registry())?;
            let scopes = pull_scope(reference).to_vec();
            let repository = reference.repository();
            Push { session: &self.session, endpoint: &endpoint, repository, scopes }.blob_size(digest).await
        };
        work.await.map_err(|fault| about("look for blob", reference, fault).with("blob", digest))
    }

    /// Returns the places to pull from, in order: the last one is the registry itself.
    fn places(&self, reference: &Reference) -> Result<Vec<Endpoint>, Fault> {
        let registry = Endpoint::registry(reference.registry())?;
        let mirrors = self.mirrors.get(&registry.name).cloned().unwrap_or_default().into_iter();
        let mut places: Vec<_> = mirrors.map(|mirror| mirror.standing_for(&registry)).collect();
        places.push(registry);
        Ok(places)
    }

    fn attempts(&self, left: usize) -> u32 {
        if left == 0 { self.session.retry.attempts } else { self.session.retry.attempts.min(MIRROR_ATTEMPTS) }
    }

    async fn resolved(&self, reference: &Reference) -> Result<Descriptor, Fault> {
        let scopes = pull_scope(reference);
        let mut places = self.places(reference)?.into_iter();
        while let Some(place) = places.next() {
            let attempts = self.attempts(places.len());
            let result = match manifests::head(&self.session, &place, reference, &scopes, attempts).await {
                Ok(Some(descriptor)) => Ok(descriptor),
                Ok(None) => manifests::get(&self.session, &place, reference, &scopes, attempts)
                    .await
                    .map(|(descriptor, _)| descriptor),
                Err(fault) => Err(fault),
            };
            match result {
                Err(fault) if places.len() > 0 => skipped(&place, &fault),
                result => return result,
            }
        }
        Err(nowhere())
    }

    async fn fetched(&self, reference: &Reference) -> Result<(Descriptor, Bytes), Fault> {
        let scopes = pull_scope(reference);
        let mut places = self.places(reference)?.into_iter();
        while let Some(place) = places.next() {
            let attempts = self.attempts(places.len());
            match manifests::get(&self.session, &place, reference, &scopes, attempts).await {
                Err(fault) if places.len() > 0 => skipped(&place, &fault),
                result => return result,
            }
        }
        Err(nowhere())
    }

    async fn checked(&self, registry: &str, credentials: &Credentials) -> Result<(), Fault> {
        let endpoint = Endpoint::registry(registry)?;
        let mut source = CredentialSource::default();
        source.give(&endpoint.name, credentials.clone());
        // Its own authorizer: what is tried out here must not be remembered.
        let authorizer = self.session.authorizer.with_source(source);
        let session = self.session.with_authorizer(authorizer);
        let ask = Ask::get("/v2/", &[]);
        let answer = session.send(&endpoint, &ask, session.retry.attempts).await?;
        match session.expect(&endpoint, answer, &[StatusCode::OK]).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.kind() == ErrorKind::NotFound => {
                Err(Fault::new(ErrorKind::Unsupported, "there is no registry at this address")
                    .hint("check the host and the port"))
            }
            Err(fault) => Err(fault),
        }
    }
}

#[async_trait]
impl RegistryClient for OciRegistry {
    async fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        self.resolved(reference).await.map_err(|fault| about("resolve image", reference, fault))
    }

    async fn fetch_manifest(&self, reference: &Reference) -> Result<(Descriptor, Bytes)> {
        self.fetched(reference).await.map_err(|fault| about("fetch manifest", reference, fault))
    }

    async fn fetch_blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<ByteStream> {
        let fail = |fault| about("fetch blob", reference, fault);
        if offset > blob.size {
            return Err(fail(Fault::new(
                ErrorKind::InvalidArgument,
                format!("offset {offset} is beyond the blob's {} bytes", blob.size),
            )));
        }
        // The descriptor's own URLs are not asked: a manifest's author does not choose whom we call (D2).
        let places = self.places(reference).map_err(fail)?;
        let subject = (reference.registry(), reference.repository());
        let scopes = pull_scope(reference).to_vec();
        BlobStream::new(Arc::clone(&self.session), places, subject, scopes, blob.clone(), offset)
            .start()
            .await
    }

    async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        let work = async {
            let endpoint = Endpoint::registry(reference.registry())?;
            let scopes = pull_scope(reference).to_vec();
            let repository = reference.repository();
            Push { session: &self.session, endpoint: &endpoint, repository, scopes }.has_blob(digest).await
        };
        work.await.map_err(|fault| about("look for blob", reference, fault).with("blob", digest))
    }

    async fn push_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        mount_from: Option<&str>,
        source: &dyn BlobSource,
    ) -> Result<PushOutcome> {
        let work = async {
            let endpoint = Endpoint::registry(reference.registry())?;
            let (scopes, repository) = (push_scope(reference), reference.repository());
            let push = Push { session: &self.session, endpoint: &endpoint, repository, scopes };
            push.blob(blob, mount_from, source).await
        };
        work.await.map_err(|fault| about("push blob", reference, fault).with("blob", &blob.digest))
    }

    async fn push_manifest(&self, reference: &Reference, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        let work = async {
            let endpoint = Endpoint::registry(reference.registry())?;
            let (scopes, repository) = (push_scope(reference), reference.repository());
            let push = Push { session: &self.session, endpoint: &endpoint, repository, scopes };
            let parsed = Manifest::parse(&bytes, &manifest.media_type).ok();
            let listed = push.manifest(&reference.tag_or_digest(), manifest, bytes).await?;
            match parsed.as_ref().and_then(|parsed| Some((parsed, parsed.subject()?))) {
                // The registry keeps no list of its own: see the referrers tag schema.
                Some((parsed, subject)) if !listed => {
                    referrers::add(&push, reference, &subject.digest, parsed.as_referrer(manifest)).await
                }
                _ => Ok(()),
            }
        };
        work.await.map_err(|fault| about("push manifest", reference, fault))
    }

    async fn list_tags(&self, reference: &Reference) -> Result<Vec<String>> {
        let work = async {
            let endpoint = Endpoint::registry(reference.registry())?;
            manifests::tags(&self.session, &endpoint, reference.repository(), &pull_scope(reference)).await
        };
        work.await.map_err(|fault| about("list tags", reference, fault))
    }

    async fn list_referrers(
        &self,
        subject: &Reference,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let work = async {
            let digest = subject.digest().ok_or_else(|| {
                Fault::new(ErrorKind::InvalidArgument, "the reference has no digest")
                    .hint("resolve it first, and pin the digest")
            })?;
            let endpoint = Endpoint::registry(subject.registry())?;
            referrers::list(&self.session, &endpoint, subject, digest, &pull_scope(subject)).await
        };
        let mut found = work.await.map_err(|fault| about("list referrers", subject, fault))?;
        found.retain(|entry| artifact_type.is_none() || entry.artifact_type.as_deref() == artifact_type);
        Ok(found)
    }

    async fn catalog(&self, registry: &str) -> Result<Vec<String>> {
        let work = async { manifests::catalog(&self.session, &Endpoint::registry(registry)?).await };
        let shown = registry.rsplit_once('@').map_or(registry, |(_, host)| host);
        work.await.map_err(|fault| fault.into_error("list repositories", shown, None))
    }

    async fn check_credentials(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        let work = self.checked(registry, credentials);
        // Somebody may have written USER:PASSWORD@HOST.
        let shown = registry.rsplit_once('@').map_or(registry, |(_, host)| host);
        work.await.map_err(|fault| fault.into_error("log in", shown, None))
    }

    fn with_credentials(&self, registry: &str, credentials: Credentials) -> Arc<dyn RegistryClient> {
        let source =
            CredentialSource::over(Arc::clone(&self.session.authorizer.source), registry, credentials);
        let session = self.session.with_authorizer(self.session.authorizer.with_source(source));
        Arc::new(Self { session: Arc::new(session), mirrors: Arc::clone(&self.mirrors) })
    }
}

fn pull_scope(reference: &Reference) -> [String; 1] {
    [format!("repository:{}:pull", reference.repository())]
}

fn push_scope(reference: &Reference) -> Vec<String> {
    vec![format!("repository:{}:pull,push", reference.repository())]
}

fn about(operation: &'static str, reference: &Reference, fault: Fault) -> Error {
    let error = fault.into_error(operation, reference.registry(), Some(reference.repository()));
    match operation {
        "resolve image" | "fetch manifest" | "push manifest" => {
            error.with("reference", reference.tag_or_digest())
        }
        _ => error,
    }
}

fn skipped(mirror: &Endpoint, fault: &Fault) {
    tracing::info!(mirror = mirror.name, %fault, "mirror failed, trying the next place");
}

fn nowhere() -> Fault {
    Fault::new(ErrorKind::Other, "there is no place to ask")
}
