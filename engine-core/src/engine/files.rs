//! A container's file system through the facade: look, copy in, copy out, export, compare.

use std::path::Path;
#[cfg(feature = "linux")]
use std::path::PathBuf;

use crate::error::Result;
#[cfg(feature = "linux")]
use crate::error::{Error, ErrorKind};
use crate::events::Action;
use crate::files::{Change, ContainerFiles, FilesSpec, PathStat, UnpackFiles};
use crate::io::ByteStream;
use crate::mount::Mount;

use super::Engine;
use super::container::Container;
use super::events::of_container;
use super::records::Record;

impl Container {
    /// Returns what is at `path` in the container, running or not. A link in the last component is described itself, unless
    /// a slash follows it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nothing is there.
    pub async fn stat_path(&self, path: impl AsRef<Path>) -> Result<PathStat> {
        self.files().await?.stat(path.as_ref()).await
    }

    /// Returns what is at `path` in the container, running or not, as a tar archive. Its first entry has the last component
    /// of the path as its name, and `.` where the path ends in `/.`.
    ///
    /// # Errors
    /// As [`stat_path`](Self::stat_path).
    pub async fn copy_out(&self, path: impl AsRef<Path>) -> Result<(PathStat, ByteStream)> {
        let found = self.files().await?.pack(path.as_ref()).await?;
        self.tell(Action::ArchivePath).await?;
        Ok(found)
    }

    /// Unpacks a tar archive into the directory `path` of the container, running or not. The names in it are resolved in
    /// the container's root, and nothing outside of it is touched, whatever the archive holds and the container does.
    ///
    /// # Errors
    /// As [`ContainerFiles::unpack`].
    pub async fn copy_in(
        &self,
        path: impl AsRef<Path>,
        archive: ByteStream,
        options: &UnpackFiles,
    ) -> Result<()> {
        self.files().await?.unpack(path.as_ref(), archive, options).await?;
        self.tell(Action::ExtractToDir).await
    }

    /// Returns the container's root file system as a tar archive, without what is mounted in it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it was removed. What fails later comes in the stream.
    pub async fn export(&self) -> Result<ByteStream> {
        let record = self.record().await?;
        let spec = FilesSpec::new(self.engine().rootfs(&record).await?, Vec::new()).root_only();
        let files = self.engine().inner.runtime.files(self.id(), &spec);
        let (_, archive) = files.pack(Path::new("/.")).await?;
        self.tell(Action::Export).await?;
        Ok(archive)
    }

    /// Returns what the container changed in its root file system since its image.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it was removed.
    pub async fn changes(&self) -> Result<Vec<Change>> {
        let record = self.record().await?;
        self.engine().rootfs(&record).await?;
        self.engine().inner.images.rootfs_changes(self.id(), None).await
    }

    async fn tell(&self, action: Action) -> Result<()> {
        let event = of_container(action, &self.record().await?);
        self.engine().emit(event).await;
        Ok(())
    }

    /// Opens the container's file system as its processes see it.
    async fn files(&self) -> Result<Box<dyn ContainerFiles>> {
        let record = self.record().await?;
        let engine = self.engine();
        let rootfs = engine.rootfs(&record).await?;
        let mounts = engine.mounts(&record).await?;
        let spec = FilesSpec::new(rootfs, sorted(mounts)).read_only(record.data.spec.read_only_rootfs);
        Ok(engine.inner.runtime.files(self.id(), &spec))
    }
}

/// Parents first, as a start mounts them.
fn sorted(mut mounts: Vec<Mount>) -> Vec<Mount> {
    mounts.sort_by_key(|mount| mount.target.components().count());
    mounts
}

impl Engine {
    /// Prepares a container's root file system, a fork's as well, and returns its mounts.
    pub(super) async fn rootfs(&self, record: &Record) -> Result<Vec<Mount>> {
        self.complete_fork(record).await?;
        let data = &record.data;
        self.inner.images.prepare_rootfs(&record.id, &data.manifest, &data.layers).await
    }
}

/// Options of [`Container::copy_from_host`] and [`Container::copy_to_host`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Keeps owners and what gives rights, set-ID bits and the like. Without it, what is copied in belongs to root, and what
    /// is copied out to this program's user.
    pub archive: bool,
    /// Follows a link in the last component of the source.
    pub follow_link: bool,
}

impl CopyOptions {
    /// Keeps owners and what gives rights.
    #[must_use]
    pub fn with_archive(mut self, archive: bool) -> Self {
        self.archive = archive;
        self
    }

