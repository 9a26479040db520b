//! Ranges: of a blob that is read (RFC 9110, 14), and of a chunk that is sent (distribution-spec, "Pushing a blob in chunks").

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// Everything: there is no range, or none that is understood.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing that is there.
    Unsatisfiable,
}

/// Reads a `Range` header for something of `size` bytes. Several ranges are answered with everything, as RFC 9110 allows.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let parsed = header.and_then(|text| {
        let (first, last) = text.trim().strip_prefix("bytes=")?.trim().split_once('-')?;
        let number = |text: &str| match text.is_empty() {
            true => Some(None),
            false => text.bytes().all(|b| b.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX))),
        };
        match (number(first)?, number(last)?) {
            (None, None) => None,
            (Some(first), Some(last)) if last < first => None,
            pair => Some(pair),
        }
    });
    match parsed {
        None => Wanted::All,
        Some((None, Some(0))) => Wanted::Unsatisfiable,
        Some((None, Some(count))) if size > 0 => Wanted::Part(size.saturating_sub(count)..size),
        Some((Some(first), last)) if first < size => {
            Wanted::Part(first..last.map_or(size, |last| last.saturating_add(1).min(size)))
        }
        Some(_) => Wanted::Unsatisfiable,
    }
}

/// Reads the `Content-Range` of a chunk: `FIRST-LAST`, both included; also as HTTP writes it, `bytes FIRST-LAST/SIZE`.
pub(super) fn chunk(text: &str) -> Option<Range<u64>> {
    let text = text.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let number = |text: &str| match !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..last.checked_add(1)?)
}

/// Returns the `Range` of an upload that has `size` bytes. Of nothing it says the same as of one byte, as distribution does.
pub(super) fn received(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_blobs() {
        let part = |range| Wanted::Part(range);
        for (header, answer) in [
            ("bytes=0-3", part(0..4)),
            ("bytes=2-", part(2..10)),
            ("bytes=-3", part(7..10)),
            ("bytes=-99", part(0..10)),
            ("bytes=5-99", part(5..10)),
            ("bytes=0-18446744073709551615", part(0..10)),
            ("bytes=9-99999999999999999999999", part(9..10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=3-2", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=0-1,4-5", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(wanted(Some(header), 10), answer, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
        assert_eq!(wanted(Some("bytes=-1"), 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn ranges_of_chunks() {
        assert_eq!(chunk("0-9"), Some(0..10));
        assert_eq!(chunk("bytes 5-5/10"), Some(5..6));
        for bad in ["", "-", "5-", "-5", "5-4", "a-b", "0-18446744073709551615", "0-1-2", "+0-1"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
        assert_eq!((received(0), received(1), received(10)), ("0-0".into(), "0-0".into(), "0-9".into()));
    }
}
