//! Points in time as clients send them.

use std::time::SystemTime;

use engine_core::time::parse_rfc3339;

use super::error::{ApiError, Result};
use crate::notation;

/// Reads a time: RFC 3339 with or without its end, seconds since 1970 with a fraction, or a duration before now. Those without a
/// zone are UTC, which the server's host is supposed to have.
pub(super) fn parse(name: &str, text: &str) -> Result<SystemTime> {
    notation::parse_time(text)
        .map_err(|_| ApiError::bad_request(format!("invalid value for {name}: {text:?} is no time")))
}

/// Returns the seconds since 1970, or 0 where that is not known.
pub(super) fn unix(time: Option<SystemTime>) -> i64 {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Reads the time at which something says it was made. Go's year 1 is its way to say nothing.
pub(super) fn created(text: &str) -> Option<SystemTime> {
    parse_rfc3339(text).filter(|time| *time > SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_of_dockers_notations_are_read() {
        let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        for (text, time) in [
            ("2023-11-14T22:13:20Z", at(1_700_000_000, 0)),
            ("2023-11-14T22:13:20", at(1_700_000_000, 0)),
            ("2023-11-14T22:13", at(1_699_999_980, 0)),
            ("2023-11-14", at(1_699_920_000, 0)),
            ("1700000000", at(1_700_000_000, 0)),
            ("1700000000.25", at(1_700_000_000, 250_000_000)),
        ] {
            assert_eq!(parse("until", text).unwrap(), time, "{text}");
        }
        let hour = parse("until", "1h").unwrap().elapsed().unwrap();
        assert!(hour >= Duration::from_secs(3600), "{hour:?}");
        for wrong in ["", "yesterday", "1.x", "-5", "99999999999999999999"] {
            assert_eq!(parse("until", wrong).unwrap_err().status.as_u16(), 400, "{wrong}");
        }
    }
}
