//! Archives among the files of a tree: what is one, and its bytes.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::Path;

use futures_util::TryStreamExt as _;

use crate::decode::Bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, PackedFile, PackedSource};
use crate::io::ByteStream;
use crate::pieces::transform;
use crate::tar::{self, ArchiveReader, Entry, EntryKind, TarError, TarLimits};

const READ: &str = "read archive";
/// Bytes that tell what something is.
const BLOCK: u64 = 512;

/// The content of a regular file of a tree, as a stream. `path` is one without links.
pub(super) async fn content(files: &dyn ContainerFiles, path: &Path) -> Result<ByteStream> {
    // Not as `pack` has it: that leaves holes out.
    let file = PackedFile::new(PackedSource::Tree(path.to_owned()), "file", 0o600);
    let packed = files.pack_files(vec![file]).await?;
    Ok(transform(packed, |source, mut content| {
        let malformed = |error: TarError| Error::new(ErrorKind::Corrupt, READ).with_source(error);
        let fail = |e| Error::from_io(READ, e);
        let mut reader = ArchiveReader::new(source, TarLimits::default());
        let mut entry = Entry::default();
        if !reader.next_entry(&mut entry).map_err(malformed)? || entry.kind != EntryKind::File {
            return Err(Error::new(ErrorKind::InvalidArgument, READ).with_message("it is no regular file"));
        }
        loop {
            let piece = reader.data().map_err(malformed)?;
            if piece.is_empty() {
                return content.flush().map_err(fail);
            }
            content.write_all(piece).map_err(fail)?;
            let count = piece.len();
            reader.consume(count);
        }
    }))
}

/// Whether a regular file is an archive, compressed or not: whether it begins with an entry. What merely begins like something
/// compressed is none.
pub(super) async fn is_archive(files: &dyn ContainerFiles, path: &Path) -> Result<bool> {
    begins_archive(content(files, path).await?).await
}

/// As [`is_archive`], of content.
pub(super) async fn begins_archive(content: ByteStream) -> Result<bool> {
    let head = transform(content, |source, mut block| {
        let fail = |e| Error::from_io(READ, e);
        source.fill_buf().map_err(fail)?;
        let mut head = Vec::new();
        let read = Bounded::new(&mut *source).and_then(|plain| plain.take(BLOCK).read_to_end(&mut head));
        match read {
            Ok(_) => block.write_all(&head).and_then(|()| block.flush()).map_err(fail),
            // It may well be an archive, and is not taken for anything else.
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Err(fail(error)),
            Err(error) if source.has_failed() => Err(fail(error)),
            Err(_) => Ok(()),
        }
    });
    let head: Vec<_> = head.try_collect().await?;
    Ok(tar::begins_entry(&head.concat()))
}
