//! File systems in memory: what was copied into a container can be copied out again.
//!
//! Archives are plain ustar with directories, regular files and symbolic links; images are not seen.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::decode::{Decoder, MAX_WINDOW};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{
    ContainerFiles, FileEntry, FileList, ListFiles, Listed, PackedFile, PackedSource, PathStat, UnpackFiles,
};
use crate::id::ContainerId;
use crate::io::ByteStream;
use crate::limit::too_large;
use crate::memory::archive::{Item, Kind};
use crate::memory::registry::pieces;
use crate::memory::{Faults, archive, lock};

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const MAX_LINKS: u32 = 40;

/// What is in a file system, by absolute path; the root itself is always there.
pub(super) type Tree = BTreeMap<PathBuf, Item>;

/// [`ContainerFiles`] of a [`MemoryRuntime`](super::MemoryRuntime).
#[derive(Clone)]
pub(super) struct MemoryFiles {
    pub(super) id: ContainerId,
    pub(super) trees: Arc<Mutex<BTreeMap<ContainerId, Tree>>>,
    pub(super) read_only: bool,
    pub(super) faults: Faults,
}

impl fmt::Debug for MemoryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFiles").field("id", &self.id).finish_non_exhaustive()
    }
}

fn fail(kind: ErrorKind, path: &Path, why: &'static str) -> Error {
    Error::new(kind, "work on container's files").with("path", path.display()).with_message(why)
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

/// Whether a path means what its last component leads to.
fn follows(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.ends_with('/') || text.ends_with("/.") || matches!(&*text, "." | "..") || text.ends_with("/..")
}

/// The real path: links resolved, the last one only if `follow`.
fn resolve(tree: &Tree, path: &Path, follow: bool) -> Result<PathBuf> {
    let mut todo: Vec<OsString> = Vec::new();
    let push = |todo: &mut Vec<OsString>, path: &Path| {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => todo.push(name.to_owned()),
                Component::ParentDir => todo.push("..".into()),
                _ => {}
            }
        }
    };
    push(&mut todo, path);
    let (mut done, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = todo.pop() {
        if name == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&name);
        match tree.get(&next).map(|item| &item.kind) {
            Some(Kind::Link(target)) if follow || !todo.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(fail(ErrorKind::InvalidArgument, path, "too many symbolic links"));
                }
                if Path::new(target).is_absolute() {
                    done = PathBuf::from("/");
                }
                push(&mut todo, Path::new(target));
            }
            Some(Kind::File(_) | Kind::Link(_)) if !todo.is_empty() => {
                return Err(fail(ErrorKind::InvalidArgument, path, "a component is not a directory"));
            }
            _ => done = next,
        }
    }
    Ok(done)
}

fn find(tree: &Tree, path: &Path) -> Result<(PathBuf, PathStat)> {
    let real = resolve(tree, path, follows(path))?;
    let name = path.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned());
    if is_root(&real) {
        return Ok((real, PathStat::new(name, S_IFDIR | 0o755, 0, SystemTime::UNIX_EPOCH)));
    }
    let item = tree.get(&real).ok_or_else(|| fail(ErrorKind::NotFound, path, "nothing is there"))?;
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(item.modified);
    let stat = match &item.kind {
        Kind::Directory => PathStat::new(name, S_IFDIR | item.mode, 0, modified),
        Kind::File(_) if follows(path) => {
            return Err(fail(ErrorKind::InvalidArgument, path, "it is not a directory"));
        }
        Kind::File(bytes) => PathStat::new(name, S_IFREG | item.mode, bytes.len() as u64, modified),
        Kind::Link(target) => PathStat::new(name, S_IFLNK | 0o777, target.len() as u64, modified)
            .with_link_target(resolve(tree, path, true)?.to_string_lossy()),
    };
    Ok((real, stat))
}

#[async_trait]
impl ContainerFiles for MemoryFiles {
    async fn stat(&self, path: &Path) -> Result<PathStat> {
        self.faults.check("files.stat", &self.id).await?;
        Ok(find(lock(&self.trees).entry(self.id.clone()).or_default(), path)?.1)
    }

