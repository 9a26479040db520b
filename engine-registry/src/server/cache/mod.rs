//! A cache of other registries: what the registry does not have is fetched from where it is, once, and kept.
//!
//! Owns which repositories are whose, and how fresh a tag is; `blobs` fetches content that is long. Invariants: nothing gets into the
//! storage under a digest that it does not have; while an upstream does not answer, what was fetched is served.

mod blobs;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bytes::Bytes;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::reference::Reference;
use engine_core::registry_client::RegistryClient as _;

use self::blobs::Flights;
use super::api::checked;
use super::error::{ApiError, Code};
use super::garbage::Eviction;
use super::names::{RepositoryName, Tag, Target};
use super::quota::Quotas;
use super::storage::{PutManifest, Storage};
use crate::OciRegistry;

/// How long what is there is served unasked, and nothing else is asked for, after an upstream did not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tags whose freshness is remembered.
const MAX_FRESH: usize = 100_000;
/// Repositories whose upstream failed that are remembered.
const MAX_SILENT: usize = 10_000;

/// A registry whose content is fetched when it is asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Upstream {
    /// Repositories below this name are the upstream's: with `docker.io`, `docker.io/library/alpine` is its `library/alpine`.
    pub prefix: String,
    /// The upstream's name, as references have it. A request for `library/alpine` that says `ns=NAME` in its query, as those
    /// of containerd and of our client to a mirror do, is for the repository below the prefix. By default the prefix.
    pub registry: String,
    /// Who fetches: it has the credentials.
    pub client: OciRegistry,
    /// How long a tag is served before the upstream is asked where it leads. A minute by default.
    pub ttl: Duration,
    /// How long content stays that nobody asks for, where the server collects garbage. A week by default, as in distribution.
    pub unused: Option<Duration>,
}

impl Upstream {
    /// Fetches what is below `prefix`, which is the upstream's name, too.
    #[must_use]
    pub fn new(prefix: impl Into<String>, client: OciRegistry) -> Self {
        let prefix = prefix.into();
        Self {
            registry: prefix.clone(),
            prefix,
            client,
            ttl: Duration::from_secs(60),
            unused: Some(Duration::from_secs(7 * 24 * 60 * 60)),
        }
    }

    /// Sets the upstream's name (`host`, `host:port`).
    #[must_use]
    pub fn with_registry(mut self, registry: impl Into<String>) -> Self {
        self.registry = registry.into();
        self
    }

    /// Sets how long a tag is served before the upstream is asked again.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long content stays that nobody asks for; with `None`, for ever.
    #[must_use]
    pub fn with_unused(mut self, unused: Option<Duration>) -> Self {
        self.unused = unused;
        self
    }

    pub(super) fn eviction(&self) -> Option<Eviction> {
        Some(Eviction::new(&self.prefix, self.unused?))
    }
}

/// The registries that a server is a cache of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PullThrough {
    /// Where blobs lie while they are fetched, so that many can read one.
    pub spool: PathBuf,
    /// The registries.
    pub upstreams: Vec<Upstream>,
}

impl PullThrough {
    /// Begins without upstreams.
    #[must_use]
    pub fn new(spool: impl Into<PathBuf>) -> Self {
        Self { spool: spool.into(), upstreams: Vec::new() }
    }

    /// Adds an upstream. Of two whose prefixes fit, the longer one counts.
    #[must_use]
    pub fn with_upstream(mut self, upstream: Upstream) -> Self {
        self.upstreams.push(upstream);
        self
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    upstreams: Vec<Upstream>,
    storage: Arc<dyn Storage>,
    quotas: Quotas,
    /// Until when a tag need not be asked for.
    fresh: Mutex<HashMap<(RepositoryName, Tag), Option<Instant>>>,
    /// Until when an upstream, or one of its repositories, is not asked: it did not answer, or failed.
    silent: Mutex<HashMap<String, Instant>>,
    /// One asks the upstream, others wait for what it says.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    flights: Arc<Flights>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    /// Checks the upstreams. Blocks on files.
    pub(super) fn new(options: PullThrough, storage: Arc<dyn Storage>, quotas: Quotas) -> Result<Self> {
        let wrong = |what: &'static str, text: &str| {
            Error::new(ErrorKind::InvalidArgument, "cache upstream")
                .with(what, text)
                .with_message("it is malformed")
        };
        let mut upstreams = options.upstreams;
        for one in &upstreams {
            one.prefix.parse::<RepositoryName>().map_err(|_| wrong("prefix", &one.prefix))?;
            let name = format!("{}/name", one.registry).parse::<Reference>().ok();
            // A word without a dot or a port would be a repository of Docker Hub's.
            name.filter(|name| name.registry() == one.registry)
                .ok_or_else(|| wrong("registry", &one.registry))?;
        }
        upstreams.sort_by_key(|one| std::cmp::Reverse(one.prefix.len()));
        let flights = Arc::new(Flights::open(options.spool)?);
        Ok(Self {
            upstreams,
            storage,
            quotas,
            fresh: Mutex::default(),
            silent: Mutex::default(),
            turns: Mutex::default(),
            flights,
        })
    }

