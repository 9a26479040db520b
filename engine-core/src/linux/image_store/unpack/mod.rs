//! Writing a layer's archive into a directory.
//!
//! Owns what an entry becomes on disk: files, links, devices, attributes, whiteouts in overlayfs's form.
//! Leaves the archive's syntax to `tar`, and atomicity (temporary directory, sync, rename) to the caller.
//!
//! Invariants: nothing outside the given directory is touched, whatever the archive says and whoever else
//! changes the tree meanwhile (SECURITY C1, C2); attributes that only overlayfs may give come from us alone (C5);
//! memory does not grow with the archive (C4).

mod attributes;
mod copy;
mod dir_log;
mod extract;
mod tree;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_hostile;

pub(in crate::linux) use copy::CopyRules;
pub(in crate::linux) use extract::{UnpackOptions, Whiteouts, unpack};
pub(super) use extract::{UnpackSummary, check};
pub(super) use tree::{join, open_beneath, split as split_path};

use std::io;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::limit::too_large;
use crate::tar::{TarError, show};

/// Why a layer could not be written.
#[derive(Debug)]
pub(in crate::linux) enum UnpackError {
    /// The archive cannot be read.
    Tar(TarError),
    /// An entry asks for what we do not do.
    Refused { path: String, reason: &'static str },
    /// Something of another kind is there, and may not be replaced.
    Occupied { path: String, reason: &'static str },
    /// A limit of ours was passed.
    Limit(String),
    /// The kernel said no.
    Io { operation: &'static str, path: String, error: io::Error },
}

impl UnpackError {
    fn io(operation: &'static str, path: &[u8], errno: Errno) -> Self {
        Self::Io { operation, path: tree::display(path), error: errno.into() }
    }

    fn refused(path: &[u8], reason: &'static str) -> Self {
        Self::Refused { path: show(path), reason }
    }
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

impl From<UnpackError> for Error {
    fn from(error: UnpackError) -> Self {
        error.into_error("unpack layer")
    }
}

impl UnpackError {
    /// The error of `operation`, which unpacked the archive.
    pub(in crate::linux) fn into_error(self, operation: &'static str) -> Error {
        match self {
            Self::Occupied { path, reason } => {
                Error::new(ErrorKind::Conflict, operation).with("entry", path).with_message(reason)
            }
            Self::Tar(TarError::Io(error)) => Error::from_io(operation, error),
            Self::Tar(error @ TarError::Malformed { .. }) => {
                Error::new(ErrorKind::Corrupt, operation).with_message(error.to_string())
            }
            Self::Tar(error @ TarError::Limit(_)) => {
                Error::new(ErrorKind::ResourceExhausted, operation).with_message(error.to_string())
            }
            Self::Tar(TarError::TooLarge(limit)) => too_large(operation, limit),
            Self::Refused { path, reason } => {
                Error::new(ErrorKind::Corrupt, operation).with("entry", path).with_message(reason)
            }
            Self::Limit(reason) => Error::new(ErrorKind::ResourceExhausted, operation).with_message(reason),
            Self::Io { operation, path, error } => {
                // What a sound archive cannot provoke is the archive's fault, not the host's.
                let archive = matches!(
                    error.raw_os_error().map(Errno::from_raw_os_error),
                    Some(
                        Errno::NOENT
                            | Errno::EXIST
                            | Errno::INVAL
                            | Errno::NOTDIR
                            | Errno::ISDIR
                            | Errno::LOOP
                            | Errno::NAMETOOLONG
                            | Errno::NOTEMPTY
                            | Errno::MLINK
                            | Errno::FBIG
                    )
                );
                let error = Error::from_io(operation, error)
                    .with("entry", path)
                    .with_message(format!("cannot {operation}"));
                if archive { error.with_kind(ErrorKind::Corrupt) } else { error }
            }
        }
    }
}
