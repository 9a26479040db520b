//! Docker's json-file log lines: `{"log":"…\n","stream":"stdout","attrs":{…},"time":"…"}`.
//!
//! Pure: bytes in, bytes into a buffer. engine-core compiles this file too (by `#[path]`), for its tests.
//! Escapes as Go's encoding/json does, so that a reader of Docker's logs reads ours.

/// Longest line kept together; a longer one is split into several records (Docker's copier does the same).
pub const MAX_LINE: usize = 16 * 1024;
/// Most bytes of a record beside its [`Tail`]: each byte of a line escaped by six.
pub const MAX_BODY: usize = HEAD.len() + 6 * MAX_LINE;
/// Most bytes of attributes.
pub const MAX_ATTRIBUTES: usize = 8 * 1024;
/// Most bytes of a [`Tail`].
pub const MAX_TAIL: usize = MAX_ATTRIBUTES + 128;

const HEAD: &[u8] = b"{\"log\":\"";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes being put together. What does not fit is dropped: the callers leave room.
struct Out<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(to) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            to.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }
}

/// What stands behind the text of each record of one moment and stream.
pub struct Tail {
    bytes: [u8; MAX_TAIL],
    length: usize,
}

impl Tail {
    /// A tail of nothing.
    #[cfg_attr(shim, expect(dead_code, reason = "the shim's is made of zeroes"))]
    pub const fn new() -> Self {
        Self { bytes: [0; MAX_TAIL], length: 0 }
    }

    /// Makes it that of `stream` at `time_ns`. `attributes` are the inside of a JSON object, or empty.
    pub fn set(&mut self, stream: &str, attributes: &[u8], time_ns: u64) {
        let mut out = Out { bytes: &mut self.bytes, length: 0 };
        out.put(b"\",\"stream\":\"");
        out.put(stream.as_bytes());
        if !attributes.is_empty() && attributes.len() <= MAX_ATTRIBUTES {
            out.put(b"\",\"attrs\":{");
            out.put(attributes);
            out.put(b"},\"time\":\"");
        } else {
            out.put(b"\",\"time\":\"");
        }
        timestamp(time_ns, &mut out);
        out.put(b"\"}\n");
        self.length = out.length;
    }
}

/// Writes one record for `line`, of at most [`MAX_LINE`] bytes, to the beginning of `buffer`, which has room for
/// [`MAX_BODY`] and [`MAX_TAIL`] bytes, and returns its length. The newline that ended the line is part of it if it had one.
pub fn encode(line: &[u8], tail: &Tail, buffer: &mut [u8]) -> usize {
    let mut out = Out { bytes: buffer, length: 0 };
    out.put(HEAD);
    escape(line, &mut out);
    out.put(&tail.bytes[..tail.length]);
    out.length
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x80).contains(&byte) && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// How many bytes from the beginning of `bytes` on need no escape, as far as groups of eight tell.
fn plain_groups(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (groups, _) = bytes.as_chunks::<8>();
    let mut count = 0;
    for group in groups {
        let word = u64::from_le_bytes(*group);
        // The highest bit of a byte is set where it is below 0x20, or one of the five; exact for bytes below 0x80.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let same = |byte: u8| zero(word ^ (ONES * byte as u64));
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        if (word | low | same(b'"') | same(b'\\') | same(b'<') | same(b'>') | same(b'&')) & HIGH != 0 {
            break;
        }
        count += 8;
    }
    count
}

fn escape(line: &[u8], out: &mut Out<'_>) {
    let (mut plain, mut at) = (0, 0);
    while at < line.len() {
        let byte = line[at];
        if is_plain(byte) {
            at += plain_groups(&line[at..]).max(1);
            continue;
        }
        let width = if byte < 0x80 { 0 } else { sequence(&line[at..]) };
        // U+2028 and U+2029 end a line in JavaScript.
        let separator = width == 3 && line[at..].starts_with(&[0xe2, 0x80]) && line[at + 2] & 0xfe == 0xa8;
        if width > 0 && !separator {
            at += width;
            continue;
        }
        out.put(&line[plain..at]);
        match byte {
            b'"' => out.put(b"\\\""),
            b'\\' => out.put(b"\\\\"),
            b'\n' => out.put(b"\\n"),
            b'\r' => out.put(b"\\r"),
            b'\t' => out.put(b"\\t"),
            _ if separator => out.put(if line[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" }),
            _ if byte >= 0x80 => out.put(b"\\ufffd"),
            _ => {
                out.put(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
            }
        }
        at += if separator { 3 } else { 1 };
        plain = at;
    }
    out.put(&line[plain..]);
}

/// Where the first newline of `bytes` is.
pub fn newline(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (groups, _) = bytes.as_chunks::<8>();
    let without = groups.iter().position(|group| {
        let word = u64::from_le_bytes(*group) ^ (ONES * b'\n' as u64);
        word.wrapping_sub(ONES) & !word & HIGH != 0
    });
    let start = without.unwrap_or(groups.len()) * 8;
    bytes[start..].iter().position(|&byte| byte == b'\n').map(|at| start + at)
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
fn timestamp(time_ns: u64, out: &mut Out<'_>) {
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
        out.put(&text[..19]);
        out.put(b"Z");
        return;
    }
    let mut digits = 9;
    while fraction % 10 == 0 {
        fraction /= 10;
        digits -= 1;
    }
    number(&mut text[20..20 + digits], fraction);
    out.put(&text[..20 + digits]);
    out.put(b"Z");
}

fn number(text: &mut [u8], mut value: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}
