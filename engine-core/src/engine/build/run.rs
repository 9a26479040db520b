//! A command in a container of its own over the layers so far, and what it changed as a layer.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::container_spec::ContainerSpec;
use crate::digest::Digest;
use crate::engine::LocalEngine;
use crate::engine::records::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::image_config::ProcessDefaults;
use crate::io::{AttachOptions, Reader};
use crate::platform::Platform;
use crate::secret::{SecretFile, SecretVariable};

use super::cache::Layer;
use super::container;
use super::event::OutputStream;
use super::mounts::{Mounts, Opened};
use super::stage::Keeper;

/// Output that the error of a failed command shows.
const SHOWN: usize = 4 << 10;

/// A command to be run.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) spec: ContainerSpec,
    pub(super) defaults: ProcessDefaults,
    /// The image that keeps the layers.
    pub(super) image: Keeper,
    pub(super) layers: Vec<Digest>,
    pub(super) platform: Platform,
    pub(super) mounts: Mounts,
    /// Mount points that were not there before.
    pub(super) mount_points: BTreeSet<PathBuf>,
    /// The time that is said to be when what it wrote was written.
    pub(super) time: SystemTime,
    /// What has to be there until it has ended, however that comes.
    pub(super) opened: Opened,
}

impl LocalEngine {
    /// Runs a command and returns the layer of what it changed; `None` if that is nothing. The caller holds a lease.
    pub(super) async fn run_step(
        &self,
        command: Command,
        output: impl Fn(OutputStream, Bytes) + Send + Sync,
    ) -> Result<Option<Layer>> {
        let Mounts { specs, mut images, mut held, secret_files, secret_env, .. } = command.mounts;
        images.append(&mut held);
        let mut data = container::data(command.spec, command.image, command.layers, &command.platform);
        data.defaults = command.defaults;
        (data.spec.mounts, data.mounted_images) = (specs, images);
        self.resolve_networks(&mut data.spec).await?;
        self.inner.hooks.admit_container(None, &data.spec, &data.defaults)?;
        self.make_volumes(&mut data.spec).await?;
        let container = self.step_container(data, Some(command.opened)).await?;
        let outcome = self.run_to_the_end(container.record(), (secret_files, secret_env), output).await;
        container.finish(outcome, command.time, command.mount_points).await
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
