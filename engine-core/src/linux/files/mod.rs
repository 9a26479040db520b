//! A container's file system, reached by descriptor: what `cp`, `export`, `diff` and `commit` stand on.
//!
//! `view` opens the root: a running container's own, or one that is mounted for the moment. `pack` turns a tree into an
//! archive; `image_store::unpack` does the reverse. `ids` knows whose the files of a running
//! container are. `work` gives each operation a thread, since namespaces, umask, ids and blocking calls are a thread's affair.
//!
//! Invariants (SECURITY E4): every name is resolved beneath a root descriptor; no program is executed and no library
//! loaded; nothing is mounted in the host's namespace, and what is mounted goes with the thread that needed it.

mod host;
pub(in crate::linux) mod ids;
mod list;
pub(in crate::linux) mod pack;
pub(in crate::linux) mod view;
pub(in crate::linux) mod work;

#[cfg(test)]
mod tests;

pub use host::{CopiedTree, pack_host, stat_host, unpack_host};

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::decode::Bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ContainerFiles, FileList, ListFiles, PackedFile, PathStat, UnpackFiles};
use crate::io::ByteStream;
use crate::linux::image_store::unpack::{CopyRules, UnpackError, UnpackOptions, Whiteouts, unpack};
use crate::linux::rootfd::RootFd;
use crate::tar::{ArchiveWriter, TarError, TarLimits};
use pack::{Located, PackOptions};
use view::Viewer;

const COPY_OUT: &str = "copy from container";
const COPY_IN: &str = "copy to container";
/// Bytes of an archive that are at hand.
const BUFFER: usize = 128 << 10;

/// [`ContainerFiles`] of the Linux runtime.
#[derive(Clone, Debug)]
pub(in crate::linux) struct LinuxFiles {
    viewer: Arc<Viewer>,
}

impl LinuxFiles {
    pub(in crate::linux) fn new(viewer: Viewer) -> Self {
        Self { viewer: Arc::new(viewer) }
    }
}

/// Opens the directory `dir` of this host as a tree of files: links in it lead nowhere else.
#[must_use]
pub fn host_files(dir: PathBuf) -> Box<dyn ContainerFiles> {
    Box::new(LinuxFiles::new(Viewer::of_directory(dir)))
}

/// It is the path that is wrong.
const OF_PATH: [Errno; 5] = [Errno::LOOP, Errno::NOTDIR, Errno::ISDIR, Errno::NAMETOOLONG, Errno::INVAL];

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |error| {
        let is_path =
            error.raw_os_error().is_none_or(|code| OF_PATH.contains(&Errno::from_raw_os_error(code)));
        let shown = Error::from_io(operation, error).with("path", path.display());
        match shown.kind() {
            ErrorKind::Other if is_path => shown.with_kind(ErrorKind::InvalidArgument),
            _ => shown,
        }
    }
}

#[async_trait]
impl ContainerFiles for LinuxFiles {
    async fn stat(&self, path: &Path) -> Result<PathStat> {
        let (viewer, path) = (Arc::clone(&self.viewer), path.to_owned());
        work::run(move || {
            let view = viewer.open()?;
            let located = Located::find(view.root(), &path).map_err(failed("stat in container", &path))?;
            located.describe(view.root(), &path).map_err(failed("stat in container", &path))
        })
        .await
    }

    async fn pack(&self, path: &Path) -> Result<(PathStat, ByteStream)> {
        let (viewer, path) = (Arc::clone(&self.viewer), path.to_owned());
        work::produce(move |target| {
            let view = viewer.open()?;
            let fail = failed(COPY_OUT, &path);
            let located = Located::find(view.root(), &path).map_err(&fail)?;
            let stat = located.describe(view.root(), &path).map_err(&fail)?;
            let name = entry_name(&path);
            let mut writer = ArchiveWriter::new(target.begin(stat)?);
            let options = PackOptions { ids: view.ids().cloned(), ..PackOptions::default() };
            pack::tree(&located, &name, &options, &mut writer).map_err(&fail)?;
            writer.finish().map(drop).map_err(&fail)
        })
        .await
    }

