//! Image archives: `docker save`'s, OCI archives, OCI layout directories.
//!
//! `source` opens one and finds its members, `contents` tells which images it holds, `write` makes new ones. What comes in
//! is hostile (SECURITY C1, C3, C4, C6, D1): a member is bytes at a place and never a path of the host; links are names of
//! other members; documents have limits; every blob is hashed by the store before anything trusts it.

mod contents;
mod layout;
mod members;
mod source;
mod spool;
mod write;

pub(super) use contents::{Contents, IMAGE_NAME, LAYOUT, Planned, REF_NAME, blob_path};
pub use layout::{LayoutDirectory, archive_directory};
pub use source::LoadSource;
pub(super) use source::{Archive, Member};
pub(super) use write::Sink;

/// The most members of an archive.
const MAX_MEMBERS: u64 = 100_000;
/// The most bytes of all their names together.
const MAX_NAMES: usize = 16 << 20;
