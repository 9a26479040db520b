//! One opened archive: members by name, each read from any place at any time, by several readers at once.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use tokio::sync::mpsc;

use crate::digest::{Digest, DigestAlgorithm, DigestHasher};
use crate::error::{Error, ErrorKind, Result};
use crate::io::ByteStream;

use super::super::task::blocking;
use super::members::{Members, corrupt, normal};
use super::spool::{self, Pieces};

/// Bytes of one piece of a member.
const CHUNK: u64 = 256 << 10;

/// Where a load reads from.
#[non_exhaustive]
pub enum LoadSource {
    /// A file or a directory.
    Path(PathBuf),
    /// Bytes that arrive in pieces, such as standard input. They are written to a file without a name first, beneath
    /// the engine's directory.
    Stream(ByteStream),
    /// As [`Stream`](Self::Stream), of something with a name, which failures call it by.
    Named(String, ByteStream),
}

impl LoadSource {
    /// Reads from a stream of pieces.
    pub fn stream(pieces: impl futures_core::Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self::Stream(pieces.boxed())
    }
}

impl From<PathBuf> for LoadSource {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for LoadSource {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl fmt::Debug for LoadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Named(name, _) => f.debug_tuple("Named").field(name).finish_non_exhaustive(),
        }
    }
}

/// An opened archive.
#[derive(Clone, Debug)]
pub(crate) struct Archive(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Tar { file: Arc<File>, members: Members },
    Directory(OwnedFd),
}

/// A member's bytes.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    file: Arc<File>,
    offset: u64,
    pub(crate) size: u64,
}

impl Archive {
    /// Opens `source`; what must be decompressed or cannot be read twice goes through a file without a name in
    /// `scratch`, of at most `limit` bytes.
    pub(crate) async fn open(source: LoadSource, scratch: Option<PathBuf>, limit: u64) -> Result<Self> {
        match source {
            LoadSource::Path(path) => {
                blocking(move || Self::open_path(&path, scratch.as_deref(), limit)).await
            }
            LoadSource::Stream(mut pieces) | LoadSource::Named(_, mut pieces) => {
                let (sender, receiver) = mpsc::channel(8);
                let send = async move {
                    while let Some(piece) = pieces.next().await {
                        // A receiver that is gone has an error to tell.
                        if sender.send(Some(piece)).await.is_err() {
                            return;
                        }
                    }
                    let _ = sender.send(None).await;
                };
                let fill = blocking(move || {
                    let file = spool::nameless(scratch.as_deref())?;
                    spool::fill(&file, Pieces::new(receiver), limit)?;
                    Self::of_tar(file)
                });
                let ((), archive) = tokio::join!(send, fill);
                archive
            }
        }
    }

