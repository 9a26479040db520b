//! How large what comes from outside may become (SECURITY C4): one limit for all of it.

use crate::error::{Error, ErrorKind};

/// The most bytes that one thing from outside may take, unless [`EngineBuilder::max_bytes`](crate::EngineBuilder::max_bytes) says
/// otherwise: 256 GiB.
pub const DEFAULT_MAX_BYTES: u64 = 256 << 30;

/// The error for what takes more than `limit` bytes.
pub(crate) fn too_large(operation: &'static str, limit: u64) -> Error {
    Error::new(ErrorKind::ResourceExhausted, operation)
        .with_message(format!("it takes more than {limit} bytes"))
        .with_hint(HINT)
}

/// How to allow more.
pub(crate) const HINT: &str = "if it is to be trusted, allow more: --max-bytes of the command line, EngineBuilder::max_bytes of the library";