    async fn pack(&self, path: &Path) -> Result<(PathStat, ByteStream)> {
        self.faults.check("files.pack", &self.id).await?;
        let mut trees = lock(&self.trees);
        let tree = trees.entry(self.id.clone()).or_default();
        let (real, stat) = find(tree, path)?;
        let text = path.to_string_lossy();
        let content = text.ends_with("/.") || is_root(path) || text == ".";
        let top = if content { PathBuf::from(".") } else { PathBuf::from(&stat.name) };
        let root = Item { kind: Kind::Directory, mode: 0o755, modified: 0 };
        let first = tree.get(&real).unwrap_or(&root);
        let below = tree.iter().filter(|(known, _)| known.starts_with(&real) && **known != real);
        let below = below.filter_map(|(known, item)| Some((top.join(known.strip_prefix(&real).ok()?), item)));
        let mut archive = Vec::new();
        for (name, item) in [(top.clone(), first)].into_iter().chain(below) {
            archive::write(&mut archive, &name.to_string_lossy(), item);
        }
        archive.resize(archive.len() + 1024, 0);
        Ok((stat, pieces(archive.into())))
    }

    async fn unpack(&self, path: &Path, archive: ByteStream, options: &UnpackFiles) -> Result<()> {
        self.faults.check("files.unpack", &self.id).await?;
        let limit = options.max_bytes.unwrap_or(u64::MAX);
        let too_large = || too_large("copy to container", limit);
        let bytes = archive
            .try_fold(Vec::new(), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                if all.len() as u64 > limit { Err(too_large()) } else { Ok(all) }
            })
            .await?;
        let malformed = |why: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Corrupt, "copy to container")
                .with_message("the archive is malformed")
                .with_source(why)
        };
        let mut plain = Vec::new();
        let decoded = Decoder::new(&bytes[..], MAX_WINDOW)
            .and_then(|packed| packed.take(limit.saturating_add(1)).read_to_end(&mut plain));
        decoded.map_err(|error| malformed(error.into()))?;
        if plain.len() as u64 > limit {
            return Err(too_large());
        }
        let items = archive::read(&Bytes::from(plain)).map_err(|why| malformed(why.into()))?;
        let mut trees = lock(&self.trees);
        let tree = trees.entry(self.id.clone()).or_default();
        let dir = resolve(tree, path, true)?;
        match tree.get(&dir).map(|item| &item.kind) {
            Some(Kind::Directory) => {}
            None if is_root(&dir) => {}
            None => return Err(fail(ErrorKind::NotFound, path, "nothing is there")),
            Some(_) => return Err(fail(ErrorKind::InvalidArgument, path, "it is not a directory")),
        }
        if self.read_only {
            return Err(fail(ErrorKind::PermissionDenied, path, "it is mounted read-only"));
        }
        for (name, item) in items {
            let mut name: PathBuf = Path::new(&name)
                .components()
                .filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir))
                .collect();
            if name.components().any(|component| component == Component::ParentDir) {
                return Err(fail(ErrorKind::Corrupt, &name, "a name may not hold \"..\""));
            }
            if let Some((from, to)) = &options.rename {
                if from == Path::new(".") {
                    name = to.join(&name);
                } else if let Ok(rest) = name.strip_prefix(from) {
                    name = to.join(rest);
                }
            }
            if name.as_os_str().is_empty() {
                continue;
            }
            place(tree, &dir.join(&name), item, options)?;
        }
        Ok(())
    }

    async fn list(&self, path: &Path, options: &ListFiles) -> Result<FileList> {
        self.faults.check("files.list", &self.id).await?;
        let mut trees = lock(&self.trees);
        let tree = trees.entry(self.id.clone()).or_default();
        let real = resolve(tree, path, true)?;
        let mut entries = Vec::new();
        match tree.get(&real) {
            Some(item) => entries.push(described(Path::new(""), item, options)),
            None if is_root(&real) => entries.push(FileEntry::new("", S_IFDIR | 0o755)),
            None => return Err(fail(ErrorKind::NotFound, path, "nothing is there")),
        }
        let mut skipped: Option<PathBuf> = None;
        // By components, as the map has them: a directory comes before what is in it.
        for (known, item) in tree.range(real.clone()..) {
            let Ok(below) = known.strip_prefix(&real) else { break };
            let hidden = skipped.as_ref().is_some_and(|dir| below.starts_with(dir));
            if below.as_os_str().is_empty() || hidden || options.shallow && below.components().count() > 1 {
                continue;
            }
            let is_dir = matches!(item.kind, Kind::Directory);
            let filter = options.filter.as_ref();
            match filter.map_or(Listed::Yes, |filter| filter(below.as_os_str().as_encoded_bytes(), is_dir)) {
                Listed::Yes => entries.push(described(below, item, options)),
                Listed::OnlyBelow => {}
                Listed::No => skipped = Some(below.to_owned()),
            }
        }
        Ok(FileList::new(real, entries))
    }

    async fn owner(&self, user: &str) -> Result<(u32, u32)> {
        let (user, group) = user.split_once(':').unwrap_or((user, "0"));
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| {
                Error::new(ErrorKind::InvalidArgument, "find user")
                    .with("user", text)
                    .with_message("files in memory know numbers alone")
            })
        };
        Ok((number(user)?, number(group)?))
    }

    async fn pack_files(&self, files: Vec<PackedFile>) -> Result<ByteStream> {
        self.faults.check("files.pack_files", &self.id).await?;
        let mut trees = lock(&self.trees);
        let tree = trees.entry(self.id.clone()).or_default();
        let mut archive = Vec::new();
        for file in files {
            let kind = match &file.source {
                PackedSource::Directory => Kind::Directory,
                PackedSource::Content(content) => Kind::File(content.clone()),
                PackedSource::Tree(source) => {
                    let real = Path::new("/").join(source);
                    let gone = || fail(ErrorKind::NotFound, &real, "nothing is there");
                    tree.get(&real).ok_or_else(gone)?.kind.clone()
                }
            };
            let since = file.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let item = Item { kind, mode: file.mode & 0o7777, modified: since.as_secs() };
            archive::write(&mut archive, &file.name.to_string_lossy(), &item);
        }
        archive.resize(archive.len() + 1024, 0);
        Ok(pieces(archive.into()))
    }
}

