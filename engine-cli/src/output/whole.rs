//! Files that are there when they are whole.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Has `write` write the file `path`, which is there as a whole or stays what it was. Where a link leads, it is written; a pipe or a
/// device is written to, and not replaced by a file.
///
/// # Errors
/// What `write` says, and what the file system does.
pub(crate) async fn write(path: &Path, write: impl AsyncFnOnce(File) -> Result<()>) -> Result<()> {
    let fail = |e: io::Error| Failure::usage(format!("cannot write {}: {e}", path.display()));
    if is_special(path) {
        return write(File::options().write(true).open(path).map_err(fail)?).await;
    }
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let part = Part(Some(beside(&target)));
    let Some(name) = &part.0 else { return Ok(()) };
    write(File::create_new(name).map_err(fail)?).await?;
    std::fs::rename(name, &target).map_err(fail)?;
    part.keep();
    Ok(())
}

/// Removes what was written before; a pipe or a device stays.
///
/// # Errors
/// What the file system says.
pub(crate) fn remove(path: &Path) -> Result<()> {
    if !path.symlink_metadata().is_ok_and(|there| there.is_file() || there.is_symlink() && !is_special(path))
    {
        return Ok(());
    }
    std::fs::remove_file(path).map_err(|e| Failure::usage(format!("cannot write {}: {e}", path.display())))
}

fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|there| !there.is_file())
}

/// Writes a small file.
///
/// # Errors
/// What the file system says.
pub(crate) async fn text(path: &Path, text: &str) -> Result<()> {
    let write_text = async |mut file: File| {
        let fail = |e: io::Error| Failure::usage(format!("cannot write {}: {e}", path.display()));
        io::Write::write_all(&mut file, text.as_bytes()).map_err(fail)
    };
    write(path, write_text).await
}

/// A file that is removed unless it got its name.
struct Part(Option<PathBuf>);

impl Part {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may never have been made.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Returns a name beside `path` for what is not whole yet.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}
