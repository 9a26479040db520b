//! Where requests begin in what a client sends.
//!
//! Owns the framing of requests (RFC 9112, 6): which bytes are a head and which are a body, whose content its sender may have from
//! anywhere. hyper frames the same bytes after this. So that the two never differ, nothing is guessed: after a request that is not
//! framed plainly, whatever comes counts as a body, for good.
//! Invariant: what is told as a head is read as one by hyper.

use std::ops::Range;

use httparse::{Request, Status};

/// What a head has at most, which is what hyper buffers of one.
const MOST: usize = super::connection::BUFFER;
/// As many headers as hyper takes.
pub(super) const HEADERS: usize = 100;

/// How far the requests of a connection have come.
#[derive(Debug)]
pub(super) struct Heads {
    place: Place,
}

#[derive(Debug, Eq, PartialEq)]
enum Place {
    /// In a head, of which this came in earlier pieces.
    Head(Vec<u8>),
    /// In a body that has so many bytes left.
    Body(u64),
    Chunks(Chunk),
    /// In what is not looked at any more.
    Lost,
}

/// A place in a chunked body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Chunk {
    Size {
        digits: u8,
        size: u64,
    },
    /// Before the line feed of a size.
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataEnd,
    LastCr,
    LastEnd,
}

impl Default for Heads {
    fn default() -> Self {
        Self { place: Place::Head(Vec::new()) }
    }
}

impl Heads {
    /// Goes on in `piece` from `at`, and returns the next head that lies in it from its first byte to its last. At the piece's end, `None`.
    pub(super) fn next(&mut self, piece: &[u8], at: &mut usize) -> Option<Range<usize>> {
        while *at < piece.len() {
            let rest = &piece[*at..];
            match &mut self.place {
                Place::Lost => *at = piece.len(),
                Place::Body(left) => {
                    let passed = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= passed as u64;
                    *at += passed;
                    if *left == 0 {
                        self.place = Place::Head(Vec::new());
                    }
                }
                Place::Chunks(chunk) => match chunk.pass(rest) {
                    Some((next, passed)) => {
                        *at += passed;
                        self.place = next;
                    }
                    None => self.place = Place::Lost,
                },
                // Empty lines before a request are none of it.
                Place::Head(before) if before.is_empty() && matches!(rest[0], b'\r' | b'\n') => *at += 1,
                Place::Head(before) if before.is_empty() => match framed(rest) {
                    Framed::Whole(length, place) => {
                        self.place = place;
                        let begin = *at;
                        *at += length;
                        return Some(begin..*at);
                    }
                    Framed::Part if rest.len() < MOST => {
                        *before = rest.to_vec();
                        *at = piece.len();
                    }
                    _ => self.place = Place::Lost,
                },
                Place::Head(before) => {
                    let known = before.len();
                    before.extend_from_slice(rest);
                    // A slow client's head is not parsed anew with each of its bytes.
                    let framed = if has_end(before, known) { framed(before) } else { Framed::Part };
                    match framed {
                        Framed::Whole(length, place) if length < MOST => {
                            *at += length - known;
                            self.place = place;
                        }
                        Framed::Part if before.len() < MOST => *at = piece.len(),
                        _ => self.place = Place::Lost,
                    }
                }
            }
        }
        None
    }

    /// The connection is no longer one of requests.
    pub(super) fn end(&mut self) {
        self.place = Place::Lost;
    }
}

/// What the beginning of a text is.
enum Framed {
    /// A head of this length, and where the connection is after it.
    Whole(usize, Place),
    Part,
    Wrong,
}

fn framed(text: &[u8]) -> Framed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = Request::new(&mut headers);
    match request.parse(text) {
        Ok(Status::Complete(length)) => Framed::Whole(length, after(&request)),
        Ok(Status::Partial) => Framed::Part,
        Err(_) => Framed::Wrong,
    }
}

