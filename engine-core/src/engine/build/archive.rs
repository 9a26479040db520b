//! Contexts that arrive as archives.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::LocalEngine;
use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;

use super::files_of_directory;
use super::scratch::Scratch;
use super::spec::BuildContext;

/// A build context on its way: a tar archive, plain or compressed by gzip, bzip2, xz or zstd. Clones are the same archive, which is read once.
#[derive(Clone)]
pub struct ContextArchive(Arc<Mutex<Option<ByteStream>>>);

impl ContextArchive {
    /// Takes the archive's bytes.
    #[must_use]
    pub fn new(archive: ByteStream) -> Self {
        Self(Arc::new(Mutex::new(Some(archive))))
    }

    /// Returns the archive's bytes, for an engine that reads them.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if a build has read them.
    pub fn take(&self) -> Result<ByteStream> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, "read build context")
                .with_message("it is an archive, and another build has read it")
                .with_hint("give each build an archive of its own, or a directory")
        })
    }
}

impl fmt::Debug for ContextArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextArchive").finish_non_exhaustive()
    }
}

impl PartialEq for ContextArchive {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ContextArchive {}

impl LocalEngine {
    /// Unpacks what arrives as an archive, and says in `context` where it is.
    pub(super) async fn unpack_context(&self, context: &mut BuildContext) -> Result<Option<Scratch>> {
        let BuildContext::Archive(archive) = &*context else { return Ok(None) };
        let archive = archive.take()?;
        if self.inner.root.is_some() {
            let scratch = self.scratch().await?;
            let files = files_of_directory(scratch.path())?;
            let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            let options = crate::files::UnpackFiles::default()
                .with_owner(Some(own))
                .with_max_bytes(self.inner.max_bytes);
            files.unpack(std::path::Path::new("/"), archive, &options).await.map_err(|error| {
                let outer = Error::new(error.kind(), "read build context");
                match error.hint().map(str::to_owned) {
                    Some(hint) => outer.with_hint(hint).with_source(error),
                    None => outer.with_source(error),
                }
            })?;
            *context = BuildContext::Directory(scratch.path().to_owned());
            return Ok(Some(scratch));
        }
        drop(archive);
        Err(Error::new(ErrorKind::Unsupported, "read build context")
            .with_message("an engine without a directory has no place for it")
            .with_hint("give a directory"))
    }
}
