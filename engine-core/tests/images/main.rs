//! Images through the facade: names, removal, usage, archives in and out. The store is the real one, the rest in memory.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod archives;
mod hostile;
mod names;
mod pairs;
mod support;
