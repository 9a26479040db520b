//! Times as text: RFC 3339, as Docker and OCI documents have them, and durations as Go writes them.

use std::time::{Duration, SystemTime};

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

/// Parses a duration as Go writes it: `1.5h`, `2h45m`, `300ms`, and no sign.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()?;
        total = total.checked_add(part)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("300ms", 300),
            ("1.5h", 5_400_000),
            ("2h45m", 9_900_000),
            ("1m.5s", 60_500),
            ("0s", 0),
            ("7us", 0),
        ] {
            let read = parse_duration(text).map(|duration| duration.as_millis());
            assert_eq!(read, Some(milliseconds), "{text}");
        }
        assert_eq!(parse_duration("7µs"), Some(Duration::from_micros(7)));
        for wrong in ["", "5", "h", "5x", "-5s", "1..5s", ".s", "5 s", "s5", "99999999999999999999h", "5s5"] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }

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
