//! Sizes, ages and times in Docker's words, and the way back from what people type.

use std::time::{Duration, SystemTime};

use engine_core::Result;

use super::wrong;

/// Formats a duration as Docker does: `About a minute`, `3 weeks`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// Formats how long ago `time` was: `About a minute ago`.
#[must_use]
pub fn ago(time: SystemTime) -> String {
    format!("{} ago", duration(SystemTime::now().duration_since(time).unwrap_or_default()))
}

/// Reads bytes: `512`, `64m`, `1.5g`, `10kb`, `1GiB`; all units are powers of 1,024, as in Docker's flags.
///
/// # Errors
/// What is wrong with it.
pub fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("{text:?} is no size: give bytes, or a number with b, k, m, g or t");
    let lower = text.trim().to_ascii_lowercase();
    let at = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let factor: u64 = match lower[at..].trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return Err(wrong()),
    };
    if !lower[..at].contains('.') {
        let whole: u64 = lower[..at].parse().map_err(|_| wrong())?;
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    let number: f64 = lower[..at].parse().map_err(|_| wrong())?;
    #[expect(clippy::cast_precision_loss)]
    let (bytes, limit) = (number * factor as f64, u64::MAX as f64);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was compared")]
    if (0.0..limit).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Reads Go's durations: `10`, `1.5h`, `2h45m`, `300ms`. A bare number is seconds.
///
/// # Errors
/// What is wrong with it.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    text.parse()
        .map(Duration::from_secs)
        .ok()
        .or_else(|| engine_core::time::parse_duration(text))
        .ok_or_else(|| format!("{text:?} is no duration: give seconds, or something like 10s, 5m or 2h45m"))
}

/// Reads a point in time: RFC 3339 (with or without its time or zone), seconds since 1970, or a duration before now.
///
/// # Errors
/// [`InvalidArgument`](engine_core::ErrorKind::InvalidArgument) for anything else.
pub fn parse_time(text: &str) -> Result<SystemTime> {
    let wrong = || {
        wrong(
            "time",
            text,
            "give RFC 3339 (2026-11-23T10:00:00Z), seconds since 1970, or a duration such as 10m",
        )
    };
    for candidate in [text.to_owned(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")]
    {
        if let Some(time) = engine_core::time::parse_rfc3339(&candidate) {
            return Ok(time);
        }
    }
    if let Some(since) = unix_time(text) {
        return SystemTime::UNIX_EPOCH.checked_add(since).ok_or_else(wrong);
    }
    let before = parse_duration(text).map_err(|_| wrong())?;
    SystemTime::now().checked_sub(before).ok_or_else(wrong)
}

/// Reads seconds with a fraction: digits, and not a number in any other notation. What is below a nanosecond counts for nothing.
fn unix_time(text: &str) -> Option<Duration> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(seconds) || !are_digits(fraction) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(9)];
    Some(Duration::new(seconds.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_dockers_words() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3600 * 48, "2 days"),
            (3600 * 24 * 14, "2 weeks"),
            (3600 * 24 * 60, "2 months"),
            (3600 * 24 * 365 * 2, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn sizes_durations_and_times_are_read() {
        assert_eq!(parse_size("64m"), Ok(64 << 20));
        assert_eq!(parse_size("1.5G"), Ok(3 << 29));
        assert_eq!(parse_size("10KiB"), Ok(10 << 10));
        assert!(parse_size("x").is_err() && parse_size("1x").is_err() && parse_size("").is_err());
        assert_eq!(parse_duration("2h45m"), Ok(Duration::from_secs(9900)));
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        assert!(parse_duration("").is_err() && parse_duration("5x").is_err());
        assert_eq!(parse_time("86400").unwrap(), parse_time("1970-01-02").unwrap());
        for wrong in ["yesterday", "", ".", "1.1e300", "1.x", "-5", "99999999999999999999"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        assert_eq!(parse_time("1700000000.25").unwrap(), at(1_700_000_000, 250_000_000));
        assert_eq!(parse_time("0.1234567891").unwrap(), at(0, 123_456_789));
        for wrong in ["99999999999999999999", "99999999999999999999.0", "16777216.5p", "."] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
