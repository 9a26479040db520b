//! Blobs on their way from an upstream: one fetches, all read.
//!
//! A blob goes into the storage and into a file without a name at the same time; readers follow the file. Its last byte is
//! kept back until the storage has found that the digest is right, so nobody takes wrong bytes for whole. A fetch that has begun
//! goes on when its readers are gone.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::io::ByteStream;
use engine_core::reference::Reference;
use engine_core::registry_client::RegistryClient as _;
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::{Cache, lock, silent};
use crate::OciRegistry;
use crate::server::error::ApiError;
use crate::server::names::RepositoryName;
use crate::server::quota::Quota;
use crate::server::storage::Storage;

/// Bytes that a reader gets at once.
const PIECE: u64 = 256 << 10;

#[derive(Debug)]
pub(super) struct Flights {
    spool: PathBuf,
    under_way: Mutex<HashMap<Key, Arc<Flight>>>,
}

type Key = (RepositoryName, Digest);

/// A blob that is being fetched.
#[derive(Debug)]
pub(in crate::server) struct Flight {
    file: File,
    size: u64,
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    /// So many bytes have come.
    Bytes(u64),
    /// All have, and they are right.
    Done,
    Failed,
}

impl Flights {
    pub(super) fn open(spool: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&spool)
            .map_err(|error| Error::from_io("make directory", error).with("path", spool.display()))?;
        Ok(Self { spool, under_way: Mutex::default() })
    }

    fn find(&self, key: &Key) -> Option<Arc<Flight>> {
        lock(&self.under_way).get(key).cloned()
    }
}

impl Cache {
    /// Finds a blob that the storage does not have: its size, and where its bytes come from, if somebody fetches it.
    pub(in crate::server) async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(u64, Option<Arc<Flight>>)>, ApiError> {
        let Some((upstream, reference)) = self.source(repository) else { return Ok(None) };
        if let Some(flight) = self.flights.find(&(repository.clone(), digest.clone())) {
            return Ok(Some((flight.size, Some(flight))));
        }
        if self.is_silent(upstream, repository) {
            return Err(silent());
        }
        match upstream.client.blob_size(&reference, digest).await {
            Ok(size) => Ok(size.map(|size| (size, None))),
            // As Docker Hub tells of a repository that it does not have.
            Err(error) if error.kind() == ErrorKind::Unauthenticated => Ok(None),
            Err(error) => Err(self.refusal(upstream, repository, &error)),
        }
    }

    /// Fetches a blob of that size, unless somebody does already. Returns where its bytes come from, or `None` if the storage
    /// has got it meanwhile.
    pub(in crate::server) async fn fetch_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<Arc<Flight>>, ApiError> {
        let Some((upstream, reference)) = self.source(repository) else { return Ok(None) };
        let key = (repository.clone(), digest.clone());
        // Of this blob alone: what takes long for one holds up no other.
        let turn = self.turn(format!("{repository}@blob {digest}"));
        let _turn = turn.lock().await;
        if let Some(flight) = self.flights.find(&key) {
            return Ok(Some(flight));
        }
        if self.storage.blob_size(repository, digest).await?.is_some() {
            return Ok(None);
        }
        let spool = self.flights.spool.clone();
        let file = spawn_blocking(move || tempfile::tempfile_in(spool)).await.map_err(io::Error::other);
        let file = file.and_then(|file| file).map_err(|error| Error::from_io("fetch blob", error))?;
        let flight = Arc::new(Flight { file, size, progress: watch::Sender::new(Progress::Bytes(0)) });
        lock(&self.flights.under_way).insert(key.clone(), Arc::clone(&flight));
        let landing = Landing {
            flights: Arc::clone(&self.flights),
            key,
            flight: Arc::clone(&flight),
            end: Progress::Failed,
        };
        let fetch = Fetch {
            client: upstream.client.clone(),
            reference,
            storage: Arc::clone(&self.storage),
            quota: self.quotas.of(repository),
            flight: Arc::clone(&flight),
        };
        tokio::spawn(async move {
            let mut landing = landing;
            match fetch.run(&landing.key.0, &landing.key.1).await {
                Ok(()) => landing.end = Progress::Done,
                Err(error) => tracing::warn!(error = %error.report(), "blob not fetched"),
            }
        });
        Ok(Some(flight))
    }
}

