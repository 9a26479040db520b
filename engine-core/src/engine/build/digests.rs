//! Digests of a context's files, kept from one build to the next: what has not changed is not read again.
//!
//! A file is the same as long as its device, inode, size and both its times are. Nobody sets the time of its last change (`st_ctime`,
//! inode(7)), so whoever gives a file another content and its old time of modification is noticed. What changed just before it was read
//! is not kept: it may change once more within one tick of the clock.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::{FileIdentity, KnownDigests};

/// Below the engine's root: one file for each context.
const DIRECTORY: &str = "build-digests";
/// What a file begins with; one of another form is as good as none.
const MAGIC: &[u8] = b"engine build digests 1\n";
const RECORD: usize = 7 * 8 + 32;
/// Contexts whose digests are kept.
const MOST: usize = 64;
/// How long a file must have been as it is.
const SETTLED: Duration = Duration::from_secs(2);

/// The digests of one context's files.
#[derive(Debug)]
pub(super) struct Digests {
    path: PathBuf,
    before: HashMap<FileIdentity, [u8; 32]>,
    now: Mutex<HashMap<FileIdentity, [u8; 32]>>,
}

impl Digests {
    /// Reads what the engine at `root` knows of the directory `context`.
    pub(super) fn open(root: &Path, context: &Path) -> Self {
        let name = Digest::sha256(context.as_os_str().as_encoded_bytes());
        let path = root.join(DIRECTORY).join(name.hex());
        // Nothing is lost with it but time.
        let before = fs::read(&path).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        Self { path, before, now: Mutex::default() }
    }

    /// Keeps the digests of the files that were asked for.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn save(&self) -> Result<()> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == self.before {
            return Ok(());
        }
        let fail = |e: io::Error| {
            Error::from_io("write digests of build context", e).with("path", self.path.display())
        };
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(fail)?;
        let mut bytes = Vec::with_capacity(MAGIC.len() + now.len() * RECORD);
        bytes.extend_from_slice(MAGIC);
        for (file, digest) in &*now {
            for number in file.numbers() {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(digest);
        }
        sweep(parent, &self.path);
        // Others may write the same; each file is whole.
        let temporary = self.path.with_extension(format!("{}-{:p}", std::process::id(), self));
        let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            fail(error)
        })
    }
}

impl KnownDigests for Digests {
    fn get(&self, file: &FileIdentity) -> Option<Digest> {
        let known = *self.before.get(file)?;
        self.now.lock().unwrap_or_else(PoisonError::into_inner).insert(*file, known);
        format!("sha256:{}", hex::encode(known)).parse().ok()
    }

    fn put(&self, file: &FileIdentity, digest: &Digest) {
        let settled = |(seconds, nanoseconds): (i64, u32)| {
            let since = u64::try_from(seconds).ok().map(|seconds| Duration::new(seconds, nanoseconds));
            let age = since.and_then(|since| SystemTime::now().duration_since(UNIX_EPOCH + since).ok());
            age.is_some_and(|age| age > SETTLED)
        };
        let mut bytes = [0; 32];
        if settled(file.modified)
            && settled(file.changed)
            && hex::decode_to_slice(digest.hex(), &mut bytes).is_ok()
        {
            self.now.lock().unwrap_or_else(PoisonError::into_inner).insert(*file, bytes);
        }
    }
}

impl FileIdentity {
    fn numbers(&self) -> [u64; 7] {
        let (modified, changed) = (self.modified, self.changed);
        let signed = i64::cast_unsigned;
        [
            self.device,
            self.inode,
            self.size,
            signed(modified.0),
            modified.1.into(),
            signed(changed.0),
            changed.1.into(),
        ]
    }

    fn of_numbers(numbers: [u64; 7]) -> Option<Self> {
        let [device, inode, size, modified, modified_ns, changed, changed_ns] = numbers;
        let time =
            |seconds: u64, nanoseconds: u64| Some((seconds.cast_signed(), u32::try_from(nanoseconds).ok()?));
        Some(Self {
            device,
            inode,
            size,
            modified: time(modified, modified_ns)?,
            changed: time(changed, changed_ns)?,
        })
    }
}

/// Removes the digests of contexts that were built the longest ago, if there are many.
fn sweep(dir: &Path, own: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let others = entries.flatten().filter(|entry| entry.path() != own);
    let mut aged: Vec<_> = others
        .map(|entry| {
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            (written.unwrap_or(UNIX_EPOCH), entry.path())
        })
        .collect();
    aged.sort();
    for (_, path) in aged.iter().take(aged.len().saturating_sub(MOST - 1)) {
        // Somebody else may have; nothing is lost with it but time.
        let _ = fs::remove_file(path);
    }
}

fn parse(bytes: &[u8]) -> Option<HashMap<FileIdentity, [u8; 32]>> {
    let records = bytes.strip_prefix(MAGIC)?.chunks_exact(RECORD);
    if !records.remainder().is_empty() {
        return None;
    }
    let record = |record: &[u8]| {
        let (numbers, digest) = record.split_at(RECORD - 32);
        let mut file = [0; 7];
        for (number, bytes) in file.iter_mut().zip(numbers.chunks_exact(8)) {
            *number = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        Some((FileIdentity::of_numbers(file)?, digest.try_into().ok()?))
    };
    records.map(record).collect()
}

/// Forgets all digests of an engine.
///
/// # Errors
/// What the file system says.
pub(super) fn forget(root: &Path) -> Result<()> {
    let path = root.join(DIRECTORY);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::from_io("remove digests of build contexts", error).with("path", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_is_known_the_next_time_and_what_is_not_is_read_again() {
        let root = tempfile::tempdir().unwrap();
        let open = || Digests::open(root.path(), Path::new("/context"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let old = FileIdentity { device: 1, inode: 2, size: 3, modified: (-5, 6), changed: (7, 8) };
        let aged = FileIdentity { modified: (5, 6), ..old };
        let fresh = FileIdentity { inode: 3, changed: (now, 0), ..aged };
        let (digest, other) = (Digest::sha256(b"one"), Digest::sha256(b"two"));
        let first = open();
        for file in [&old, &aged, &fresh] {
            assert_eq!(first.get(file), None);
            first.put(file, &digest);
        }
        first.save().unwrap();
        let second = open();
        assert_eq!(second.get(&aged), Some(digest.clone()));
        // Before 1970 is no time that a file got by itself.
        assert_eq!((second.get(&old), second.get(&fresh)), (None, None));
        assert_eq!(second.get(&FileIdentity { changed: (7, 9), ..aged }), None);
        assert_eq!(Digests::open(root.path(), Path::new("/other")).get(&aged), None);
        // What nobody asked for any more goes.
        let third = open();
        third.put(&FileIdentity { inode: 9, ..aged }, &other);
        third.save().unwrap();
        assert_eq!(
            (open().get(&aged), open().get(&FileIdentity { inode: 9, ..aged })),
            (None, Some(other.clone()))
        );
        // Of many contexts, those of the last builds are kept.
        for number in 0..MOST {
            let context = Digests::open(root.path(), Path::new(&format!("/{number}")));
            context.put(&aged, &other);
            context.save().unwrap();
        }
        assert_eq!(fs::read_dir(root.path().join(DIRECTORY)).unwrap().count(), MOST);
        third.save().unwrap();
        // A file that is cut off, or another's, is none.
        let bytes = fs::read(&open().path).unwrap();
        fs::write(&open().path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(open().before.is_empty());
        forget(root.path()).unwrap();
        forget(root.path()).unwrap();
        assert!(!root.path().join(DIRECTORY).exists());
    }
}
