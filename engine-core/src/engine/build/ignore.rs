//! What is left out of a copy: `.dockerignore`, and `--exclude`.

use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;

use crate::dockerfile::{Glob, IgnorePatterns};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, Listed};
use crate::io::ByteStream;
use crate::tar::{ArchiveReader, Entry, EntryKind, TarError, TarLimits};

use super::tree::Ignored;

/// The largest file that is read as a whole: a Dockerfile, an ignore file.
pub(super) const MAX_TEXT: u64 = 4 << 20;

/// What `patterns` leave out.
pub(super) fn ignoring(patterns: IgnorePatterns) -> Option<Ignored> {
    if patterns.is_empty() {
        return None;
    }
    Some(Arc::new(move |path: &Path, is_dir| {
        let path = path.to_string_lossy();
        match (patterns.is_ignored(&path), is_dir) {
            (false, _) => Listed::Yes,
            (true, true) if !patterns.can_skip_directory(&path) => Listed::OnlyBelow,
            (true, _) => Listed::No,
        }
    }))
}

/// What `--exclude` leaves out.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a malformed pattern.
pub(super) fn excluding(patterns: &[String]) -> Result<Option<Ignored>> {
    Ok(ignoring(IgnorePatterns::new(patterns.iter().map(String::as_str))?))
}

/// A context's ignore file: `own` if that is given, the file of the Dockerfile's own name if the Dockerfile is in the context and
/// there is one, else `.dockerignore`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a malformed pattern, with the file's name.
pub(super) async fn of_context(
    files: &dyn ContainerFiles,
    dockerfile: Option<&str>,
    own: Option<&str>,
) -> Result<Option<IgnorePatterns>> {
    text_of_context(files, dockerfile, own).await?.as_ref().map(patterns).transpose()
}

/// A text, and the name of its file if it is in one.
pub(super) type NamedText = (Option<String>, Vec<u8>);

/// The text of a context's ignore file, which is found as [`of_context`] has it.
pub(super) async fn text_of_context(
    files: &dyn ContainerFiles,
    dockerfile: Option<&str>,
    own: Option<&str>,
) -> Result<Option<NamedText>> {
    if let Some(own) = own {
        return Ok(Some((None, own.as_bytes().to_vec())));
    }
    let own = dockerfile.map(|path| format!("{path}.dockerignore"));
    for name in own.into_iter().chain([".dockerignore".to_owned()]) {
        if let Some(text) = read(files, &name).await? {
            return Ok(Some((Some(name), text)));
        }
    }
    Ok(None)
}

/// The patterns of an ignore file.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a malformed one, with the file's name.
pub(super) fn patterns((name, text): &NamedText) -> Result<IgnorePatterns> {
    IgnorePatterns::parse(text).map_err(|error| match name {
        Some(name) => error.with("file", name),
        None => error,
    })
}

/// Whether a name fits a component of a pattern.
pub(super) fn matches_name(pattern: &str, name: &str) -> bool {
    Glob::new(pattern).is_ok_and(|glob| glob.matches(name))
}

/// Reads a file of a tree; `None` if it is not there.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if it is no regular file, [`ErrorKind::ResourceExhausted`] if it is too large.
pub(super) async fn read(files: &dyn ContainerFiles, path: &str) -> Result<Option<Vec<u8>>> {
    let list = match files.list(Path::new(path), &crate::files::ListFiles::default().shallow()).await {
        Ok(list) => list,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let wrong =
        |kind, why: &str| Error::new(kind, "read file").with("path", path).with_message(why.to_owned());
    match list.entries.first() {
        Some(entry) if !entry.is_file() => {
            return Err(wrong(ErrorKind::InvalidArgument, "it is no regular file"));
        }
        Some(entry) if entry.size > MAX_TEXT => {
            return Err(wrong(ErrorKind::ResourceExhausted, "it is too large"));
        }
        _ => {}
    }
    // Where links lead, the archive has the file itself.
    let (_, archive) = files.pack(&list.path).await?;
    content(archive).await.map(Some)
}

/// The content of the one file in a small archive.
async fn content(archive: ByteStream) -> Result<Vec<u8>> {
    let bytes = archive
        .try_fold(Vec::new(), async |mut all, piece| {
            if all.len() as u64 > 2 * MAX_TEXT {
                return Err(Error::new(ErrorKind::ResourceExhausted, "read file"));
            }
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await?;
    let malformed = |error: TarError| Error::new(ErrorKind::Corrupt, "read file").with_source(error);
    let mut reader = ArchiveReader::new(&bytes[..], TarLimits::default());
    let (mut entry, mut content) = (Entry::default(), Vec::new());
    while reader.next_entry(&mut entry).map_err(malformed)? {
        if entry.kind != EntryKind::File {
            continue;
        }
        loop {
            let piece = reader.data().map_err(malformed)?;
            if piece.is_empty() {
                return Ok(content);
            }
            content.extend_from_slice(piece);
            let count = piece.len();
            reader.consume(count);
        }
    }
    Err(Error::new(ErrorKind::NotFound, "read file"))
}
