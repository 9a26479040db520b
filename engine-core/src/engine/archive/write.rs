//! Writing archives: an OCI layout as a tar stream or as a directory, with Docker's `manifest.json` beside it if wanted.
//!
//! Invariant: the same images give the same bytes. A directory that was not finished is removed again.

use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;
use crate::tar::{self, END};

/// The directory of a layout's blobs.
pub(super) const BLOBS: &str = "blobs";
/// The file of a layout that lists its images.
pub(super) const INDEX: &str = "index.json";
/// The file that says which version of layouts it is.
pub(super) const VERSION: &str = "oci-layout";
/// All that is made in a directory, and removed from one that is not finished.
pub(super) const PARTS: [&str; 5] = [BLOBS, VERSION, INDEX, "manifest.json", "repositories"];

/// Where members go.
pub(crate) enum Sink {
    /// A tar stream.
    Tar(Pin<Box<dyn AsyncWrite + Send>>),
    /// A directory that was not there or was empty.
    Directory(Unfinished),
}

/// A directory that is removed with all we made, unless it is finished.
#[derive(Debug)]
pub(crate) struct Unfinished {
    root: PathBuf,
    made_root: bool,
    done: bool,
}

impl Sink {
    /// Begins a layout in a directory.
    pub(crate) async fn directory_at(root: &Path) -> Result<Self> {
        let fail = |e| Error::from_io("create layout", e).with("path", root.display());
        let made_root = match tokio::fs::create_dir(root).await {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let mut entries = tokio::fs::read_dir(root).await.map_err(fail)?;
                if entries.next_entry().await.map_err(fail)?.is_some() {
                    return Err(Error::new(ErrorKind::AlreadyExists, "create layout")
                        .with("path", root.display())
                        .with_message("the directory is not empty")
                        .with_hint("name a directory that is not there yet"));
                }
                false
            }
            Err(e) => return Err(fail(e)),
        };
        Ok(Self::Directory(Unfinished { root: root.to_owned(), made_root, done: false }))
    }

    /// Adds a directory; its name ends in a slash.
    pub(crate) async fn directory(&mut self, name: &str) -> Result<()> {
        match self {
            Self::Tar(out) => out.write_all(&tar::header(name, 0)).await.map_err(failed),
            Self::Directory(to) => tokio::fs::create_dir(to.root.join(name)).await.map_err(failed),
        }
    }

    /// Adds a small file.
    pub(crate) async fn file(&mut self, name: &str, bytes: Bytes) -> Result<()> {
        let size = bytes.len() as u64;
        self.stream(name, size, futures_util::stream::iter([Ok(bytes)]).boxed(), |_| {}).await
    }

    /// Adds a file of `size` bytes, and tells how many are written.
    pub(crate) async fn stream(
        &mut self,
        name: &str,
        size: u64,
        mut pieces: ByteStream,
        report: impl Fn(u64) + Send,
    ) -> Result<()> {
        let mut file;
        let out: &mut (dyn AsyncWrite + Send + Unpin) = match self {
            Self::Tar(out) => {
                out.write_all(&tar::header(name, size)).await.map_err(failed)?;
                out
            }
            Self::Directory(to) => {
                file = tokio::fs::File::create_new(to.root.join(name)).await.map_err(failed)?;
                &mut file
            }
        };
        let mut done = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            done += piece.len() as u64;
            if done > size {
                break;
            }
            out.write_all(&piece).await.map_err(failed)?;
            report(done);
        }
        if done != size {
            return Err(Error::new(ErrorKind::Corrupt, "write archive")
                .with("file", name)
                .with_message(format!("it has {done} bytes, and should have {size}")));
        }
        // A file of tokio's writes behind the caller's back until it is flushed.
        out.flush().await.map_err(failed)?;
        if let Self::Tar(out) = self {
            out.write_all(&[0; 512][..tar::padding(size)]).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub(crate) async fn finish(self) -> Result<()> {
        match self {
            Self::Tar(mut out) => {
                out.write_all(&END).await.map_err(failed)?;
                out.shutdown().await.map_err(failed)
            }
            Self::Directory(mut to) => {
                to.done = true;
                Ok(())
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Nothing was there but what we made.
        for name in PARTS {
            let path = self.root.join(name);
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
        if self.made_root {
            let _ = std::fs::remove_dir(&self.root);
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tar(_) => "Tar",
            Self::Directory(_) => "Directory",
        })
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::from_io("write archive", error)
}
