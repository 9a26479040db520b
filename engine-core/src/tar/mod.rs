//! Tar archives: one strict, streaming parser, and two writers: of plain archives, and of all that the parser reads.
//!
//! Owns the meaning of an archive's bytes: which entries it holds, with which names, sizes and
//! attributes. Leaves to `image_store::unpack` what becomes of them on disk, and to `files` where they come from.
//!
//! Invariant (SECURITY C3): an archive has one reading. Wherever known readers (GNU tar, bsdtar, Go,
//! Python) would disagree about where an entry ends or what it is called, this parser refuses the
//! archive instead of picking a side.
//!
//! Formats: V7, ustar, PAX (POSIX.1-2001 `pax`, "pax Interchange Format"), GNU (long names, old
//! sparse, base-256 numbers), and PAX sparse 0.0, 0.1 and 1.0 as written in the GNU tar manual.

mod entry;
mod header;
mod pax;
mod reader;
mod sparse;
mod write;
mod writer;

#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_differential;

pub(crate) use entry::{Entry, EntryKind, Segment, Timestamp, Xattr};
pub(crate) use header::begins_entry;
pub(crate) use reader::{ArchiveReader, TarLimits};
pub(crate) use write::{END, header, padding};
pub(crate) use writer::ArchiveWriter;

use std::{fmt, io};

/// Why an archive was not read to its end.
#[derive(Debug)]
pub(crate) enum TarError {
    /// The source failed.
    Io(io::Error),
    /// The archive is malformed, ambiguous or ends too early.
    Malformed {
        /// Where in the uncompressed archive.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A limit of ours was passed.
    Limit(String),
    /// It takes more than so many bytes.
    TooLarge(u64),
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot read the archive: {error}"),
            Self::Malformed { offset, reason } => write!(f, "malformed archive at byte {offset}: {reason}"),
            Self::Limit(reason) => write!(f, "the archive exceeds a limit: {reason}"),
            Self::TooLarge(limit) => write!(f, "the archive takes more than {limit} bytes"),
        }
    }
}

impl std::error::Error for TarError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Malformed { .. } | Self::Limit(_) | Self::TooLarge(_) => None,
        }
    }
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Shows a name from an archive in an error message: lossy, control characters escaped, bounded.
pub(crate) fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(200)];
    let mut text: String = String::from_utf8_lossy(cut).escape_debug().collect();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}
