//! The files of a build without a context: none.

use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, FileList, ListFiles, PackedFile, PackedSource, PathStat, UnpackFiles};
use crate::io::ByteStream;
use crate::tar::{ArchiveWriter, Entry, EntryKind, Timestamp};

#[derive(Debug)]
pub(super) struct NoFiles;

fn nothing(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, "read build context")
        .with("path", path.display())
        .with_message("the build has no context")
        .with_hint("give it a directory")
}

/// An archive of files that are in no tree.
fn archive(files: &[PackedFile]) -> io::Result<Bytes> {
    let mut writer = ArchiveWriter::new(Vec::new());
    for file in files {
        let since = file.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut entry = Entry {
            path: file.name.as_os_str().as_encoded_bytes().to_vec(),
            kind: EntryKind::Directory,
            mode: file.mode & 0o7777,
            mtime: Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanoseconds: 0 },
            ..Entry::default()
        };
        (entry.uid, entry.gid) = file.owner;
        match &file.source {
            PackedSource::Directory => writer.entry(&entry)?,
            PackedSource::Content(content) => {
                (entry.kind, entry.size) = (EntryKind::File, content.len() as u64);
                writer.entry(&entry)?;
                writer.data(content)?;
            }
            PackedSource::Tree(_) => return Err(io::ErrorKind::NotFound.into()),
        }
    }
    writer.finish().map(Bytes::from)
}

#[async_trait]
impl ContainerFiles for NoFiles {
    async fn stat(&self, path: &Path) -> Result<PathStat> {
        Err(nothing(path))
    }

    async fn pack(&self, path: &Path) -> Result<(PathStat, ByteStream)> {
        Err(nothing(path))
    }

    async fn unpack(&self, path: &Path, _: ByteStream, _: &UnpackFiles) -> Result<()> {
        Err(nothing(path))
    }

    async fn list(&self, path: &Path, _: &ListFiles) -> Result<FileList> {
        Err(nothing(path))
    }

    async fn owner(&self, user: &str) -> Result<(u32, u32)> {
        Err(nothing(Path::new(user)))
    }

    async fn pack_files(&self, files: Vec<PackedFile>) -> Result<ByteStream> {
        let archive = archive(&files).map_err(|e| Error::from_io("pack files", e))?;
        Ok(stream::once(async { Ok(archive) }).boxed())
    }
}
