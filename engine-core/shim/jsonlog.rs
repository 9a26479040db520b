//! Docker's json-file log lines: `{"log":"…\n","stream":"stdout","time":"…"}`.
//!
//! Pure: bytes in, bytes to a sink. engine-core compiles this file too (by `#[path]`), for its tests.
//! Escapes as Go's encoding/json does, so that a reader of Docker's logs reads ours.

/// Longest line kept together; a longer one is split into several records (Docker's copier does the same).
pub const MAX_LINE: usize = 16 * 1024;

/// Writes one record for `line` to `sink`. The newline that ended the line is part of `line` if it had one.
pub fn encode(line: &[u8], stream: &str, time_ns: u64, sink: &mut impl FnMut(&[u8])) {
    sink(b"{\"log\":\"");
    escape(line, sink);
    sink(b"\",\"stream\":\"");
    sink(stream.as_bytes());
    sink(b"\",\"time\":\"");
    timestamp(time_ns, sink);
    sink(b"\"}\n");
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn escape(line: &[u8], sink: &mut impl FnMut(&[u8])) {
    let (mut plain, mut at) = (0, 0);
    while at < line.len() {
        let byte = line[at];
        if (0x20..0x80).contains(&byte) && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&') {
            at += 1;
            continue;
        }
        let width = if byte < 0x80 { 0 } else { sequence(&line[at..]) };
        // U+2028 and U+2029 end a line in JavaScript.
        let separator = width == 3 && line[at..].starts_with(&[0xe2, 0x80]) && line[at + 2] & 0xfe == 0xa8;
        if width > 0 && !separator {
            at += width;
            continue;
        }
        sink(&line[plain..at]);
        match byte {
            b'"' => sink(b"\\\""),
            b'\\' => sink(b"\\\\"),
            b'\n' => sink(b"\\n"),
            b'\r' => sink(b"\\r"),
            b'\t' => sink(b"\\t"),
            _ if separator => sink(if line[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" }),
            _ if byte >= 0x80 => sink(b"\\ufffd"),
            _ => sink(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
        at += if separator { 3 } else { 1 };
        plain = at;
    }
    sink(&line[plain..]);
}

/// Bytes of the well-formed UTF-8 sequence that `bytes` begin with; 0 if they begin with none.
fn sequence(bytes: &[u8]) -> usize {
    let width = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return 0,
    };
    match bytes.get(..width) {
        Some(sequence) if core::str::from_utf8(sequence).is_ok() => width,
        _ => 0,
    }
}

/// RFC 3339 in UTC with as many digits of the fraction as are needed (Go's RFC3339Nano).
fn timestamp(time_ns: u64, sink: &mut impl FnMut(&[u8])) {
    let (seconds, mut fraction) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil from days, with years beginning in March, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    for (at, digits, value) in [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, second / 3600),
        (14, 2, second / 60 % 60),
        (17, 2, second % 60),
    ] {
        number(&mut text[at..at + digits], value);
    }
    if fraction == 0 {
        sink(&text[..19]);
        sink(b"Z");
        return;
    }
    let mut digits = 9;
    while fraction % 10 == 0 {
        fraction /= 10;
        digits -= 1;
    }
    number(&mut text[20..20 + digits], fraction);
    sink(&text[..20 + digits]);
    sink(b"Z");
}

fn number(text: &mut [u8], mut value: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}