fn described(path: &Path, item: &Item, options: &ListFiles) -> FileEntry {
    let kind = match item.kind {
        Kind::Directory => S_IFDIR,
        Kind::File(_) => S_IFREG,
        Kind::Link(_) => S_IFLNK,
    };
    let mut entry = FileEntry::new(path, kind | item.mode);
    entry.modified = SystemTime::UNIX_EPOCH + Duration::from_secs(item.modified);
    match &item.kind {
        Kind::Directory => {}
        Kind::File(bytes) => {
            entry.size = bytes.len() as u64;
            entry.digest = options.digests.then(|| Digest::sha256(bytes));
        }
        Kind::Link(target) => entry.link = PathBuf::from(target),
    }
    entry
}

fn place(tree: &mut Tree, path: &Path, item: Item, options: &UnpackFiles) -> Result<()> {
    let parent = resolve(tree, path.parent().unwrap_or(Path::new("/")), true)?;
    let ancestors: Vec<PathBuf> = parent.ancestors().filter(|p| !is_root(p)).map(Path::to_owned).collect();
    for ancestor in ancestors {
        tree.entry(ancestor).or_insert(Item { kind: Kind::Directory, mode: 0o755, modified: 0 });
    }
    let real = parent.join(path.file_name().unwrap_or_default());
    let directory = matches!(item.kind, Kind::Directory);
    if let Some(there) = tree.get(&real) {
        let was = matches!(there.kind, Kind::Directory);
        if was != directory {
            if options.keep_kinds {
                return Err(fail(ErrorKind::Conflict, path, "something of another kind is there"));
            }
            tree.retain(|known, _| !known.starts_with(&real));
        }
    }
    tree.insert(real, item);
    Ok(())
}
