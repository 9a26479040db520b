//! Sizes, ages and times in Docker's words, and the way back from what people type.

use std::time::SystemTime;

pub(crate) use engine_api::notation::{ago, parse_duration, parse_size, parse_time};

/// Formats bytes with three digits, by 1,000: `4.27MB`.
pub(crate) fn size(bytes: u64) -> String {
    // More than 53 bits lose digits that are not shown.
    #[expect(clippy::cast_precision_loss, reason = "only three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    while value >= 999.5 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        v if unit == 0 || v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// Formats bytes by 1,024: `4.27MiB`, as Docker shows memory.
pub(crate) fn binary_size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "only a few digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    // Four digits that count, as Go's %.4g.
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// Formats a time as Docker lists it: `2026-11-23 22:13:38 +0000 UTC`.
pub(crate) fn listed(time: SystemTime) -> String {
    let text = engine_core::time::rfc3339(time);
    format!("{} {} +0000 UTC", &text[..10], &text[11..19])
}

/// Parses bytes, or -1 for no limit.
pub(crate) fn parse_size_or_unlimited(text: &str) -> std::result::Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    i64::try_from(parse_size(text)?).map_err(|_| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_270_000, "4.27MB"),
            (999_999, "1MB"),
            (123_456_789, "123MB"),
        ] {
            assert_eq!(binary_size(1_052_672), "1.004MiB");
            assert_eq!(binary_size(64 << 20), "64MiB");
            assert_eq!(binary_size(512), "512B");
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn no_limit_is_read() {
        assert_eq!(parse_size_or_unlimited("-1"), Ok(-1));
    }
}
