//! Trees that files are copied from: the context, a stage, an image.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::digest::Digest;
use crate::engine::LocalEngine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, FileEntry, FileFilter, FileList, KnownDigests, ListFiles, Listed};

use super::cache::Entry;
use super::copy::Hasher;
use super::empty::NoFiles;
use super::stage::chain;

/// Decides by a path in the tree whether something is left out.
pub(super) type Ignored = Arc<dyn Fn(&Path, bool) -> Listed + Send + Sync>;

/// Where `COPY`, `ADD` and `RUN --mount=type=bind` find files.
#[derive(Clone)]
pub(super) struct Tree {
    files: Arc<dyn ContainerFiles>,
    pub(super) kind: TreeKind,
    /// The layers it shows, if it does, and an image that keeps them.
    pub(super) layers: Option<(Digest, Vec<Digest>)>,
    /// What an ignore file leaves out.
    ignored: Option<Ignored>,
    /// What is known of the files' digests.
    known: Option<Arc<dyn KnownDigests>>,
}

/// What a tree is, which decides whose its files are and what a cache key has of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum TreeKind {
    /// Files of somebody's directory: their content counts, and they belong to root.
    Context,
    /// Layers: their digest says what is in them, and files keep their owners.
    Layers(Digest),
}

/// What a source names.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The source as it was written, without what it does not need: relative, and without a slash at the end.
    pub(super) name: PathBuf,
    /// What of that `--parents` keeps: what follows `/./`, or all of it.
    pub(super) kept: PathBuf,
    /// Where it really is.
    pub(super) path: PathBuf,
    /// It, and all that is beneath.
    pub(super) entries: Vec<FileEntry>,
}

