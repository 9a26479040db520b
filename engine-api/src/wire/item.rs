//! Documents and other payloads of frames.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{BufMut as _, Bytes, BytesMut};
use engine_core::engine::{Exec, Snapshot, Started};
use engine_core::error::ErrorDocument;
use engine_core::id::{ContainerId, Name};
use engine_core::io::{AttachOptions, Stdio, Streams};
use engine_core::logs::{LogEntry, LogSource};
use engine_core::{Error, ErrorKind, ExecId, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Writes a document.
pub(crate) fn text(document: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(document).map(Into::into).map_err(|error| {
        Error::new(ErrorKind::InvalidArgument, "write document")
            .with_message("it has something in it that cannot be sent")
            .with_source(error)
    })
}

/// Reads a document.
pub(crate) fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "read document")
            .with_message("it is not understood")
            .with_source(error)
    })
}

/// A path among arguments, whatever bytes are in it.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Path(#[serde(with = "engine_core::exact::path")] pub(crate) PathBuf);

impl From<&std::path::Path> for Path {
    fn from(path: &std::path::Path) -> Self {
        Self(path.to_owned())
    }
}

/// What a client is connected to, of a process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct AttachWanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) blocking: bool,
}

impl AttachWanted {
    /// Returns what `options` ask for.
    pub(crate) fn of(options: &AttachOptions) -> Self {
        let is = |side: &Stdio| !matches!(side, Stdio::Null);
        Self {
            stdin: is(&options.stdin),
            stdout: is(&options.stdout),
            stderr: is(&options.stderr),
            blocking: options.blocking,
        }
    }

    /// Whether there is a stream at all.
    pub(crate) fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }

    /// Returns options that ask for pipes.
    pub(crate) fn options(self) -> AttachOptions {
        let side = |wanted| if wanted { Stdio::Piped } else { Stdio::Null };
        let mut options = AttachOptions::default();
        options.stdin = side(self.stdin);
        options.stdout = side(self.stdout);
        options.stderr = side(self.stderr);
        options.blocking = self.blocking;
        options
    }
}

/// A process that began in a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Began {
    pub(crate) id: ExecId,
    pub(crate) pid: Option<u32>,
    pub(crate) snapshot: Option<Snapshot>,
}

/// What a log entry has beside its bytes.
#[derive(Serialize, Deserialize)]
struct LogHead {
    #[serde(with = "engine_core::exact::time")]
    time: SystemTime,
    stream: LogSource,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
}

/// Writes a log entry: what it has beside its bytes as a line, and its bytes.
pub(crate) fn log_entry(entry: &LogEntry) -> Result<Bytes> {
    let attributes = BTreeMap::clone(&entry.attributes);
    let head = text(&LogHead { time: entry.time, stream: entry.stream, attributes })?;
    let mut bytes = BytesMut::with_capacity(head.len() + 1 + entry.message.len());
    bytes.put_slice(&head);
    bytes.put_u8(b'\n');
    bytes.put_slice(&entry.message);
    Ok(bytes.freeze())
}

/// Reads a log entry.
pub(crate) fn log_entry_of(bytes: &Bytes) -> Result<LogEntry> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let head: LogHead = parsed(&bytes[..end])?;
    let message = bytes.slice((end + 1).min(bytes.len())..);
    Ok(LogEntry::new(head.time, head.stream, message).with_attributes(Arc::new(head.attributes)))
}

/// What a client asks once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Hello {
    pub(crate) default_network: Option<Name>,
    /// The networks that are there by themselves.
    pub(crate) predefined: Vec<Name>,
}

impl Began {
    /// Returns what is told of `process`.
    pub(crate) fn of(process: &Exec) -> Self {
        Self { id: process.id.clone(), pid: process.pid, snapshot: process.snapshot.clone() }
    }

    /// Returns the process with its streams.
    pub(crate) fn process(self, streams: Streams) -> Exec {
        Exec::new(self.id, self.pid, streams, self.snapshot)
    }
}

/// A container that was to start, and why it could not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    id: ContainerId,
    failure: Option<ErrorDocument>,
}

impl Start {
    /// Returns what is told of `started`.
    pub(crate) fn of(started: &Started) -> Self {
        let failure = started.result.as_ref().err().map(ErrorDocument::from);
        Self { id: started.id.clone(), failure }
    }

    /// Returns it as the engine tells it.
    pub(crate) fn started(self) -> Started {
        Started::new(self.id, self.failure.map_or(Ok(()), |failure| Err(failure.into())))
    }
}

/// A file of an artifact, whose bytes come behind the arguments.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SentFile {
    pub(crate) title: Option<String>,
    pub(crate) media_type: String,
    pub(crate) size: u64,
}
