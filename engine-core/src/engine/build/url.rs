//! Files behind URLs: fetched once, kept as layers, and asked for again only if the server has another version.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::digest::{Digest, DigestAlgorithm, DigestHasher};
use crate::dockerfile::without_login;
use crate::engine::LocalEngine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, PackedFile, PackedSource};
use crate::limit;
use crate::url_fetcher::{FetchRequest, Fetched, FetchedFile, FileVersion};

use super::cache::Entry;
use super::copy::Hasher;
use super::provenance::Material;
use super::scratch::Scratch;
use super::sources::Sources;
use super::steps::layer_of;
use super::tree::Tree;

/// What a file is called whose URL gives no name, as with BuildKit.
const UNNAMED: &str = "__unnamed__";
/// What is kept of a file, beside its layer.
const ETAG: &str = "etag";
const LAST_MODIFIED: &str = "last-modified";
const DIGEST: &str = "digest";
const NAME: &str = "name";

/// A file that was fetched: the only one of a layer.
#[derive(Clone, Debug)]
pub(super) struct UrlFile {
    /// What it is called.
    pub(super) name: String,
    entry: Entry,
}

impl UrlFile {
    fn of(entry: Entry) -> Option<Self> {
        let name = entry.notes.get(NAME)?.clone();
        Some(Self { name, entry })
    }

    /// The digest of its content.
    pub(super) fn digest(&self) -> String {
        self.entry.notes.get(DIGEST).cloned().unwrap_or_default()
    }

    /// What was fetched from `url`.
    pub(super) fn material(&self, url: &str) -> Material {
        Material::file(shown(url), &self.digest())
    }

    /// The tree that it is in.
    pub(super) async fn tree(&self, engine: &LocalEngine) -> Result<Tree> {
        Tree::of_entry(engine, &self.entry).await
    }
}

impl LocalEngine {
    /// Fetches the file behind `url`, unless it is here already. It gets `name`, or what the server calls it.
    ///
    /// # Errors
    /// As the [fetcher](crate::UrlFetcher) has it; [`ErrorKind::Corrupt`] if it has not the digest `checksum`.
    pub(super) async fn url_file(
        &self,
        url: &str,
        name: Option<&str>,
        checksum: Option<&Digest>,
        sources: &Sources,
    ) -> Result<UrlFile> {
        let asked = (url.to_owned(), name.map(str::to_owned), checksum.cloned());
        sources.files.once(asked, self.fetched_file(url, name, checksum)).await
    }

    async fn fetched_file(
        &self,
        url: &str,
        name: Option<&str>,
        checksum: Option<&Digest>,
    ) -> Result<UrlFile> {
        let mut key = Hasher::new("url-1");
        key.text(url);
        let key = key.finish();
        let known = self.cached_step(&key).await?.filter(|entry| entry.layer.is_some()).and_then(UrlFile::of);
        // A digest of another kind says nothing about this one.
        let comparable = |known: &UrlFile| {
            checksum.is_none_or(|checksum| {
                known.digest().starts_with(&format!("{}:", checksum.algorithm().as_str()))
            })
        };
        let known = known.filter(comparable);
        let note = |key: &str| known.as_ref().and_then(|known| known.entry.notes.get(key)).cloned();
        if checksum.is_some_and(|checksum| note(DIGEST) == Some(checksum.to_string()))
            && let Some(known) = known
        {
            return Ok(known);
        }
        let version = FileVersion::new(note(ETAG), note(LAST_MODIFIED));
        let fetched = {
            let max_bytes = self.inner.max_bytes;
            let request = FetchRequest::new(url).with_known(version).with_max_bytes(max_bytes);
            self.inner.urls.fetch(&request).await.map_err(with_how)?
        };
        let file = match (fetched, known) {
            (Fetched::File(file), _) => file,
            (Fetched::Unchanged, Some(known)) => {
                check(&known.digest(), checksum)?;
                return Ok(known);
            }
            (Fetched::Unchanged, None) => {
                return Err(Error::new(ErrorKind::Corrupt, "fetch file")
                    .with_message("the server says that it is unchanged, and it was never here"));
            }
        };
        let name = name.or(file.name.as_deref()).unwrap_or(UNNAMED).to_owned();
        let mut notes = BTreeMap::from([(NAME.to_owned(), name.clone())]);
        let version = file.version.clone().unwrap_or_default();
        for (key, value) in [(ETAG, version.etag), (LAST_MODIFIED, version.last_modified)] {
            notes.extend(value.map(|value| (key.to_owned(), value)));
        }
        let modified = file.modified.unwrap_or(SystemTime::UNIX_EPOCH);
        let scratch = self.scratch().await?;
        let algorithm = checksum.map_or(DigestAlgorithm::Sha256, Digest::algorithm);
        let digest = spool(file, &scratch, algorithm).await?;
        check(&digest.to_string(), checksum)?;
        notes.insert(DIGEST.to_owned(), digest.to_string());
        let mut packed = PackedFile::new(PackedSource::Tree(Path::new("/").join(FILE)), &name, 0o600);
        packed.modified = modified;
        let layer = layer_of(self, &*directory(scratch.path())?, vec![packed]).await?;
        let text = format!("ADD {}", shown(url));
        let entry = self.keep_step(&key, Some(&layer), &text, notes).await?;
        UrlFile::of(entry).ok_or_else(|| Error::new(ErrorKind::Other, "fetch file"))
    }
}

/// Says how to allow more, where it was too large.
fn with_how(error: Error) -> Error {
    if error.kind() == ErrorKind::ResourceExhausted { error.with_hint(limit::HINT) } else { error }
}

/// What is shown of a URL: without what may be secret in it.
fn shown(url: &str) -> String {
    without_login(url.split(['?', '#']).next().unwrap_or_default())
}

/// The name of a file on its way, in its directory.
const FILE: &str = "file";

/// Opens a directory of ours as a tree.
#[cfg(feature = "linux")]
pub(super) fn directory(path: &Path) -> Result<Box<dyn ContainerFiles>> {
    Ok(crate::linux::files::host_files(path.to_owned()))
}

#[cfg(not(feature = "linux"))]
pub(super) fn directory(path: &Path) -> Result<Box<dyn ContainerFiles>> {
    Err(Error::new(ErrorKind::Unsupported, "open directory")
        .with("path", path.display())
        .with_message("this program was built without engine-core's feature \"linux\""))
}

/// Writes a file to its place and returns its digest.
async fn spool(mut file: FetchedFile, scratch: &Scratch, algorithm: DigestAlgorithm) -> Result<Digest> {
    let path = scratch.path().join(FILE);
    let fail = |e| Error::from_io("write fetched file", e).with("path", path.display());
    let mut target = tokio::fs::File::create_new(&path).await.map_err(fail)?;
    let mut hasher = DigestHasher::new(algorithm);
    while let Some(piece) = file.content.next().await {
        let piece = piece.map_err(with_how)?;
        hasher.update(&piece);
        target.write_all(&piece).await.map_err(fail)?;
    }
    target.flush().await.map_err(fail)?;
    Ok(hasher.finish())
}

fn check(digest: &str, checksum: Option<&Digest>) -> Result<()> {
    match checksum.filter(|checksum| checksum.to_string() != digest) {
        None => Ok(()),
        Some(checksum) => Err(Error::new(ErrorKind::Corrupt, "fetch file")
            .with("digest", digest)
            .with("checksum", checksum)
            .with_message("it has another digest than --checksum says")
            .with_hint("if the new file is the right one, give its digest")),
    }
}
