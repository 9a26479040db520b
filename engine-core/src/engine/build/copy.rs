//! Files into a layer: where `COPY`, `ADD` and `WORKDIR` put what, and the layer's archive.
//!
//! A layer is written as an archive straight into the store. It has what was copied, and the directories above that were not
//! there. Where things go is decided on what the layers below show; nothing there is written to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::digest::{Digest, DigestAlgorithm, DigestHasher};
use crate::dockerfile::FileMode;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, FileEntry, ListFiles, Listed, PackedFile, PackedSource, PathStat};

use super::tree::{Source, Tree, TreeKind};

/// Most links that are followed on the way to a destination.
const MAX_LINKS: usize = 40;

/// How files are copied.
#[derive(Debug)]
pub(super) struct Placing<'a> {
    /// The absolute path they go to.
    pub(super) destination: PathBuf,
    /// Whether that is meant to be a directory.
    pub(super) into_dir: bool,
    /// Whether sources keep the directories of their paths.
    pub(super) parents: bool,
    /// Their owner and group, instead of their own or root.
    pub(super) owner: Option<(u32, u32)>,
    /// Their mode, instead of their own.
    pub(super) chmod: Option<&'a FileMode>,
    /// The time of directories that are made on the way.
    pub(super) time: SystemTime,
}

/// A layer on its way: what is in it, by the path in the image.
#[derive(Debug, Default)]
pub(super) struct Plan {
    files: BTreeMap<PathBuf, (PackedFile, Option<FileEntry>)>,
    /// What directories below have, and whether that is a directory: each is asked for it once.
    there: HashMap<PathBuf, HashMap<OsString, bool>>,
}

/// The file system below a layer; `None` where there is none.
pub(super) type Below = Option<Arc<dyn ContainerFiles>>;

impl Plan {
    /// Returns the files in the archive's order: a directory before what is in it.
    pub(super) fn into_files(self) -> Vec<PackedFile> {
        self.files.into_values().map(|(file, _)| file).collect()
    }

    /// Adds what `sources` of `tree` are where `placing` says.
    pub(super) async fn add(
        &mut self,
        below: &Below,
        tree: &Tree,
        sources: Vec<Source>,
        placing: &Placing<'_>,
    ) -> Result<()> {
        let destination = resolve(below, &placing.destination).await?;
        let there = stat(below, &destination).await?;
        let is_dir = there.as_ref().is_some_and(PathStat::is_dir);
        if placing.into_dir && there.is_some() && !is_dir {
            return Err(wrong(&placing.destination, "it is not a directory"));
        }
        let into_dir = placing.into_dir || is_dir;
        for source in sources {
            let target = if placing.parents {
                // Directories of the source's path may be links where it goes.
                let parent = destination.join(source.kept.parent().unwrap_or(Path::new("")));
                match source.kept.file_name() {
                    Some(name) => resolve(below, &parent).await?.join(name),
                    None => destination.clone(),
                }
            } else if source.is_dir() || !into_dir {
                destination.clone()
            } else {
                destination.join(file_name(&source))
            };
            if source.is_dir() && !is_dir && there.is_some() && target == destination {
                return Err(wrong(&placing.destination, "a directory cannot be copied over what is none"));
            }
            self.make_dirs(below, target.parent().unwrap_or(Path::new("/")), placing.owner, placing.time)
                .await?;
            self.place(below, tree, source, &target, placing).await?;
        }
        Ok(())
    }

    /// Adds a file of this content.
    pub(super) async fn add_document(
        &mut self,
        below: &Below,
        name: &str,
        content: Bytes,
        placing: &Placing<'_>,
    ) -> Result<()> {
        if Path::new(name).file_name().is_none_or(|last| last != name) {
            return Err(Error::new(ErrorKind::InvalidArgument, "copy files")
                .with("heredoc", name)
                .with_message("it is no name of a file"));
        }
        let destination = resolve(below, &placing.destination).await?;
        let is_dir = stat(below, &destination).await?.is_some_and(|stat| stat.is_dir());
        let target = if placing.into_dir || is_dir { destination.join(name) } else { destination };
        self.make_dirs(below, target.parent().unwrap_or(Path::new("/")), placing.owner, placing.time).await?;
        let mode = placing.chmod.map_or(0o644, |chmod| chmod.apply(0o644, false));
        let mut file = PackedFile::new(PackedSource::Content(content), relative(&target), mode);
        (file.owner, file.modified) = (placing.owner.unwrap_or((0, 0)), placing.time);
        self.files.insert(target, (file, None));
        Ok(())
    }