    async fn unpack(&self, path: &Path, archive: ByteStream, options: &UnpackFiles) -> Result<()> {
        let (viewer, path, options) = (Arc::clone(&self.viewer), path.to_owned(), options.clone());
        work::consume(archive, move |source| {
            let fail = failed(COPY_IN, &path);
            let scratch = viewer.scratch().map_err(&fail)?;
            let view = viewer.open()?;
            let root = view.root();
            let dir = root.handle(beneath(&path)).map_err(&fail)?;
            let wrong = |kind, why| Error::new(kind, COPY_IN).with("path", path.display()).with_message(why);
            if !pack::is_dir(&dir).map_err(&fail)? {
                return Err(wrong(ErrorKind::InvalidArgument, "it is not a directory"));
            }
            if pack::is_of_kernel(&dir).map_err(&fail)? {
                return Err(wrong(ErrorKind::InvalidArgument, "it belongs to a file system of the kernel"));
            }
            let vfs = rustix::fs::fstatvfs(&dir).map_err(|e| fail(e.into()))?;
            if vfs.f_flag.contains(StatVfsMountFlags::RDONLY) {
                return Err(wrong(ErrorKind::PermissionDenied, "it is mounted read-only"));
            }
            drop(dir);
            if let Some(ids) = view.ids() {
                ids.own_new_files().map_err(&fail)?;
            }
            let rules = CopyRules {
                prefix: root.canonical(beneath(&path)).map_err(&fail)?.as_os_str().as_bytes().to_vec(),
                keep_kinds: options.keep_kinds,
                owner: options.owner,
                rename: options.rename.map(|(from, to)| (bytes(&from), bytes(&to))),
                plain: false,
                ids: view.ids().cloned(),
            };
            unpack_at(source, root, &scratch, rules, options.max_bytes)
                .map_err(|error| error.into_error(COPY_IN))
        })
        .await
    }

    async fn list(&self, path: &Path, options: &ListFiles) -> Result<FileList> {
        let (viewer, path, options) = (Arc::clone(&self.viewer), path.to_owned(), options.clone());
        work::run(move || {
            let view = viewer.open()?;
            list::list(view.root(), &path, view.ids(), &options).map_err(failed("list files", &path))
        })
        .await
    }

    async fn owner(&self, user: &str) -> Result<(u32, u32)> {
        let (viewer, user) = (Arc::clone(&self.viewer), user.to_owned());
        work::run(move || {
            let view = viewer.open()?;
            let found = crate::linux::users::resolve(view.root(), &user, &[])?;
            Ok((found.uid, found.gid))
        })
        .await
    }

    async fn pack_files(&self, files: Vec<PackedFile>) -> Result<ByteStream> {
        let viewer = Arc::clone(&self.viewer);
        let ((), stream) = work::produce(move |target| {
            let view = viewer.open()?;
            let fail = failed("pack files", Path::new("/"));
            let mut writer = ArchiveWriter::new(target.begin(())?);
            list::pack(view.root(), &files, &mut writer).map_err(&fail)?;
            writer.finish().map(drop).map_err(&fail)
        })
        .await?;
        Ok(stream)
    }
}

/// Unpacks beneath `root` as `rules` say what may be compressed. Must run on a thread of `work`, whose umask is 0.
fn unpack_at(
    source: &mut dyn io::BufRead,
    root: &RootFd,
    scratch: &OwnedFd,
    rules: CopyRules,
    max_bytes: Option<u64>,
) -> Result<(), UnpackError> {
    let open = root.open_at("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    let top = open.map_err(|error| UnpackError::Io { operation: "open", path: "/".to_owned(), error })?;
    let limits = TarLimits::default();
    let tar = TarLimits { open_end: true, bytes: max_bytes.unwrap_or(limits.bytes), ..limits };
    let options = UnpackOptions { whiteouts: Whiteouts::Plain, tar, copy: Some(rules) };
    // The decoder looks at the first four bytes, which a client may send one by one.
    let mut head = Vec::new();
    (&mut *source).take(4).read_to_end(&mut head).map_err(TarError::Io)?;
    let archive = Bounded::new(io::Cursor::new(head).chain(source)).map_err(TarError::Io)?;
    unpack(io::BufReader::with_capacity(BUFFER, archive), top, scratch, options).map(drop)
}

/// `path` as one from the root: the container has no other working directory here.
pub(in crate::linux) fn beneath(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

/// The name of the first entry of an archive of `path`: its last component, or `.`.
fn entry_name(path: &Path) -> Vec<u8> {
    let text = path.as_os_str().as_bytes();
    if text.ends_with(b"/.") || text == b"." {
        return b".".to_vec();
    }
    path.file_name().map_or_else(|| b".".to_vec(), |name| name.as_bytes().to_vec())
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
