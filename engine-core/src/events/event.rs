//! What an event is, and how it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// A change of an object.
///
/// With [`serde_json`] it reads and writes as Docker's events do.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// What kind of object changed.
    pub object: ObjectKind,
    /// What happened to it.
    pub action: Action,
    /// Which: an id, a name or a reference.
    pub id: String,
    /// More of it: a container's image, name and labels, an exit code.
    pub attributes: BTreeMap<String, String>,
    /// When. The journal sets it, and no two events of a journal have the same.
    pub time: SystemTime,
}

impl Event {
    /// Creates an event without attributes.
    #[must_use]
    pub fn new(object: ObjectKind, action: Action, id: impl Into<String>) -> Self {
        Self { object, action, id: id.into(), attributes: BTreeMap::new(), time: SystemTime::now() }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.attributes.insert(key.into(), value.to_string());
        self
    }

    /// Returns the place of the event, to go on from: [`EventQuery::after`](super::EventQuery::after).
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor(nanos(self.time))
    }
}

/// The place of an event among all of its engine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub(crate) u64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self).map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, "parse event cursor")
                .with("cursor", text)
                .with_source(error)
        })
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A word this version does not know.
            Other(Box<str>),
        }

        impl $name {
            /// Returns Docker's word.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($text => Self::$variant,)*
                    other => Self::Other(other.into()),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(|word| word.as_str().into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// The kind of an object.
    ObjectKind {
        /// A container.
        Container = "container",
        /// An image.
        Image = "image",
        /// A volume.
        Volume = "volume",
        /// A network.
        Network = "network",
        /// A builder.
        Builder = "builder",
        /// A secret.
        Secret = "secret",
    }
}

words! {
    /// What happened. Docker puts a command or a state behind some words, as in `exec_start: ls` or
    /// `health_status: healthy`; such an action is [`Other`](Self::Other), and its [`word`](Self::word) is known.
    Action {
        /// A client attached to a container's streams.
        Attach = "attach",
        /// An image was made of a container.
        Commit = "commit",
        /// A container was put on a network.
        Connect = "connect",
        /// Files were copied out of a container.
        ArchivePath = "archive-path",
        /// An object was made.
        Create = "create",
        /// An image's content was removed.
        Delete = "delete",
        /// A container or volume was removed.
        Destroy = "destroy",
        /// A client left a container's streams.
        Detach = "detach",
        /// A container's process ended; `exitCode` tells how.
        Die = "die",
        /// A container was taken from a network.
        Disconnect = "disconnect",
        /// An exec's process was prepared.
        ExecCreate = "exec_create",
        /// An exec's client left.
        ExecDetach = "exec_detach",
        /// An exec's process ended.
        ExecDie = "exec_die",
        /// An exec's process began.
        ExecStart = "exec_start",
        /// A container's root file system was exported.
        Export = "export",
        /// Files were copied into a container.
        ExtractToDir = "extract-to-dir",
        /// A second container was made of a container's files.
        Fork = "fork",
        /// A container's health changed.
        HealthStatus = "health_status",
        /// An image was made of an archive.
        Import = "import",
        /// A container was sent a signal.
        Kill = "kill",
        /// An image came from an archive.
        Load = "load",
        /// A volume was mounted into a container.
        Mount = "mount",
        /// The kernel killed for want of memory.
        Oom = "oom",
        /// A container was frozen.
        Pause = "pause",
        /// Unused objects were removed.
        Prune = "prune",
        /// An image came from a registry.
        Pull = "pull",
        /// An image went to a registry.
        Push = "push",
        /// A secret was removed.
        Remove = "remove",
        /// An object got another name.
        Rename = "rename",
        /// A terminal got another size.
        Resize = "resize",
        /// A container was stopped and started.
        Restart = "restart",
        /// Files were put back to a snapshot.
        Restore = "restore",
        /// An image went into an archive.
        Save = "save",
        /// A snapshot of files was made.
        Snapshot = "snapshot",
        /// A container's process began.
        Start = "start",
        /// A container was stopped.
        Stop = "stop",
        /// An image got a name.
        Tag = "tag",
        /// A container's processes were listed.
        Top = "top",
        /// A volume was unmounted from a container.
        Unmount = "unmount",
        /// A container was thawed.
        Unpause = "unpause",
        /// An image lost a name.
        Untag = "untag",
        /// A container's limits or policy changed.
        Update = "update",
    }
}

impl Action {
    /// Returns `word` with what Docker puts behind a colon: `exec_start: ls`.
    #[must_use]
    pub fn with_detail(&self, detail: &str) -> Self {
        Self::Other(format!("{}: {detail}", self.as_str()).into())
    }

    /// Returns the action without what stands behind a colon.
    #[must_use]
    pub fn word(&self) -> Self {
        self.as_str().split_once(": ").map_or_else(|| self.clone(), |(word, _)| word.into())
    }
}

pub(super) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn time_of(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// What stands last in each line: its time, always 19 digits (from 2001 to 2286), so that the last time of a journal is
/// found without reading a line.
pub(super) const TIME: &str = "\"timeNano\":";
/// Bytes of the end of a line: key, digits, brace, newline.
pub(super) const TAIL: usize = TIME.len() + 19 + 2;
/// The time before all events.
pub(super) const BEGINNING: u64 = 1_000_000_000_000_000_000;

/// Reads the time at the end of a line; `None` if the bytes are no end of a line.
pub(super) fn time_at_end(line: &[u8]) -> Option<u64> {
    let digits =
        line.get(line.len().checked_sub(TAIL)?..)?.strip_prefix(TIME.as_bytes())?.strip_suffix(b"}\n")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// An event's line but for its time, as the outbox keeps it too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Line(String);

impl Line {
    /// Writes an event, with the key by which the outbox finds it again.
    pub(crate) fn new(event: &Event, key: Option<i64>) -> Self {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let mut line = format!(
            "{{\"Type\":{},\"Action\":{},\"Actor\":{{\"ID\":{},\"Attributes\":{{{}}}}},",
            text(event.object.as_str()),
            text(event.action.as_str()),
            text(&event.id),
            fragment(&event.attributes),
        );
        if let Some(key) = key {
            line.push_str(&format!("\"key\":\"{key:016x}\","));
        }
        Self(line)
    }

    /// Takes a line that [`new`](Self::new) made.
    pub(crate) fn from_text(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn finish(&self, nanos: u64, to: &mut Vec<u8>) {
        to.extend_from_slice(self.0.as_bytes());
        end(nanos, to);
    }

    /// Reads the event back, without a time.
    pub(crate) fn event(&self) -> Option<Event> {
        let mut line = Vec::new();
        self.finish(BEGINNING, &mut line);
        parse(&line).map(|(event, _)| event)
    }
}

pub(super) fn end(nanos: u64, to: &mut Vec<u8>) {
    to.extend_from_slice(format!("{TIME}{nanos:019}}}\n").as_bytes());
}

/// Attributes as the inside of a JSON object.
pub(crate) fn fragment(attributes: &BTreeMap<String, String>) -> String {
    let object = serde_json::to_string(attributes).unwrap_or_default();
    object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().to_owned()
}

/// Reads a line: an event and its key.
pub(super) fn parse(line: &[u8]) -> Option<(Event, Option<i64>)> {
    let wire: Wire = serde_json::from_slice(line).ok()?;
    let key = wire.key.as_deref().and_then(|key| u64::from_str_radix(key, 16).ok()).map(u64::cast_signed);
    Some((wire.into(), key))
}

/// Docker's document, and a line of the journal.
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "Type")]
    object: String,
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    time: u64,
    #[serde(rename = "timeNano")]
    nanos: u64,
}

#[derive(Serialize, Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

impl From<Wire> for Event {
    fn from(wire: Wire) -> Self {
        Self {
            object: wire.object.as_str().into(),
            action: wire.action.as_str().into(),
            id: wire.actor.id,
            attributes: wire.actor.attributes,
            time: time_of(wire.nanos),
        }
    }
}

impl Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nanos = nanos(self.time);
        Wire {
            object: self.object.to_string(),
            action: self.action.to_string(),
            actor: Actor { id: self.id.clone(), attributes: self.attributes.clone() },
            key: None,
            scope: "local".to_owned(),
            time: nanos / 1_000_000_000,
            nanos,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Wire::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event::new(ObjectKind::Container, Action::ExecStart.with_detail("sh -c \"ls\"\n"), "abc")
            .with("name", "a\"b")
            .with("exitCode", 0)
    }

    #[test]
    fn lines_read_back() {
        let line = Line::new(&event(), Some(-2));
        let mut bytes = Vec::new();
        line.finish(1_700_000_000_123_456_789, &mut bytes);
        assert_eq!(time_at_end(&bytes), Some(1_700_000_000_123_456_789));
        let (read, key) = parse(&bytes).unwrap();
        assert_eq!(key, Some(-2));
        assert_eq!(read.cursor().to_string(), "1700000000123456789");
        assert_eq!(read, Event { time: read.time, ..event() });
        assert_eq!(read.action.word(), Action::ExecStart);
        assert_eq!(line.event().unwrap().attributes, event().attributes);
    }

    #[test]
    fn what_is_no_end_of_a_line_has_no_time() {
        for text in ["", "}\n", "\"timeNano\":17000000001234567x9}\n", "\"timeNano\":1700000000123456789}"] {
            assert_eq!(time_at_end(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn events_are_dockers_json() {
        let event = Event { time: time_of(1_700_000_000_000_000_001), ..event() };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["Type"], "container");
        assert_eq!(json["Actor"]["Attributes"]["exitCode"], "0");
        assert_eq!((&json["time"], &json["scope"]), (&1_700_000_000.into(), &"local".into()));
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
        assert_eq!(Action::from("start"), Action::Start);
        assert_eq!(Action::from("exec_start: ls").word(), Action::ExecStart);
        assert_eq!(Action::from("unheard-of").as_str(), "unheard-of");
    }
}
