//! Events through the facade: over the parts in memory, and over real containers.
//!
//! The real ones need root, overlayfs and busybox-static; each ends with the leak check.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

mod compress;
mod flood;
mod hooks;
mod life;
mod lost;
mod support;