    /// Returns whose a repository is, and what it is called there.
    fn source(&self, repository: &RepositoryName) -> Option<(&Upstream, Reference)> {
        let name = repository.as_str();
        self.upstreams.iter().find_map(|one| {
            let rest = name.strip_prefix(&one.prefix)?.strip_prefix('/')?;
            Some((one, format!("{}/{rest}", one.registry).parse().ok()?))
        })
    }

    /// Returns the registry that a repository is a copy from.
    pub(super) fn upstream_of(&self, repository: &RepositoryName) -> Option<&str> {
        let covers = |one: &&Upstream| Eviction::new(&one.prefix, Duration::ZERO).covers(repository.as_str());
        self.upstreams.iter().find(covers).map(|one| one.registry.as_str())
    }

    /// Returns the repository that a client means that has named a registry in the query.
    pub(super) fn named(&self, registry: &str, repository: &RepositoryName) -> Option<RepositoryName> {
        let found = self.upstreams.iter().find(|one| one.registry == registry || one.prefix == registry)?;
        format!("{}/{repository}", found.prefix).parse().ok()
    }

    /// Brings a manifest up to date, as far as the upstream answers. What there is then is in the storage.
    pub(super) async fn refresh(&self, repository: &RepositoryName, target: &Target) -> Result<(), ApiError> {
        let Some((upstream, reference)) = self.source(repository) else { return Ok(()) };
        let turn = self.turn(format!("{repository}@{target}"));
        let _turn = turn.lock().await;
        let known = self.storage.resolve(repository, target).await?;
        let is_known = known.is_some();
        let asked = match target {
            Target::Digest(_) if is_known => return Ok(()),
            Target::Tag(tag) if is_known && self.is_fresh(repository, tag) => return Ok(()),
            // Whoever waited behind one that got no answer gets none at once.
            Target::Tag(_) if is_known && self.is_silent(upstream, repository) => return Ok(()),
            _ if self.is_silent(upstream, repository) => return Err(silent()),
            Target::Digest(digest) => self.fetch(repository, upstream, &reference, digest, None).await,
            Target::Tag(tag) => self.follow(repository, upstream, &reference, tag, known).await,
        };
        match asked {
            Ok(()) => Ok(()),
            // What is gone there is gone here.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Target::Tag(tag) = target {
                    self.storage.delete_tag(repository, tag).await?;
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                Err(ApiError::new(Code::Denied, error.to_string()))
            }
            Err(error) => {
                let refusal = self.refusal(upstream, repository, &error);
                match target {
                    Target::Tag(tag) if is_known => {
                        self.keep_fresh(repository, tag, PATIENCE.min(upstream.ttl));
                        Ok(())
                    }
                    // So Docker Hub tells of a repository that it does not have: what is not there is told by the storage.
                    _ if error.kind() == ErrorKind::Unauthenticated => Ok(()),
                    _ => Err(refusal),
                }
            }
        }
    }

    /// Notes that an upstream did not give what it was asked for, and says so to the client.
    fn refusal(&self, upstream: &Upstream, repository: &RepositoryName, error: &Error) -> ApiError {
        tracing::warn!(upstream = upstream.registry, error = %error.report(), "the upstream does not answer");
        // One that answers with a failure may have other repositories that it can read.
        let key = match (error.kind(), std::error::Error::source(error)) {
            (ErrorKind::DeadlineExceeded, _) | (ErrorKind::Unavailable, Some(_)) => upstream.registry.clone(),
            (ErrorKind::Unavailable, None) => repository.to_string(),
            (ErrorKind::PermissionDenied, _) => {
                return ApiError::new(Code::Denied, "the upstream registry denies access");
            }
            _ => return silent(),
        };
        let mut all = lock(&self.silent);
        let now = Instant::now();
        if all.len() >= MAX_SILENT {
            all.retain(|_, until| *until > now);
        }
        if all.len() < MAX_SILENT {
            all.insert(key, now + PATIENCE);
        }
        silent()
    }

    fn is_silent(&self, upstream: &Upstream, repository: &RepositoryName) -> bool {
        let all = lock(&self.silent);
        let is = |key: &str| all.get(key).is_some_and(|until| Instant::now() < *until);
        is(&upstream.registry) || is(repository.as_str())
    }

    /// Asks where a tag leads, and fetches what is there.
    async fn follow(
        &self,
        repository: &RepositoryName,
        upstream: &Upstream,
        reference: &Reference,
        tag: &Tag,
        known: Option<Descriptor>,
    ) -> Result<()> {
        let current = upstream.client.resolve(&reference.with_tag(tag.as_str())?).await?;
        if known.is_none_or(|known| known.digest != current.digest) {
            self.fetch(repository, upstream, reference, &current.digest, Some(tag)).await?;
        }
        self.keep_fresh(repository, tag, upstream.ttl);
        Ok(())
    }

    async fn fetch(
        &self,
        repository: &RepositoryName,
        upstream: &Upstream,
        reference: &Reference,
        digest: &Digest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        let target = Target::Digest(digest.clone());
        let (descriptor, bytes): (Descriptor, Bytes) =
            match self.storage.manifest(repository, &target).await? {
                Some(there) => there,
                None => upstream.client.fetch_manifest(&reference.with_digest(digest.clone())).await?,
            };
        let mut manifest = checked(&descriptor.media_type, descriptor.digest, bytes)?;
        manifest.lazy = true;
        match self.storage.put_manifest(repository, &manifest, tag, &self.quotas.of(repository)).await? {
            PutManifest::Stored => Ok(()),
            PutManifest::Missing(_) => {
                Err(Error::new(ErrorKind::Other, "keep manifest")
                    .with_message("the storage wants what it names"))
            }
        }
    }

    /// Lists an upstream's tags; `None` if it does not answer, or the repository is nobody's.
    pub(super) async fn tags(&self, repository: &RepositoryName) -> Option<Vec<Tag>> {
        let (upstream, reference) = self.source(repository)?;
        if self.is_silent(upstream, repository) {
            return None;
        }
        let tags = upstream.client.list_tags(&reference).await.ok()?;
        let mut tags: Vec<Tag> = tags.iter().filter_map(|tag| tag.parse().ok()).collect();
        tags.sort();
        Some(tags)
    }

    /// Lists what refers to a manifest; `None` if the upstream does not answer, or the repository is nobody's.
    pub(super) async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Option<Vec<Descriptor>> {
        let (upstream, reference) = self.source(repository)?;
        if self.is_silent(upstream, repository) {
            return None;
        }
        let subject = reference.with_digest(subject.clone());
        let mut found = upstream.client.list_referrers(&subject, artifact_type).await.ok()?;
        found.sort_by_key(|entry| entry.digest.to_string());
        Some(found)
    }

    fn turn(&self, key: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.turns);
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }

    fn is_fresh(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        let until = lock(&self.fresh).get(&(repository.clone(), tag.clone())).copied();
        until.is_some_and(|until| until.is_none_or(|until| Instant::now() < until))
    }

    fn keep_fresh(&self, repository: &RepositoryName, tag: &Tag, time: Duration) {
        let mut fresh = lock(&self.fresh);
        if fresh.len() >= MAX_FRESH {
            fresh.clear();
        }
        // One that no clock reaches is for ever.
        fresh.insert((repository.clone(), tag.clone()), Instant::now().checked_add(time));
    }
}

fn silent() -> ApiError {
    ApiError::new(Code::Unavailable, "the upstream registry does not answer")
        .with_status(StatusCode::BAD_GATEWAY)
}
