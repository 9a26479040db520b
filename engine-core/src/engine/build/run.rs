//! `RUN`: a command in a container of its own over the layers so far, and what it changed as a layer.
//!
//! The container has a record like any other and ends with this program. So whatever happens, what is left of it is found and
//! removed by whoever opens the root next.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::container_spec::ContainerSpec;
use crate::digest::Digest;
use crate::engine::container::{LocalContainer, RemoveOptions};
use crate::engine::records::{ProcessIdentity, Record, RecordData};
use crate::engine::{LocalEngine, names};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::image_config::ProcessDefaults;
use crate::image_store::LayerOptions;
use crate::io::{AttachOptions, Reader};
use crate::platform::Platform;
use crate::secret::{SecretFile, SecretVariable};

use super::cache::{Layer, empty_diff_id};
use super::event::OutputStream;
use super::mounts::Mounts;

/// Output that the error of a failed command shows.
const SHOWN: usize = 4 << 10;
/// Clocks of file systems tick less often than others.
const TICK: Duration = Duration::from_millis(50);

/// A command to be run.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) spec: ContainerSpec,
    pub(super) defaults: ProcessDefaults,
    /// The image that keeps the layers, and what it is called.
    pub(super) image: String,
    pub(super) manifest: Digest,
    pub(super) config: Digest,
    pub(super) layers: Vec<Digest>,
    pub(super) platform: Platform,
    pub(super) mounts: Mounts,
    /// Mount points that were not there before.
    pub(super) mount_points: BTreeSet<PathBuf>,
    /// The time that is said to be when what it wrote was written.
    pub(super) time: SystemTime,
}

impl LocalEngine {
    /// Runs a command and returns the layer of what it changed; `None` if that is nothing. The caller holds a lease.
    pub(super) async fn run_step(
        &self,
        command: Command,
        output: impl Fn(OutputStream, Bytes) + Send + Sync,
    ) -> Result<Option<Layer>> {
        let owner = ProcessIdentity::current();
        let Mounts { specs, images, secret_files, secret_env, .. } = command.mounts;
        let mut record = Record {
            id: ContainerId::random(),
            name: names::random_name(0),
            created_at: SystemTime::now(),
            data: RecordData {
                spec: command.spec,
                image: command.image,
                manifest: command.manifest,
                config: command.config,
                layers: command.layers,
                architecture: command.platform.architecture,
                defaults: command.defaults,
                anonymous_volumes: Vec::new(),
                base: None,
                snapshots: Vec::new(),
                mounted_images: images,
                id_mappings: None,
                linked_by: Vec::new(),
                secrets: Vec::new(),
                owner,
            },
        };
        record.data.spec.mounts = specs;
        self.resolve_networks(&mut record.data.spec).await?;
        self.inner.hooks.admit_container(None, &record.data.spec, &record.data.defaults)?;
        self.make_volumes(&mut record.data.spec).await?;
        // From here on, also if nobody waits for the record any more: what is not there is removed as well.
        let container = Removed::new(self, &record.id);
        if let Err(error) = self.commit(&mut record, true).await {
            container.keep();
            return Err(error);
        }
        let begun = SystemTime::now() - TICK;
        let tail = self.run_to_the_end(&record, (secret_files, secret_env), output).await;
        let layer = match tail {
            Ok(()) => {
                let clamp = Some((begun, command.time));
                let options = LayerOptions { clamp, mount_points: command.mount_points };
                self.inner.images.commit_rootfs(&record.id, &options).await
            }
            Err(error) => Err(error),
        };
        let removed = container.now().await;
        let (blob, diff_id) = layer?;
        removed?;
        Ok((diff_id != empty_diff_id()).then_some((blob, diff_id)))
    }

    async fn run_to_the_end(
        &self,
        record: &Record,
        secrets: (Vec<SecretFile>, Vec<SecretVariable>),
        output: impl Fn(OutputStream, Bytes) + Send + Sync,
    ) -> Result<()> {
        self.launch_with(record, None, secrets).await?;
        let runtime = Arc::clone(&self.inner.runtime);
        let started = async {
            let streams = runtime.attach(&record.id, AttachOptions::piped(false)).await?;
            runtime.start(&record.id).await.map(|()| streams)
        };
        let streams = match started.await {
            Ok(streams) => streams,
            Err(error) => {
                let error = self.abandon(record, error).await;
                return Err(match error.kind() {
                    // It is the build that fails, not a command of the caller's.
                    ErrorKind::CommandNotFound | ErrorKind::CommandNotExecutable => {
                        error.with_kind(ErrorKind::InvalidArgument)
                    }
                    _ => error,
                });
            }
        };
        let tail = std::sync::Mutex::new(Tail::default());
        let take = |stream, bytes: Bytes| {
            tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&bytes);
            output(stream, bytes);
        };
        let read = futures_util::future::try_join(
            pump(streams.stdout, |bytes| take(OutputStream::Stdout, bytes)),
            pump(streams.stderr, |bytes| take(OutputStream::Stderr, bytes)),
        );
        let (read, status) = tokio::join!(read, runtime.wait(&record.id));
        self.release_networks(record).await?;
        let status = status?;
        read?;
        if status.success() {
            return Ok(());
        }
        let tail = tail.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Err(Error::new(ErrorKind::Other, "run command")
            .with("exit code", status.code)
            .with_message(tail.message(status.code)))
    }
}

async fn pump(reader: Option<Reader>, take: impl Fn(Bytes)) -> Result<()> {
    let Some(mut reader) = reader else { return Ok(()) };
    let mut buffer = vec![0; 32 << 10];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(count) => take(Bytes::copy_from_slice(&buffer[..count])),
            Err(error) => return Err(Error::from_io("read output", error)),
        }
    }
}

/// The last output of a command.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend(&bytes[bytes.len().saturating_sub(SHOWN)..]);
        self.0.drain(..self.0.len().saturating_sub(SHOWN));
    }

    fn message(&self, code: u8) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n");
        match last.is_empty() {
            true => format!("the command returned a non-zero code: {code}"),
            false => format!("the command returned a non-zero code: {code}, and last wrote:\n{last}"),
        }
    }
}

/// A container that is removed, whether or not anybody waits for it.
struct Removed(Option<LocalContainer>);

impl Removed {
    fn new(engine: &LocalEngine, id: &ContainerId) -> Self {
        Self(Some(LocalContainer::new(engine.clone(), id.clone())))
    }

    /// There is nothing to remove.
    fn keep(mut self) {
        self.0 = None;
    }

    async fn now(mut self) -> Result<()> {
        match self.0.take() {
            Some(container) => remove(container).await,
            None => Ok(()),
        }
    }
}

async fn remove(container: LocalContainer) -> Result<()> {
    container.remove(RemoveOptions::default().with_force(true).with_volumes(true)).await
}

impl Drop for Removed {
    fn drop(&mut self) {
        if let (Some(container), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn(async move {
                if let Err(error) = remove(container).await {
                    tracing::warn!(%error, "removing a build's container failed");
                }
            }));
        }
    }
}
