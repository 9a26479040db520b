//! Events: every change of every object, in order, for whoever wants to follow.
//!
//! This module owns what an event is, the journal that keeps events, and reading it. *When* something is an event is
//! decided where it happens: the facade appends what it changes (`engine::outbox` ties that to the change itself), a
//! runtime what happens to a container, also while no program but its shim is alive.
//!
//! An engine's journal lies in `ROOT/events`: JSON lines in `journal`, those before them in `journal.1`, together at most
//! 16 MiB; older ones are dropped. A line is appended under a lock of the directory (flock(2)) with a time taken under
//! that lock, so times never go back and no two are alike. Nothing is synced: a power loss may take the last events.
//! Invariant: an event's time is its place, so that whoever knows the last time seen ([`Cursor`]) goes on without a gap,
//! or is told that there is one.

mod directory;
mod event;
mod journal;
mod memory;
mod query;
mod reader;
mod stream;
mod watch;

pub use event::{Action, Cursor, Event, ObjectKind};
pub use journal::Journal;
pub use query::{EventFilters, EventQuery};
pub use stream::EventStream;

pub(crate) use event::Line;
#[cfg(feature = "linux")]
pub(crate) use event::fragment;