    /// Follows a link in the last component of the source.
    #[must_use]
    pub fn with_follow_link(mut self, follow: bool) -> Self {
        self.follow_link = follow;
        self
    }
}

/// Where a copy goes: the directory it is unpacked in, and what its first component is called there.
#[cfg(feature = "linux")]
#[derive(Debug, Eq, PartialEq)]
struct Placement {
    dir: PathBuf,
    rename: Option<PathBuf>,
}

/// What is at the destination.
#[cfg(feature = "linux")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum There {
    Nothing,
    Directory,
    Else,
}

/// Decides as `docker cp` does (its reference, "Corner cases"): into a directory that is there; under a new name in the
/// directory above otherwise.
#[cfg(feature = "linux")]
fn place(source_is_dir: bool, destination: &Path, there: There) -> Result<Placement> {
    let fail = |kind, why: &str| {
        Err(Error::new(kind, "copy").with("destination", destination.display()).with_message(why.to_owned()))
    };
    if there == There::Directory {
        return Ok(Placement { dir: destination.to_owned(), rename: None });
    }
    let text = destination.to_string_lossy();
    let wants_dir = text.ends_with('/') || text.ends_with("/.");
    match (source_is_dir, there) {
        (true, There::Else) => {
            return fail(ErrorKind::Conflict, "a directory cannot be copied over what is no directory");
        }
        (false, There::Else) if wants_dir => {
            return fail(ErrorKind::InvalidArgument, "it is not a directory");
        }
        (false, There::Nothing) if wants_dir => {
            return fail(ErrorKind::NotFound, "there is no such directory");
        }
        _ => {}
    }
    let Some(name) = destination.file_name() else {
        return fail(ErrorKind::InvalidArgument, "it does not end in a name");
    };
    let dir = destination.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(Placement { dir: dir.to_owned(), rename: Some(name.into()) })
}

