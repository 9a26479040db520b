//! Copying between the host's file system and a container's, as `docker cp` does.
//!
//! This module decides where a copy goes and under which name; the container's files and `linux::files` pack and unpack it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt as _;

use crate::error::{Error, ErrorKind, Result};
use crate::files::{PathStat, UnpackFiles};
use crate::io::ByteStream;
use crate::linux::files as host;

use super::Container;

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
#[derive(Debug, Eq, PartialEq)]
struct Placement {
    dir: PathBuf,
    rename: Option<PathBuf>,
}

/// What is at the destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum There {
    Nothing,
    Directory,
    Else,
}

impl There {
    fn of(found: Option<&PathStat>) -> Self {
        match found {
            None => Self::Nothing,
            Some(stat) if stat.is_dir() => Self::Directory,
            Some(_) => Self::Else,
        }
    }
}

/// Decides as `docker cp` does (its reference, "Corner cases"): into a directory that is there; under a new name in the
/// directory above otherwise.
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
        let source = host::stat_host(source.as_ref(), options.follow_link).await?;
        let mut destination = Path::new("/").join(destination.as_ref());
        let mut found = or_nothing(self.stat_path(&destination).await)?;
        if let Some(stat) = found.as_ref().filter(|stat| stat.is_symlink()) {
            // To where it leads, there or not.
            destination = PathBuf::from(&stat.link_target);
            found = or_nothing(self.stat_path(&destination).await)?;
        }
        if found.as_ref().is_some_and(|stat| !stat.is_dir() && !stat.is_file()) {
            return Err(Error::new(ErrorKind::InvalidArgument, "copy to container")
                .with("destination", destination.display())
                .with_message("it is neither a directory nor a regular file"));
        }
        let placement = place(source.stat.is_dir(), &destination, There::of(found.as_ref()))?;
        let name = placement.rename.map_or(source.name.clone(), |name| name.to_string_lossy().into_owned());
        let owner = (!options.archive).then_some((0, 0));
        let (archive, count) = counted(host::pack_host(&source, &name, owner).await?);
        let unpack = UnpackFiles::default().with_keep_kinds(true);
        self.copy_in(&placement.dir, archive, &unpack).await?;
        Ok(count.load(Ordering::Relaxed))
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
        let asked = Path::new("/").join(source.as_ref());
        // With a link that is followed, its target comes under the link's own name.
        let (path, name) = follow(self, &asked, options.follow_link).await?;
        let destination = destination.as_ref();
        let found = or_nothing(host::stat_host(destination, true).await)?;
        let there = There::of(found.as_ref().map(|tree| &tree.stat));
        let (stat, stream) = self.copy_out(&path).await?;
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
        Ok(count.load(Ordering::Relaxed))
    }

    /// Returns what `docker cp CONTAINER:PATH -` writes: as [`copy_out`](Self::copy_out), a link in the last component
    /// followed if `options` say so.
    ///
    /// # Errors
    /// As [`copy_out`](Self::copy_out).
    pub async fn copy_to_stream(&self, source: impl AsRef<Path>, options: CopyOptions) -> Result<ByteStream> {
        let asked = Path::new("/").join(source.as_ref());
        let (path, _) = follow(self, &asked, options.follow_link).await?;
        Ok(self.copy_out(&path).await?.1)
    }
}

/// `None` for what is not there.
fn or_nothing<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a source really is, and the name it keeps if that is another one.
async fn follow(container: &Container, path: &Path, follow_link: bool) -> Result<(PathBuf, Option<PathBuf>)> {
    if !follow_link {
        return Ok((path.to_owned(), None));
    }
    let stat = container.stat_path(path).await?;
    if !stat.is_symlink() {
        return Ok((path.to_owned(), None));
    }
    Ok((PathBuf::from(&stat.link_target), path.file_name().map(PathBuf::from)))
}

/// Counts the bytes that pass.
fn counted(stream: ByteStream) -> (ByteStream, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
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
