//! Between an archive and a directory, where the engine that has the images is elsewhere: it sends and takes archives alone.
//!
//! Invariant: no name of an archive leads out of the directory that is made of it, and no link of a directory out of that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;
use crate::tar;

use super::super::task::blocking;
use super::members::corrupt;
use super::source::{Archive, LoadSource, Member};
use super::write::Sink;

/// How deep the files of a layout lie: `blobs/sha256/…`.
const DEPTH: usize = 3;
/// The most files of a directory that is sent.
const MAX_FILES: usize = 100_000;

/// A directory that is to become an OCI layout, of an archive that another engine saves. It must be empty or not there; dropped before
/// it is filled, it is as it was.
#[derive(Debug)]
pub struct LayoutDirectory {
    sink: Sink,
    /// Where the archive lies meanwhile, without a name.
    scratch: PathBuf,
}

impl LayoutDirectory {
    /// Begins with the directory `dir`.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if it is not empty.
    pub async fn begin(dir: &Path) -> Result<Self> {
        let sink = Sink::directory_at(dir).await?;
        Ok(Self { sink, scratch: dir.to_owned() })
    }

    /// Fills it with what is in `archive`.
    ///
    /// # Errors
    /// Those of the archive; [`ErrorKind::Corrupt`] if it is none of a layout; what writing says.
    pub async fn fill(self, archive: ByteStream) -> Result<()> {
        let Self { mut sink, scratch } = self;
        let archive = Archive::open(LoadSource::Stream(archive), Some(scratch), u64::MAX).await?;
        let mut made = BTreeSet::new();
        for name in archive.names() {
            if name.split('/').count() > DEPTH {
                return Err(corrupt(format!("its member {name:?} has no place in a layout")));
            }
            for (end, _) in name.match_indices('/') {
                if made.insert(name[..end].to_owned()) {
                    sink.directory(&name[..end]).await?;
                }
            }
            if let Some(member) = archive.find(&name).await? {
                sink.stream(&name, member.size, member.stream(), |_| {}).await?;
            }
        }
        sink.finish().await
    }
}

/// Returns the OCI layout (or the unpacked archive) in the directory `dir` as an archive, in the order of names.
///
/// # Errors
/// If the directory cannot be read.
pub async fn archive_directory(dir: &Path) -> Result<ByteStream> {
    let root = dir.to_owned();
    let names = blocking(move || {
        let mut names = BTreeSet::new();
        list(&root, &mut PathBuf::new(), &mut names)?;
        Ok(names)
    })
    .await?;
    let root = dir.to_owned();
    let members = stream::iter(names).then(move |name| {
        let path = root.join(&name);
        async move { member(name, path).await }
    });
    let pieces = members.flat_map(|member| member.unwrap_or_else(|error| stream::iter([Err(error)]).boxed()));
    Ok(pieces.chain(stream::iter([Ok(tar::END.to_vec().into())])).boxed())
}

/// The bytes of one member: its header, its content, and what fills its last block.
async fn member(name: String, path: PathBuf) -> Result<ByteStream> {
    let file = Member::of_file(path).await?;
    let head = stream::iter([Ok(tar::header(&name, file.size).into())]);
    let padding = stream::iter([Ok(vec![0; tar::padding(file.size)].into())]);
    Ok(head.chain(file.stream()).chain(padding).boxed())
}

/// Lists the regular files beneath `place`. Links are not followed.
fn list(root: &Path, place: &mut PathBuf, names: &mut BTreeSet<String>) -> Result<()> {
    let dir = root.join(&*place);
    let fail = |error| Error::from_io("open archive", error).with("path", dir.display());
    for entry in std::fs::read_dir(&dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let kind = entry.file_type().map_err(fail)?;
        place.push(entry.file_name());
        if kind.is_dir() && place.components().count() < DEPTH {
            list(root, place, names)?;
        } else if kind.is_file()
            && let Some(name) = place.to_str()
        {
            if names.len() == MAX_FILES {
                return Err(Error::new(ErrorKind::ResourceExhausted, "open archive")
                    .with("path", root.display())
                    .with_message("it has too many files"));
            }
            names.insert(name.to_owned());
        }
        place.pop();
    }
    Ok(())
}
