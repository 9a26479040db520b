//! [`MemoryRegistry`]: registries as maps, and a client of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Faults, lock};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;
use crate::manifest::Manifest;
use crate::reference::Reference;
use crate::registry_client::{BlobSource, Credentials, PushOutcome, RegistryClient};

/// The size of the pieces in which blobs are handed out: small, so that readers meet several.
const CHUNK: usize = 64 << 10;

/// A [`RegistryClient`] with all the registries it can reach, which accept any repository.
///
/// Clones share the registries; each has its own log-ins. Methods in [`Faults`]: `registry.resolve`, and so on.
#[derive(Clone, Debug, Default)]
pub struct MemoryRegistry {
    world: Arc<Mutex<World>>,
    log_ins: BTreeMap<String, Credentials>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct World {
    /// What a registry wants before it answers.
    wanted: BTreeMap<String, Credentials>,
    /// By registry and repository.
    repositories: BTreeMap<(String, String), Repository>,
}

#[derive(Debug, Default)]
struct Repository {
    blobs: BTreeMap<Digest, Bytes>,
    manifests: BTreeMap<Digest, (String, Bytes)>,
    tags: BTreeMap<String, Digest>,
}

impl MemoryRegistry {
    /// Creates empty registries that ask for no credentials.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shares `faults` with other parts.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Makes `registry` refuse everybody without `credentials`.
    #[must_use]
    pub fn requiring(self, registry: impl Into<String>, credentials: Credentials) -> Self {
        lock(&self.world).wanted.insert(registry.into(), credentials);
        self
    }

    /// Makes this client use `credentials` at `registry`.
    #[must_use]
    pub fn logged_in(mut self, registry: impl Into<String>, credentials: Credentials) -> Self {
        self.log_ins.insert(registry.into(), credentials);
        self
    }

    /// Returns the handle for faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Puts a blob into the repository of `reference` and returns its descriptor.
    pub fn add_blob(&self, reference: &Reference, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::of(media_type, &bytes);
        lock(&self.world).repository(reference).blobs.insert(descriptor.digest.clone(), bytes);
        descriptor
    }

    /// Puts a manifest or index under the tag of `reference`, if it has one, and returns its descriptor.
    pub fn add_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::of(media_type, &bytes);
        lock(&self.world).repository(reference).put(reference.tag(), &descriptor, bytes);
        descriptor
    }

    /// Replaces the bytes of a blob and keeps its digest, as a broken or hostile registry would.
    pub fn corrupt_blob(&self, reference: &Reference, digest: &Digest, bytes: impl Into<Bytes>) {
        lock(&self.world).repository(reference).blobs.insert(digest.clone(), bytes.into());
    }

    /// Begins a call: consults the faults, then the registry's door.
    async fn enter(&self, method: &'static str, reference: &Reference) -> Result<()> {
        self.faults.check(method, reference).await?;
        let registry = reference.registry();
        match lock(&self.world).wanted.get(registry) {
            Some(wanted) if self.log_ins.get(registry) != Some(wanted) => {
                Err(Error::new(ErrorKind::Unauthenticated, "reach registry")
                    .with("registry", registry)
                    .with_message("it wants credentials"))
            }
            _ => Ok(()),
        }
    }

    /// Reads the repository of `reference`, which may not exist.
    fn look<T>(&self, reference: &Reference, read: impl FnOnce(&Repository) -> Option<T>) -> Option<T> {
        let key = (reference.registry().to_owned(), reference.repository().to_owned());
        lock(&self.world).repositories.get(&key).and_then(read)
    }

    fn manifest(&self, reference: &Reference) -> Result<(Descriptor, Bytes)> {
        self.look(reference, |repository| {
            let digest = match reference.digest() {
                Some(digest) => digest,
                None => repository.tags.get(&reference.tag_or_digest())?,
            };
            let (media_type, bytes) = repository.manifests.get(digest)?;
            Some((Descriptor::new(media_type, digest.clone(), bytes.len() as u64), bytes.clone()))
        })
        .ok_or_else(|| missing("find manifest", reference))
    }
}

impl World {
    fn repository(&mut self, reference: &Reference) -> &mut Repository {
        let key = (reference.registry().to_owned(), reference.repository().to_owned());
        self.repositories.entry(key).or_default()
    }
}

impl Repository {
    fn put(&mut self, tag: Option<&str>, manifest: &Descriptor, bytes: Bytes) {
        self.manifests.insert(manifest.digest.clone(), (manifest.media_type.clone(), bytes));
        if let Some(tag) = tag {
            self.tags.insert(tag.to_owned(), manifest.digest.clone());
        }
    }
}

fn missing(operation: &'static str, reference: &Reference) -> Error {
    Error::new(ErrorKind::NotFound, operation).with("reference", reference)
}

