//! `GET /containers/{id}/logs`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use bytes::{BufMut as _, Bytes, BytesMut};
use engine_core::logs::{LogEntry, LogQuery, LogSource};
use engine_core::time::{parse_rfc3339, rfc3339};
use futures_util::StreamExt as _;

use crate::server::api::Api;
use crate::server::error::{ApiError, Result};
use crate::server::gone::Follower;
use crate::server::hijack::{Framing, frame_head};
use crate::server::params::Params;
use crate::server::pump::Wanted;
use crate::server::reply;
use crate::server::version::ApiVersion;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/containers/{id}/logs", get(logs))
}

/// How entries are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    stdout: bool,
    stderr: bool,
    framing: Framing,
    timestamps: bool,
    details: bool,
}

impl Entries {
    /// The same streams as a client that is attached.
    pub(super) fn of(wanted: &Wanted) -> Self {
        let Wanted { stdout, stderr, framing, .. } = *wanted;
        Self { stdout, stderr, framing, timestamps: false, details: false }
    }
}

async fn logs(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    version: ApiVersion,
    params: Params,
    follower: Follower,
) -> Result<Response> {
    let container = api.engine.container(&name).await?;
    let (stdout, stderr) = (params.flag("stdout"), params.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let terminal = container.inspect().await?.spec.terminal.is_some();
    let framing = Framing::of_terminal(terminal);
    let entries = Entries {
        stdout,
        stderr,
        framing,
        timestamps: params.flag("timestamps"),
        details: params.flag("details"),
    };
    let mut query = if params.flag("follow") { LogQuery::follow() } else { LogQuery::default() };
    query.since = time(&params, "since")?;
    query.until = time(&params, "until")?;
    // Anything but a number is all, for Docker.
    query.tail = params.text("tail").and_then(|tail| tail.parse().ok());
    let log = container.logs(&query).await?;
    let bytes = log.filter_map(move |entry| {
        let bytes = match entry {
            Ok(entry) => entry_bytes(&entry, &entries).map(Ok),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(bytes)
    });
    Ok(reply::bytes(bytes.take_until(Box::pin(follower.end(api))), framing.content_type(version)))
}

/// Writes an entry as clients get it; nothing, if they do not want its stream.
pub(super) fn entry_bytes(entry: &LogEntry, entries: &Entries) -> Option<Bytes> {
    let (number, wanted) = match entry.stream {
        LogSource::Stdout => (1, entries.stdout),
        LogSource::Stderr => (2, entries.stderr),
    };
    if !wanted {
        return None;
    }
    let mut prefix = String::new();
    if entries.timestamps {
        prefix.push_str(&rfc3339(entry.time));
        prefix.push(' ');
    }
    if entries.details {
        let escaped = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pairs =
            entry.attributes.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value)));
        let pairs: Vec<_> = pairs.collect();
        prefix.push_str(&pairs.join(","));
        prefix.push(' ');
    }
    let length = prefix.len() + entry.message.len();
    let mut bytes = BytesMut::with_capacity(8 + length);
    if entries.framing == Framing::Multiplexed {
        bytes.put_slice(&frame_head(number, length));
    }
    bytes.put_slice(prefix.as_bytes());
    bytes.put_slice(&entry.message);
    Some(bytes.freeze())
}

/// Reads a time: seconds since 1970 with a fraction, or RFC 3339. Zero is none.
pub(crate) fn time(params: &Params, name: &str) -> Result<Option<SystemTime>> {
    let Some(text) = params.text(name) else { return Ok(None) };
    if let Some(time) = parse_rfc3339(text) {
        return Ok(Some(time));
    }
    let wrong = || ApiError::bad_request(format!("invalid value for {name}: {text:?} is no time"));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| wrong())?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let nanos: u32 = match fraction {
        "" => 0,
        text if text.len() <= 9 && digits(text) => format!("{text:0<9}").parse().map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    // Before 1970 there was no container.
    let seconds = u64::try_from(seconds).unwrap_or(0);
    if (seconds, nanos) == (0, 0) {
        return Ok(None);
    }
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_cannot_be_taken_for_others() {
        let attributes = [("a b".to_owned(), "1,c=2".to_owned())].into_iter().collect();
        let entry = LogEntry::new(SystemTime::UNIX_EPOCH, LogSource::Stdout, "out\n".into());
        let entry = entry.with_attributes(Arc::new(attributes));
        let (stdout, stderr, framing) = (true, true, Framing::Raw);
        let entries = Entries { stdout, stderr, framing, timestamps: false, details: true };
        assert_eq!(entry_bytes(&entry, &entries).unwrap(), "a+b=1%2Cc%3D2 out\n");
    }

    #[test]
    fn times_are_read_as_clients_send_them() {
        let of = |text: &str| time(&Params::of(&format!("since={text}")), "since");
        let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        assert_eq!(of("1700000000").unwrap(), Some(at(1_700_000_000, 0)));
        assert_eq!(of("1700000000.000000001").unwrap(), Some(at(1_700_000_000, 1)));
        assert_eq!(of("1700000000.5").unwrap(), Some(at(1_700_000_000, 500_000_000)));
        assert_eq!(of("2023-11-14T22:13:20Z").unwrap(), Some(at(1_700_000_000, 0)));
        assert_eq!(of("0").unwrap(), None);
        assert!(of("yesterday").is_err() && of("1.x").is_err());
    }
}
