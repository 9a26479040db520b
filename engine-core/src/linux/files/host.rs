//! The host's side of a copy: a tree of the host as an archive, and an archive into a directory of the host.
//!
//! What comes out of a container is as hostile as any archive: names are resolved beneath the directory it goes to, and
//! unless asked for, nothing gets rights by it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::pack::{self, Located, PackOptions};
use super::{bytes, failed, unpack_at, work};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{PathStat, UnpackFiles};
use crate::io::ByteStream;
use crate::linux::image_store::unpack::CopyRules;
use crate::linux::rootfd::RootFd;
use crate::tar::ArchiveWriter;

const READ: &str = "read host files";
const WRITE: &str = "write host files";

/// A tree of the host to be copied.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CopiedTree {
    /// What it is.
    pub stat: PathStat,
    /// Where it really is.
    pub path: PathBuf,
    /// The name its archive begins with.
    pub name: String,
}

/// Looks at `path` of the host. A link in the last component is followed with `follow`, or where a slash stands behind it.
///
/// # Errors
/// [`ErrorKind::NotFound`] if nothing is there.
pub async fn stat_host(path: &Path, follow: bool) -> Result<CopiedTree> {
    let path = path.to_owned();
    work::run(move || {
        let fail = failed(READ, &path);
        let text = path.as_os_str().as_bytes();
        let whole = text.ends_with(b"/") || text.ends_with(b"/.") || text == b"." || text.ends_with(b"..");
        let real = if follow || whole {
            fs::canonicalize(&path).map_err(&fail)?
        } else {
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::canonicalize(parent).map_err(&fail)?.join(path.file_name().unwrap_or_default())
        };
        let metadata = fs::symlink_metadata(&real).map_err(&fail)?;
        if whole && !metadata.is_dir() {
            return Err(fail(io::ErrorKind::NotADirectory.into()));
        }
        use std::os::unix::fs::MetadataExt as _;
        let content = text.ends_with(b"/.") || text == b".";
        let name = match path.file_name().or(real.file_name()) {
            Some(name) if !content => name.to_string_lossy().into_owned(),
            _ => ".".to_owned(),
        };
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let mut stat = PathStat::new(name.clone(), metadata.mode(), metadata.len(), modified);
        if metadata.is_symlink() {
            stat.link_target = fs::read_link(&real).map_err(&fail)?.to_string_lossy().into_owned();
        }
        Ok(CopiedTree { stat, path: real, name })
    })
    .await
}

/// Returns a tree of the host as an archive, whose first entry is called `name` and in which everything belongs to
/// `owner`, if that is given.
///
/// # Errors
/// What the file system says; what fails later comes in the stream.
pub async fn pack_host(tree: &CopiedTree, name: &str, owner: Option<(u32, u32)>) -> Result<ByteStream> {
    let (path, name) = (tree.path.clone(), name.to_owned());
    let ((), stream) = work::produce(move |target| {
        let fail = failed(READ, &path);
        let (parent, last) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(last)) => (parent, Path::new(last)),
            _ => (Path::new("/"), Path::new(".")),
        };
        let root = RootFd::open(parent).map_err(&fail)?;
        let located = Located::find(&root, last).map_err(&fail)?;
        let mut writer = ArchiveWriter::new(target.begin(())?);
        let options = PackOptions { owner, ..PackOptions::default() };
        pack::tree(&located, name.as_bytes(), &options, &mut writer).map_err(&fail)?;
        writer.finish().map(drop).map_err(&fail)
    })
    .await?;
    Ok(stream)
}

/// Unpacks an archive into the directory `dir` of the host, without following any link out of it.
///
/// Unless `options` name an owner, everything belongs to the user of this program, and set-ID bits, file capabilities and
/// the like are left out: who made the archive gives no rights here. With `archive_owners`, both are as in the archive.
///
/// # Errors
/// As [`ContainerFiles::unpack`](crate::files::ContainerFiles::unpack).
pub async fn unpack_host(
    dir: &Path,
    archive: ByteStream,
    options: &UnpackFiles,
    archive_owners: bool,
) -> Result<()> {
    let (dir, options) = (dir.to_owned(), options.clone());
    work::consume(archive, move |source| {
        let fail = failed(WRITE, &dir);
        let root = match RootFd::open(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::new(ErrorKind::InvalidArgument, WRITE)
                    .with("path", dir.display())
                    .with_message("it is not a directory"));
            }
            root => root.map_err(&fail)?,
        };
        let scratch = fs::File::open(&dir).map_err(&fail)?.into();
        let own = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let rules = CopyRules {
            prefix: Vec::new(),
            keep_kinds: options.keep_kinds,
            owner: options.owner.or_else(|| (!archive_owners).then(own)),
            rename: options.rename.map(|(from, to)| (bytes(&from), bytes(&to))),
            plain: !archive_owners,
            ids: None,
        };
        unpack_at(source, &root, &scratch, rules, options.max_bytes).map_err(|error| error.into_error(WRITE))
    })
    .await
}