    fn open_path(path: &Path, scratch: Option<&Path>, limit: u64) -> Result<Self> {
        let fail = |e: io::Error| Error::from_io("open archive", e).with("path", path.display());
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Ok(Self(Arc::new(Kind::Directory(file.into()))));
        }
        let mut start = [0; 4];
        let plain = metadata.is_file()
            && match file.read_at(&mut start, 0).map_err(fail)? {
                4 => !matches!(
                    start,
                    [0x1f, 0x8b, ..]
                        | [0x28, 0xb5, 0x2f, 0xfd]
                        | [0xfd, b'7', b'z', b'X']
                        | [b'B', b'Z', b'h', _]
                ),
                _ => true,
            };
        if plain {
            return Self::of_tar(file).map_err(|e| e.with("path", path.display()));
        }
        let spooled = spool::nameless(scratch)?;
        spool::fill(&spooled, &file, limit).map_err(|e| e.with("path", path.display()))?;
        Self::of_tar(spooled).map_err(|e| e.with("path", path.display()))
    }

    fn of_tar(file: File) -> Result<Self> {
        let members = Members::read(&file)?;
        Ok(Self(Arc::new(Kind::Tar { file: Arc::new(file), members })))
    }

    /// Finds a member that is a file; `None` if there is none of this name.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Member>> {
        match &*self.0 {
            Kind::Tar { file, members } => {
                Ok(members.find(name)?.map(|(offset, size)| Member { file: Arc::clone(file), offset, size }))
            }
            Kind::Directory(_) => {
                let (archive, name) = (self.clone(), normal(name.as_bytes())?);
                blocking(move || archive.find_file(&name)).await
            }
        }
    }

    /// Opens a file of the directory, which no link may lead to.
    fn find_file(&self, name: &str) -> Result<Option<Member>> {
        let Kind::Directory(dir) = &*self.0 else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => {
                return Err(corrupt(format!("its file {name:?} is, or lies behind, a symbolic link")));
            }
            Err(errno) => return Err(Error::from_io("open archive", errno.into()).with("file", name)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| Error::from_io("open archive", e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(corrupt(format!("its member {name:?} is no regular file")));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(Some(Member { file: Arc::new(file), offset: 0, size }))
    }

    /// Returns the names of the members of a tar archive, sorted. One that has links is refused: each would be a whole file.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        match &*self.0 {
            Kind::Tar { members, .. } => members.names(),
            Kind::Directory(_) => Ok(Vec::new()),
        }
    }

    /// Reads a small member whole; `None` if there is none of this name.
    pub(crate) async fn read(&self, name: &str, limit: u64) -> Result<Option<Bytes>> {
        let Some(member) = self.find(name).await? else { return Ok(None) };
        if member.size > limit {
            return Err(corrupt(format!("its {name:?} has {} bytes, more than {limit}", member.size)));
        }
        let mut all = Vec::new();
        let mut pieces = member.stream();
        while let Some(piece) = pieces.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(Some(all.into()))
    }
}

impl Member {
    /// Opens a regular file of the host.
    pub(crate) async fn of_file(path: PathBuf) -> Result<Self> {
        blocking(move || {
            let fail = |e: io::Error| Error::from_io("open file", e).with("path", path.display());
            Self::of_open(Arc::new(File::open(&path).map_err(fail)?), &path)
        })
        .await
    }

    /// As [`of_file`](Self::of_file), of one that is open.
    pub(crate) fn of_open(file: Arc<File>, path: &Path) -> Result<Self> {
        let fail = |e: io::Error| Error::from_io("open file", e).with("path", path.display());
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::InvalidArgument, "open file")
                .with("path", path.display())
                .with_message("it is no regular file"));
        }
        Ok(Self { file, offset: 0, size: metadata.len() })
    }

    /// Reads the bytes in pieces.
    pub(crate) fn stream(&self) -> ByteStream {
        Box::pin(stream::try_unfold((self.clone(), 0), |(member, done)| async move {
            if done == member.size {
                return Ok(None);
            }
            let reader = member.clone();
            let piece = blocking(move || reader.piece(done)).await?;
            let done = done + piece.len() as u64;
            Ok(Some((piece, (member, done))))
        }))
    }

    fn piece(&self, from: u64) -> Result<Bytes> {
        // At most a chunk.
        let mut buffer = vec![0; CHUNK.min(self.size - from) as usize];
        self.file.read_exact_at(&mut buffer, self.offset + from).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => corrupt("it was cut while it was read"),
            _ => Error::from_io("read archive", e),
        })?;
        Ok(buffer.into())
    }

    /// Reads the first bytes, at most `count`.
    pub(crate) async fn start(&self, count: u64) -> Result<Bytes> {
        let head = Self { size: self.size.min(count), ..self.clone() };
        blocking(move || head.piece(0)).await
    }

    /// Hashes the bytes.
    pub(crate) async fn digest(&self) -> Result<Digest> {
        let member = self.clone();
        blocking(move || {
            let mut hasher = DigestHasher::new(DigestAlgorithm::Sha256);
            let mut done = 0;
            while done < member.size {
                let piece = member.piece(done)?;
                done += piece.len() as u64;
                hasher.update(&piece);
            }
            Ok(hasher.finish())
        })
        .await
    }
}

/// A file of the archive that must be there.
pub(super) fn missing(name: &str) -> Error {
    corrupt(format!("it has no {name:?}"))
}