/// The end of a fetch, however it comes: also where a storage panics, readers hear of it.
struct Landing {
    flights: Arc<Flights>,
    key: Key,
    flight: Arc<Flight>,
    end: Progress,
}

impl Drop for Landing {
    fn drop(&mut self) {
        // Whoever asks from now on finds it in the storage, or begins anew.
        lock(&self.flights.under_way).remove(&self.key);
        self.flight.progress.send_replace(self.end);
    }
}

struct Fetch {
    client: OciRegistry,
    reference: Reference,
    storage: Arc<dyn Storage>,
    quota: Quota,
    flight: Arc<Flight>,
}

impl Fetch {
    async fn run(&self, repository: &RepositoryName, digest: &Digest) -> Result<()> {
        let blob = Descriptor::new("application/octet-stream", digest.clone(), self.flight.size);
        let bytes = self.client.fetch_blob(&self.reference, &blob, 0).await?;
        let upload = self.storage.begin_upload(repository).await?;
        let flight = Arc::clone(&self.flight);
        let spooled = stream::try_unfold((bytes, 0_u64, flight), async |(mut bytes, at, flight)| {
            let Some(piece) = bytes.next().await.transpose()? else { return Ok(None) };
            let next = at + piece.len() as u64;
            flight.write(at, piece.clone()).await?;
            flight.progress.send_replace(Progress::Bytes(next));
            Ok(Some((piece, (bytes, next, flight))))
        });
        let stored = async {
            self.storage.append(repository, &upload, Some(0), &mut Box::pin(spooled)).await?;
            self.storage.commit_upload(repository, &upload, digest, &self.quota).await
        };
        let stored = stored.await;
        if stored.is_err() {
            let _ = self.storage.cancel_upload(repository, &upload).await;
        }
        stored
    }
}

impl Flight {
    async fn write(self: &Arc<Self>, at: u64, piece: Bytes) -> Result<()> {
        let flight = Arc::clone(self);
        let written = spawn_blocking(move || flight.file.write_all_at(&piece, at)).await;
        written.map_err(io::Error::other).and_then(|done| done).map_err(|e| Error::from_io("fetch blob", e))
    }

    async fn read(self: &Arc<Self>, range: Range<u64>) -> Result<Bytes> {
        let flight = Arc::clone(self);
        let read = spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
            flight.file.read_exact_at(&mut bytes, range.start).map(|()| Bytes::from(bytes))
        });
        read.await.map_err(io::Error::other).and_then(|done| done).map_err(|e| Error::from_io("read blob", e))
    }

    /// Streams a part of the blob, as it comes.
    pub(in crate::server) fn stream(self: Arc<Self>, range: Range<u64>) -> ByteStream {
        let progress = self.progress.subscribe();
        let state = (self, progress, range);
        Box::pin(stream::try_unfold(state, async |(flight, mut progress, range)| {
            if range.is_empty() {
                return Ok(None);
            }
            let broken = || {
                Error::new(ErrorKind::Unavailable, "read blob")
                    .with_message("the upstream did not send all of it")
            };
            let ready = loop {
                let now = *progress.borrow_and_update();
                match now {
                    Progress::Done => break flight.size,
                    Progress::Failed => return Err(broken()),
                    Progress::Bytes(bytes) if bytes.min(flight.size - 1) > range.start => {
                        break bytes.min(flight.size - 1);
                    }
                    Progress::Bytes(_) => {}
                }
                progress.changed().await.map_err(|_| broken())?;
            };
            let end = ready.min(range.end).min(range.start + PIECE);
            let piece = flight.read(range.start..end).await?;
            Ok(Some((piece, (flight, progress, end..range.end))))
        }))
    }
}
