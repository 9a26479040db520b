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
use super::source::{Archive, LoadSource};
use super::write::{BLOBS, INDEX, PARTS, Sink, VERSION};

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

    /// Fills it with what is in `archive`, of at most `limit` bytes.
    ///
    /// # Errors
    /// Those of the archive; [`ErrorKind::Corrupt`] if it is none of a layout; [`ErrorKind::ResourceExhausted`] if it is larger; what
    /// writing says.
    pub async fn fill(self, archive: ByteStream, limit: u64) -> Result<()> {
        let Self { mut sink, scratch } = self;
        let archive = Archive::open(LoadSource::Stream(archive), Some(scratch), limit).await?;
        let names = archive.names()?;
        for missing in [VERSION, INDEX] {
            if !names.iter().any(|name| name == missing) {
                return Err(corrupt(format!("it is no layout: it has no {missing:?}")));
            }
        }
        let mut made = BTreeSet::new();
        for name in names {
            let top = name.split('/').next().unwrap_or_default();
            if name.split('/').count() > DEPTH
                || !PARTS.contains(&top)
                || (top == BLOBS) != name.contains('/')
            {
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
    let archive = Archive::open(LoadSource::Path(dir.to_owned()), None, 0).await?;
    let root = dir.to_owned();
    let names = blocking(move || {
        let mut names = BTreeSet::new();
        list(&root, &mut PathBuf::new(), &mut names)?;
        Ok(names)
    })
    .await?;
    let members = stream::iter(names).then(move |name| {
        let archive = archive.clone();
        async move { member(name, &archive).await }
    });
    let pieces = members.flat_map(|member| member.unwrap_or_else(|error| stream::iter([Err(error)]).boxed()));
    Ok(pieces.chain(stream::iter([Ok(tar::END.to_vec().into())])).boxed())
}

/// The bytes of one member: its header, its content, and what fills its last block. No link leads to it, whatever became of its name
/// since it was listed.
async fn member(name: String, archive: &Archive) -> Result<ByteStream> {
    let file =
        archive.find(&name).await?.ok_or_else(|| corrupt(format!("its file {name:?} is there no more")))?;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::TryStreamExt as _;

    use super::*;

    fn archive_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let member = |(name, content): &(&str, &[u8])| {
            let size = content.len() as u64;
            [tar::header(name, size), content.to_vec(), vec![0; tar::padding(size)]].concat()
        };
        members.iter().map(member).chain([tar::END.to_vec()]).collect::<Vec<_>>().concat()
    }

    async fn fill(dir: &Path, archive: Vec<u8>, limit: u64) -> Result<()> {
        let layout = LayoutDirectory::begin(dir).await.unwrap();
        layout.fill(stream::iter([Ok(Bytes::from(archive))]).boxed(), limit).await
    }

    #[tokio::test]
    async fn only_what_a_layout_has_is_unpacked_and_nothing_is_left_of_anything_else() {
        let dir = tempfile::tempdir().unwrap();
        let layout: [(&str, &[u8]); 3] = [("blobs/sha256/ab", b"x"), (INDEX, b"{}"), (VERSION, b"{}")];
        let with = |more: &[(&'static str, &'static [u8])]| archive_of(&[&layout[..], more].concat());
        let link = |kind: u8| {
            let mut header = tar::header("blobs/sha256/cd", 0);
            header[156] = kind;
            header[157..157 + 15].copy_from_slice(b"blobs/sha256/ab");
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            [&with(&[])[..with(&[]).len() - tar::END.len()], &header, &tar::END].concat()
        };
        for (wrong, kind) in [
            (archive_of(&[]), ErrorKind::Corrupt),
            (archive_of(&layout[..2]), ErrorKind::Corrupt),
            (archive_of(&[layout[0], layout[2]]), ErrorKind::Corrupt),
            (with(&[("zz", b"x")]), ErrorKind::Corrupt),
            (with(&[("zz/y", b"x")]), ErrorKind::Corrupt),
            (with(&[("blobs/sha256/ab/c", b"x")]), ErrorKind::Corrupt),
            (with(&[("repositories/x", b"x")]), ErrorKind::Corrupt),
            (link(b'1'), ErrorKind::Corrupt),
            (link(b'2'), ErrorKind::Corrupt),
            (with(&[("manifest.json", &[b' '; 4096])]), ErrorKind::ResourceExhausted),
        ] {
            let error = fill(&dir.path().join("made"), wrong, 6000).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{}", error.report());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{}", error.report());
        }
        fill(&dir.path().join("made"), with(&[("manifest.json", b"[]")]), 6000).await.unwrap();
        assert_eq!(std::fs::read(dir.path().join("made/blobs/sha256/ab")).unwrap(), b"x");
    }

    #[tokio::test]
    async fn no_link_is_followed_that_comes_after_the_list() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "of another").unwrap();
        let layout = dir.path().join("layout");
        for (link, target) in [("index.json", "../secret"), ("blobs/sha256", "../..")] {
            std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
            std::fs::write(layout.join("blobs/sha256/secret"), "own").unwrap();
            std::fs::write(layout.join("index.json"), "{}").unwrap();
            let archive = archive_directory(&layout).await.unwrap();
            let place = layout.join(link);
            std::fs::remove_file(&place).or_else(|_| std::fs::remove_dir_all(&place)).unwrap();
            std::os::unix::fs::symlink(target, &place).unwrap();
            let error = archive.try_collect::<Vec<_>>().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
            std::fs::remove_dir_all(&layout).unwrap();
        }
    }
}
