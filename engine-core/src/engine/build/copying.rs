//! `COPY` and `ADD`: what is copied from where, and the layer of it.
//!
//! Mostly the layer's archive is written straight into the store. Where an archive is unpacked, or files of several trees come
//! together, all of it goes into a root file system over the layers below, and what changed there is the layer: so links on the
//! way, and what an archive replaces, are as for whoever unpacks it there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::dockerfile::{Add, Copy, FileMode, Heredoc};
use crate::engine::LocalEngine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::UnpackFiles;
use crate::platform::Platform;

use super::cache::Layer;
use super::copy::{Below, Hasher, Placing, Plan};
use super::ignore::{excluding, matches_name};
use super::mounts::Mounted;
use super::stage::State;
use super::steps::Step;
use super::tree::{Source, Tree, TreeKind};
use super::unpack;

/// What `COPY` and `ADD` have in common, with all variables expanded.
#[derive(Default)]
pub(super) struct Copying {
    pub(super) documents: Vec<Heredoc>,
    pub(super) destination: String,
    pub(super) chown: Option<String>,
    pub(super) chmod: Option<String>,
    pub(super) link: bool,
    pub(super) parents: bool,
    pub(super) exclude: Vec<String>,
}

impl From<&Copy> for Copying {
    fn from(copy: &Copy) -> Self {
        Self {
            documents: copy.documents.clone(),
            destination: copy.destination.clone(),
            chown: copy.chown.clone(),
            chmod: copy.chmod.clone(),
            link: copy.link,
            parents: copy.parents,
            exclude: copy.exclude.clone(),
        }
    }
}

impl From<&Add> for Copying {
    fn from(add: &Add) -> Self {
        Self {
            documents: add.documents.clone(),
            destination: add.destination.clone(),
            chown: add.chown.clone(),
            chmod: add.chmod.clone(),
            link: add.link,
            parents: false,
            exclude: add.exclude.clone(),
        }
    }
}

/// What is copied: what a pattern names in a tree.
#[derive(Clone, Debug)]
pub(super) struct Picked {
    pub(super) tree: Tree,
    pub(super) pattern: String,
    /// Whether archives are unpacked.
    pub(super) unpack: bool,
}

/// A group of files that go the same way.
struct Found<'a> {
    tree: &'a Tree,
    sources: Vec<Source>,
    unpack: bool,
}

impl Copying {
    /// Whether the destination is written as a directory.
    fn names_dir(&self) -> bool {
        let text = &*self.destination;
        text.ends_with('/') || matches!(text, "." | "..") || text.ends_with("/.") || text.ends_with("/..")
    }
}

