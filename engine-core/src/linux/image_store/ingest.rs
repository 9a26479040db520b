//! Content on its way in: an async sender, a blocking worker, and the one rename at the end.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::input::Input;
use super::layer::{Fingerprint, LayerInfo};
use super::layout::{Session, lost};
use super::pipeline::{self, Target, Unpacking};
use super::store::{Driver, Shared};
use super::unpack::Whiteouts;
use crate::descriptor::media_type::Compression;
use crate::descriptor::{Descriptor, media_type};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image_store::{CreatedLayer, Ingest, LayerWriter};

/// Chunks that wait for the worker, and KiB in them: whoever reads from a network decides how large they are.
const QUEUE: usize = 32;
const QUEUE_KIB: u32 = 4096;

enum Message {
    Chunk(Bytes, OwnedSemaphorePermit),
    /// All of it was sent: check and commit. A channel that closes without this was dropped.
    Finish,
}

/// [`Ingest`] of a [`LocalImageStore`](super::LocalImageStore), and its [`LayerWriter`]: they differ in what comes out.
pub(super) struct LocalIngest<T = ()> {
    sender: Option<mpsc::Sender<Message>>,
    room: Arc<Semaphore>,
    gate: Arc<Gate>,
    worker: Option<JoinHandle<Result<T>>>,
}

/// What content passes when it becomes visible; closed by the drop of an ingest. So when that has returned, the content is
/// there or never will be, though its worker goes on for a moment.
#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
}

impl Gate {
    fn pass<T>(&self, publish: impl FnOnce() -> Result<T>) -> Result<T> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed { Err(Error::new(ErrorKind::Canceled, "receive blob")) } else { publish() }
    }

    fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl LocalIngest {
    pub(super) fn start(
        shared: Arc<Shared>,
        descriptor: &Descriptor,
        diff_id: Option<&Digest>,
    ) -> Result<Self> {
        if diff_id.is_some() && !media_type::is_layer(&descriptor.media_type) {
            return Err(Error::new(ErrorKind::Unsupported, "unpack layer")
                .with("media type", &descriptor.media_type)
                .with_message("this type of layer is unknown"));
        }
        let (descriptor, diff_id) = (descriptor.clone(), diff_id.cloned());
        Ok(Self::spawn(move |gate, next| shared.receive(&descriptor, diff_id.as_ref(), gate, next)))
    }
}

impl LocalIngest<CreatedLayer> {
    /// Begins to write a layer of which nothing is known.
    pub(super) fn create(shared: Arc<Shared>) -> Self {
        Self::spawn(move |gate, next| shared.receive_layer(gate, next))
    }
}

impl<T: Send + 'static> LocalIngest<T> {
    fn spawn(
        work: impl FnOnce(&Gate, &mut dyn FnMut() -> Result<Option<Bytes>>) -> Result<T> + Send + 'static,
    ) -> Self {
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        let span = tracing::Span::current();
        let gate = Arc::<Gate>::default();
        let passed = Arc::clone(&gate);
        let worker = tokio::task::spawn_blocking(move || {
            let _entered = span.entered();
            // The room a chunk takes is free again when the one after it is asked for.
            let mut taken = None;
            let mut next = || {
                drop(taken.take());
                match receiver.blocking_recv() {
                    Some(Message::Chunk(chunk, room)) => {
                        taken = Some(room);
                        Ok(Some(chunk))
                    }
                    Some(Message::Finish) => Ok(None),
                    None => Err(Error::new(ErrorKind::Canceled, "receive blob")),
                }
            };
            work(&passed, &mut next)
        });
        let room = Arc::new(Semaphore::new(QUEUE_KIB as usize));
        Self { sender: Some(sender), room, gate, worker: Some(worker) }
    }

    async fn outcome(&mut self) -> Result<T> {
        match self.worker.take() {
            Some(worker) => worker.await.unwrap_or_else(|_| Err(lost("receive blob"))),
            None => Err(lost("receive blob")),
        }
    }

    async fn send(&mut self, chunk: Bytes) -> Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        let Some(sender) = &self.sender else { return Err(lost("receive blob")) };
        let kib = u32::try_from(chunk.len() / 1024 + 1).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib);
        // A worker that ended gives its room back, so this does not wait for ever.
        if let Ok(room) = room.await
            && sender.send(Message::Chunk(chunk, room)).await.is_ok()
        {
            return Ok(());
        }
        self.sender = None;
        self.outcome().await.and_then(|_| Err(lost("receive blob")))
    }

    async fn finish(mut self) -> Result<T> {
        if let Some(sender) = self.sender.take() {
            // A worker that is gone has an error to tell.
            let _ = sender.send(Message::Finish).await;
        }
        self.outcome().await
    }
}

