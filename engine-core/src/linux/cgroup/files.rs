//! Reading and writing of cgroup files, with errors that name file and value.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Writes `value` to `dir/file`, which must exist: nothing is made.
pub(super) fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    try_write(dir, file, value).map_err(|error| failed(dir, file, value, error))
}

pub(super) fn try_write(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(dir.join(file))?;
    file.write_all(value.as_bytes())
}

/// Writes the first of these files that there is; `false` if none is.
pub(super) fn write_first(dir: &Path, files: &[&str], value: &str) -> Result<bool> {
    for file in files {
        match try_write(dir, file, value) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(dir, file, value, error)),
        }
    }
    Ok(false)
}

pub(super) fn failed(dir: &Path, file: &str, value: &str, error: io::Error) -> Error {
    Error::from_io("set cgroup limit", error).with("file", dir.join(file).display()).with("value", value)
}

/// An error of cgroups-rs, with the kind of the I/O error beneath it.
pub(super) fn foreign(dir: &Path, error: cgroups_rs::error::Error) -> Error {
    use std::error::Error as _;
    let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    // io::Error cannot be cloned; its number makes an equal one.
    let cause = io.and_then(io::Error::raw_os_error).map(io::Error::from_raw_os_error);
    let made = match cause {
        Some(cause) => Error::from_io("set cgroup limit", cause).with_message(error.to_string()),
        None => Error::new(ErrorKind::Other, "set cgroup limit").with_source(error),
    };
    made.with("cgroup", dir.display())
}

/// The content of `dir/file`, trimmed, or `None` if there is no such file (or no such group any more).
pub(super) fn read(dir: &Path, file: &str) -> Result<Option<String>> {
    match std::fs::read_to_string(dir.join(file)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // ENODEV: the group went while its file was open.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
        Err(error) => Err(Error::from_io("read cgroup file", error).with("file", dir.join(file).display())),
    }
}

/// A number in a file of one; `None` for a missing file, `max`, and v1's ways to say that there is no limit.
pub(super) fn read_number(dir: &Path, file: &str) -> Result<Option<u64>> {
    Ok(read(dir, file)?.and_then(|text| text.parse().ok()).filter(|number| *number < UNLIMITED))
}

/// v1 shows "no limit" of memory as the largest multiple of the page size.
const UNLIMITED: u64 = i64::MAX as u64 - 0xffff;

/// The number behind `key` in a file of `key number` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The groups directly beneath `dir`.
pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

/// Removes a group that is empty or gone.
pub(super) fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::from_io("remove cgroup", error).with("path", dir.display()))
        }
        _ => Ok(()),
    }
}