impl Step<'_> {
    /// `COPY` and `ADD`.
    pub(super) async fn copy(
        &self,
        state: &State,
        picked: &[Picked],
        copying: &Copying,
    ) -> Result<Option<Layer>> {
        let destination = state.absolute(&copying.destination);
        let named_dir = copying.names_dir();
        if picked.len() + copying.documents.len() > 1 && !named_dir {
            return Err(Error::new(ErrorKind::InvalidArgument, "copy files")
                .with("destination", &copying.destination)
                .with_message("with more than one source, the destination is a directory and ends with /"));
        }
        let chmod = copying.chmod.as_deref().map(FileMode::parse).transpose()?;
        let exclude = excluding(&copying.exclude)?;
        let mut key = Hasher::new("copy-3");
        // What a name means is in the layers below.
        let named = copying.chown.as_deref().is_some_and(|chown| numbers(chown).is_none());
        if !copying.link || named {
            key.text(&state.chain().to_string());
        }
        key.time(state.time);
        key.path(&destination);
        key.texts([named_dir, copying.link, copying.parents].map(|flag| flag.to_string()));
        key.texts([&copying.chown, &copying.chmod].map(|text| text.clone().unwrap_or_default()));
        key.text("documents");
        for document in &copying.documents {
            key.texts([&document.name, &document.content]);
        }
        // What a key has of layers is their digest: they are looked at only if there is something to be made.
        let mut found = Vec::with_capacity(picked.len());
        for one in picked {
            key.text(&one.unpack.to_string());
            let sources = match &one.tree.kind {
                TreeKind::Layers(digest) => {
                    key.texts([&digest.to_string(), &one.pattern]);
                    key.texts(&copying.exclude);
                    None
                }
                TreeKind::Context => {
                    let sources = one.tree.sources(&one.pattern, exclude.as_ref(), &matches_name).await?;
                    sources.iter().for_each(|source| source.describe(&mut key));
                    Some(sources)
                }
            };
            found.push(sources);
        }
        let make = async {
            let mut groups = Vec::with_capacity(found.len());
            for (one, sources) in picked.iter().zip(found) {
                let sources = match sources {
                    Some(sources) => sources,
                    None => one.tree.sources(&one.pattern, exclude.as_ref(), &matches_name).await?,
                };
                split_archives(&one.tree, sources, one.unpack, &mut groups).await?;
            }
            let owner = match &copying.chown {
                Some(chown) => Some(self.owner(state, chown).await?),
                None => None,
            };
            let count: usize = groups.iter().map(|group| group.sources.len()).sum();
            let into_dir = named_dir || count + copying.documents.len() > 1;
            let (parents, chmod) = (copying.parents, chmod.as_ref());
            let placing = Placing { destination, into_dir, parents, owner, chmod, time: state.time };
            let first = groups.first().map_or(&self.build.context, |group| group.tree);
            let together =
                groups.iter().all(|group| !group.unpack && Arc::ptr_eq(group.tree.files(), first.files()));
            if !together {
                return Box::pin(self.gather(state, groups, &placing, copying)).await;
            }
            let below = if copying.link { None } else { self.below(state).await? };
            let mut plan = Plan::default();
            let tree = first.clone();
            for group in groups {
                plan.add(&below, group.tree, group.sources, &placing).await?;
            }
            add_documents(&mut plan, &below, copying, &placing).await?;
            self.write(&**tree.files(), plan.into_files()).await
        };
        self.layer(&key.finish(), Box::pin(make)).await
    }

    /// Puts everything into a root file system, one after the other, and makes a layer of what changed.
    async fn gather(
        &self,
        state: &State,
        groups: Vec<Found<'_>>,
        placing: &Placing<'_>,
        copying: &Copying,
    ) -> Result<Option<Layer>> {
        let base = if copying.link {
            State::scratch(state.platform.clone(), Some(state.time))
        } else {
            state.clone()
        };
        let root = self.build.engine.step_root(&base, &self.text).await?;
        let below: Below = Some(root.files());
        let gathered = async {
            for group in groups {
                let mut plan = Plan::default();
                if !group.unpack {
                    plan.add(&below, group.tree, group.sources, placing).await?;
                    root.put(&**group.tree.files(), plan.into_files()).await?;
                    continue;
                }
                let at = super::copy::resolve(&below, &placing.destination).await?;
                plan.make_dirs(&below, &at, placing.owner, placing.time).await?;
                root.put(&**group.tree.files(), plan.into_files()).await?;
                let max_bytes = self.build.engine.inner.max_bytes;
                let options = UnpackFiles::default().with_owner(placing.owner).with_max_bytes(max_bytes);
                for source in &group.sources {
                    let content = unpack::content(&**group.tree.files(), &source.path).await?;
                    root.files()
                        .unpack(&at, content, &options)
                        .await
                        .map_err(|error| error.with("archive", source.name.display()))?;
                }
            }
            let mut plan = Plan::default();
            add_documents(&mut plan, &below, copying, placing).await?;
            root.put(&**self.build.context.files(), plan.into_files()).await
        };
        let outcome = gathered.await;
        root.finish(outcome, state.time).await
    }

    /// A layer of what `source` is in a tree, at its own path: only what is there for `COPY` is there for a mount.
    pub(super) async fn tree_layer(&self, tree: &Tree, source: &Path) -> Result<Mounted> {
        let scratch = State::scratch(Platform::host(), Some(SystemTime::UNIX_EPOCH));
        let copying =
            Copying { destination: "/".to_owned(), link: true, parents: true, ..Copying::default() };
        let picked =
            Picked { tree: tree.clone(), pattern: escaped(&source.to_string_lossy()), unpack: false };
        let quiet = Step {
            build: self.build,
            id: self.id,
            text: format!("mount {}", source.display()),
            use_cache: true,
            quiet: true,
        };
        let layer = Box::pin(quiet.copy(&scratch, &[picked], &copying)).await?;
        let layer = layer.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "mount for command")
                .with("source", source.display())
                .with_message("there are no files")
        })?;
        self.build.engine.keep_layer(layer).await
    }

    /// What `--chown` means: numbers, or names in the image.
    pub(super) async fn owner(&self, state: &State, chown: &str) -> Result<(u32, u32)> {
        if let Some(owner) = numbers(chown) {
            return Ok(owner);
        }
        match self.below(state).await? {
            Some(files) => files.owner(chown).await,
            None => Err(Error::new(ErrorKind::InvalidArgument, "find user")
                .with("chown", chown)
                .with_message("an image without files has no users")
                .with_hint("give numbers")),
        }
    }
}

impl LocalEngine {
    /// Writes an image that keeps a layer, so that it can be mounted.
    pub(super) async fn keep_layer(&self, layer: Layer) -> Result<Mounted> {
        let mut state = State::scratch(Platform::host(), Some(SystemTime::UNIX_EPOCH));
        let (blob, diff_id) = layer.clone();
        state.add_layer(Some(layer), String::new());
        let manifest =
            self.put_image(&state.image_config(&BTreeMap::new()), &[&blob], &BTreeMap::new()).await?;
        Ok(Mounted { manifest: manifest.digest, layers: vec![diff_id], digest: state.chain() })
    }
}

/// Sorts the archives out of what was found, in the order in which things were named.
async fn split_archives<'a>(
    tree: &'a Tree,
    sources: Vec<Source>,
    unpack: bool,
    groups: &mut Vec<Found<'a>>,
) -> Result<()> {
    for source in sources {
        let is_archive = unpack
            && source.is_file()
            && unpack::is_archive(&**tree.files(), &source.path)
                .await
                .map_err(|error| error.with("source", source.name.display()))?;
        match groups.last_mut() {
            Some(last) if last.unpack == is_archive && Arc::ptr_eq(last.tree.files(), tree.files()) => {
                last.sources.push(source);
            }
            _ => groups.push(Found { tree, sources: vec![source], unpack: is_archive }),
        }
    }
    Ok(())
}

async fn add_documents(
    plan: &mut Plan,
    below: &Below,
    copying: &Copying,
    placing: &Placing<'_>,
) -> Result<()> {
    for document in &copying.documents {
        let content = Bytes::from(document.document().into_owned());
        plan.add_document(below, &document.name, content, placing).await?;
    }
    Ok(())
}

/// What `--chown` means if it has no names.
fn numbers(chown: &str) -> Option<(u32, u32)> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok());
    match chown.split_once(':') {
        Some((user, group)) => Some((number(user)?, number(group)?)),
        // A number without a group is both.
        None => number(chown).map(|id| (id, id)),
    }
}

/// A pattern that names a file and nothing else.
pub(super) fn escaped(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
