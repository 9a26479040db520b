//! Log entries of containers, as runtimes hand them out.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_core::Stream;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// The log of a container, oldest entry first. Dropping it ends the reading.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogEntry>> + Send>>;

/// Which entries of a log to read. The default is all there are now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LogQuery {
    /// Goes on with new entries until the container ends.
    pub follow: bool,
    /// Begins with the last `tail` lines.
    pub tail: Option<usize>,
    /// Leaves out entries before this time.
    pub since: Option<SystemTime>,
    /// Leaves out entries after this time, and ends a `follow` there.
    pub until: Option<SystemTime>,
}

impl LogQuery {
    /// Returns a query for all entries, and those to come until the container ends.
    #[must_use]
    pub fn follow() -> Self {
        Self { follow: true, ..Self::default() }
    }

    /// Begins with the last `lines` lines.
    #[must_use]
    pub fn with_tail(mut self, lines: usize) -> Self {
        self.tail = Some(lines);
        self
    }

    /// Leaves out entries before `time`.
    #[must_use]
    pub fn with_since(mut self, time: SystemTime) -> Self {
        self.since = Some(time);
        self
    }

    /// Leaves out entries after `time`.
    #[must_use]
    pub fn with_until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }
}

/// One piece of output: a line with its newline, or a part of a line too long for one piece.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LogEntry {
    /// When the engine read it.
    pub time: SystemTime,
    /// Which stream it came from.
    pub stream: LogSource,
    /// The bytes.
    pub message: Bytes,
    /// What goes with each entry by the options of the log: labels, variables, a tag.
    pub attributes: Arc<BTreeMap<String, String>>,
}

impl LogEntry {
    /// Creates an entry.
    #[must_use]
    pub fn new(time: SystemTime, stream: LogSource, message: Bytes) -> Self {
        Self { time, stream, message, attributes: Arc::default() }
    }

    /// Adds what goes with it.
    #[must_use]
    pub fn with_attributes(mut self, attributes: Arc<BTreeMap<String, String>>) -> Self {
        self.attributes = attributes;
        self
    }
}

/// A standard output stream.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum LogSource {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}
