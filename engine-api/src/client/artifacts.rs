//! Files of artifacts, which are read here and sent.

use std::path::PathBuf;

use engine_core::engine::ArtifactFile;
use engine_core::io::ByteStream;
use engine_core::{Error, ErrorKind, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::wire::SentFile;
use crate::wire::frame::PIECE;

/// Opens the files. Returns what is told of them, and their bytes one behind the other.
pub(super) async fn open(files: &[ArtifactFile]) -> Result<(Vec<SentFile>, ByteStream)> {
    let (mut told, mut contents) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
    for file in files {
        // As the engine there would say it.
        let failed = |error| Error::from_io("open file", error).with("path", file.path.display());
        let mut opened = File::from_std(file.open().map_err(failed)?);
        // One that was given open is wherever it was written to last.
        opened.rewind().await.map_err(failed)?;
        let metadata = opened.metadata().await.map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::InvalidArgument, "open file")
                .with("path", file.path.display())
                .with_message("it is no regular file"));
        }
        let title = file.path.file_name().map(|name| name.to_string_lossy().into_owned());
        told.push(SentFile { title, media_type: file.media_type.clone(), size: metadata.len() });
        contents.push(content(opened, metadata.len(), file.path.clone()));
    }
    Ok((told, stream::iter(contents).flatten().boxed()))
}

/// The first `size` bytes of a file: if it grows meanwhile, the rest is of no artifact.
fn content(file: File, size: u64, path: PathBuf) -> ByteStream {
    ReaderStream::with_capacity(file.take(size), PIECE)
        .map_err(move |error| Error::from_io("read file", error).with("path", path.display()))
        .boxed()
}