    /// Adds the directories of `path` that are not there. Returns whether there were any.
    pub(super) async fn make_dirs(
        &mut self,
        below: &Below,
        path: &Path,
        owner: Option<(u32, u32)>,
        time: SystemTime,
    ) -> Result<bool> {
        let mut made = false;
        let ancestors: Vec<&Path> = path.ancestors().filter(|path| path.parent().is_some()).collect();
        for dir in ancestors.into_iter().rev() {
            if self.files.contains_key(dir) {
                continue;
            }
            match self.is_dir_below(below, dir).await? {
                Some(true) => {}
                Some(false) => return Err(wrong(dir, "it is not a directory")),
                None => {
                    let mut file = PackedFile::new(PackedSource::Directory, relative(dir), 0o755);
                    (file.owner, file.modified) = (owner.unwrap_or((0, 0)), time);
                    self.files.insert(dir.to_owned(), (file, None));
                    made = true;
                }
            }
        }
        Ok(made)
    }

    /// Whether an absolute path, in which no directory is a link, is a directory below; `None` if nothing is there.
    async fn is_dir_below(&mut self, below: &Below, path: &Path) -> Result<Option<bool>> {
        let Some(files) = below else { return Ok(None) };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Some(true)) };
        if !self.there.contains_key(parent) {
            let list = match files.list(parent, &ListFiles::default().shallow()).await {
                Ok(list) => list.entries,
                // It is made, or it is no directory.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidArgument) => {
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            let names = list.into_iter().filter(|entry| !entry.path.as_os_str().is_empty());
            let names = names.map(|entry| (entry.path.as_os_str().to_owned(), entry.is_dir())).collect();
            self.there.insert(parent.to_owned(), names);
        }
        Ok(self.there.get(parent).and_then(|names| names.get(name)).copied())
    }

    async fn place(
        &mut self,
        below: &Below,
        tree: &Tree,
        source: Source,
        target: &Path,
        placing: &Placing<'_>,
    ) -> Result<()> {
        let there = self.known(below, &source, target).await?;
        let context = tree.kind == TreeKind::Context;
        for (index, entry) in source.entries.into_iter().enumerate() {
            let at =
                if entry.path.as_os_str().is_empty() { target.to_owned() } else { target.join(&entry.path) };
            match there.get(&at) {
                // The directory that files go into stays as it is.
                Some(true) if index == 0 && entry.is_dir() => continue,
                Some(true) if !entry.is_dir() => {
                    return Err(wrong(&at, "a file cannot be copied over a directory"));
                }
                Some(false) if entry.is_dir() => {
                    return Err(wrong(&at, "a directory cannot be copied over what is none"));
                }
                _ => {}
            }
            let from = if entry.path.as_os_str().is_empty() {
                source.path.clone()
            } else {
                source.path.join(&entry.path)
            };
            let mode = entry.mode & 0o7777;
            let is_link = entry.mode & 0o170_000 == 0o120_000;
            let mode =
                placing.chmod.filter(|_| !is_link).map_or(mode, |chmod| chmod.apply(mode, entry.is_dir()));
            // No layer has to say anything of the root: its time may be that of its directory on this machine.
            let no_time = entry.is_dir() && (context || from.parent().is_none());
            let mut file = PackedFile::new(PackedSource::Tree(from), relative(&at), mode);
            file.owner = placing.owner.unwrap_or(if context { (0, 0) } else { (entry.uid, entry.gid) });
            // A directory's time tells when something was made or removed in it, on that machine.
            file.modified = if no_time { placing.time } else { entry.modified };
            file.plain = context;
            file.digest.clone_from(&entry.digest);
            if at.parent().is_some() {
                self.files.insert(at, (file, Some(entry)));
            }
        }
        Ok(())
    }

    /// Which of the targets are there already, and whether they are directories.
    async fn known(
        &mut self,
        below: &Below,
        source: &Source,
        target: &Path,
    ) -> Result<BTreeMap<PathBuf, bool>> {
        let mut known: BTreeMap<PathBuf, bool> = self
            .files
            .range(target.to_owned()..)
            .take_while(|(path, _)| path.starts_with(target))
            .map(|(path, (file, entry))| {
                (
                    path.clone(),
                    entry.as_ref().map_or(file.source == PackedSource::Directory, FileEntry::is_dir),
                )
            })
            .collect();
        let Some(files) = below else {
            if target.parent().is_none() {
                known.insert(target.to_owned(), true);
            }
            return Ok(known);
        };
        let wanted: BTreeSet<PathBuf> = source.entries.iter().map(|entry| entry.path.clone()).collect();
        let options = ListFiles::default().with_filter(Arc::new(move |path: &[u8], _| {
            use std::os::unix::ffi::OsStrExt as _;
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            if wanted.contains(path) { Listed::Yes } else { Listed::No }
        }));
        // What is a link is listed where it leads, and counts as what it is itself.
        match self.is_dir_below(below, target).await? {
            None => return Ok(known),
            Some(false) => {
                known.entry(target.to_owned()).or_insert(false);
                return Ok(known);
            }
            Some(true) => {}
        }
        for entry in files.list(target, &options).await?.entries {
            let at =
                if entry.path.as_os_str().is_empty() { target.to_owned() } else { target.join(&entry.path) };
            known.entry(at).or_insert(entry.is_dir());
        }
        Ok(known)
    }
}