impl Source {
    /// Puts what it is into a cache key, but times.
    pub(super) fn describe(&self, key: &mut Hasher) {
        key.path(&self.name);
        key.path(&self.kept);
        key.number(self.entries.len() as u64);
        for entry in &self.entries {
            key.path(&entry.path);
            key.number(u64::from(entry.mode));
            key.number(entry.size);
            key.path(&entry.link);
            key.text(&entry.digest.as_ref().map(ToString::to_string).unwrap_or_default());
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.entries.first().is_some_and(FileEntry::is_dir)
    }

    pub(super) fn is_file(&self) -> bool {
        self.entries.first().is_some_and(FileEntry::is_file)
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Tree {
    pub(super) fn new(
        files: impl Into<Arc<dyn ContainerFiles>>,
        kind: TreeKind,
        ignored: Option<Ignored>,
    ) -> Self {
        Self { files: files.into(), kind, layers: None, ignored, known: None }
    }

    /// The files of layers.
    pub(super) fn of_layers(
        files: Arc<dyn ContainerFiles>,
        digest: Digest,
        layers: (Digest, Vec<Digest>),
    ) -> Self {
        Self { files, kind: TreeKind::Layers(digest), layers: Some(layers), ignored: None, known: None }
    }

    /// The files of a layer that the cache keeps.
    pub(super) async fn of_entry(engine: &LocalEngine, entry: &Entry) -> Result<Self> {
        let diff_ids: Vec<Digest> = entry.layer.iter().map(|(_, diff_id)| diff_id.clone()).collect();
        if diff_ids.is_empty() {
            return Ok(Self::new(Arc::new(NoFiles) as Arc<dyn ContainerFiles>, TreeKind::Context, None));
        }
        let view = engine.view(&entry.manifest, &diff_ids).await?;
        Ok(Self::of_layers(view, chain(&diff_ids), (entry.manifest.clone(), diff_ids)))
    }

    /// Looks up digests of files, and keeps those that are computed.
    pub(super) fn with_known(mut self, known: Arc<dyn KnownDigests>) -> Self {
        self.known = Some(known);
        self
    }

    /// The same files, as those of somebody's directory.
    pub(super) fn into_context(self, ignored: Option<Ignored>) -> Self {
        Self { kind: TreeKind::Context, layers: None, ignored, ..self }
    }

    pub(super) fn files(&self) -> &Arc<dyn ContainerFiles> {
        &self.files
    }

    /// Finds what `pattern` names, wildcards and all, in order. `matches` decides whether a name fits a pattern's component.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such file, or nothing fits the pattern.
    pub(super) async fn sources(
        &self,
        pattern: &str,
        exclude: Option<&Ignored>,
        matches: &(dyn Fn(&str, &str) -> bool + Send + Sync),
    ) -> Result<Vec<Source>> {
        let clean = inside(pattern)?;
        let pivot =
            pattern.split_once("/./").map_or(Ok(0), |(before, _)| inside(before).map(|path| path.len()))?;
        let mut found = vec![PathBuf::new()];
        let wild = has_wildcards(pattern);
        for component in &clean {
            let component = component.to_str().unwrap_or_default();
            if !has_wildcards(component) {
                found.iter_mut().for_each(|path| path.push(component));
                continue;
            }
            let mut next = Vec::new();
            for dir in found {
                next.extend(
                    self.names(&dir)
                        .await?
                        .into_iter()
                        .filter(|name| matches(component, name))
                        .map(|name| dir.join(name)),
                );
            }
            found = next;
        }
        let missing = || {
            let what = if wild { "nothing fits it" } else { "there is no such file" };
            let hidden = if self.ignored.is_some() { ", or .dockerignore leaves it out" } else { "" };
            Error::new(ErrorKind::NotFound, "copy files")
                .with("source", pattern)
                .with_message(format!("{what}{hidden}"))
        };
        let mut sources = Vec::with_capacity(found.len());
        for name in found {
            match self.source(&name, pivot, exclude).await {
                Ok(Some(source)) => sources.push(source),
                // Left out, or a wildcard's last components are not there.
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        if sources.is_empty() { Err(missing()) } else { Ok(sources) }
    }

    /// The names in a directory, but those that are left out. What is no directory has none.
    async fn names(&self, dir: &Path) -> Result<Vec<String>> {
        let options = self.options(dir, None).shallow();
        let Some(list) = self.list(dir, &options).await? else { return Ok(Vec::new()) };
        let names = list.entries.iter().filter_map(|entry| entry.path.to_str());
        Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Lists what is at a path of the tree; `None` if there is nothing, or something above is no directory.
    async fn list(&self, path: &Path, options: &ListFiles) -> Result<Option<FileList>> {
        use std::error::Error as _;
        match self.files.list(&Path::new("/").join(path), options).await {
            Ok(list) => Ok(Some(list)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
                let nothing = cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotADirectory);
                if nothing { Ok(None) } else { Err(error) }
            }
        }
    }

    async fn source(&self, name: &Path, pivot: usize, exclude: Option<&Ignored>) -> Result<Option<Source>> {
        let mut options = self.options(name, exclude);
        options.digests = self.kind == TreeKind::Context;
        options.known.clone_from(&self.known);
        let Some(mut list) = self.list(name, &options).await? else { return Ok(None) };
        let real = list.path.strip_prefix("/").unwrap_or(&list.path).to_owned();
        if self.ignored.is_some() && real != name {
            // What an ignore file leaves out is left out by whatever name.
            let mut options = self.options(&real, exclude);
            (options.digests, options.known) = (self.kind == TreeKind::Context, self.known.clone());
            let Some(again) = self.list(&real, &options).await? else { return Ok(None) };
            list = again;
        }
        let top_is_dir = list.entries.first().is_some_and(FileEntry::is_dir);
        if let Some(ignored) = &self.ignored
            && !name.as_os_str().is_empty()
        {
            for path in [name, &*real].into_iter().filter(|path| !path.as_os_str().is_empty()) {
                match ignored(path, top_is_dir) {
                    Listed::Yes => {}
                    // Something beneath comes back.
                    Listed::OnlyBelow if list.entries.len() > 1 => {}
                    _ => return Ok(None),
                }
            }
        }
        let kept = name.components().skip(pivot).collect();
        Ok(Some(Source { name: name.to_owned(), kept, path: list.path, entries: list.entries }))
    }

    /// Has what is beneath `base` listed without what is left out.
    fn options(&self, base: &Path, exclude: Option<&Ignored>) -> ListFiles {
        let (ignored, exclude, base) = (self.ignored.clone(), exclude.cloned(), base.to_owned());
        if ignored.is_none() && exclude.is_none() {
            return ListFiles::default();
        }
        let filter: FileFilter = Arc::new(move |path: &[u8], is_dir| {
            use std::os::unix::ffi::OsStrExt as _;
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            let by_context =
                ignored.as_ref().map_or(Listed::Yes, |ignored| ignored(&base.join(path), is_dir));
            let by_flag = exclude.as_ref().map_or(Listed::Yes, |exclude| exclude(path, is_dir));
            match (by_context, by_flag) {
                (Listed::No, _) | (_, Listed::No) => Listed::No,
                (Listed::OnlyBelow, _) | (_, Listed::OnlyBelow) => Listed::OnlyBelow,
                (Listed::Yes, Listed::Yes) => Listed::Yes,
            }
        });
        ListFiles::default().with_filter(filter)
    }
}

/// Whether a source is a pattern, as Go's filepath.Match has them.
pub(super) fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// The components of a path in a tree.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if it leads out of the tree (SECURITY E1).
pub(super) fn inside(path: &str) -> Result<Vec<PathBuf>> {
    let mut components = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => components.push(PathBuf::from(name)),
            Component::ParentDir if components.pop().is_none() => {
                return Err(Error::new(ErrorKind::InvalidArgument, "copy files")
                    .with("source", path)
                    .with_message("it leads out of the build context")
                    .with_hint("copy it into the context, or give its directory as a context of its own"));
            }
            _ => {}
        }
    }
    Ok(components)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let joined = |path: &str| inside(path).map(|parts| parts.iter().collect::<PathBuf>());
        assert_eq!(joined("/a/./b//c/").unwrap(), Path::new("a/b/c"));
        assert_eq!(joined("a/../b").unwrap(), Path::new("b"));
        assert_eq!(joined(".").unwrap(), Path::new(""));
        for path in ["..", "/..", "a/../../b", "../etc/passwd"] {
            assert_eq!(joined(path).unwrap_err().kind(), ErrorKind::InvalidArgument, "{path}");
        }
    }
}