impl<T> Drop for LocalIngest<T> {
    fn drop(&mut self) {
        self.gate.close();
    }
}

#[async_trait]
impl Ingest for LocalIngest {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.send(chunk).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.finish().await
    }
}

#[async_trait]
impl LayerWriter for LocalIngest<CreatedLayer> {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.send(chunk).await
    }

    async fn commit(self: Box<Self>) -> Result<CreatedLayer> {
        self.finish().await
    }
}

impl<T> std::fmt::Debug for LocalIngest<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalIngest")
    }
}

/// Something temporary in the session's directory, removed unless it was renamed away.
pub(super) struct Temporary {
    session: Arc<Session>,
    name: String,
    pub(super) path: PathBuf,
}

impl Temporary {
    pub(super) fn new(session: &Arc<Session>, kind: &str) -> Self {
        let (name, path) = session.fresh(kind);
        Self { session: Arc::clone(session), name, path }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.session.discard(&self.name);
    }
}

impl Shared {
    /// Takes in a blob, unpacking it if it is a layer, and commits both.
    fn receive(
        &self,
        descriptor: &Descriptor,
        diff_id: Option<&Digest>,
        gate: &Gate,
        next: impl FnMut() -> Result<Option<Bytes>>,
    ) -> Result<()> {
        let session = self.session()?;
        let blob = Temporary::new(&session, "blob");
        let fail = |e| Error::from_io("write blob", e).with("digest", &descriptor.digest);
        let file = private_file(&blob.path).map_err(fail)?;
        let mut input = Input::new(descriptor, Some(file), next);
        let mut layer = None;
        if let Some(diff_id) = diff_id {
            let about = |e: Error| e.with("layer", &descriptor.digest);
            match self.layer_info(diff_id)? {
                None => {
                    layer = Some(self.unpack_input(&mut input, Some(diff_id), &session).map_err(about)?);
                }
                Some(info) if self.is_blob_of(&descriptor.digest, diff_id, &info) => {}
                Some(_) => self.compare(&mut input, diff_id).map_err(about)?,
            }
        }
        let file = input.finish()?.0.ok_or_else(|| lost("receive blob"))?;
        let print = Fingerprint::of(&file.metadata().map_err(fail)?);
        if let Some(layer) = &layer {
            layer.describe(&descriptor.digest, print).map_err(fail)?;
            self.layout.sync()?;
        } else if descriptor.size > 1 << 20 {
            self.layout.sync()?;
        } else {
            file.sync_data().map_err(fail)?;
        }
        drop(file);
        gate.pass(|| {
            fs::rename(&blob.path, self.layout.blob(&descriptor.digest)).map_err(fail)?;
            self.set_verified(&descriptor.digest, true);
            match (&layer, diff_id) {
                (Some(layer), Some(diff_id)) => {
                    self.publish_layer(&layer.files.path, &descriptor.digest, diff_id)?;
                }
                (None, Some(diff_id)) => self.note_blob_of(&descriptor.digest, diff_id)?,
                (_, None) => {}
            }
            self.unsynced.store(true, Ordering::Release);
            Ok(())
        })
    }

    /// Takes in a layer of which nothing is known, and commits it.
    fn receive_layer(
        &self,
        gate: &Gate,
        next: impl FnMut() -> Result<Option<Bytes>>,
    ) -> Result<CreatedLayer> {
        let session = self.session()?;
        let blob = Temporary::new(&session, "blob");
        let fail = |e| Error::from_io("write layer", e);
        let file = private_file(&blob.path).map_err(fail)?;
        let mut input = Input::unknown(file, self.options.max_bytes, next);
        let layer = self.unpack_input(&mut input, None, &session)?;
        let (file, digest, size) = input.finish()?;
        let print = Fingerprint::of(&file.ok_or_else(|| lost("write layer"))?.metadata().map_err(fail)?);
        layer.describe(&digest, print).map_err(fail)?;
        self.layout.sync()?;
        gate.pass(|| {
            fs::rename(&blob.path, self.layout.blob(&digest)).map_err(fail)?;
            self.set_verified(&digest, true);
            self.publish_layer(&layer.files.path, &digest, &layer.diff_id)?;
            self.unsynced.store(true, Ordering::Release);
            Ok(())
        })?;
        let media_type = match layer.compression {
            Compression::Gzip => media_type::OCI_LAYER_GZIP,
            Compression::Zstd => media_type::OCI_LAYER_ZSTD,
            _ => media_type::OCI_LAYER,
        };
        Ok(CreatedLayer::new(Descriptor::new(media_type, digest, size), layer.diff_id))
    }