#[cfg(feature = "linux")]
impl Container {
    /// Copies a file or a directory of the host into the container, as `docker cp` does. Returns the bytes of the archive
    /// that took it there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the source, or the directory it goes to, is not there; as
    /// [`copy_in`](Self::copy_in).
    pub async fn copy_from_host(
        &self,
        source: impl AsRef<Path>,
        destination: impl AsRef<Path>,
        options: CopyOptions,
    ) -> Result<u64> {
        use crate::linux::files as host;
        let files = self.files().await?;
        let source = host::stat_host(source.as_ref(), options.follow_link).await?;
        let mut destination = Path::new("/").join(destination.as_ref());
        let mut found = stat_or_nothing(&*files, &destination).await?;
        if let Some(stat) = found.as_ref().filter(|stat| stat.is_symlink()) {
            // To where it leads, there or not.
            destination = PathBuf::from(&stat.link_target);
            found = stat_or_nothing(&*files, &destination).await?;
        }
        let there = match &found {
            None => There::Nothing,
            Some(stat) if stat.is_dir() => There::Directory,
            Some(stat) if stat.is_file() => There::Else,
            Some(_) => {
                return Err(Error::new(ErrorKind::InvalidArgument, "copy to container")
                    .with("destination", destination.display())
                    .with_message("it is neither a directory nor a regular file"));
            }
        };
        let placement = place(source.stat.is_dir(), &destination, there)?;
        let name = placement
            .rename
            .as_ref()
            .map_or_else(|| source.name.clone(), |n| n.to_string_lossy().into_owned());
        let owner = (!options.archive).then_some((0, 0));
        let (archive, count) = counted(host::pack_host(&source, &name, owner).await?);
        let unpack = UnpackFiles::default().with_keep_kinds(true);
        files.unpack(&placement.dir, archive, &unpack).await?;
        self.tell(Action::ExtractToDir).await?;
        Ok(count.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Copies a file or a directory of the container to the host, as `docker cp` does. Returns the bytes of the archive that
    /// took it there.
    ///
    /// # Errors
    /// As [`copy_out`](Self::copy_out), and what the host's file system says.
    pub async fn copy_to_host(
        &self,
        source: impl AsRef<Path>,
        destination: impl AsRef<Path>,
        options: CopyOptions,
    ) -> Result<u64> {
        use crate::linux::files as host;
        let files = self.files().await?;
        let asked = Path::new("/").join(source.as_ref());
        // With a link that is followed, its target comes under the link's own name.
        let (path, name) = follow(&*files, &asked, options.follow_link).await?;
        let destination = destination.as_ref();
        let there = match host::stat_host(destination, true).await {
            Ok(tree) if tree.stat.is_dir() => There::Directory,
            Ok(_) => There::Else,
            Err(error) if error.kind() == ErrorKind::NotFound => There::Nothing,
            Err(error) => return Err(error),
        };
        let (stat, stream) = files.pack(&path).await?;
        let placement = place(stat.is_dir(), destination, there)?;
        let text = path.to_string_lossy();
        let first =
            if text.ends_with("/.") || path.parent().is_none() { ".".to_owned() } else { stat.name.clone() };
        let rename = placement.rename.or(name).filter(|name| *name != Path::new(&first));
        let (archive, count) = counted(stream);
        let mut unpack = UnpackFiles::default().with_keep_kinds(true);
        unpack.rename = rename.map(|name| (PathBuf::from(first), name));
        if there == There::Nothing && stat.is_dir() {
            // The archive of a directory's content has no entry that would make it.
            if let Some((from, to)) = &unpack.rename
                && from == Path::new(".")
            {
                let dir = placement.dir.join(to);
                let made = super::blocking(move || {
                    std::fs::create_dir(&dir)
                        .map_err(|e| Error::from_io("copy", e).with("destination", dir.display()))
                });
                made.await?;
            }
        }
        host::unpack_host(&placement.dir, archive, &unpack, options.archive).await?;
        self.tell(Action::ArchivePath).await?;
        Ok(count.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Returns what `docker cp CONTAINER:PATH -` writes: as [`copy_out`](Self::copy_out), a link in the last component
    /// followed if `options` say so.
    ///
    /// # Errors
    /// As [`copy_out`](Self::copy_out).
    pub async fn copy_to_stream(&self, source: impl AsRef<Path>, options: CopyOptions) -> Result<ByteStream> {
        let files = self.files().await?;
        let asked = Path::new("/").join(source.as_ref());
        let (path, _) = follow(&*files, &asked, options.follow_link).await?;
        let (_, archive) = files.pack(&path).await?;
        self.tell(Action::ArchivePath).await?;
        Ok(archive)
    }
}

#[cfg(feature = "linux")]
async fn stat_or_nothing(files: &dyn ContainerFiles, path: &Path) -> Result<Option<PathStat>> {
    match files.stat(path).await {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a source really is, and the name it keeps if that is another one.
#[cfg(feature = "linux")]
async fn follow(
    files: &dyn ContainerFiles,
    path: &Path,
    follow_link: bool,
) -> Result<(PathBuf, Option<PathBuf>)> {
    if !follow_link {
        return Ok((path.to_owned(), None));
    }
    let stat = files.stat(path).await?;
    if !stat.is_symlink() {
        return Ok((path.to_owned(), None));
    }
    Ok((PathBuf::from(&stat.link_target), path.file_name().map(PathBuf::from)))
}

/// Counts the bytes that pass.
#[cfg(feature = "linux")]
fn counted(stream: ByteStream) -> (ByteStream, std::sync::Arc<std::sync::atomic::AtomicU64>) {
    use futures_util::TryStreamExt as _;
    use std::sync::atomic::Ordering;
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&count);
    let stream = stream.inspect_ok(move |chunk| {
        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    });
    (Box::pin(stream), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_go_where_docker_puts_them() {
        let placed = |dir: bool, path: &str, there| {
            place(dir, Path::new(path), there)
                .map(|p| (p.dir.display().to_string(), p.rename.map(|n| n.display().to_string())))
                .map_err(|error| error.kind())
        };
        let into = |dir: &str, name: Option<&str>| Ok((dir.to_owned(), name.map(str::to_owned)));
        for source in [true, false] {
            assert_eq!(placed(source, "/d", There::Directory), into("/d", None));
            assert_eq!(placed(source, "/d/new", There::Nothing), into("/d", Some("new")));
            assert_eq!(placed(source, "new", There::Nothing), into(".", Some("new")));
        }
        assert_eq!(placed(false, "/d/file", There::Else), into("/d", Some("file")));
        assert_eq!(placed(true, "/d/file", There::Else), Err(ErrorKind::Conflict));
        assert_eq!(placed(true, "/d/new/", There::Nothing), into("/d", Some("new")));
        assert_eq!(placed(false, "/d/new/", There::Nothing), Err(ErrorKind::NotFound));
        assert_eq!(placed(false, "/d/file/", There::Else), Err(ErrorKind::InvalidArgument));
    }
}
