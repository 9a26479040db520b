//! What a build reads before anything else: its Dockerfile and its ignore file.
//!
//! Whoever only wants to know what a Dockerfile says reads these. A context that is here needs no engine for that; one behind a URL is
//! fetched by an engine, as for a build.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use super::sources::Sources;
use super::spec::{BuildContext, BuildSpec, DockerfileSource};
use super::tree::inside;
use super::{dockerfile, empty, files_of_directory, ignore};
use crate::decode::Bounded;
use crate::dockerfile::IgnorePatterns;
use crate::engine::LocalEngine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::ContainerFiles;
use crate::io::ByteStream;
use crate::pieces::{PieceReader, transform};
use crate::tar::{ArchiveReader, Entry, EntryKind, TarError, TarLimits};

const READ: &str = "read build context";

/// The texts of a build.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BuildTexts {
    /// What errors call the Dockerfile.
    pub name: String,
    /// The Dockerfile.
    #[serde(with = "crate::exact::bytes")]
    pub dockerfile: Bytes,
    /// The ignore file that counts for the build's context.
    pub ignore: Option<String>,
}

impl BuildTexts {
    /// Reads the texts of a build whose context is here: a directory, an archive, which is read to its end, or none.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) for a context or a Dockerfile that is not there;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a malformed ignore file;
    /// [`Unsupported`](ErrorKind::Unsupported) for a context that only an engine can fetch.
    pub async fn read(spec: &BuildSpec) -> Result<Self> {
        match &spec.context {
            BuildContext::Empty => Self::of_files(spec, &empty::NoFiles).await,
            BuildContext::Directory(dir) => Self::of_files(spec, &*files_of_directory(dir)?).await,
            BuildContext::Archive(archive) => Self::of_archive(spec, archive.take()?).await,
            other => Err(Error::new(ErrorKind::Unsupported, READ)
                .with_message(format!("{other:?} is fetched by an engine"))
                .with_hint("ask one (Engine::build_texts)")),
        }
    }

    /// Returns the patterns of the ignore file.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a malformed one.
    pub fn ignore_patterns(&self) -> Result<Option<IgnorePatterns>> {
        self.ignore.as_ref().map(|text| IgnorePatterns::parse(text.as_bytes())).transpose()
    }

    async fn of_files(spec: &BuildSpec, files: &dyn ContainerFiles) -> Result<Self> {
        let (name, dockerfile) = dockerfile(&spec.dockerfile, files).await?;
        let ignore =
            ignore::text_of_context(files, spec.dockerfile.in_context(), spec.ignore.as_deref()).await?;
        Self::new(name, dockerfile, ignore)
    }

    async fn of_archive(spec: &BuildSpec, archive: ByteStream) -> Result<Self> {
        let own = spec.dockerfile.in_context();
        let ignores = own.map(|path| format!("{path}.dockerignore"));
        let ignores: Vec<String> = ignores.into_iter().chain([".dockerignore".to_owned()]).collect();
        let mut wanted = BTreeMap::new();
        for name in ignores.iter().map(String::as_str).chain(own) {
            wanted.insert(inside(name)?, name.to_owned());
        }
        let mut found = scan(archive, wanted).await?;
        let (name, dockerfile) = match &spec.dockerfile {
            DockerfileSource::Text { name, text } => (name.clone(), text.clone()),
            DockerfileSource::InContext(path) => {
                (path.clone(), found.remove(path).ok_or_else(|| super::no_dockerfile(path))?.into())
            }
        };
        let ignore = match &spec.ignore {
            Some(given) => Some((None, given.clone().into_bytes())),
            None => ignores.into_iter().find_map(|name| found.remove(&name).map(|text| (Some(name), text))),
        };
        Self::new(name, dockerfile, ignore)
    }

    fn new(name: String, dockerfile: Bytes, ignore: Option<ignore::NamedText>) -> Result<Self> {
        if let Some(ignore) = &ignore {
            ignore::patterns(ignore)?;
        }
        let ignore = ignore.map(|(_, text)| String::from_utf8_lossy(&text).into_owned());
        Ok(Self { name, dockerfile, ignore })
    }
}

impl LocalEngine {
    pub(in crate::engine) async fn build_texts(&self, mut spec: BuildSpec) -> Result<BuildTexts> {
        if !matches!(spec.context, BuildContext::Remote(_)) {
            return BuildTexts::read(&spec).await;
        }
        let _lease = self.inner.images.lease().await?;
        let read = async {
            let files = Box::pin(self.files_of_context(&mut spec, &Sources::default())).await?;
            BuildTexts::of_files(&spec, &*files).await
        };
        let read = read.await;
        self.inner.removals.end().await;
        read
    }
}

/// Reads the files with the names `wanted` from an archive, which may be compressed.
async fn scan(
    archive: ByteStream,
    wanted: BTreeMap<Vec<PathBuf>, String>,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let found = Arc::new(Mutex::new(BTreeMap::new()));
    let into = Arc::clone(&found);
    // Nothing comes out of it but its end.
    let scanned = transform(archive, move |source, _| {
        *into.lock().unwrap_or_else(PoisonError::into_inner) = texts(source, &wanted)?;
        Ok(())
    });
    scanned.try_collect::<Vec<_>>().await?;
    Ok(std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn texts(
    source: &mut PieceReader,
    wanted: &BTreeMap<Vec<PathBuf>, String>,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let malformed = |error: TarError| Error::new(ErrorKind::Corrupt, READ).with_source(error);
    let plain = Bounded::new(source).map_err(|e| Error::from_io(READ, e))?;
    let mut reader = ArchiveReader::new(BufReader::new(plain), TarLimits::default());
    let (mut entry, mut found) = (Entry::default(), BTreeMap::new());
    while reader.next_entry(&mut entry).map_err(malformed)? {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let Some(name) = inside(&path).ok().and_then(|path| wanted.get(&path)) else { continue };
        let wrong = |kind, why: &str| Error::new(kind, READ).with("path", name).with_message(why);
        match entry.kind {
            EntryKind::File if entry.size > ignore::MAX_TEXT => {
                return Err(wrong(ErrorKind::ResourceExhausted, "it is too large"));
            }
            EntryKind::File => {}
            EntryKind::Symlink | EntryKind::HardLink => {
                return Err(wrong(
                    ErrorKind::Unsupported,
                    "it is a link in an archive, which is not unpacked",
                )
                .with_hint("give the Dockerfile that it leads to with --file, or a directory"));
            }
            _ => return Err(wrong(ErrorKind::InvalidArgument, "it is no regular file")),
        }
        let mut text = Vec::new();
        loop {
            let piece = reader.data().map_err(malformed)?;
            if piece.is_empty() {
                break;
            }
            text.extend_from_slice(piece);
            let count = piece.len();
            reader.consume(count);
        }
        found.insert(name.clone(), text);
    }
    Ok(found)
}
