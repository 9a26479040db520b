//! Contexts behind URLs: a repository, an archive, or a Dockerfile alone.
//!
//! Whatever it is, it is a layer first (`git`, `url`), and so is what an archive has in it: fetched and unpacked once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use crate::dockerfile::{AddSource, GitSource};
use crate::engine::LocalEngine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::UnpackFiles;
use crate::platform::Platform;

use super::copy::Hasher;
use super::ignore;
use super::provenance::Material;
use super::sources::Sources;
use super::spec::BuildSpec;
use super::stage::State;
use super::tree::Tree;
use super::unpack;

/// The build argument that has a repository's `.git` come along, as with BuildKit.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// What is behind a URL.
pub(super) enum Remote {
    /// Files.
    Files(Tree),
    /// A text.
    Text(Vec<u8>),
}

impl LocalEngine {
    /// Fetches a context, unless it is here already.
    ///
    /// # Errors
    /// As the fetcher and git have it; [`ErrorKind::Corrupt`] for a malformed archive.
    pub(super) async fn remote(&self, spec: &BuildSpec, url: &str, sources: &Sources) -> Result<Remote> {
        if let Some(git) = GitSource::parse(url)? {
            let asked = spec.args.get(KEEP_GIT_DIR).is_some_and(|value| matches!(&**value, "1" | "true"));
            let keep = git.keep_git_dir.unwrap_or(asked);
            let (entry, commit) = Box::pin(self.repository(spec, &git, keep, None, sources)).await?;
            sources.used(Material::repository(git.shown_remote(), commit));
            return Ok(Remote::Files(Tree::of_entry(self, &entry).await?));
        }
        let source = AddSource::of(url)?;
        if !matches!(source, AddSource::Url(_)) {
            return Err(Error::new(ErrorKind::InvalidArgument, "open build context")
                .with("context", url)
                .with_message("it is neither a repository nor a URL of http"));
        }
        let file = Box::pin(self.url_file(url, source.file_name().as_deref(), None, sources)).await?;
        sources.used(file.material(url));
        let tree = file.tree(self).await?;
        let path = Path::new("/").join(&file.name);
        if !unpack::is_archive(&**tree.files(), &path).await? {
            let text = ignore::read(&**tree.files(), &file.name).await?;
            return Ok(Remote::Text(text.unwrap_or_default()));
        }
        let mut key = Hasher::new("context-1");
        key.text(&file.digest());
        let key = key.finish();
        if let Some(known) = self.cached_step(&key).await? {
            return Ok(Remote::Files(Tree::of_entry(self, &known).await?));
        }
        let text = format!("unpack {}", file.name);
        let time = SystemTime::UNIX_EPOCH;
        let root = self.step_root(&State::scratch(Platform::host(), Some(time)), &text).await?;
        let unpacked = async {
            let content = unpack::content(&**tree.files(), &path).await?;
            // Whose they are on another machine says nothing.
            let options =
                UnpackFiles::default().with_owner(Some((0, 0))).with_max_bytes(self.inner.max_bytes);
            root.files().unpack(Path::new("/"), content, &options).await
        };
        let outcome = unpacked.await.map_err(|error| error.with("context", &file.name));
        let layer = root.finish(outcome, time).await?;
        let entry = self.keep_step(&key, layer.as_ref(), &text, BTreeMap::new()).await?;
        Ok(Remote::Files(Tree::of_entry(self, &entry).await?))
    }
}