/// Returns where a connection is after the head of `request`.
fn after(request: &Request<'_, '_>) -> Place {
    let (mut length, mut chunked) = (None, false);
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let digits = str::from_utf8(header.value).ok();
            let digits = digits.filter(|text| text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit()));
            match digits.and_then(|text| text.parse::<u64>().ok()) {
                Some(bytes) if length.is_none() => length = Some(bytes),
                _ => return Place::Lost,
            }
        } else if is("transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Place::Lost;
            }
            chunked = true;
        }
    }
    if request.version != Some(1) || request.method == Some("CONNECT") {
        return Place::Lost;
    }
    match (length, chunked) {
        (Some(_), true) => Place::Lost,
        (None, true) => Place::Chunks(Chunk::BEGIN),
        (None | Some(0), false) => Place::Head(Vec::new()),
        (Some(bytes), false) => Place::Body(bytes),
    }
}

/// Returns whether a head may end behind its first `known` bytes.
fn has_end(text: &[u8], known: usize) -> bool {
    let new = &text[known.saturating_sub(3)..];
    new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

impl Chunk {
    const BEGIN: Self = Self::Size { digits: 0, size: 0 };

    /// Returns where the connection is behind the first bytes of `rest`, which is not empty, and how many those are; `None` if
    /// they are no plain chunk: one with extensions, or trailers behind the last.
    fn pass(self, rest: &[u8]) -> Option<(Place, usize)> {
        let next = match (self, rest[0]) {
            (Self::Size { digits, size }, b'\r') if digits > 0 => Self::SizeEnd(size),
            (Self::Size { digits: digits @ ..15, size }, byte) => {
                let digit = char::from(byte).to_digit(16)?;
                Self::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
            }
            (Self::SizeEnd(0), b'\n') => Self::LastCr,
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::Data(left), _) => {
                let passed = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - passed as u64;
                let next = if left == 0 { Self::DataCr } else { Self::Data(left) };
                return Some((Place::Chunks(next), passed));
            }
            (Self::DataCr, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::BEGIN,
            (Self::LastCr, b'\r') => Self::LastEnd,
            (Self::LastEnd, b'\n') => return Some((Place::Head(Vec::new()), 1)),
            _ => return None,
        };
        Some((Place::Chunks(next), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `text` in pieces of `size` bytes, and returns the heads that lie in one.
    fn heads(text: &str, size: usize) -> Vec<String> {
        let (mut heads, mut found) = (Heads::default(), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            let mut at = 0;
            while let Some(head) = heads.next(piece, &mut at) {
                found.push(String::from_utf8(piece[head].to_vec()).unwrap());
            }
            assert_eq!(at, piece.len());
        }
        found
    }

    const LAST: &str = "GET /last HTTP/1.1\r\n\r\n";

    #[test]
    fn e8_bodies_have_no_heads() {
        let inner = "POST /exec/1/start HTTP/1.1\r\n\r\n";
        let length = inner.len();
        let chunk = format!("{length:x}\r\n{inner}\r\n");
        for request in [
            format!("POST /load HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{inner}"),
            format!("POST /load HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"),
        ] {
            let end = request.find("\r\n\r\n").unwrap() + 4;
            let text = format!("{request}\r\n{LAST}");
            assert_eq!(heads(&text, text.len()), [&request[..end], LAST]);
            // Each piece may begin with what looks like a head.
            for size in 1..text.len() {
                let found = heads(&text, size);
                assert!(
                    found.iter().all(|head| *head == request[..end] || head == LAST),
                    "{size}: {found:?}"
                );
            }
            let mut apart = Heads::default();
            let mut whole = |piece: &str| apart.next(piece.as_bytes(), &mut 0).is_some();
            assert!(whole(&request[..end]) && !whole(&request[end..]) && whole(LAST));
        }
    }

    #[test]
    fn what_is_not_framed_plainly_ends_the_search() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;a=b\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000000\r\n\r\n",
            "CONNECT / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "what is this?\r\n\r\n",
        ] {
            let text = format!("{head}{LAST}");
            assert!(!heads(&text, text.len()).contains(&LAST.to_owned()), "{head}");
        }
        let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n{LAST}", "a".repeat(MOST));
        assert_eq!(heads(&long, 1000), [""; 0]);
    }
}