#[async_trait]
impl RegistryClient for MemoryRegistry {
    async fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        self.enter("registry.resolve", reference).await?;
        self.manifest(reference).map(|(descriptor, _)| descriptor)
    }

    async fn fetch_manifest(&self, reference: &Reference) -> Result<(Descriptor, Bytes)> {
        self.enter("registry.fetch_manifest", reference).await?;
        self.manifest(reference)
    }

    async fn fetch_blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<ByteStream> {
        self.enter("registry.fetch_blob", reference).await?;
        let bytes = self
            .look(reference, |repository| repository.blobs.get(&blob.digest).cloned())
            .ok_or_else(|| missing("fetch blob", reference).with("blob", &blob.digest))?;
        // Never more than the descriptor says, whatever the registry holds.
        let end = usize::try_from(blob.size).unwrap_or(usize::MAX).min(bytes.len());
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(end);
        Ok(pieces(bytes.slice(begin..end)))
    }

    async fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        self.enter("registry.has_blob", reference).await?;
        Ok(self.look(reference, |repository| repository.blobs.get(digest).map(drop)).is_some())
    }

    async fn push_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        mount_from: Option<&str>,
        source: &dyn BlobSource,
    ) -> Result<PushOutcome> {
        self.enter("registry.push_blob", reference).await?;
        {
            let mut world = lock(&self.world);
            if world.repository(reference).blobs.contains_key(&blob.digest) {
                return Ok(PushOutcome::Existed);
            }
            let from = mount_from.map(|name| (reference.registry().to_owned(), name.to_owned()));
            let mounted = from
                .and_then(|key| world.repositories.get(&key))
                .and_then(|other| other.blobs.get(&blob.digest))
                .cloned();
            if let Some(bytes) = mounted {
                world.repository(reference).blobs.insert(blob.digest.clone(), bytes);
                return Ok(PushOutcome::Mounted);
            }
        }
        let bytes: BytesMut = source
            .open(0)
            .await?
            .try_fold(BytesMut::new(), async |mut all, piece| {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await?;
        check("push blob", blob, &bytes)?;
        lock(&self.world).repository(reference).blobs.insert(blob.digest.clone(), bytes.freeze());
        Ok(PushOutcome::Uploaded)
    }

    async fn push_manifest(&self, reference: &Reference, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        self.enter("registry.push_manifest", reference).await?;
        check("push manifest", manifest, &bytes)?;
        if reference.digest().is_some_and(|digest| *digest != manifest.digest) {
            return Err(Error::new(ErrorKind::InvalidArgument, "push manifest")
                .with("reference", reference)
                .with_message("the reference pins another digest"));
        }
        lock(&self.world).repository(reference).put(reference.tag(), manifest, bytes);
        Ok(())
    }

    async fn list_tags(&self, reference: &Reference) -> Result<Vec<String>> {
        self.enter("registry.list_tags", reference).await?;
        self.look(reference, |repository| Some(repository.tags.keys().cloned().collect::<BTreeSet<_>>()))
            .map(|tags| tags.into_iter().collect())
            .ok_or_else(|| missing("list tags", reference))
    }

    async fn list_referrers(
        &self,
        subject: &Reference,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        self.enter("registry.list_referrers", subject).await?;
        let Some(digest) = subject.digest() else {
            return Err(Error::new(ErrorKind::InvalidArgument, "list referrers")
                .with("reference", subject)
                .with_message("it has no digest"));
        };
        let mut found = self
            .look(subject, |repository| {
                let manifests = repository.manifests.values();
                Some(manifests.filter_map(|(kind, bytes)| referrer(kind, bytes, digest)).collect::<Vec<_>>())
            })
            .unwrap_or_default();
        found.retain(|entry| artifact_type.is_none() || entry.artifact_type.as_deref() == artifact_type);
        Ok(found)
    }

    async fn catalog(&self, registry: &str) -> Result<Vec<String>> {
        self.faults.check("registry.catalog", registry).await?;
        let world = lock(&self.world);
        let names = world.repositories.keys().filter(|(host, _)| host == registry);
        Ok(names.map(|(_, repository)| repository.clone()).collect())
    }

    async fn check_credentials(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        self.faults.check("registry.check_credentials", registry).await?;
        match lock(&self.world).wanted.get(registry) {
            Some(wanted) if wanted != credentials => {
                Err(Error::new(ErrorKind::Unauthenticated, "log in").with("registry", registry))
            }
            _ => Ok(()),
        }
    }

    fn with_credentials(&self, registry: &str, credentials: Credentials) -> Arc<dyn RegistryClient> {
        Arc::new(self.clone().logged_in(registry, credentials))
    }
}

/// Returns the descriptor of a manifest in the list of referrers, if its subject is `digest`.
fn referrer(kind: &str, bytes: &Bytes, digest: &Digest) -> Option<Descriptor> {
    let manifest = Manifest::parse(bytes, kind).ok()?;
    (manifest.subject()?.digest == *digest).then(|| manifest.as_referrer(&Descriptor::of(kind, bytes)))
}

/// Checks what is pushed, as a registry would.
fn check(operation: &'static str, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    if bytes.len() as u64 == descriptor.size && descriptor.digest.rehash(bytes) == descriptor.digest {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, operation)
        .with("digest", &descriptor.digest)
        .with_message("the content does not match its descriptor"))
}

/// Hands out `bytes` in pieces.
pub(super) fn pieces(bytes: Bytes) -> ByteStream {
    let next = |mut rest: Bytes| async move {
        let piece = rest.split_to(rest.len().min(CHUNK));
        (!piece.is_empty()).then_some((Ok(piece), rest))
    };
    stream::unfold(bytes, next).boxed()
}
