//! Artifacts of files that a client sends.
//!
//! Their bytes lie in files without names until the engine has read them, so nothing is left of a request that breaks off.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use engine_core::engine::ArtifactFile;
use engine_core::io::ByteStream;
use engine_core::{Error, ErrorKind, Result};
use futures_util::StreamExt as _;

use crate::wire::SentFile;

/// How many files there may be: each is open until the end.
const MAX_FILES: usize = 1000;
/// How many bytes they may have together: as many as an archive that is loaded.
const MAX_BYTES: u64 = 256 << 30;

/// Takes the bytes of the files, one behind the other. They lie beneath `root`, if there is such a directory.
pub(super) async fn take(
    root: Option<&Path>,
    sent: Vec<SentFile>,
    mut bytes: ByteStream,
) -> Result<Vec<ArtifactFile>> {
    let bytes_in_all = sent.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.size));
    if sent.len() > MAX_FILES || bytes_in_all.is_none_or(|sum| sum > MAX_BYTES) {
        return Err(Error::new(ErrorKind::ResourceExhausted, "read request")
            .with_message(format!("an artifact has at most {MAX_FILES} files of {MAX_BYTES} bytes in all")));
    }
    let mut files = Vec::with_capacity(sent.len());
    let mut rest = Bytes::new();
    for SentFile { title, media_type, size } in sent {
        let failed = |error| Error::from_io("keep file", error);
        let mut file = match root {
            Some(root) => tempfile::tempfile_in(root),
            None => tempfile::tempfile(),
        }
        .map_err(failed)?;
        let mut left = size;
        while left > 0 {
            if rest.is_empty() {
                rest = bytes.next().await.unwrap_or_else(|| Err(cut_short()))?;
                continue;
            }
            let piece = rest.split_to(rest.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            left -= piece.len() as u64;
            file = write(file, piece).await.map_err(failed)?;
        }
        files.push(ArtifactFile::of_open(title.unwrap_or_default(), file).with_media_type(media_type));
    }
    Ok(files)
}

async fn write(mut file: File, piece: Bytes) -> std::io::Result<File> {
    let written = tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file));
    written.await.map_err(std::io::Error::other)?
}

fn cut_short() -> Error {
    Error::new(ErrorKind::InvalidArgument, "read request")
        .with_message("a file has fewer bytes than was said")
}