    /// Unpacks a layer whose blob is here, or compares the two where the layer is here as well.
    pub(super) fn unpack_stored(&self, descriptor: &Descriptor, diff_id: &Digest) -> Result<()> {
        let there = self.layer_info(diff_id)?;
        if there.as_ref().is_some_and(|info| self.is_blob_of(&descriptor.digest, diff_id, info)) {
            return Ok(());
        }
        if !media_type::is_layer(&descriptor.media_type) {
            return Err(Error::new(ErrorKind::Unsupported, "unpack layer")
                .with("media type", &descriptor.media_type)
                .with_message("this type of layer is unknown"));
        }
        let path = self.layout.blob(&descriptor.digest);
        let fail = |e| Error::from_io("read blob", e).with("digest", &descriptor.digest);
        let file = File::open(&path).map_err(fail)?;
        let print = Fingerprint::of(&file.metadata().map_err(fail)?);
        // The blob's own digest is checked on the way, so this is also its first use.
        let mut input = Input::from_file(descriptor, file);
        let about = |e: Error| e.with("layer", &descriptor.digest);
        if there.is_some() {
            self.compare(&mut input, diff_id).map_err(about)?;
            input.finish()?;
            self.set_verified(&descriptor.digest, true);
            return self.note_blob_of(&descriptor.digest, diff_id);
        }
        let session = self.session()?;
        let layer = self.unpack_input(&mut input, Some(diff_id), &session).map_err(about)?;
        input.finish()?;
        self.set_verified(&descriptor.digest, true);
        layer.describe(&descriptor.digest, print).map_err(fail)?;
        self.layout.sync()?;
        self.publish_layer(&layer.files.path, &descriptor.digest, diff_id)?;
        self.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    fn unpack_input(
        &self,
        input: &mut Input<'_>,
        diff_id: Option<&Digest>,
        session: &Arc<Session>,
    ) -> Result<Unpacked> {
        let files = Temporary::new(session, "layer");
        let fail = |e| Error::from_io("unpack layer", e);
        DirBuilder::new().mode(0o700).create(&files.path).map_err(fail)?;
        let overlay = matches!(self.driver()?, Driver::Overlay);
        let target = if overlay {
            let fs_path = files.path.join("fs");
            let root = make_root(&fs_path).map_err(fail)?;
            let scratch = session.fd().try_clone().map_err(fail)?;
            Target::Directory { root, scratch, whiteouts: Whiteouts::Overlay }
        } else {
            Target::Check
        };
        let Unpacking { summary, diff_id, compression } =
            pipeline::run(input, diff_id, target, &self.options)?;
        Ok(Unpacked { files, info: LayerInfo::new(summary, None, overlay), diff_id, compression })
    }

    /// Renames a layer to its place, unpacked from `blob`. If another process was faster, its layer stays.
    fn publish_layer(&self, from: &Path, blob: &Digest, diff_id: &Digest) -> Result<()> {
        let to = self.layout.layer(diff_id);
        let fail = |e| Error::from_io("publish layer", e).with("diff id", diff_id);
        for _ in 0..16 {
            match fs::rename(from, &to) {
                Ok(()) => return Ok(()),
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) => {}
                Err(e) => return Err(fail(e)),
            }
            if self.layer_info(diff_id)?.is_some() {
                return self.note_blob_of(blob, diff_id);
            }
            // One that does not count: of another format, or without files. Nothing uses it.
            let session = self.session()?;
            let aside = Temporary::new(&session, "old");
            match fs::rename(&to, &aside.path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Err(fail(io::ErrorKind::ResourceBusy.into()))
    }

    /// What is known of an unpacked layer; `None` if it is not unpacked in the way we need it.
    pub(super) fn layer_info(&self, diff_id: &Digest) -> Result<Option<LayerInfo>> {
        let info = LayerInfo::read(&self.layout.layer(diff_id))
            .map_err(|e| Error::from_io("look up layer", e).with("diff id", diff_id))?;
        let Some(info) = info else { return Ok(None) };
        let fits = info.has_files == matches!(self.driver()?, Driver::Overlay);
        Ok(fits.then_some(info))
    }
}

/// A layer that lies unpacked in a temporary directory.
struct Unpacked {
    files: Temporary,
    info: LayerInfo,
    diff_id: Digest,
    compression: Compression,
}

impl Unpacked {
    /// Writes its `info` file, which names the blob it came from.
    fn describe(&self, blob: &Digest, print: Fingerprint) -> io::Result<()> {
        let info = LayerInfo { blob: Some((blob.clone(), print)), ..self.info.clone() };
        info.write(&self.files.path)
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a layer's root directory, mode 0755 until an entry says otherwise.
pub(super) fn make_root(path: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new().mode(0o755).create(path)?;
    let root = OwnedFd::from(File::open(path)?);
    rustix::fs::fchmod(&root, rustix::fs::Mode::from_raw_mode(0o755))?;
    Ok(root)
}
