//! A directory as what an engine elsewhere is sent of it.

use std::path::Path;

use crate::error::Result;
use crate::files::{FileFilter, ListFiles, Listed, PackedFile, PackedSource};
use crate::io::ByteStream;

use super::files_of_directory;
use super::ignore;
use super::tree::inside;

/// Returns the directory `dir` as an archive for [`BuildContext::Archive`](super::BuildContext::Archive): without what its ignore file
/// leaves out, or `ignore` in its stead, but with that file and the Dockerfile, if that is in the context: whoever builds reads them.
///
/// # Errors
/// [`NotFound`](crate::ErrorKind::NotFound) if it is not there; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a malformed
/// ignore file. What fails later comes in the stream.
pub async fn pack_context(dir: &Path, dockerfile: Option<&str>, ignore: Option<&str>) -> Result<ByteStream> {
    let files = files_of_directory(dir)?;
    let mut options = ListFiles::default();
    if let Some(ignored) = ignore::of_context(&*files, dockerfile, ignore).await?.and_then(ignore::ignoring) {
        let mut kept = vec![Path::new(".dockerignore").to_owned()];
        if let Some(path) = dockerfile {
            kept.push(inside(path)?.iter().collect());
            kept.push(inside(&format!("{path}.dockerignore"))?.iter().collect());
        }
        let filter: FileFilter = std::sync::Arc::new(move |path: &[u8], is_dir| {
            use std::os::unix::ffi::OsStrExt as _;
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            if kept.iter().any(|kept| kept == path) {
                return Listed::Yes;
            }
            match ignored(path, is_dir) {
                Listed::No if kept.iter().any(|kept| kept.starts_with(path)) => Listed::OnlyBelow,
                verdict => verdict,
            }
        });
        options = options.with_filter(filter);
    }
    let list = files.list(Path::new("/"), &options).await?;
    let entries = list.entries.into_iter().filter(|entry| !entry.path.as_os_str().is_empty());
    let packed = entries.map(|entry| {
        let source = PackedSource::Tree(Path::new("/").join(&entry.path));
        let mut file = PackedFile::new(source, entry.path, entry.mode & 0o7777);
        (file.owner, file.modified) = ((entry.uid, entry.gid), entry.modified);
        file
    });
    files.pack_files(packed.collect()).await
}
