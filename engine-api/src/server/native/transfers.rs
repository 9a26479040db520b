//! Images and artifacts that come and go, over the wire.

use std::ops::ControlFlow;

use axum::response::Response;
use bytes::Bytes;
use engine_core::digest::Digest;
use engine_core::engine::{
    ArtifactOptions, ImportOptions, LoadOptions, LoadSource, LocalEngine, Operation, PullOptions,
    PushOptions, SaveEvent, SaveOptions,
};
use engine_core::reference::Reference;
use engine_core::{Error, ErrorKind, Platform};
use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use tokio::io::DuplexStream;
use tokio_util::io::ReaderStream;

use super::artifacts;
use super::call::{Call, FrameStream, Ops, end_frame, error_frame, failed};
use crate::wire::secret::WireCredentials;
use crate::wire::{self, SentFile, frame};

type Pull = (Reference, PullOptions, Option<WireCredentials>);
type Push = (Reference, PushOptions, Option<WireCredentials>);

type Create = (Reference, Vec<SentFile>, ArtifactOptions);

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "pull" => call.operation(|engine, (reference, mut options, credentials): Pull| {
            options.credentials = WireCredentials::given(credentials);
            engine.pull(&reference, options)
        }),
        "push" => call.operation(|engine, (reference, mut options, credentials): Push| {
            options.credentials = WireCredentials::given(credentials);
            engine.push(&reference, options)
        }),
        "remote_tags" => {
            call.plain(async move |engine, (repository,): (Reference,)| engine.remote_tags(&repository).await)
                .await
        }
        "check_credentials" => {
            call.plain(async move |engine, (registry, credentials): (String, WireCredentials)| {
                match WireCredentials::given(Some(credentials)) {
                    Some(credentials) => engine.check_credentials(&registry, &credentials).await,
                    None => Err(Error::new(ErrorKind::Unsupported, "log in").with("registry", registry)),
                }
            })
            .await
        }
        "load" => call.taking_operation(|engine, (options, name): (LoadOptions, Option<String>), archive| {
            let source = match name {
                Some(name) => LoadSource::Named(name, archive),
                None => LoadSource::Stream(archive),
            };
            engine.load(source, options)
        }),
        "save" => match call.arguments() {
            Ok((images, options)) => {
                let frames = save(&call.engine(), images, options);
                call.framed_in_time(frames)
            }
            Err(error) => failed(&error),
        },
        "export_image" => {
            call.bytes(async move |engine, (name, platform): (String, Platform)| {
                engine.export_image(&name, &platform).await
            })
            .await
        }
        "import" => {
            call.taking(async move |engine, (name, options): (Option<Reference>, ImportOptions), archive| {
                engine.import(name.as_ref(), archive, options).await
            })
            .await
        }
        "referrers" => {
            call.plain(async move |engine, (subject, kind): (Reference, Option<String>)| {
                engine.referrers(&subject, kind.as_deref()).await
            })
            .await
        }
        "create_artifact" => {
            let engine = call.api.engine.clone();
            call.taking(async move |operations, (name, sent, options): Create, bytes| {
                let root = engine.local().and_then(LocalEngine::root);
                let files = artifacts::take(root, sent, bytes).await?;
                operations.create_artifact(&name, &files, &options).await
            })
            .await
        }
        "attach_artifact" => {
            let engine = call.api.engine.clone();
            call.taking_operation(|operations, (subject, sent, options): Create, bytes| {
                Operation::new(move |progress| async move {
                    let root = engine.local().and_then(LocalEngine::root);
                    let files = artifacts::take(root, sent, bytes).await?;
                    let mut attaching = operations.attach_artifact(&subject, files, options);
                    while let Some(event) = attaching.next().await {
                        progress.report(event);
                    }
                    attaching.await
                })
            })
        }
        "artifact_files" => {
            call.plain(async move |engine, (name,): (String,)| {
                let files = engine.artifact_files(&name).await?;
                Ok(files.into_iter().map(|file| (file.title, file.descriptor)).collect::<Vec<_>>())
            })
            .await
        }
        "artifact_content" => {
            call.bytes(async move |engine, (name, index, digest): (String, usize, Digest)| {
                let file = engine.artifact_files(&name).await?.into_iter().nth(index);
                match file.filter(|file| file.descriptor.digest == digest) {
                    Some(file) => Ok(file.content),
                    None => Err(Error::new(ErrorKind::NotFound, "read artifact")
                        .with("artifact", name)
                        .with_message("it is another one by now")),
                }
            })
            .await
        }
        _ => return ControlFlow::Continue(call),
    })
}

/// Bytes of an archive on their way to a client.
const ARCHIVE: usize = 256 << 10;

/// A save under way.
struct Save {
    operation: Option<Operation<SaveEvent, ()>>,
    bytes: Option<ReaderStream<DuplexStream>>,
    last: Option<Bytes>,
}

/// The frames of a save: its progress, the archive's bytes among it, and the end behind all of them.
fn save(engine: &Ops, images: Vec<String>, options: SaveOptions) -> FrameStream {
    let (from, to) = tokio::io::duplex(ARCHIVE);
    let operation = Some(engine.save(images, Box::pin(to), options));
    let bytes = Some(ReaderStream::with_capacity(from, ARCHIVE));
    stream::unfold(Save { operation, bytes, last: None }, next_of_save).boxed()
}

async fn next_of_save(mut save: Save) -> Option<(Bytes, Save)> {
    loop {
        let (operation, bytes) = (&mut save.operation, &mut save.bytes);
        let frame = tokio::select! {
            biased;
            piece = some(bytes), if bytes.is_some() => match piece {
                Some(Ok(piece)) => frame::frame(frame::STDOUT, &piece),
                // The other side goes with the operation, which tells how it ended.
                _ => {
                    save.bytes = None;
                    continue;
                }
            },
            event = some(operation), if operation.is_some() => match event.map(|event| wire::text(&event)) {
                Some(Ok(event)) => frame::frame(frame::ITEM, &event),
                Some(Err(error)) => {
                    save.operation = None;
                    save.last = Some(error_frame(&error));
                    continue;
                }
                None => {
                    if let Some(operation) = save.operation.take() {
                        save.last = Some(end_frame(operation.await));
                    }
                    continue;
                }
            },
            else => save.last.take()?,
        };
        return Some((frame, save));
    }
}

async fn some<S: Stream + Unpin>(stream: &mut Option<S>) -> Option<S::Item> {
    stream.as_mut()?.next().await
}
