//! How large a directory is that another program fills.
//!
//! git(1) bounds what is pushed to a repository and not what it fetches, so its directory is looked at while it works. That is
//! several times a second: what is written between two looks may pass the limit, and goes with the rest.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::files::MAX_LISTED;
use crate::limit::too_large;

/// The time between two looks, and how many times longer than a look it is at least.
const PAUSE: Duration = Duration::from_millis(200);
const SHARE: u32 = 10;

/// Waits until `dir` takes more than `limit` bytes, and returns the error that says so.
pub(super) async fn outgrown(operation: &'static str, dir: &Path, limit: u64) -> Error {
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let begin = Instant::now();
        if let Err(error) = check(operation, dir, limit).await {
            return error;
        }
        pause = PAUSE.max(begin.elapsed() * SHARE);
    }
}

/// Looks whether `dir` takes at most `limit` bytes.
///
/// # Errors
/// [`ErrorKind::ResourceExhausted`] if it takes more, or has more files than are listed.
pub(super) async fn check(operation: &'static str, dir: &Path, limit: u64) -> Result<()> {
    let dir = dir.to_owned();
    blocking(move || {
        let fail = |e| Error::from_io(operation, e).with("path", dir.display());
        let (mut bytes, mut files, mut pending) = (0_u64, 0, vec![dir.clone()]);
        while let Some(next) = pending.pop() {
            let Some(entries) = there(fs::read_dir(&next)).map_err(fail)? else { continue };
            for entry in entries {
                let entry = entry.map_err(fail)?;
                // Of a link, what it is itself.
                let Some(metadata) = there(entry.metadata()).map_err(fail)? else { continue };
                bytes = bytes.saturating_add(metadata.len().max(metadata.blocks().saturating_mul(512)));
                files += 1;
                if bytes > limit {
                    return Err(too_large(operation, limit));
                }
                if files > MAX_LISTED {
                    return Err(Error::new(ErrorKind::ResourceExhausted, operation)
                        .with_message(format!("it has more than {MAX_LISTED} files")));
                }
                if metadata.is_dir() {
                    pending.push(entry.path());
                }
            }
        }
        Ok(())
    })
    .await
}

/// `None` for what went meanwhile.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}