/// Hashes the parts of a cache key, each with its length.
#[derive(Debug)]
pub(super) struct Hasher(DigestHasher);

impl Hasher {
    pub(super) fn new(kind: &str) -> Self {
        let mut hasher = Self(DigestHasher::new(DigestAlgorithm::Sha256));
        hasher.text(kind);
        hasher
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn texts<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T>) {
        let texts: Vec<T> = texts.into_iter().collect();
        self.number(texts.len() as u64);
        texts.iter().for_each(|text| self.text(text.as_ref()));
    }

    pub(super) fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_encoded_bytes());
    }

    /// A time, in the whole seconds that archives have.
    pub(super) fn time(&mut self, time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        self.number(since.map_or(0, |since| since.as_secs()));
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish()
    }
}

fn file_name(source: &Source) -> &Path {
    // A link's own name, also where its target has another one.
    source.name.file_name().map_or(source.path.as_path(), Path::new)
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn wrong(path: &Path, why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "copy files").with("destination", path.display()).with_message(why)
}

/// What is at an absolute path below; a link itself.
pub(super) async fn stat(below: &Below, path: &Path) -> Result<Option<PathStat>> {
    let Some(files) = below else { return Ok(None) };
    match files.stat(path).await {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Follows the links of `path` as far as it is there.
pub(super) async fn resolve(below: &Below, path: &Path) -> Result<PathBuf> {
    if below.is_none() {
        return Ok(path.to_owned());
    }
    // Mostly it is there and has no links.
    let mut done = PathBuf::from("/");
    let mut links = 0;
    let mut rest: Vec<_> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    while let Some(name) = rest.pop() {
        if name == "/" {
            continue;
        }
        let next = done.join(&name);
        match stat(below, &next).await? {
            None => {
                // Nothing is below what is not there.
                done = next;
                done.extend(rest.drain(..).rev());
            }
            Some(found) if found.is_symlink() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(wrong(path, "too many symbolic links"));
                }
                done = PathBuf::from(found.link_target);
            }
            Some(found) if !found.is_dir() && !rest.is_empty() => {
                return Err(wrong(&next, "it is not a directory"));
            }
            Some(_) => done = next,
        }
    }
    Ok(done)
}
