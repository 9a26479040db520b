//! Times as text: RFC 3339, as Docker and OCI documents have them.

use std::time::SystemTime;

use jiff::Timestamp;

/// Formats `time` in UTC with nanoseconds: `2026-11-23T22:13:38.000000001Z`.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    // Only times beyond the year 9999 or before -9999 are out of range.
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{timestamp:.9}")
}

/// Parses RFC 3339, with or without a fraction, in UTC or with an offset.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn known_times_round_trip() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000000000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc3339(time), text);
            assert_eq!(parse_rfc3339(text), Some(time));
        }
    }

    #[test]
    fn offsets_and_fractions_are_read() {
        let base = parse_rfc3339("2026-11-23T12:00:00Z").unwrap();
        assert_eq!(parse_rfc3339("2026-11-23T14:00:00.5+02:00").unwrap(), base + Duration::from_millis(500));
        for text in ["", "2026", "2026-11-23", "2026-13-01T00:00:00Z", "2026-11-23T12:00:00", "x"] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
