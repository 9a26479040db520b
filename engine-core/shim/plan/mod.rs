//! The launch plan: the flat, length-checked format in which the library tells the shim what to do.
//!
//! This module owns the record tags, the flag bits and the decoder. engine-core compiles it too (by `#[path]`) and
//! encodes with the same constants, so the two sides cannot drift. It decides nothing and calls nothing.
//!
//! Layout, little endian: a 16-byte header (magic, version, kind, total length, record count), then records of
//! `tag: u16, zero: u16, length: u32` and `length` bytes of body padded to 8. Text is a `u32` length that counts
//! its terminating NUL, then the bytes.
//!
//! Invariant: after [`Plan::parse`] succeeded, walking the records cannot fail or read outside the plan, and every
//! text is NUL-terminated with no NUL inside. A plan is never larger than [`MAX_PLAN`] (SECURITY A8).

mod flags;
mod mounts;
mod parse;
mod process;
mod record;
mod supervision;
pub mod tag;

pub use flags::{DEFAULT_UMASK, PRIVATE_FILES, cgroup, event, health, mount, option, restart};
#[allow(unused_imports, reason = "the library and the shim each name a part of it")]
pub use {
    mounts::{EntryStep, MountStep},
    parse::{Malformed, Plan},
    process::{Capabilities, Texts, User},
    record::{Reader, Record},
    supervision::{Health, LogStep, Restart},
};

/// First four bytes of a plan: `CPLN`.
pub const MAGIC: u32 = 0x4e4c_5043;
/// Version of the format: the library and the shim it embeds always agree, so a mismatch is an error.
pub const VERSION: u16 = 1;
/// Plan of a whole container.
pub const KIND_LAUNCH: u16 = 1;
/// Plan of one more process in a running container.
pub const KIND_EXEC: u16 = 2;
/// Largest plan accepted, in bytes.
pub const MAX_PLAN: usize = 1 << 20;
/// Most mounts in one plan: the shim holds one descriptor for each.
pub const MAX_MOUNTS: usize = 256;
/// Most joined cgroup directories: one per hierarchy, v1 or v2.
pub const MAX_CGROUPS: usize = 24;
/// Bytes of the header.
pub const HEADER: usize = 16;
