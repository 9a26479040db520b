//! `ADD`: what its sources are.

use crate::digest::Digest;
use crate::dockerfile::{Add, AddSource};
use crate::error::{Error, ErrorKind, Result};

use super::copying::Picked;
use super::provenance::Material;
use super::steps::Step;
use super::tree::Tree;

impl Step<'_> {
    /// Finds the trees that the sources of an `ADD` are in, and fetches what comes from elsewhere.
    pub(super) async fn added(&self, add: &Add) -> Result<Vec<Picked>> {
        let invalid = |why: &str| Error::new(ErrorKind::InvalidArgument, "add files").with_message(why);
        if add.checksum.is_some() && add.sources.len() + add.documents.len() > 1 {
            return Err(invalid("--checksum is for one source"));
        }
        let engine = &self.build.engine;
        let mut picked = Vec::with_capacity(add.sources.len());
        for source in &add.sources {
            let kind = AddSource::of(source)?;
            let (tree, pattern, unpack) = match &kind {
                AddSource::Path(path) => {
                    if add.checksum.is_some() {
                        return Err(invalid("--checksum is for files behind URLs and for repositories"));
                    }
                    (self.build.context.clone(), (*path).to_owned(), add.unpack.unwrap_or(true))
                }
                AddSource::Url(url) => {
                    let checksum: Option<Digest> = match &add.checksum {
                        Some(text) => Some(
                            text.parse()
                                .map_err(|error: Error| error.with_hint("write it as --checksum=sha256:…"))?,
                        ),
                        None => None,
                    };
                    let file = Box::pin(engine.url_file(
                        url,
                        kind.file_name().as_deref(),
                        checksum.as_ref(),
                        &self.build.sources,
                    ))
                    .await?;
                    self.build.sources.used(file.material(url));
                    let tree = file.tree(engine).await?;
                    (tree, super::copying::escaped(&file.name), add.unpack.unwrap_or(false))
                }
                AddSource::Git(git) => {
                    let keep = git.keep_git_dir.unwrap_or(add.keep_git_dir);
                    let checksum = add.checksum.as_deref();
                    let repository =
                        engine.repository(&self.build.spec, git, keep, checksum, &self.build.sources);
                    let (entry, commit) = Box::pin(repository).await?;
                    self.build.sources.used(Material::repository(git.shown_remote(), commit));
                    (Tree::of_entry(engine, &entry).await?, "/".to_owned(), false)
                }
            };
            picked.push(Picked { tree, pattern, unpack });
        }
        Ok(picked)
    }
}
